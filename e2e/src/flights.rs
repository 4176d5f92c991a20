//! The flights of 2013 from New York, month by month.

use crate::scratch::Scratch;
use anyhow::{Context as _, Result, bail};
use std::{
    env,
    ops::RangeInclusive,
    path::{Path, PathBuf},
};
use tokio::{fs, process::Command};

const PIPELINE: &str = include_str!("../pipelines/flights.yaml");

/// The pipeline that learns from them, with its folders in the buckets as the namespace has them.
pub fn pipeline(namespace: &str) -> String {
    PIPELINE.replace("prefix: flights/", &format!("prefix: {namespace}/"))
}

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

/// Puts months (1 to 12) where the pipeline of this namespace finds them.
///
/// # Errors
/// As the disk and the store say.
pub async fn arrive(months: RangeInclusive<u32>, folder: &Path, scratch: &Scratch) -> Result<()> {
    for month in months {
        let file = format!("2013-{month:02}.csv.gz");
        let content = fs::read(folder.join(&file)).await.with_context(|| format!("reading {file}"))?;
        scratch.raw.put(&format!("{}/{file}", scratch.namespace), content).await?;
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
