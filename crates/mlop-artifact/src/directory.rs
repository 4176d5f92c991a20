//! A local directory that user code writes, read without ever leaving it.
//!
//! The agent holds keys that user code must not see, and reads this directory while user code may still run. Every
//! file is opened one path segment at a time, relative to the segment before and never through a link. Links are
//! resolved by name beforehand, so neither a link nor an exchange of a directory for a link leads out. This needs no
//! `openat2`, which sandboxed kernels lack.

use crate::{error::local_failure, manifest::OBJECTS_MAX, path};
use mlop_api::{Reason, result::Failure};
use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags},
    io::Errno,
};
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    os::fd::{AsFd, OwnedFd},
    path::{Component, Path, PathBuf},
};

/// Deepest nesting of directories.
const DEPTH_MAX: usize = 64;
/// Most links that one path is resolved through.
const LINKS_MAX: usize = 40;
/// Skipped entries that are named one by one.
const SKIPPED_MAX: usize = 100;

/// A directory, opened.
#[derive(Debug)]
pub struct Directory {
    root: OwnedFd,
    path: PathBuf,
}

/// A regular file in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where a user sees it, relative to the directory.
    pub path: String,
    /// Where it is without links, relative to the directory.
    source: Vec<String>,
    /// Size in bytes.
    pub bytes: u64,
    /// Time of its last change: seconds and nanoseconds since 1970.
    pub modified: (i64, u32),
    /// Whether its owner may execute it.
    pub executable: bool,
}

/// An entry that cannot be part of a tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Where it is, relative to the directory; bytes that are not UTF-8 are replaced.
    pub path: String,
    /// Why it is not part of the tree.
    pub reason: String,
}

/// The files of a directory, and the entries that are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Regular files, sorted by path. A link that stays inside counts as its target.
    pub files: Vec<Found>,
    /// Entries that are left out, sorted by path, the first 100 of them.
    pub skipped: Vec<Skipped>,
    /// Number of all entries that are left out.
    pub skipped_count: usize,
}

