//! The last lines of a command's output.

use std::collections::VecDeque;

/// Lines that are kept.
const LINES: usize = 20;
/// Longest part of a line that is kept, in bytes.
const LINE_BYTES: usize = 400;

/// The last lines of several streams, in the order in which they ended.
#[derive(Debug, Default)]
pub struct Tail {
    lines: VecDeque<String>,
}

impl Tail {
    fn push(&mut self, line: &[u8]) {
        let line = String::from_utf8_lossy(line).trim_end().to_owned();
        if line.is_empty() {
            return;
        }
        if self.lines.len() == LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    pub fn lines(&self) -> Vec<String> {
        self.lines.iter().cloned().collect()
    }
}

/// Cuts one stream into lines. A carriage return begins the line again, as on a terminal: a progress bar is one line.
#[derive(Debug, Default)]
pub struct Cutter {
    line: Vec<u8>,
    returned: bool,
}

impl Cutter {
    /// Takes the next bytes of the stream.
    pub fn feed(&mut self, bytes: &[u8], tail: &mut Tail) {
        for &byte in bytes {
            match byte {
                b'\n' => self.end(tail),
                b'\r' => self.returned = true,
                _ => {
                    if std::mem::take(&mut self.returned) {
                        self.line.clear();
                    }
                    if self.line.len() < LINE_BYTES {
                        self.line.push(byte);
                    }
                }
            }
        }
    }

    /// Ends the last line.
    pub fn end(&mut self, tail: &mut Tail) {
        tail.push(&self.line);
        self.line.clear();
        self.returned = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail_of(chunks: &[&[u8]]) -> Vec<String> {
        let (mut tail, mut cutter) = (Tail::default(), Cutter::default());
        for chunk in chunks {
            cutter.feed(chunk, &mut tail);
        }
        cutter.end(&mut tail);
        tail.lines()
    }

    #[test]
    fn lines_are_found_across_chunks() {
        assert_eq!(tail_of(&[b"a\nb", b"c\r\n\nd"]), ["a", "bc", "d"]);
    }

    #[test]
    fn progress_bar_is_its_last_state() {
        assert_eq!(tail_of(&[b" 10%\r", b" 20%\r100%\n", b"done\r"]), ["100%", "done"]);
    }

    #[test]
    fn tail_keeps_the_last_lines_and_cuts_long_ones() {
        let many: Vec<u8> = (0..100).flat_map(|i| format!("{i}\n").into_bytes()).collect();
        let kept = tail_of(&[&many]);
        assert_eq!((kept.len(), kept[0].as_str(), kept[19].as_str()), (LINES, "80", "99"));
        assert_eq!(tail_of(&[&vec![b'x'; 1 << 20]])[0].len(), LINE_BYTES);
        assert_eq!(tail_of(&[b"\xff\xfe ok"]), ["\u{fffd}\u{fffd} ok"]);
    }
}
