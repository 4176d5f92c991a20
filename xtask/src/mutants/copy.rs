//! A copy of the checkout that mutants may change, with its own build folder beside it.
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
    /// The copy as the checkout is now. What a task before has left behind is mended.
    pub fn of_checkout() -> Result<Self> {
        let folder = paths::cache()?.join("mutants");
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let lock = folder.join("lock");
        let lock = File::create(&lock).with_context(|| format!("cannot open {}", lock.display()))?;
        if lock.try_lock().is_err() {
            bail!("another `cargo xtask mutants` is at work in {}", folder.display());
        }
        let copy = Self { tree: folder.join("tree"), target: folder.join("target"), _lock: lock };
        copy.follow(paths::repository())?;
        Ok(copy)
    }

    /// Where the copy of the checkout's root is.
    pub fn tree(&self) -> &Path {
        &self.tree
    }

    /// Where cargo builds it.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Takes over the tracked files, as they lie there. Equal files stay untouched: cargo goes by their times.
    fn follow(&self, checkout: &Path) -> Result<()> {
        let list = process::output(Command::new("git").args(["ls-files", "-z"]).current_dir(checkout))?;
        let tracked: BTreeSet<&Path> =
            list.split('\0').map(Path::new).filter(|path| checkout.join(path).is_file()).collect();
        fs::create_dir_all(&self.tree).with_context(|| format!("cannot make {}", self.tree.display()))?;
        for path in cache::files(&self.tree)? {
            if !path.strip_prefix(&self.tree).is_ok_and(|path| tracked.contains(path)) {
                fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        tracked.into_iter().try_for_each(|path| update(&checkout.join(path), &self.tree.join(path)))
    }

    /// # Errors
    /// When the code that the patch changes has become another.
    pub fn fits(&self, patch: &Path) -> Result<()> {
        self.git_apply(&["--check"], patch).with_context(|| {
            format!("the mutant {} does not apply: make it anew from the present code", patch.display())
        })
    }

    pub fn apply(&self, patch: &Path) -> Result<()> {
        self.git_apply(&[], patch).with_context(|| format!("the mutant {} does not apply", patch.display()))
    }

    pub fn undo(&self, patch: &Path) -> Result<()> {
        self.git_apply(&["--reverse"], patch)
            .with_context(|| format!("the mutant {} cannot be undone", patch.display()))
    }

    fn git_apply(&self, options: &[&str], patch: &Path) -> Result<()> {
        let mut git = Command::new("git");
        git.arg("apply").args(options).arg(patch).current_dir(&self.tree);
        // A repository around the cache would make git skip what is not tracked there.
        process::run(git.env("GIT_CEILING_DIRECTORIES", self.tree.parent().unwrap_or(&self.tree)))
    }
}

fn update(from: &Path, to: &Path) -> Result<()> {
    let content = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    if fs::read(to).is_ok_and(|present| present == content) {
        return Ok(());
    }
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    fs::write(to, content).with_context(|| format!("cannot write {}", to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_equal_file_keeps_its_time() {
        let folder = std::env::temp_dir().join(format!("xtask-copy-{}", std::process::id()));
        let (from, to) = (folder.join("from"), folder.join("deep/to"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(&from, "1").unwrap();
        update(&from, &to).unwrap();
        let past = std::time::SystemTime::UNIX_EPOCH;
        File::open(&to).unwrap().set_modified(past).unwrap();
        update(&from, &to).unwrap();
        assert_eq!(fs::metadata(&to).unwrap().modified().unwrap(), past);
        fs::write(&from, "2").unwrap();
        update(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(&to).unwrap(), "2");
        fs::remove_dir_all(folder).unwrap();
    }
}
