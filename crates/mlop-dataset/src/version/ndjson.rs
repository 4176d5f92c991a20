//! One JSON object per line. Numbers keep their digits: nothing is rounded before its column's type is known.

use super::{
    content,
    decompress::Started,
    reader::{Cell, Cells, Flaw, Reader, Row},
    source::{self, Body},
};
use mlop_api::{Reason, dataset::Column, result::Failure};
use serde::de::IgnoredAny;
use std::{borrow::Cow, collections::HashMap, io};

/// Longest line in bytes.
const LINE_BYTES_MAX: usize = 1 << 20;
/// U+FEFF as UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Rows of one object.
pub struct NdjsonReader {
    key: String,
    body: Body,
    /// The columns of each JSON key.
    columns: HashMap<String, Vec<usize>>,
    width: usize,
    lines: u64,
    line: Vec<u8>,
    text: String,
    cells: Vec<Cell>,
    /// The columns that the current row has a value for, also null.
    given: Vec<bool>,
}

impl NdjsonReader {
    /// A reader of the object `key`.
    ///
    /// # Errors
    /// [`Reason::SchemaMismatch`] when the object is something else.
    pub fn new(key: &str, started: Started, columns: &[Column]) -> Result<Self, Failure> {
        let Started { start, body } = started;
        let text = start.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&start);
        let first = text.iter().find(|byte| !byte.is_ascii_whitespace());
        let known = match first {
            _ if content::is_utf16(&start) => Some("UTF-16: save it as UTF-8"),
            Some(b'[') if content::describe(&start).is_some() => {
                Some("a list of JSON: write one object per line")
            }
            _ => content::describe(&start),
        };
        if let Some(known) = known.filter(|_| first != Some(&b'{')) {
            return Err(Failure::terminal(Reason::SchemaMismatch, format!("{key} is {known}")));
        }
        let mut places: HashMap<String, Vec<usize>> = HashMap::new();
        for (number, column) in columns.iter().enumerate().filter(|(_, column)| column.from_key.is_none()) {
            places.entry(column.source_name().to_owned()).or_default().push(number);
        }
        Ok(Self {
            key: key.to_owned(),
            body,
            columns: places,
            width: columns.len(),
            lines: 0,
            line: Vec::new(),
            text: String::new(),
            cells: Vec::new(),
            given: Vec::new(),
        })
    }

    /// Reads a line without its end; false at the end of the object. Returns its length, of which only
    /// [`LINE_BYTES_MAX`] bytes are kept.
    fn read_line(&mut self) -> io::Result<Option<usize>> {
        self.line.clear();
        let mut length = 0;
        loop {
            let chunk = self.body.fill_buf()?;
            if chunk.is_empty() {
                return Ok((length > 0).then_some(length));
            }
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let of_line = chunk.get(..end.unwrap_or(chunk.len())).unwrap_or_default();
            let room = LINE_BYTES_MAX.saturating_sub(self.line.len());
            self.line.extend_from_slice(of_line.get(..of_line.len().min(room)).unwrap_or_default());
            length += of_line.len();
            let read = of_line.len() + usize::from(end.is_some());
            self.body.consume(read);
            if end.is_some() {
                return Ok(Some(length));
            }
        }
    }

    fn locate_cells(&mut self) -> Result<(), Flaw> {
        self.text.clear();
        self.cells.clear();
        self.cells.resize(self.width, Cell::Missing);
        self.given.clear();
        self.given.resize(self.width, false);
        let line = self.line.strip_prefix(BYTE_ORDER_MARK).filter(|_| self.lines == 1).unwrap_or(&self.line);
        let line = std::str::from_utf8(line).map_err(|_| Flaw::Encoding)?;
        let mut scanner = Scanner(line);
        scanner.expect('{').ok_or(Flaw::Json)?;
        if scanner.expect('}').is_some() {
            return scanner.end();
        }
        loop {
            let name = scanner.value().filter(|text| text.starts_with('"')).ok_or(Flaw::Json)?;
            scanner.expect(':').ok_or(Flaw::Json)?;
            let value = scanner.value().ok_or(Flaw::Json)?;
            let name: Cow<'_, str> = string(name).ok_or(Flaw::Json)?;
            for column in self.columns.get(name.as_ref()).into_iter().flatten() {
                let cell = self.cells.get_mut(*column).ok_or(Flaw::Json)?;
                // A key that is there twice has no one value.
                if self.given.get_mut(*column).is_none_or(|given| std::mem::replace(given, true)) {
                    return Err(Flaw::Json);
                }
                *cell = self::cell(value, &mut self.text).ok_or(Flaw::Json)?;
            }
            if scanner.expect(',').is_none() {
                scanner.expect('}').ok_or(Flaw::Json)?;
                return scanner.end();
            }
        }
    }
}

impl Reader for NdjsonReader {
    fn next(&mut self) -> Result<Option<Row<'_>>, Failure> {
        let length = loop {
            let read = self.read_line().map_err(|error| source::failure(&self.key, &error))?;
            let Some(length) = read else { return Ok(None) };
            self.lines += 1;
            if !self.line.iter().all(u8::is_ascii_whitespace) {
                break length;
            }
        };
        let located = if length > LINE_BYTES_MAX { Err(Flaw::Length) } else { self.locate_cells() };
        Ok(Some(Row {
            line: self.lines,
            lines: 1,
            cells: located.map(|()| Cells::new(&self.text, &self.cells)),
            raw: Some(&self.line),
        }))
    }
}

