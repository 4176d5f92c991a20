//! A local folder that user code writes, read without ever leaving it.
//!
//! The agent holds keys that user code must not see, and reads this folder while user code may still run. So every
//! file is opened by the kernel relative to the folder (`openat2` with `RESOLVE_BENEATH`): no link, and no exchange
//! of a folder for a link at the wrong moment, leads out of it.

use crate::{error::local_failure, manifest::OBJECTS_MAX, path};
use mlop_api::{Reason, result::Failure};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::{
    fs::File,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

/// Deepest nesting of folders.
const DEPTH_MAX: usize = 64;

/// A folder, opened.
#[derive(Debug)]
pub struct Folder {
    root: OwnedFd,
    path: PathBuf,
}

impl Folder {
    /// Opens the folder at `path`, no part of which may be a link: user code may have put one there.
    ///
    /// # Errors
    /// [`Reason::WorkerFailed`] when there is none.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root =
            rustix::fs::openat2(rustix::fs::CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)
                .map_err(|error| local_failure("opening the folder", path, &error.into()))?;
        Ok(Self { root, path: path.to_owned() })
    }

    /// Relative paths of all files below, sorted. A link that stays inside the folder and leads to a file counts.
    ///
    /// # Errors
    /// [`Reason::UserError`], terminal, for what cannot be part of a tree: links to folders, sockets, devices, names
    /// that are not UTF-8, too many files.
    pub fn files(&self) -> Result<Vec<String>, Failure> {
        let mut files = Vec::new();
        let mut folders = vec![String::new()];
        while let Some(folder) = folders.pop() {
            self.visit(&folder, &mut files, &mut folders)?;
            if files.len() + folders.len() > OBJECTS_MAX {
                return Err(refused(&self.path, &format!("holds more than {OBJECTS_MAX} files and folders")));
            }
        }
        files.sort_unstable();
        Ok(files)
    }

    fn visit(&self, folder: &str, files: &mut Vec<String>, folders: &mut Vec<String>) -> Result<(), Failure> {
        let listed = self.path.join(folder);
        let failed = |error: io::Error| local_failure("listing", &listed, &error);
        for entry in std::fs::read_dir(&listed).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                return Err(refused(&entry.path(), "has a name that is not UTF-8"));
            };
            let relative = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
            path::safe(&relative).map_err(|flaw| Failure::terminal(Reason::UserError, flaw.message))?;
            let kind = entry.file_type().map_err(failed)?;
            if kind.is_dir() {
                if relative.split('/').count() > DEPTH_MAX {
                    return Err(refused(&entry.path(), "is nested too deeply"));
                }
                folders.push(relative);
            } else if kind.is_file() || kind.is_symlink() {
                files.push(relative);
            } else {
                return Err(refused(&entry.path(), "is neither a file nor a folder"));
            }
        }
        Ok(())
    }

    /// Opens the regular file at `relative`.
    ///
    /// # Errors
    /// [`Reason::UserError`], terminal, when it is no regular file or a link leads out of the folder.
    pub fn file(&self, relative: &str) -> Result<File, Failure> {
        let shown = self.path.join(relative);
        // NONBLOCK: opening a named pipe must not wait for its writer.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let file = match rustix::fs::openat2(&self.root, relative, flags, Mode::empty(), resolve) {
            Ok(file) => File::from(file),
            Err(rustix::io::Errno::XDEV) => {
                return Err(refused(&shown, "is a link that leads out of the folder"));
            }
            Err(rustix::io::Errno::LOOP) => return Err(refused(&shown, "is a link that leads to itself")),
            Err(error) => return Err(local_failure("opening", &shown, &error.into())),
        };
        let metadata = file.metadata().map_err(|error| local_failure("looking at", &shown, &error))?;
        if metadata.is_file() { Ok(file) } else { Err(refused(&shown, "is not a regular file")) }
    }

    /// Where the folder is, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn refused(path: &Path, why: &str) -> Failure {
    Failure::terminal(Reason::UserError, format!("{} {why}; remove it", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs::{create_dir, write},
        io::Read,
        os::unix::{fs::symlink, net::UnixListener},
    };

    #[test]
    fn files_are_listed_sorted_and_open() {
        let dir = tempfile::tempdir().unwrap();
        create_dir(dir.path().join("b")).unwrap();
        write(dir.path().join("b/c"), "1").unwrap();
        write(dir.path().join("a"), "2").unwrap();
        symlink("b/c", dir.path().join("link")).unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        assert_eq!(folder.files().unwrap(), ["a", "b/c", "link"]);
        let mut text = String::new();
        folder.file("link").unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "1");
    }

    #[test]
    fn links_never_lead_out() {
        let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        write(outside.path().join("secret"), "key").unwrap();
        symlink(outside.path().join("secret"), dir.path().join("absolute")).unwrap();
        symlink("../secret", dir.path().join("relative")).unwrap();
        symlink(outside.path(), dir.path().join("folder")).unwrap();
        symlink("loop", dir.path().join("loop")).unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        for name in ["absolute", "relative", "folder", "folder/secret", "loop", "../secret"] {
            let failure = folder.file(name).unwrap_err();
            assert_eq!((failure.reason, failure.retryable), (Reason::UserError, false), "{name}");
        }
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        create_dir(dir.path().join("folder")).unwrap();
        symlink("folder", dir.path().join("link")).unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        assert_eq!(folder.file("link").unwrap_err().reason, Reason::UserError);
        let _socket = UnixListener::bind(dir.path().join("socket")).unwrap();
        assert_eq!(folder.files().unwrap_err().reason, Reason::UserError);
    }
}
