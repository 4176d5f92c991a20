//! A copy of the checkout that mutants may change, and its own target directory.
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::{cache, paths, process};

pub struct Copy {
    tree: PathBuf,
    target: PathBuf,
    /// Held so that only one task changes the copy. It ends with the process.
    _lock: File,
}

impl Copy {
    /// A copy of the present checkout. Mistakes that an interrupted task left in it are undone.
    pub fn of_checkout() -> Result<Self> {
        let directory = paths::cache()?.join("mutants");
        fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        let lock = directory.join("lock");
        let lock = File::create(&lock).with_context(|| format!("cannot open {}", lock.display()))?;
        if lock.try_lock().is_err() {
            bail!("another `cargo xtask mutants` uses {}", directory.display());
        }
        let copy = Self { tree: directory.join("tree"), target: directory.join("target"), _lock: lock };
        copy.copy_from(paths::repository())?;
        Ok(copy)
    }

    /// The root of the copy.
    pub fn tree(&self) -> &Path {
        &self.tree
    }

    /// Its target directory.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Copies the tracked files with their uncommitted changes. Equal files keep their times, which cargo compares.
    fn copy_from(&self, checkout: &Path) -> Result<()> {
        let list = process::output(Command::new("git").args(["ls-files", "-z"]).current_dir(checkout))?;
        let tracked: BTreeSet<&Path> =
            list.split('\0').map(Path::new).filter(|path| checkout.join(path).is_file()).collect();
        fs::create_dir_all(&self.tree).with_context(|| format!("cannot create {}", self.tree.display()))?;
        for path in cache::files(&self.tree)? {
            if !path.strip_prefix(&self.tree).is_ok_and(|path| tracked.contains(path)) {
                fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        tracked.into_iter().try_for_each(|path| update(&checkout.join(path), &self.tree.join(path)))
    }

    /// Replaces a file of the tree.
    pub fn write(&self, path: &str, text: &str) -> Result<()> {
        let path = self.tree.join(path);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

fn update(from: &Path, to: &Path) -> Result<()> {
    let content = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    if fs::read(to).is_ok_and(|present| present == content) {
        return Ok(());
    }
    if let Some(directory) = to.parent() {
        fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    }
    fs::write(to, content).with_context(|| format!("cannot write {}", to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn update_keeps_the_time_of_an_equal_file() {
        let directory = std::env::temp_dir().join(format!("xtask-copy-{}", std::process::id()));
        let (from, to) = (directory.join("from"), directory.join("deep/to"));
        fs::create_dir_all(&directory).unwrap();
        fs::write(&from, "1").unwrap();
        update(&from, &to).unwrap();
        let past = std::time::SystemTime::UNIX_EPOCH;
        File::open(&to).unwrap().set_modified(past).unwrap();
        update(&from, &to).unwrap();
        assert_eq!(fs::metadata(&to).unwrap().modified().unwrap(), past);
        fs::write(&from, "2").unwrap();
        update(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(&to).unwrap(), "2");
        fs::remove_dir_all(directory).unwrap();
    }
}