/// The cell of a JSON value, with its text appended to `text`.
fn cell(value: &str, text: &mut String) -> Option<Cell> {
    let start = text.len();
    Some(match value.as_bytes().first()? {
        b'n' => Cell::Missing,
        b't' => Cell::Value(super::value::Value::Bool(true)),
        b'f' => Cell::Value(super::value::Value::Bool(false)),
        b'"' => {
            text.push_str(&string(value)?);
            Cell::Text { range: start..text.len(), is_quoted: true }
        }
        first => {
            text.push_str(value);
            let range = start..text.len();
            if matches!(first, b'{' | b'[') { Cell::Foreign(range) } else { Cell::Number(range) }
        }
    })
}

fn string(quoted: &str) -> Option<Cow<'_, str>> {
    // Most strings have no escapes.
    let inner = quoted.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        serde_json::from_str(quoted).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

/// The rest of a line.
struct Scanner<'a>(&'a str);

impl<'a> Scanner<'a> {
    fn skip_blanks(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\t', '\r', '\n']);
    }

    fn expect(&mut self, char: char) -> Option<()> {
        self.skip_blanks();
        self.0 = self.0.strip_prefix(char)?;
        Some(())
    }

    /// The text of the JSON value that is next.
    fn value(&mut self) -> Option<&'a str> {
        self.skip_blanks();
        let mut values = serde_json::Deserializer::from_str(self.0).into_iter::<IgnoredAny>();
        values.next()?.ok()?;
        let (value, rest) = self.0.split_at_checked(values.byte_offset())?;
        self.0 = rest;
        Some(value)
    }

    fn end(&mut self) -> Result<(), Flaw> {
        self.skip_blanks();
        if self.0.is_empty() { Ok(()) } else { Err(Flaw::Json) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::{decompress, reader::Given};
    use mlop_api::dataset::ColumnType;
    use std::io::{BufReader, Cursor};

    fn open(text: &[u8], chunk: usize) -> Result<NdjsonReader, Failure> {
        let body = BufReader::with_capacity(chunk, Cursor::new(text.to_vec()));
        let columns = ["a", "b"].map(|name| Column::new(name, ColumnType::String));
        NdjsonReader::new("x.json", decompress::start(Box::new(body)).unwrap(), &columns)
    }

    #[track_caller]
    fn check(text: &str, expected: &[(u64, &str)]) {
        let mut reader = open(text.as_bytes(), 3).unwrap();
        let mut rows = Vec::new();
        while let Some(row) = reader.next().unwrap() {
            let shown = match row.cells {
                Ok(cells) => [0, 1]
                    .map(|column| match cells.get(column) {
                        None => "-".to_owned(),
                        Some(Given::Text { text, .. }) => text.to_owned(),
                        Some(Given::Number(text)) => format!("#{text}"),
                        Some(Given::Value(value)) => format!("{value:?}"),
                        Some(Given::Foreign(text)) => format!("?{text}"),
                    })
                    .join("|"),
                Err(flaw) => format!("{flaw:?}"),
            };
            rows.push((row.line, shown));
        }
        let rows: Vec<_> = rows.iter().map(|(line, text)| (*line, text.as_str())).collect();
        assert_eq!(rows, expected);
    }

    #[test]
    fn objects_are_rows() {
        check(
            "\u{feff}{\"a\":\"x\",\"b\":1}\r\n\n {\"b\": 9007199254740993.10, \"c\": [{}], \"a\" : null } \n{}",
            &[(1, "x|#1"), (3, "-|#9007199254740993.10"), (4, "-|-")],
        );
        check("{\"a\":\"\\u00f8\\n\\\"\",\"\\u0062\":true}", &[(1, "ø\n\"|Bool(true)")]);
        check("{\"a\":[1,{\"b\":2}],\"b\":{}}\n", &[(1, "?[1,{\"b\":2}]|?{}")]);
    }

    #[test]
    fn other_lines_are_rejected() {
        for line in [
            "x",
            "1",
            "[]",
            "{\"a\":1",
            "{\"a\":1}{}",
            "{\"a\":1,}",
            "{a:1}",
            "{\"a\":01}",
            "{\"a\":NaN}",
            "{\"a\":1,\"a\":2}",
            "{\"a\":null,\"a\":2}",
            "{\"a\":2,\"a\":null}",
            "{\"a\" 1}",
            "{\"a\":\"\u{1}\"}",
        ] {
            check(&format!("{line}\n{{\"a\":1}}\n"), &[(1, "Json"), (2, "#1|-")]);
        }
    }

    #[test]
    fn object_of_another_form_is_named() {
        let utf16: Vec<u8> = "\u{feff}{\"a\":1}\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        for (object, named) in
            [(&b"[{\"a\":1}]"[..], "a list"), (b"[\n  {\"a\":1}\n]", "a list"), (&utf16, "save it as UTF-8")]
        {
            let failure = open(object, 64).err().unwrap();
            assert!(failure.message.contains(named), "{}", failure.message);
        }
    }
}