impl Directory {
    /// Opens the directory at `path`, no part of which may be a link: user code may have put one there.
    ///
    /// # Errors
    /// [`Reason::WorkerFailed`] when there is none.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let failed = |error: Errno| local_failure("opening the directory", path, &error.into());
        let start = if path.is_absolute() { "/" } else { "." };
        let mut root = rustix::fs::open(start, DIRECTORY, Mode::empty()).map_err(failed)?;
        for component in path.components() {
            if let Component::Normal(name) = component {
                root = rustix::fs::openat(&root, name, DIRECTORY, Mode::empty()).map_err(failed)?;
            }
        }
        Ok(Self { root, path: path.to_owned() })
    }

    /// Where the directory is, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Everything below.
    ///
    /// # Errors
    /// [`Reason::WorkerFailed`] when the directory itself cannot be read.
    pub fn contents(&self) -> Result<Contents, Failure> {
        let mut walk = Walk { directory: self, contents: Contents::default(), pending: Vec::new() };
        walk.visit(&Visit { path: String::new(), source: Vec::new(), through: Vec::new() })
            .map_err(|error| local_failure("listing", &self.path, &error.into()))?;
        while let Some(visit) = walk.pending.pop() {
            if let Err(error) = walk.visit(&visit) {
                walk.skip(visit.path, format!("cannot be listed: {}", reason_of(error)));
            }
        }
        let mut contents = walk.contents;
        contents.files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        contents.skipped.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(contents)
    }

    /// Opens a file that [`contents`](Self::contents) found.
    ///
    /// # Errors
    /// [`Reason::WorkerFailed`], retryable, when it is not there any more, or is no regular file any more.
    pub fn file(&self, found: &Found) -> Result<File, Failure> {
        let shown = self.path.join(&found.path);
        let file = self.regular(&found.source);
        let file = file.map_err(|error| local_failure("opening", &shown, &error.into()))?;
        let metadata = file.metadata().map_err(|error| local_failure("looking at", &shown, &error))?;
        if metadata.is_file() {
            return Ok(file);
        }
        Err(Failure::transient(
            Reason::WorkerFailed,
            format!("{} is no regular file any more", shown.display()),
        ))
    }

    fn regular(&self, source: &[String]) -> Result<File, Errno> {
        let Some((name, parents)) = source.split_last() else { return Err(Errno::ISDIR) };
        let parent = self.descend(parents)?;
        // NONBLOCK: opening a named pipe must not wait for its writer.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NOFOLLOW;
        let open = || rustix::fs::openat(&parent, name, flags, Mode::empty());
        match open() {
            // The command's files belong to the agent's user too, so it may make unreadable ones readable.
            Err(Errno::ACCESS) => {
                permit(&parent, name, Mode::RUSR)?;
                open().map(File::from)
            }
            other => other.map(File::from),
        }
    }

    /// The directory at `segments` below this one, opened without following links.
    fn descend(&self, segments: &[String]) -> Result<OwnedFd, Errno> {
        let mut at = self.root.try_clone().map_err(|_| Errno::MFILE)?;
        for segment in segments {
            at = match rustix::fs::openat(&at, segment, DIRECTORY, Mode::empty()) {
                Err(Errno::ACCESS) => {
                    permit(&at, segment, Mode::RWXU)?;
                    rustix::fs::openat(&at, segment, DIRECTORY, Mode::empty())?
                }
                other => other?,
            };
        }
        Ok(at)
    }

    /// The target of the link at `link`, with all links resolved, and its kind.
    fn resolve(&self, link: &[String]) -> Result<(Vec<String>, FileType), String> {
        let (mut reached, mut links) = (Vec::new(), 0);
        let mut ahead: Vec<String> = link.iter().rev().cloned().collect();
        let mut kind = FileType::Directory;
        while let Some(segment) = ahead.pop() {
            if kind != FileType::Directory {
                return Err("is a link that leads to nothing".to_owned());
            }
            if segment == ".." {
                reached.pop().ok_or_else(leads_out)?;
                continue;
            }
            let parent = self.descend(&reached).map_err(leads_nowhere)?;
            let stat =
                rustix::fs::statat(&parent, &segment, AtFlags::SYMLINK_NOFOLLOW).map_err(leads_nowhere)?;
            kind = FileType::from_raw_mode(stat.st_mode);
            if kind != FileType::Symlink {
                reached.push(segment);
                continue;
            }
            links += 1;
            if links > LINKS_MAX {
                return Err("is a link that leads to itself".to_owned());
            }
            let target = rustix::fs::readlinkat(&parent, &segment, Vec::new()).map_err(leads_nowhere)?;
            let target = target.to_str().map_err(|_| "is a link to a name that is not UTF-8")?;
            let (absolute, segments) = self.segments(target)?;
            if absolute {
                reached.clear();
            }
            ahead.extend(segments.into_iter().rev());
            kind = FileType::Directory;
        }
        Ok((reached, kind))
    }

    /// The segments of a link's target, and whether they begin at this directory.
    fn segments(&self, target: &str) -> Result<(bool, Vec<String>), String> {
        let target = Path::new(target);
        let (absolute, rest) = match target.strip_prefix(&self.path) {
            _ if target.is_relative() => (false, target),
            Ok(rest) => (true, rest),
            Err(_) => return Err(leads_out()),
        };
        let segments = rest.components().filter_map(|component| match component {
            Component::Normal(name) => name.to_str().map(str::to_owned),
            Component::ParentDir => Some("..".to_owned()),
            _ => None,
        });
        Ok((absolute, segments.collect()))
    }
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn leads_out() -> String {
    "is a link that leads out of the directory".to_owned()
}

fn leads_nowhere(error: Errno) -> String {
    match error {
        Errno::NOENT | Errno::NOTDIR => "is a link that leads to nothing".to_owned(),
        error => format!("is a link that cannot be followed: {}", reason_of(error)),
    }
}

fn reason_of(error: Errno) -> String {
    std::io::Error::from(error).to_string()
}

