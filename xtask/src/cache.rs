//! Build results by the digest of their inputs: never stale and never incomplete.
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

use crate::paths;
use crate::progress;

/// A digest of everything that determines the output of a build.
pub struct Inputs(Sha256);

impl Inputs {
    /// `recipe` names the kind of build and every option that is not a file.
    pub fn new(recipe: &str) -> Self {
        let mut inputs = Self(Sha256::new());
        inputs.add(recipe.as_bytes());
        inputs
    }

    pub fn text(&mut self, text: &str) {
        self.add(text.as_bytes());
    }

    /// The content of a file, without its name.
    pub fn file(&mut self, path: &Path) -> Result<()> {
        let content = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        self.add(&content);
        Ok(())
    }

    /// Names and contents of all files under a directory.
    pub fn directory(&mut self, directory: &Path) -> Result<()> {
        for path in files(directory)? {
            self.add(path.strip_prefix(directory).unwrap_or(&path).as_os_str().as_encoded_bytes());
            self.file(&path)?;
        }
        Ok(())
    }

    /// Twelve hexadecimal digits: enough to tell the builds of one machine apart.
    pub fn key(self) -> String {
        let mut key = hex::encode(self.0.finalize());
        key.truncate(12);
        key
    }

    fn add(&mut self, part: &[u8]) {
        self.0.update((part.len() as u64).to_be_bytes());
        self.0.update(part);
    }
}

/// All files under a directory, sorted.
pub fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)
        .with_context(|| format!("cannot read the directory {}", directory.display()))?
    {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The directory or file `path`, made by `build` when it is missing. `build` works on a path next to it that is renamed
/// at the end, so a reader of `path` sees all of it. Other tasks wait meanwhile. Returns whether `build` ran.
pub fn entry(path: &Path, build: impl FnOnce(&Path) -> Result<()>) -> Result<bool> {
    if path.exists() {
        return Ok(false);
    }
    let _lock = exclusive(path.parent().unwrap_or(path), &name(path))?;
    if path.exists() {
        return Ok(false);
    }
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    remove(&part)?;
    build(&part)?;
    fs::rename(&part, path).with_context(|| format!("cannot publish {}", path.display()))?;
    Ok(true)
}

/// Removes the entries next to `current` with the same name and another key: `<name>-<key>` with any extension.
pub fn keep_only(current: &Path) -> Result<()> {
    let (Some(directory), Some(stem)) = (current.parent(), current.file_stem()) else { return Ok(()) };
    let stem = stem.to_string_lossy();
    let Some((name, _)) = stem.rsplit_once('-') else { return Ok(()) };
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let other = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let same_name = other.rsplit_once('-').is_some_and(|(other, _)| other == name);
        if same_name && path.as_path() != current {
            remove(&path)?;
        }
    }
    Ok(())
}

/// Removes a file, or a directory with all in it, if it is there.
pub fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Held while a task changes the cluster, so that two of them never mix. It ends with the process.
pub fn lock() -> Result<File> {
    exclusive(&paths::built()?, "cluster")
}

/// The name of an entry without its key and extension.
fn name(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    stem.rsplit_once('-').map_or(&*stem, |(name, _)| name).to_owned()
}

/// Held by one task at a time for each name in a directory, which is made.
fn exclusive(directory: &Path, name: &str) -> Result<File> {
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let path = directory.join(format!(".lock-{name}"));
    let file = File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
    if file.try_lock().is_err() {
        progress::note(&format!("waiting for another xtask, which works on {name}"));
        file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("xtask-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        directory
    }

    #[test]
    fn digest_depends_on_boundaries_between_parts() {
        let directory = scratch("inputs");
        let (ab, c) = (directory.join("ab"), directory.join("c"));
        fs::write(&ab, "ab").unwrap();
        fs::write(&c, "c").unwrap();
        let key = |recipe: &str, file: &Path| {
            let mut inputs = Inputs::new(recipe);
            inputs.file(file).unwrap();
            inputs.key()
        };
        assert_ne!(key("a", &ab), key("aab", &c));
        assert_eq!(key("a", &ab), key("a", &ab));
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn entry_is_built_once_and_not_left_by_a_failed_build() {
        let directory = scratch("entry");
        let path = directory.join("image-1.tar");
        assert!(
            entry(&path, |part| Ok(
                fs::write(part, "half").and_then(|()| Err(std::io::Error::other("ends")))?
            ))
            .is_err()
        );
        assert!(!path.exists());
        assert!(entry(&path, |part| Ok(fs::write(part, "whole")?)).unwrap());
        assert!(!entry(&path, |_| unreachable!()).unwrap());
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn sweep_takes_only_the_same_name() {
        let directory = scratch("sweep");
        for name in ["redis-1.tar", "redis-2.tar", "redis-ha-1.tar"] {
            fs::write(directory.join(name), "").unwrap();
        }
        keep_only(&directory.join("redis-2.tar")).unwrap();
        assert_eq!(
            files(&directory).unwrap(),
            [directory.join("redis-2.tar"), directory.join("redis-ha-1.tar")]
        );
        fs::remove_dir_all(directory).unwrap();
    }
}
