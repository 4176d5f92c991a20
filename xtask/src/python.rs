//! Programs that come as Python packages, each with a virtual environment in the cache.
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::cluster::local;
use crate::{cache, paths, process};

/// The program `name` of the package of the same name.
///
/// # Errors
/// When Python or the package cannot be installed.
pub fn program(name: &str, version: &str) -> Result<PathBuf> {
    Ok(environment(&[&format!("{name}=={version}")])?.join("bin").join(name))
}

/// A virtual environment with these packages, each with its version.
///
/// # Errors
/// When Python or a package cannot be installed.
pub fn environment(packages: &[&str]) -> Result<PathBuf> {
    let directory = paths::cache()?.join("tools").join(packages.join("_").replace("==", "-"));
    cache::entry(&directory, |part| {
        let create = || process::run(Command::new("python3").args(["-m", "venv"]).arg(part));
        if create().is_err() && local::can_install() {
            local::install(&["python3-venv"])?;
            create()?;
        }
        let mut pip = Command::new(part.join("bin/python3"));
        pip.args(["-m", "pip", "install", "--quiet", "--no-cache-dir"]).args(packages);
        process::run(&mut pip).with_context(|| format!("{} are Python packages", packages.join(", ")))
    })?;
    Ok(directory)
}
