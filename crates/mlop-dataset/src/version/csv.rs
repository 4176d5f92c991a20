//! Delimiter-separated values as files have them: RFC 4180, and the dialects that `source.format.csv` describes.

mod header;
mod parser;
mod record;

use super::{
    encoding,
    reader::{Cell, Cells, Flaw, Reader, Row},
    source::{self, Body},
};
use header::Source;
use mlop_api::{
    Reason,
    dataset::{Column, Csv, Header},
    result::Failure,
};
use parser::{Dialect, Next};
use record::Records;
use std::io::{self, Cursor, Read};

/// U+FEFF as UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Rows of one CSV object.
pub struct CsvReader {
    key: String,
    records: Records,
    trailing_delimiter: bool,
    /// Fields of the header.
    width: usize,
    /// For each column of the spec the number of its field, if it has one.
    places: Vec<Option<usize>>,
    /// For each column its name in the header; empty where there is none.
    header: Vec<String>,
    /// Empty lines that may be rows with a missing value: the number of the first, and how many.
    empty: (u64, u64),
    /// The record behind these empty lines.
    pending: Option<Next>,
    /// The texts of the current row, and its cells.
    text: Vec<u8>,
    cells: Vec<Cell>,
}

impl CsvReader {
    /// Reads the header of the object `key`, which begins with `start`.
    ///
    /// # Errors
    /// [`Reason::SchemaMismatch`] when the header lacks a column or is none.
    pub fn new(
        key: &str,
        start: &[u8],
        body: Body,
        format: &Csv,
        columns: &[Column],
    ) -> Result<Self, Failure> {
        let dialect = dialect(format)?;
        let body = match encoding::named(&format.encoding)? {
            Some(encoding) => encoding::decoded(body, encoding),
            None => without_byte_order_mark(body).map_err(|error| source::failure(key, &error))?,
        };
        let mut records = Records::new(body, dialect);
        records.skip_lines(format.skip_lines).map_err(|error| source::failure(key, &error))?;
        let (width, places) = Source { key, start, format }.header(&mut records, columns)?;
        Ok(Self {
            key: key.to_owned(),
            records,
            trailing_delimiter: format.trailing_delimiter,
            width,
            places,
            header: match (format.header, format.names.as_slice()) {
                (Header::Present, []) => {
                    columns.iter().map(|column| column.source_name().to_owned()).collect()
                }
                _ => Vec::new(),
            },
            empty: (0, 0),
            pending: None,
            text: Vec::new(),
            cells: Vec::new(),
        })
    }

    /// The next record, or an empty line where that is a row.
    fn advance(&mut self) -> Result<Next, Failure> {
        loop {
            let next = match self.pending.take() {
                Some(next) => next,
                None => self.records.next().map_err(|error| source::failure(&self.key, &error))?,
            };
            match next {
                Next::Empty { line } if self.width == 1 => {
                    let (first, count) = self.empty;
                    self.empty = (if count == 0 { line } else { first }, count + 1);
                }
                Next::Empty { .. } => {}
                Next::Record { .. } if self.empty.1 > 0 => {
                    let (line, count) = self.empty;
                    self.empty = (line + 1, count - 1);
                    self.pending = Some(next);
                    return Ok(Next::Empty { line });
                }
                next => return Ok(next),
            }
        }
    }

