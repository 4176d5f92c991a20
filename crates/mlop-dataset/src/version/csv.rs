//! Comma-separated values (RFC 4180): a header line, quoted fields, any line ends. Empty lines are skipped.

use super::{
    reader::{Cells, Flaw, Raw, Reader, Row},
    source::{self, Body},
};
use crate::text;
use csv_core::ReadRecordResult;
use mlop_api::{
    Reason,
    dataset::{Column, Csv},
    result::Failure,
};
use std::{
    io::{self, Read},
    ops::Range,
};

/// Longest row in bytes, without its quotes and delimiters.
const ROW_BYTES_MAX: usize = 1 << 20;
/// Most fields of a row.
const FIELDS_MAX: usize = 4_096;
/// U+FEFF as UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// Names of a header that fit into a message.
const NAMES_SHOWN: usize = 20;

/// Rows of one CSV object.
pub struct CsvReader {
    key: String,
    body: Body,
    parser: csv_core::Reader,
    delimiter: u8,
    null_tokens: Vec<String>,
    /// Line ends that were read so far.
    lines: u64,
    /// The fields of the current row, one after the other, and where each ends.
    content: Vec<u8>,
    ends: Vec<usize>,
    /// Fields of the header.
    width: usize,
    /// For each column of the spec the number of its field.
    fields: Vec<usize>,
    /// For each column of the spec where its cell is in `content`.
    cells: Vec<Option<Range<usize>>>,
}

/// What the parser made of one row: bytes and fields used, or that they did not suffice.
struct Parsed {
    bytes: usize,
    fields: usize,
    fits: bool,
}

impl CsvReader {
    /// Reads the header of the object `key`.
    ///
    /// # Errors
    /// [`Reason::SchemaMismatch`] when the header lacks a column or is none.
    pub fn new(key: &str, body: Body, format: &Csv, columns: &[Column]) -> Result<Self, Failure> {
        let &[delimiter] = format.delimiter.as_bytes() else {
            let message =
                format!("source.format.csv.delimiter {:?} is not one ASCII character", format.delimiter);
            return Err(Failure::terminal(Reason::InvalidSpec, message));
        };
        let body = without_byte_order_mark(body).map_err(|error| source::failure(key, &error))?;
        let mut reader = Self {
            key: key.to_owned(),
            body,
            parser: csv_core::ReaderBuilder::new().delimiter(delimiter).build(),
            delimiter,
            null_tokens: format.null_tokens.clone(),
            lines: 0,
            content: vec![0; ROW_BYTES_MAX],
            ends: vec![0; FIELDS_MAX],
            width: 0,
            fields: Vec::new(),
            cells: Vec::new(),
        };
        reader.read_header(columns)?;
        Ok(reader)
    }

    fn read_header(&mut self, columns: &[Column]) -> Result<(), Failure> {
        let parsed = self.parse()?.filter(|parsed| parsed.fits);
        let header = parsed.and_then(|parsed| {
            self.width = parsed.fields;
            std::str::from_utf8(self.content.get(..parsed.bytes)?).ok()
        });
        let mismatch =
            |what: String| Failure::terminal(Reason::SchemaMismatch, format!("{} {what}", self.key));
        let Some(header) = header else {
            return Err(mismatch("has no readable header line".to_owned()));
        };
        let names: Vec<&str> = (0..self.width)
            .map(|field| {
                field_range(&self.ends, field).and_then(|range| header.get(range)).unwrap_or_default()
            })
            .collect();
        let (mut fields, mut missing) = (Vec::with_capacity(columns.len()), Vec::new());
        for column in columns {
            let mut places = names.iter().enumerate().filter(|(_, name)| **name == column.name);
            match (places.next(), places.next()) {
                (Some(_), Some(_)) => return Err(mismatch(format!("has the column {} twice", column.name))),
                (Some((field, _)), None) => fields.push(field),
                (None, _) => missing.push(column.name.as_str()),
            }
        }
        if !missing.is_empty() {
            let (missing, there) = (enumerate(&missing), enumerate(&names));
            return Err(mismatch(format!("lacks the column {missing}; its header has {there}")));
        }
        self.fields = fields;
        Ok(())
    }

