//! Directories of the repository and of the cache.
use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// The root of the repository.
pub fn repository() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

/// Files that may be deleted at any time and are then made again: `$MLOP_CACHE`, else `mlop` in the user's cache
/// directory.
pub fn cache() -> Result<PathBuf> {
    if let Some(path) = env::var_os("MLOP_CACHE") {
        return Ok(path.into());
    }
    let user = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let user = user.or_else(|| env::home_dir().map(|home| home.join(".cache")));
    Ok(user.context("no home directory: set MLOP_CACHE to a directory for built files")?.join("mlop"))
}

/// Where cargo builds for xtask, apart from the `target` of editors and of people.
pub fn target() -> Result<PathBuf> {
    Ok(cache()?.join("target"))
}

/// Built programs and images, one directory or file per digest of what determines them.
pub fn built() -> Result<PathBuf> {
    Ok(cache()?.join("cluster"))
}

/// Links to the programs in use; people put it on their `PATH`.
pub fn bin() -> Result<PathBuf> {
    Ok(built()?.join("bin"))
}

/// Files of the running cluster, which end with it.
pub fn state() -> Result<PathBuf> {
    Ok(built()?.join("state"))
}
