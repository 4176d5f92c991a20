//! The flights of 2013 from New York, month by month.

use crate::namespace::TestNamespace;
use anyhow::{Context as _, Result, bail};
use std::{
    env,
    ops::RangeInclusive,
    path::{Path, PathBuf},
};
use tokio::{fs, process::Command};

const PIPELINE: &str = include_str!("../pipelines/flights.yaml");

/// The pipeline, with the bucket prefix of the namespace.
pub fn pipeline(namespace: &str) -> String {
    PIPELINE.replace("prefix: flights/", &format!("prefix: {namespace}/"))
}

/// Downloads and splits the data once per machine, and returns the directory with one file per month.
///
/// # Errors
/// Python or its package index is not available.
pub async fn prepare() -> Result<PathBuf> {
    let directory = cache()?.join("data/flights");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/data/flights.py");
    let status = Command::new("python3").arg(script).arg(&directory).status().await;
    if !status.context("cannot start python3")?.success() {
        bail!("cannot download the flights (see above)");
    }
    Ok(directory)
}

/// Uploads months (1 to 12) to the source of this namespace's pipeline.
///
/// # Errors
/// A file cannot be read or uploaded.
pub async fn upload(months: RangeInclusive<u32>, directory: &Path, ns: &TestNamespace) -> Result<()> {
    for month in months {
        let file = format!("2013-{month:02}.csv.gz");
        let content = fs::read(directory.join(&file)).await.with_context(|| format!("reading {file}"))?;
        ns.raw.put(&format!("{}/{file}", ns.name), content).await?;
    }
    Ok(())
}

fn cache() -> Result<PathBuf> {
    if let Some(path) = env::var_os("MLOP_CACHE") {
        return Ok(path.into());
    }
    let home = env::home_dir().map(|home| home.join(".cache"));
    let user = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or(home);
    Ok(user.context("no home directory: set MLOP_CACHE to a directory for downloads")?.join("mlop"))
}
