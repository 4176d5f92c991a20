//! Spelling, by typos with `typos.toml`.
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::cluster::local;
use crate::{cache, paths, process};

/// Also in `.pre-commit-config.yaml`.
const VERSION: &str = "1.52.0";

/// One misspelt word a line.
pub fn findings() -> Result<Vec<String>> {
    let typos = program()?;
    let mut command = Command::new(&typos);
    command.args(["--format", "brief", "--force-exclude"]).current_dir(paths::repository());
    let output = command.output().with_context(|| format!("cannot start {}", typos.display()))?;
    let found = String::from_utf8_lossy(&output.stdout);
    let mut findings: Vec<String> = found.lines().map(str::to_owned).collect();
    if !output.status.success() && findings.is_empty() {
        findings.push(format!("typos: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(findings)
}

/// The program, from its Python package: compiling it would take minutes.
fn program() -> Result<PathBuf> {
    let directory = paths::cache()?.join("tools").join(format!("typos-{VERSION}"));
    cache::entry(&directory, |part| {
        let create = || process::run(Command::new("python3").args(["-m", "venv"]).arg(part));
        if create().is_err() && local::can_install() {
            local::install(&["python3-venv"])?;
            create()?;
        }
        let mut pip = Command::new(part.join("bin/python3"));
        pip.args(["-m", "pip", "install", "--quiet", "--no-deps", &format!("typos=={VERSION}")]);
        process::run(&mut pip).context("typos checks the spelling; it comes as a Python package")
    })?;
    Ok(directory.join("bin/typos"))
}
