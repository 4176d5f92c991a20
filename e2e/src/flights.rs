//! The flights of 2013 from New York, month by month.

use crate::s3::Bucket;
use anyhow::{Context as _, Result, bail};
use std::{env, ops::RangeInclusive, path::PathBuf};
use tokio::{fs, process::Command};

/// Folder of the months in the bucket `raw`.
pub const FOLDER: &str = "flights";
/// The pipeline that learns from them.
pub const PIPELINE: &str = include_str!("../pipelines/flights.yaml");

/// Downloads and cuts the data, once per machine, and returns the folder with the months.
///
/// # Errors
/// When Python or its package index is not there.
pub async fn prepare() -> Result<PathBuf> {
    let folder = cache()?.join("data/flights");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/data/flights.py");
    let status = Command::new("python3").arg(script).arg(&folder).status().await;
    if !status.context("cannot start python3")?.success() {
        bail!("cannot fetch the flights: see above");
    }
    Ok(folder)
}

/// Puts months (1 to 12) into the bucket.
///
/// # Errors
/// As the disk and the store say.
pub async fn arrive(months: RangeInclusive<u32>, folder: &std::path::Path, raw: &Bucket) -> Result<()> {
    for month in months {
        let file = format!("2013-{month:02}.csv.gz");
        let content = fs::read(folder.join(&file)).await.with_context(|| format!("reading {file}"))?;
        raw.put(&format!("{FOLDER}/{file}"), content).await?;
    }
    Ok(())
}

fn cache() -> Result<PathBuf> {
    if let Some(path) = env::var_os("MLOP_CACHE") {
        return Ok(path.into());
    }
    let home = env::home_dir().map(|home| home.join(".cache"));
    let user = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or(home);
    Ok(user.context("no home folder: set MLOP_CACHE to a folder for downloads")?.join("mlop"))
}
