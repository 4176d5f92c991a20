//! The interface of all formats: rows of cells.

use super::value::Value;
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

/// An object without content: compressed, as tools leave it for a part without rows.
pub struct Nothing;

impl Reader for Nothing {
    fn next(&mut self) -> Result<Option<Row<'_>>, Failure> {
        Ok(None)
    }
}

/// A row of the source.
#[derive(Debug)]
pub struct Row<'a> {
    /// Number of the line on which it begins, from 1; of the row, where the format has no lines.
    pub line: u64,
    /// Number of lines that are lost when the row is rejected: more than one where a quote took further rows into it.
    pub lines: u64,
    pub cells: Result<Cells<'a>, Flaw>,
    /// The row as the source has it, or its beginning; none where the format has no text.
    pub raw: Option<&'a [u8]>,
}

/// The cells of a row, one for each column of the spec.
#[derive(Clone, Copy, Debug)]
pub struct Cells<'a> {
    text: &'a str,
    cells: &'a [Cell],
    /// Texts that hold for all rows of the object and take precedence.
    constants: &'a [Option<String>],
}

/// A cell of one column.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    Missing,
    /// A text of the row.
    Text {
        range: Range<usize>,
        /// It was in quotes: in a column of texts it is never a null token.
        is_quoted: bool,
    },
    /// A number of JSON, in the text of the row.
    Number(Range<usize>),
    /// A value that had a type already; never a text.
    Value(Value),
    /// A value of a type that no column has.
    Foreign(Range<usize>),
}

/// The content of a cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Given<'a> {
    Text { text: &'a str, is_quoted: bool },
    Number(&'a str),
    Value(Value),
    Foreign(&'a str),
}

impl<'a> Cells<'a> {
    pub fn new(text: &'a str, cells: &'a [Cell]) -> Self {
        Self { text, cells, constants: &[] }
    }

    /// These cells, with the texts that hold for the whole object.
    #[must_use]
    pub fn with_constants(self, constants: &'a [Option<String>]) -> Self {
        Self { constants, ..self }
    }

    /// What column number `column` holds; `None` when there is nothing.
    pub fn get(&self, column: usize) -> Option<Given<'a>> {
        if let Some(Some(text)) = self.constants.get(column) {
            return Some(Given::Text { text, is_quoted: false });
        }
        match self.cells.get(column)? {
            Cell::Missing => None,
            Cell::Text { range, is_quoted } => {
                Some(Given::Text { text: self.text.get(range.clone())?, is_quoted: *is_quoted })
            }
            Cell::Number(range) => Some(Given::Number(self.text.get(range.clone())?)),
            Cell::Value(value) => Some(Given::Value(*value)),
            Cell::Foreign(range) => Some(Given::Foreign(self.text.get(range.clone())?)),
        }
    }

    /// The text of column number `column`, if it holds one.
    pub fn text(&self, column: usize) -> Option<&'a str> {
        match self.get(column)? {
            Given::Text { text, .. } => Some(text),
            _ => None,
        }
    }
}

/// Why a row cannot be taken apart into cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// It has more or fewer cells than the header.
    Cells,
    /// A cell that is read is not valid in the encoding.
    Encoding,
    /// It is longer than a row may be.
    Length,
    /// It has more lines than a record may have.
    Lines,
    /// It ends inside quotes.
    UnclosedQuote,
    /// A closing quote is followed by text.
    TextBehindQuote,
    /// An unquoted value has a quote in it.
    StrayQuote,
    /// It is the header once more.
    Header,
    /// It is not one JSON object.
    Json,
}
