//! Disk space, checked before an hour is spent.
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::report::{ONE, Report};
use crate::{paths, process, progress};

/// GiB that a run needs besides the cluster's programs and images: test programs, archives of images, volumes.
const WARM: u64 = 12;
/// GiB that it needs when nothing is cached.
const COLD: u64 = 24;
const GIB: u64 = 1 << 30;

/// Checks that everything can be built. Cargo never removes unused files: when space is short, its target directory in
/// the cache is removed and built again.
pub fn check() -> Result<Report> {
    let cache = paths::cache()?;
    fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    let target = paths::target()?;
    let needed = if paths::built()?.exists() { WARM } else { COLD };
    let mut free = available(&cache)?;
    if free < needed * GIB && target.exists() {
        progress::note(&format!("{} GiB free: removing {} to make space", free / GIB, target.display()));
        fs::remove_dir_all(&target).with_context(|| format!("cannot remove {}", target.display()))?;
        free = available(&cache)?;
    }
    if free < needed * GIB {
        bail!(
            "{} GiB are free where {} is, and up to {needed} GiB are needed: make room there, or set MLOP_CACHE to a \
             directory on a larger disk",
            free / GIB,
            cache.display(),
        );
    }
    Ok(ONE)
}

/// Bytes that can be written to the file system of a directory.
fn available(directory: &Path) -> Result<u64> {
    let table = process::output(Command::new("df").arg("-Pk").arg(directory))?;
    parse(&table).with_context(|| format!("cannot read what df says of {}:\n{table}", directory.display()))
}

/// Reads the table of `df -Pk`: file system, blocks of 1024 bytes, used, available, capacity, mount point.
fn parse(table: &str) -> Option<u64> {
    let blocks: u64 = table.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()?;
    Some(blocks * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_blocks_are_read_from_the_table() {
        let table =
            "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/a 1000 900 64 94% /some where";
        assert_eq!(parse(table), Some(64 * 1024));
        assert_eq!(parse("df: no such directory"), None);
    }
}