    /// Parses the next row into `content` and `ends`. A row that is too long is read to its end and dropped.
    fn parse(&mut self) -> Result<Option<Parsed>, Failure> {
        let (mut bytes, mut fields, mut fits) = (0, 0, true);
        loop {
            let input = self.body.fill_buf().map_err(|error| source::failure(&self.key, &error))?;
            let content = self.content.get_mut(bytes..).unwrap_or_default();
            let ends = self.ends.get_mut(fields..).unwrap_or_default();
            let (outcome, read, written, ended) = self.parser.read_record(input, content, ends);
            self.lines +=
                input.get(..read).unwrap_or_default().iter().filter(|byte| **byte == b'\n').count() as u64;
            self.body.consume(read);
            bytes += written;
            fields += ended;
            match outcome {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => {
                    fits = false;
                    (bytes, fields) = (0, 0);
                }
                ReadRecordResult::Record => return Ok(Some(Parsed { bytes, fields, fits })),
                ReadRecordResult::End => return Ok(None),
            }
        }
    }

    /// Reads what is between two rows, so that the next one's line is known.
    fn skip_line_ends(&mut self) -> Result<(), Failure> {
        loop {
            let input = self.body.fill_buf().map_err(|error| source::failure(&self.key, &error))?;
            let skipped = input.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            self.lines += input.iter().take(skipped).filter(|byte| **byte == b'\n').count() as u64;
            self.body.consume(skipped);
            if skipped == 0 {
                return Ok(());
            }
        }
    }

    fn locate_cells(&mut self, bytes: usize) -> Result<(), Flaw> {
        let content = self.content.get(..bytes).unwrap_or_default();
        let text = std::str::from_utf8(content).map_err(|_| Flaw::Encoding)?;
        self.cells.clear();
        for &field in &self.fields {
            let range = field_range(&self.ends, field).ok_or(Flaw::Cells)?;
            // Two fields whose halves make a character only together.
            let cell = text.get(range.clone()).ok_or(Flaw::Encoding)?;
            let missing = self.null_tokens.iter().any(|token| token == cell);
            self.cells.push((!missing).then_some(range));
        }
        Ok(())
    }
}

impl Reader for CsvReader {
    fn next(&mut self) -> Result<Option<Row<'_>>, Failure> {
        self.skip_line_ends()?;
        let line = self.lines + 1;
        let Some(Parsed { bytes, fields, fits }) = self.parse()? else { return Ok(None) };
        let flaw = if !fits {
            Err(Flaw::Length)
        } else if fields != self.width {
            Err(Flaw::Cells)
        } else {
            self.locate_cells(bytes)
        };
        let content = self.content.get(..bytes).unwrap_or_default();
        let text = std::str::from_utf8(content).unwrap_or_default();
        Ok(Some(Row {
            line,
            cells: flaw.map(|()| Cells::new(text, &self.cells)),
            raw: Raw {
                content,
                ends: self.ends.get(..fields).unwrap_or_default(),
                delimiter: self.delimiter,
            },
        }))
    }
}

/// `body` without the mark that some programs put before UTF-8. The parser would look for it in the first chunk only.
fn without_byte_order_mark(mut body: Body) -> io::Result<Body> {
    let mut start = Vec::with_capacity(BYTE_ORDER_MARK.len());
    body.by_ref().take(BYTE_ORDER_MARK.len() as u64).read_to_end(&mut start)?;
    Ok(if start == BYTE_ORDER_MARK { body } else { Box::new(io::Cursor::new(start).chain(body)) })
}

fn field_range(ends: &[usize], field: usize) -> Option<Range<usize>> {
    let start = match field.checked_sub(1) {
        Some(before) => *ends.get(before)?,
        None => 0,
    };
    Some(start..*ends.get(field)?)
}

