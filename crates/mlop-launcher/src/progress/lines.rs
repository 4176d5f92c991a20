//! The new lines of a file that somebody else appends to, cuts off or replaces.

use rustix::fs::OFlags;
use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::PathBuf,
};

/// Most bytes of one read.
const READ_BYTES: u64 = 1 << 20;
/// Longest line in bytes.
const LINE_BYTES_MAX: usize = 64 << 10;
/// Unread bytes beyond which the oldest are skipped.
const BACKLOG_MAX: u64 = 32 << 20;

/// A file and the place up to which it was read.
#[derive(Debug)]
pub(super) struct Lines {
    path: PathBuf,
    /// Device and inode of the file that was read.
    file: Option<(u64, u64)>,
    at: u64,
    /// The beginning of a line.
    rest: Vec<u8>,
    /// Whether the rest of a line that is too long is to be skipped.
    skips: bool,
}

/// The outcome of one read.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub lines: Vec<Vec<u8>>,
    pub remarks: Vec<String>,
    /// Whether the end of the file was reached.
    pub is_all: bool,
}

impl Lines {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, file: None, at: 0, rest: Vec::new(), skips: false }
    }

    /// The next lines that are complete.
    pub(super) fn read(&mut self) -> Chunk {
        let mut read = Chunk { is_all: true, ..Chunk::default() };
        match self.chunk(&mut read) {
            Ok(chunk) => self.split(&chunk, &mut read),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => read.remarks.push(format!("the file cannot be read: {error}")),
        }
        read
    }

    /// The line that the file ends with, if no line feed ends it.
    pub(super) fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.rest)
    }

    fn chunk(&mut self, read: &mut Chunk) -> io::Result<Vec<u8>> {
        // A link could lead to keys of the agent, and a pipe would block it.
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
        let mut file = OpenOptions::new().read(true).custom_flags(flags).open(&self.path)?;
        let (length, identity) = facts(&file)?;
        if self.file != Some(identity) || length < self.at {
            (self.file, self.at, self.skips) = (Some(identity), 0, false);
            self.rest.clear();
        }
        if length - self.at > BACKLOG_MAX {
            read.remarks.push(format!("more than {BACKLOG_MAX} bytes at once: the oldest are skipped"));
            (self.at, self.skips) = (length - READ_BYTES, true);
            self.rest.clear();
        }
        file.seek(SeekFrom::Start(self.at))?;
        let mut chunk = Vec::new();
        file.take(READ_BYTES).read_to_end(&mut chunk)?;
        self.at += chunk.len() as u64;
        read.is_all = (chunk.len() as u64) < READ_BYTES;
        Ok(chunk)
    }

    fn split(&mut self, chunk: &[u8], read: &mut Chunk) {
        let mut parts = chunk.split(|byte| *byte == b'\n').peekable();
        while let Some(part) = parts.next() {
            if !self.skips {
                self.rest.extend_from_slice(part);
            }
            if self.rest.len() > LINE_BYTES_MAX {
                read.remarks.push(format!("a line is ignored: it has more than {LINE_BYTES_MAX} bytes"));
                self.rest.clear();
                self.skips = true;
            }
            let is_complete = parts.peek().is_some();
            if is_complete && !std::mem::take(&mut self.skips) {
                read.lines.push(std::mem::take(&mut self.rest));
            }
        }
    }
}

/// Length and identity of a regular file.
fn facts(file: &File) -> io::Result<(u64, (u64, u64))> {
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    Ok((metadata.len(), (metadata.dev(), metadata.ino())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, io::Write as _};

    struct Case {
        dir: tempfile::TempDir,
        lines: Lines,
    }

    impl Case {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let lines = Lines::new(dir.path().join("progress"));
            Self { dir, lines }
        }

        fn path(&self) -> PathBuf {
            self.dir.path().join("progress")
        }

        fn append(&self, text: &[u8]) {
            let mut file = OpenOptions::new().append(true).create(true).open(self.path()).unwrap();
            file.write_all(text).unwrap();
        }

        fn read(&mut self) -> Vec<String> {
            let lines = self.lines.read().lines;
            lines.iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect()
        }
    }

    #[test]
    fn only_complete_lines_are_read_and_once() {
        let mut case = Case::new();
        assert!(case.lines.read().remarks.is_empty(), "a file that is not there yet");
        case.append(b"a\nb");
        assert_eq!(case.read(), ["a"]);
        assert!(case.read().is_empty());
        case.append(b"c\n\nd");
        assert_eq!(case.read(), ["bc", ""]);
        assert_eq!(case.lines.rest(), b"d");
    }

    #[test]
    fn file_that_is_cut_off_or_replaced_is_read_from_its_beginning() {
        let mut case = Case::new();
        case.append(b"one\ntwo\nthr");
        assert_eq!(case.read(), ["one", "two"]);
        fs::write(case.path(), b"new\n").unwrap();
        assert_eq!(case.read(), ["new"]);
        fs::write(case.dir.path().join("other"), b"another, and longer\n").unwrap();
        fs::rename(case.dir.path().join("other"), case.path()).unwrap();
        assert_eq!(case.read(), ["another, and longer"]);
    }

    #[test]
    fn long_line_is_skipped_and_those_after_it_count() {
        let mut case = Case::new();
        case.append(&vec![b'x'; 3 << 20]);
        case.append(b"\nok\n");
        let (mut lines, mut remarks) = (Vec::new(), 0);
        for _ in 0..4 {
            let read = case.lines.read();
            lines.extend(read.lines);
            remarks += read.remarks.len();
            assert!(case.lines.rest.len() <= LINE_BYTES_MAX);
        }
        assert_eq!((lines, remarks), (vec![b"ok".to_vec()], 1));
    }

    #[test]
    fn oldest_of_too_much_is_skipped() {
        let mut case = Case::new();
        case.append(&b"line of sixteen\n".repeat((BACKLOG_MAX / 16) as usize + 10));
        let read = case.lines.read();
        assert_eq!(read.lines.len() as u64, READ_BYTES / 16 - 1, "the first may be half a line");
        assert!(read.remarks[0].contains("skipped"), "{:?}", read.remarks);
    }

    #[test]
    fn link_pipe_and_directory_are_not_read() {
        for make in [
            (|path| std::os::unix::fs::symlink("/etc/passwd", path)) as fn(&PathBuf) -> io::Result<()>,
            |path| {
                Ok(rustix::fs::mknodat(
                    rustix::fs::CWD,
                    path,
                    rustix::fs::FileType::Fifo,
                    rustix::fs::Mode::RWXU,
                    0,
                )?)
            },
            |path| fs::create_dir(path),
        ] {
            let mut case = Case::new();
            make(&case.path()).unwrap();
            let read = case.lines.read();
            assert!(read.lines.is_empty() && read.remarks[0].contains("cannot be read"), "{read:?}");
        }
    }
}
