//! A copy of the checkout whose sources hold the mistakes, and its own target directory.
use std::collections::{BTreeMap, BTreeSet};
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
    /// A copy of the present checkout. The files in `changed` have their text from there.
    pub fn of_checkout(changed: &BTreeMap<String, String>) -> Result<Self> {
        let directory = paths::cache()?.join("mutants");
        fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        let lock = directory.join("lock");
        let lock = File::create(&lock).with_context(|| format!("cannot open {}", lock.display()))?;
        if lock.try_lock().is_err() {
            bail!("another `cargo xtask mutants` uses {}", directory.display());
        }
        let copy = Self { tree: directory.join("tree"), target: directory.join("target"), _lock: lock };
        copy.copy_from(paths::repository(), changed)?;
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
    fn copy_from(&self, checkout: &Path, changed: &BTreeMap<String, String>) -> Result<()> {
        let list = process::output(Command::new("git").args(["ls-files", "-z"]).current_dir(checkout))?;
        let tracked: BTreeSet<&Path> =
            list.split('\0').map(Path::new).filter(|path| checkout.join(path).is_file()).collect();
        fs::create_dir_all(&self.tree).with_context(|| format!("cannot create {}", self.tree.display()))?;
        for path in cache::files(&self.tree)? {
            if !path.strip_prefix(&self.tree).is_ok_and(|path| tracked.contains(path)) {
                fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        for path in tracked {
            let content = match path.to_str().and_then(|path| changed.get(path)) {
                Some(text) => text.clone().into_bytes(),
                None => {
                    let path = checkout.join(path);
                    fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?
                }
            };
            update(&self.tree.join(path), &content)?;
        }
        Ok(())
    }
}

fn update(path: &Path, content: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|present| present == content) {
        return Ok(());
    }
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    }
    fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn update_keeps_the_time_of_an_equal_file() {
        let directory = std::env::temp_dir().join(format!("xtask-copy-{}", std::process::id()));
        let path = directory.join("deep/file");
        update(&path, b"1").unwrap();
        let past = std::time::SystemTime::UNIX_EPOCH;
        File::open(&path).unwrap().set_modified(past).unwrap();
        update(&path, b"1").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), past);
        update(&path, b"2").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "2");
        fs::remove_dir_all(directory).unwrap();
    }
}