/// Gives the owner of `name` the rights `mode` too. Fails for what belongs to somebody else.
fn permit(parent: impl AsFd, name: &str, mode: Mode) -> Result<(), Errno> {
    let stat = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
        return Err(Errno::LOOP);
    }
    let wanted = Mode::from_raw_mode(stat.st_mode) | mode;
    rustix::fs::chmodat(parent, name, wanted, AtFlags::empty())
}

/// A directory that is still to be listed.
struct Visit {
    path: String,
    source: Vec<String>,
    /// The directories on the way here: a link to one of them would not end.
    through: Vec<Vec<String>>,
}

struct Walk<'a> {
    directory: &'a Directory,
    contents: Contents,
    pending: Vec<Visit>,
}

impl Walk<'_> {
    fn visit(&mut self, visit: &Visit) -> Result<(), Errno> {
        let opened = self.directory.descend(&visit.source)?;
        for entry in Dir::read_from(&opened)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let Ok(name) = name.to_str() else {
                let shown = joined(&visit.path, &name.to_string_lossy());
                self.skip(shown, "has a name that is not UTF-8".to_owned());
                continue;
            };
            self.entry(visit, &opened, name);
        }
        Ok(())
    }

    fn entry(&mut self, visit: &Visit, parent: &OwnedFd, name: &str) {
        let path = joined(&visit.path, name);
        if let Err(flaw) = path::check(&path) {
            return self.skip(path, flaw.to_owned());
        }
        let source: Vec<String> = visit.source.iter().cloned().chain([name.to_owned()]).collect();
        let stat = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(error) => return self.skip(path, format!("cannot be read: {}", reason_of(error))),
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => self.link(visit, path, &source),
            kind => self.take(visit, path, source, kind),
        }
    }

    fn link(&mut self, visit: &Visit, path: String, link: &[String]) {
        match self.directory.resolve(link) {
            Ok((source, FileType::Directory))
                if source == visit.source || visit.through.contains(&source) =>
            {
                self.skip(path, "is a link to a directory that contains it".to_owned());
            }
            Ok((source, kind)) => self.take(visit, path, source, kind),
            Err(why) => self.skip(path, why),
        }
    }

    fn take(&mut self, visit: &Visit, path: String, source: Vec<String>, kind: FileType) {
        match kind {
            FileType::Directory if visit.through.len() >= DEPTH_MAX => {
                self.skip(path, format!("is nested more than {DEPTH_MAX} directories deep"));
            }
            FileType::Directory => {
                let through = visit.through.iter().chain([&visit.source]).cloned().collect();
                self.pending.push(Visit { path, source, through });
            }
            FileType::RegularFile if self.contents.files.len() >= OBJECTS_MAX => {
                self.skip(path, format!("is beyond the {OBJECTS_MAX} files that a tree may have"));
            }
            FileType::RegularFile => self.file(path, source),
            FileType::Socket => self.skip(path, "is a socket".to_owned()),
            FileType::Fifo => self.skip(path, "is a named pipe".to_owned()),
            _ => self.skip(path, "is neither a file nor a directory".to_owned()),
        }
    }

    fn file(&mut self, path: String, source: Vec<String>) {
        // Opened, so that a file that cannot be read is known before anything is uploaded.
        let metadata = self.directory.regular(&source).and_then(rustix::fs::fstat);
        match metadata {
            Ok(stat) => self.contents.files.push(Found {
                path,
                source,
                bytes: u64::try_from(stat.st_size).unwrap_or_default(),
                modified: (stat.st_mtime, stat.st_mtime_nsec as u32),
                executable: Mode::from_raw_mode(stat.st_mode).contains(Mode::XUSR),
            }),
            Err(error) => self.skip(path, format!("cannot be read: {}", reason_of(error))),
        }
    }

    fn skip(&mut self, path: String, reason: String) {
        self.contents.skipped_count += 1;
        if self.contents.skipped.len() < SKIPPED_MAX {
            self.contents.skipped.push(Skipped { path, reason });
        }
    }
}

fn joined(directory: &str, name: &str) -> String {
    if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") }
}

#[cfg(test)]
mod tests;
