//! `cargo xtask generate`: files that follow from the types and tables of the code.
mod crds;
mod dashboards;
mod files;
mod rbac;
mod reference;
mod roles;
mod state_metrics;
mod values;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args as ClapArgs;

pub use dashboards::queries;
pub use state_metrics::names as state_metrics;

use crate::paths;
use files::{Files, MARK};

#[derive(ClapArgs)]
pub struct Args {
    /// Write nothing, and fail when a file is out of date.
    #[arg(long)]
    check: bool,
}

/// Directories with generated files.
const DIRECTORIES: [&str; 2] = ["charts", "docs/reference"];

pub fn run(args: &Args) -> Result<()> {
    let files = generated()?;
    let stale = stale(&files)?;
    let wrong: Vec<_> = files.iter().filter(|(path, text)| !holds(path, text)).collect();
    if args.check {
        return check(wrong.iter().map(|(path, _)| *path).chain(&stale));
    }
    for (path, text) in wrong {
        write(path, text)?;
        eprintln!("wrote {}", path.display());
    }
    for path in &stale {
        fs::remove_file(at(path)).with_context(|| format!("cannot delete {}", path.display()))?;
        eprintln!("deleted {}", path.display());
    }
    Ok(())
}

fn generated() -> Result<Files> {
    let kinds = mlop_api::kinds::all();
    let mut files = crds::files(&kinds)?;
    files.extend(reference::files(&kinds)?);
    files.extend(roles::files()?);
    files.extend(state_metrics::files(&kinds)?);
    files.extend(dashboards::files()?);
    files.extend(values::files());
    Ok(files)
}

fn check<'a>(paths: impl Iterator<Item = &'a PathBuf>) -> Result<()> {
    let paths: Vec<_> = paths.map(|path| format!("  {}", path.display())).collect();
    if paths.is_empty() {
        return Ok(());
    }
    bail!("out of date:\n{}\nWrite them again: cargo xtask generate", paths.join("\n"))
}

fn holds(path: &Path, text: &str) -> bool {
    fs::read_to_string(at(path)).is_ok_and(|found| found == text)
}

fn write(path: &Path, text: &str) -> Result<()> {
    let file = at(path);
    let written = file.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&file, text));
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// Files with the mark that nothing generates any more.
fn stale(files: &Files) -> Result<Vec<PathBuf>> {
    let mut stale = Vec::new();
    let mut directories: Vec<PathBuf> = DIRECTORIES.iter().map(PathBuf::from).collect();
    while let Some(directory) = directories.pop() {
        let Ok(entries) = fs::read_dir(at(&directory)) else { continue };
        for entry in entries {
            let path = directory.join(entry?.file_name());
            let marked = || fs::read_to_string(at(&path)).is_ok_and(|text| is_marked(&text));
            if at(&path).is_dir() {
                directories.push(path);
            } else if !files.contains_key(&path) && marked() {
                stale.push(path);
            }
        }
    }
    stale.sort();
    Ok(stale)
}

fn is_marked(text: &str) -> bool {
    text.lines().next().is_some_and(|line| line.contains(MARK))
}

fn at(path: &Path) -> PathBuf {
    paths::repository().join(path)
}