/// Some names for a message, shortened.
fn enumerate(names: &[&str]) -> String {
    let shown: Vec<&str> = names.iter().take(NAMES_SHOWN).map(|name| text::cut(name, 64)).collect();
    let more = names.len() - shown.len();
    let list = shown.join(", ");
    if more > 0 { format!("{list} and {more} more") } else { list }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mlop_api::dataset::ColumnType;
    use std::io::{BufReader, Cursor};

    fn column(name: &str) -> Column {
        Column {
            name: name.to_owned(),
            kind: ColumnType::String,
            nullable: true,
            min: None,
            max: None,
            pattern: None,
            values: Vec::new(),
        }
    }

    fn reader(csv: &[u8], chunk: usize, columns: &[&str]) -> Result<CsvReader, Failure> {
        let format = Csv { delimiter: ",".into(), null_tokens: vec![String::new(), "NA".into()] };
        let columns: Vec<_> = columns.iter().map(|name| column(name)).collect();
        let body = BufReader::with_capacity(chunk, Cursor::new(csv.to_vec()));
        CsvReader::new("x.csv", Box::new(body), &format, &columns)
    }

    /// Line and cells of each row, or its flaw; the same whatever the chunks are that arrive.
    fn rows(csv: &[u8], columns: &[&str]) -> Vec<(u64, String)> {
        let read = |chunk| {
            let mut reader = reader(csv, chunk, columns).unwrap();
            let mut rows = Vec::new();
            while let Some(row) = reader.next().unwrap() {
                let text = match row.cells {
                    Ok(cells) => {
                        let cells =
                            (0..columns.len()).map(|column| cells.get(column).unwrap_or("-").to_owned());
                        cells.collect::<Vec<_>>().join("|")
                    }
                    Err(flaw) => format!("{flaw:?}: {}", row.raw.text()),
                };
                rows.push((row.line, text));
            }
            rows
        };
        let whole = read(1 << 16);
        assert_eq!(read(3), whole);
        whole
    }

    #[track_caller]
    fn check(csv: &str, expected: &[(u64, &str)]) {
        let rows = rows(csv.as_bytes(), &["a", "b"]);
        let rows: Vec<_> = rows.iter().map(|(line, text)| (*line, text.as_str())).collect();
        assert_eq!(rows, expected);
    }

    #[test]
    fn rows_have_cells_and_lines() {
        check("a,b\n1,2\n3,4\n", &[(2, "1|2"), (3, "3|4")]);
        check("a,b\r\n1,2\r\n3,4", &[(2, "1|2"), (3, "3|4")]);
        check("b,x,a\n1,2,3\n", &[(2, "3|1")]);
        check("\u{feff}a,b\n1,2\n", &[(2, "1|2")]);
        check("a,b\n\n\r\n1,2\n\n3,4\n", &[(4, "1|2"), (6, "3|4")]);
        check("a,b\n\"x\ny\",\"q\"\"q\"\n3,4\n", &[(2, "x\ny|q\"q"), (4, "3|4")]);
        check("a,b\nNA,\n", &[(2, "-|-")]);
        check("a,b\n", &[]);
    }

    #[test]
    fn broken_rows_do_not_end_the_object() {
        check("a,b\n1\n1,2,3\n3,4\n", &[(2, "Cells: 1"), (3, "Cells: 1,2,3"), (4, "3|4")]);
        let rows = rows(b"a,b\n\xff,1\n\xc3,\xa9\n3,4\n", &["a", "b"]);
        let flaws: Vec<_> = rows.iter().map(|(_, text)| text.split(':').next().unwrap()).collect();
        assert_eq!(flaws, ["Encoding", "Encoding", "3|4"]);
    }

    #[test]
    fn a_row_that_is_too_long_is_dropped_and_the_next_one_read() {
        let long = format!("a,b\n{},1\n3,4\n", "x".repeat(ROW_BYTES_MAX + 1));
        let mut reader = reader(long.as_bytes(), 4_096, &["a", "b"]).unwrap();
        assert_eq!(reader.next().unwrap().unwrap().cells.unwrap_err(), Flaw::Length);
        let row = reader.next().unwrap().unwrap();
        assert_eq!((row.line, row.cells.unwrap().get(0)), (3, Some("3")));
        assert!(reader.next().unwrap().is_none());
    }

    #[test]
    fn a_row_of_too_many_fields_is_dropped() {
        let wide = format!("a,b\n{}\n3,4\n", ",".repeat(FIELDS_MAX * 2 + 1));
        let mut reader = reader(wide.as_bytes(), 4_096, &["a", "b"]).unwrap();
        assert_eq!(reader.next().unwrap().unwrap().cells.unwrap_err(), Flaw::Length);
        assert_eq!(reader.next().unwrap().unwrap().cells.unwrap().get(1), Some("4"));
    }

    #[track_caller]
    fn refused(csv: &str, what: &[&str]) {
        let failure = reader(csv.as_bytes(), 64, &["a", "b"]).err().unwrap();
        assert_eq!((failure.reason, failure.retryable), (Reason::SchemaMismatch, false));
        for what in what {
            assert!(failure.message.contains(what), "{}", failure.message);
        }
    }

    #[test]
    fn a_header_must_have_every_column_once() {
        refused("a,c\n1,2\n", &["x.csv", "lacks the column b", "has a, c"]);
        refused("a,b,a\n", &["the column a twice"]);
        refused("", &["no readable header"]);
    }
}
