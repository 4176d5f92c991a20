//! The files whose words are checked.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{paths, process};

/// The tracked files of the repository.
pub struct Tree {
    pub root: PathBuf,
    /// Relative to the root.
    pub files: Vec<PathBuf>,
}

impl Tree {
    pub fn of_checkout() -> Result<Self> {
        let root = paths::repository().to_owned();
        // New files are checked before they are added.
        let list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
        let list = process::output(Command::new("git").args(list).current_dir(&root))?;
        let files = list.split('\0').filter(|path| !path.is_empty()).map(PathBuf::from);
        let files = files.filter(|path| root.join(path).is_file()).collect();
        Ok(Self { root, files })
    }

    pub fn read(&self, path: &Path) -> Result<String> {
        fs::read_to_string(self.root.join(path)).with_context(|| format!("cannot read {}", path.display()))
    }

    /// Files with one of `extensions`.
    pub fn with_extension<'a>(&'a self, extensions: &'a [&str]) -> impl Iterator<Item = &'a Path> {
        let has = |path: &&Path| {
            path.extension().is_some_and(|found| extensions.iter().any(|extension| found == *extension))
        };
        self.files.iter().map(PathBuf::as_path).filter(has)
    }
}
