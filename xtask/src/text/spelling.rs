//! Spelling, by typos with `typos.toml`.
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{paths, python};

/// Also in `.pre-commit-config.yaml`.
const VERSION: &str = "1.52.0";

/// One misspelt word a line.
pub fn findings() -> Result<Vec<String>> {
    // Compiling it would take minutes.
    let typos = python::program("typos", VERSION)?;
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
