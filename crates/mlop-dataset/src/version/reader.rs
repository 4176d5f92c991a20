//! The seam for formats: rows of cells, whatever they were read from.

use mlop_api::result::Failure;
use std::ops::Range;

/// Reads one object row by row.
pub trait Reader {
    /// The next row, or `None` at the end.
    ///
    /// # Errors
    /// When the object cannot be read on. A single row that is broken is a [`Row`] with a [`Flaw`].
    fn next(&mut self) -> Result<Option<Row<'_>>, Failure>;
}

/// A row of the source.
#[derive(Debug)]
pub struct Row<'a> {
    /// Number of the line on which it begins, from 1.
    pub line: u64,
    pub cells: Result<Cells<'a>, Flaw>,
    /// About what the source has, for people: at most [`RAW_BYTES_MAX`] bytes.
    pub raw: Raw<'a>,
}

/// The cells of a row, one for each column of the spec.
#[derive(Clone, Copy, Debug)]
pub struct Cells<'a> {
    text: &'a str,
    ranges: &'a [Option<Range<usize>>],
}

impl<'a> Cells<'a> {
    pub fn new(text: &'a str, ranges: &'a [Option<Range<usize>>]) -> Self {
        Self { text, ranges }
    }

    /// The text of column number `column`; `None` when the value is missing.
    pub fn get(&self, column: usize) -> Option<&'a str> {
        self.text.get(self.ranges.get(column)?.clone()?)
    }
}

/// Why a row cannot be taken apart into cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// It has more or fewer cells than the header.
    Cells,
    /// It is not UTF-8.
    Encoding,
    /// It is longer than a row may be.
    Length,
}

/// Longest text of a rejected row that is kept, in bytes.
pub const RAW_BYTES_MAX: usize = 4_096;

/// The fields of a row as they were in the source.
#[derive(Clone, Copy, Debug)]
pub struct Raw<'a> {
    pub content: &'a [u8],
    /// Where each field ends in `content`.
    pub ends: &'a [usize],
    pub delimiter: u8,
}

impl Raw<'_> {
    /// The row as text, shortened.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut start = 0;
        for (index, &end) in self.ends.iter().enumerate() {
            if index > 0 {
                text.push(char::from(self.delimiter));
            }
            text.push_str(&String::from_utf8_lossy(self.content.get(start..end).unwrap_or_default()));
            start = end;
            if text.len() > RAW_BYTES_MAX {
                break;
            }
        }
        crate::text::cut(&text, RAW_BYTES_MAX).to_owned()
    }
}
