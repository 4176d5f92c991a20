//! Built things by the digest of what determined them: never stale, and never half there.
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

    /// The content of a file, whatever its name.
    pub fn file(&mut self, path: &Path) -> Result<()> {
        let content = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        self.add(&content);
        Ok(())
    }

    /// Names and contents of all files under a folder.
    pub fn folder(&mut self, folder: &Path) -> Result<()> {
        for path in files(folder)? {
            self.add(path.strip_prefix(folder).unwrap_or(&path).as_os_str().as_encoded_bytes());
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

/// All files under a folder, sorted.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in
        fs::read_dir(folder).with_context(|| format!("cannot read the folder {}", folder.display()))?
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

/// The folder or file `path`, made by `build` when it is missing. `build` works on a path beside it that is renamed
/// at the end, so whoever sees `path` sees all of it. Returns whether `build` ran.
pub fn entry(path: &Path, build: impl FnOnce(&Path) -> Result<()>) -> Result<bool> {
    if path.exists() {
        return Ok(false);
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    remove(&part)?;
    build(&part)?;
    fs::rename(&part, path).with_context(|| format!("cannot publish {}", path.display()))?;
    Ok(true)
}

/// Removes the entries beside `current` that have its name and another key: `<name>-<key>` with any extension.
pub fn keep_only(current: &Path) -> Result<()> {
    let (Some(folder), Some(stem)) = (current.parent(), current.file_stem()) else { return Ok(()) };
    let stem = stem.to_string_lossy();
    let Some((name, _)) = stem.rsplit_once('-') else { return Ok(()) };
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let other = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let same_name = other.rsplit_once('-').is_some_and(|(other, _)| other == name);
        if same_name && path.as_path() != current {
            remove(&path)?;
        }
    }
    Ok(())
}

/// Removes a file, or a folder with all in it, if it is there.
pub fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Held while a task builds or changes the cluster, so that two of them never mix. It ends with the process.
pub fn lock() -> Result<File> {
    let folder = paths::built()?;
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let path = folder.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
    if file.try_lock().is_err() {
        progress::note("another xtask is at work: waiting for it to end");
        file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("xtask-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn the_boundary_between_parts_counts() {
        let folder = scratch("inputs");
        let (ab, c) = (folder.join("ab"), folder.join("c"));
        fs::write(&ab, "ab").unwrap();
        fs::write(&c, "c").unwrap();
        let key = |recipe: &str, file: &Path| {
            let mut inputs = Inputs::new(recipe);
            inputs.file(file).unwrap();
            inputs.key()
        };
        assert_ne!(key("a", &ab), key("aab", &c));
        assert_eq!(key("a", &ab), key("a", &ab));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn an_entry_is_built_once_and_a_failed_build_leaves_none() {
        let folder = scratch("entry");
        let path = folder.join("image-1.tar");
        assert!(
            entry(&path, |part| Ok(
                fs::write(part, "half").and_then(|()| Err(std::io::Error::other("ends")))?
            ))
            .is_err()
        );
        assert!(!path.exists());
        assert!(entry(&path, |part| Ok(fs::write(part, "whole")?)).unwrap());
        assert!(!entry(&path, |_| unreachable!()).unwrap());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn only_the_same_name_is_swept() {
        let folder = scratch("sweep");
        for name in ["redis-1.tar", "redis-2.tar", "redis-ha-1.tar"] {
            fs::write(folder.join(name), "").unwrap();
        }
        keep_only(&folder.join("redis-2.tar")).unwrap();
        assert_eq!(files(&folder).unwrap(), [folder.join("redis-2.tar"), folder.join("redis-ha-1.tar")]);
        fs::remove_dir_all(folder).unwrap();
    }
}
