//! The words of the repository: spelling, banned phrases, and documents that name files.
mod documents;
mod phrases;
mod spelling;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::{paths, process};

/// Checks that could be made, one for spelling, phrases and documents each.
pub const CHECKS: usize = 3;

/// # Errors
/// Every finding with its place, one a line.
pub fn check() -> Result<()> {
    let tree = Tree::of_checkout()?;
    let mut findings = spelling::findings()?;
    findings.extend(phrases::findings(&tree)?);
    findings.extend(documents::findings(&tree)?);
    if !findings.is_empty() {
        bail!("{}\nThe rules: docs/development/style.md", findings.join("\n"));
    }
    Ok(())
}

/// The tracked files of the repository.
struct Tree {
    root: PathBuf,
    /// Relative to the root.
    files: Vec<PathBuf>,
}

impl Tree {
    fn of_checkout() -> Result<Self> {
        let root = paths::repository().to_owned();
        // New files are checked before they are added.
        let list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
        let list = process::output(Command::new("git").args(list).current_dir(&root))?;
        let files = list.split('\0').filter(|path| !path.is_empty()).map(PathBuf::from);
        let files = files.filter(|path| root.join(path).is_file()).collect();
        Ok(Self { root, files })
    }

    fn read(&self, path: &Path) -> Result<String> {
        fs::read_to_string(self.root.join(path)).with_context(|| format!("cannot read {}", path.display()))
    }

    /// Files with one of `extensions`.
    fn with_extension<'a>(&'a self, extensions: &'a [&str]) -> impl Iterator<Item = &'a Path> {
        let has = |path: &&Path| {
            path.extension().is_some_and(|found| extensions.iter().any(|extension| found == *extension))
        };
        self.files.iter().map(PathBuf::as_path).filter(has)
    }
}