    /// Finds the cells of the current record in `text`.
    fn locate_cells(&mut self) -> Result<(), Flaw> {
        let fields = self.records.fields();
        let has_trailing_delimiter = self.trailing_delimiter
            && fields.len() == self.width + 1
            && fields.last().is_some_and(|field| field.start == field.end);
        if fields.len() != self.width && !has_trailing_delimiter {
            return Err(Flaw::Cells);
        }
        self.text.clear();
        self.cells.clear();
        let mut has_mark = false;
        // Fields that no column reads may hold anything.
        for place in &self.places {
            let field = place.and_then(|place| fields.get(place));
            self.cells.push(field.map_or(Cell::Missing, |field| {
                let start = self.text.len();
                self.records.append_text(*field, &mut self.text);
                // Files that were put together keep their marks.
                while *place == Some(0)
                    && !field.is_quoted
                    && self.text.get(start..).is_some_and(|text| text.starts_with(BYTE_ORDER_MARK))
                {
                    self.text.drain(start..start + BYTE_ORDER_MARK.len());
                    has_mark = true;
                }
                Cell::Text { range: start..self.text.len(), is_quoted: field.is_quoted }
            }));
        }
        let text = std::str::from_utf8(&self.text).map_err(|_| Flaw::Encoding)?;
        let is_whole = |cell: &Cell| match cell {
            Cell::Text { range, .. } => {
                text.is_char_boundary(range.start) && text.is_char_boundary(range.end)
            }
            _ => true,
        };
        // Two fields whose halves make a character only together.
        if !self.cells.iter().all(is_whole) {
            return Err(Flaw::Encoding);
        }
        if self.repeats_header(text, has_mark) { Err(Flaw::Header) } else { Ok(()) }
    }

    /// Whether the current row is the header of a file that was put behind another. One value alone may be a value.
    fn repeats_header(&self, text: &str, has_mark: bool) -> bool {
        let mut alike = 0;
        for (cell, name) in self.cells.iter().zip(&self.header) {
            match cell {
                Cell::Text { range, .. } if text.get(range.clone()) == Some(name) => alike += 1,
                Cell::Text { .. } => return false,
                _ => {}
            }
        }
        alike > 1 || alike == 1 && has_mark
    }
}

impl Reader for CsvReader {
    fn next(&mut self) -> Result<Option<Row<'_>>, Failure> {
        let (line, lines, flaw) = match self.advance()? {
            Next::End => return Ok(None),
            Next::Empty { line } => {
                self.text.clear();
                self.cells.clear();
                self.cells.extend(self.places.iter().map(|place| match place {
                    Some(_) => Cell::Text { range: 0..0, is_quoted: false },
                    None => Cell::Missing,
                }));
                let cells = Ok(Cells::new("", &self.cells));
                return Ok(Some(Row { line, lines: 1, cells, raw: Some(b"") }));
            }
            Next::Record { line, lines, flaw } => (line, lines, flaw),
        };
        let located = flaw.map_or_else(|| self.locate_cells(), Err);
        // Only quotes join lines by mistake: a row of many lines that is broken otherwise is one row.
        let lines = if flaw.is_some() { lines } else { 1 };
        let text = std::str::from_utf8(&self.text).unwrap_or_default();
        Ok(Some(Row {
            line,
            lines,
            cells: located.map(|()| Cells::new(text, &self.cells)),
            raw: Some(self.records.record()),
        }))
    }
}

fn dialect(format: &Csv) -> Result<Dialect, Failure> {
    let character = |name: &str, text: &str| match text.as_bytes() {
        [] | b"none" => Ok(None),
        [byte] if byte.is_ascii() => Ok(Some(*byte)),
        _ => {
            let message = format!("source.format.csv.{name} {text:?} is not one ASCII character");
            Err(Failure::terminal(Reason::InvalidSpec, message))
        }
    };
    let quote = character("quote", &format.quote)?;
    let delimiter = character("delimiter", &format.delimiter)?
        .ok_or_else(|| Failure::terminal(Reason::InvalidSpec, "source.format.csv.delimiter is empty"))?;
    Ok(Dialect {
        delimiter,
        quote,
        // A quote as its own escape is a doubled quote.
        escape: character("escape", &format.escape)?.filter(|escape| Some(*escape) != quote),
        comment: character("comment", &format.comment)?,
        trim: format.trim,
        bare_quotes: format.bare_quotes,
        lines_max: format.max_record_lines.into(),
    })
}

/// `body` without the mark that some programs put before UTF-8.
fn without_byte_order_mark(mut body: Body) -> io::Result<Body> {
    let mut start = Vec::with_capacity(BYTE_ORDER_MARK.len());
    body.by_ref().take(BYTE_ORDER_MARK.len() as u64).read_to_end(&mut start)?;
    Ok(if start == BYTE_ORDER_MARK { body } else { Box::new(Cursor::new(start).chain(body)) })
}

#[cfg(test)]
mod tests;
