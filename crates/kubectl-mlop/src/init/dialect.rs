//! How a CSV file is written.

use super::values;
use std::{borrow::Cow, io::Read};

/// Delimiters that are tried. Of equally good ones the first is taken.
const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];
/// Records that the delimiter is guessed from.
const RECORDS: usize = 50;

/// How a CSV file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dialect {
    pub delimiter: u8,
    pub has_header: bool,
    /// Whether there are blanks around the headers.
    pub trim: bool,
}

impl Dialect {
    /// Guesses from the beginning of a file.
    pub(super) fn guess(head: &[u8]) -> Self {
        let records = |delimiter: u8| -> Vec<csv::ByteRecord> {
            reader(delimiter, head).into_byte_records().filter_map(Result::ok).take(RECORDS).collect()
        };
        let fit = |delimiter: &u8| {
            let records = records(*delimiter);
            let width = records.first().map_or(0, csv::ByteRecord::len);
            let even = records.iter().filter(|record| record.len() == width).count();
            let share = even * 100 / records.len().max(1);
            if width > 1 { (share, width) } else { (0, 0) }
        };
        // Of equals, max_by_key takes the last.
        let delimiter = DELIMITERS.into_iter().rev().max_by_key(fit).unwrap_or(b',');
        let first = records(delimiter).into_iter().next().unwrap_or_default();
        let fields: Vec<String> = first.iter().map(|field| decoded(field).0.into_owned()).collect();
        let blanks = [' ', '\t'];
        Self {
            delimiter,
            has_header: !fields.iter().any(|field| values::is_typed(field.trim_matches(blanks))),
            trim: fields.iter().any(|field| field.trim_matches(blanks) != field),
        }
    }

    /// Reads all records, also the header.
    pub(super) fn reader<R: Read>(self, source: R) -> csv::Reader<R> {
        reader(self.delimiter, source)
    }
}

fn reader<R: Read>(delimiter: u8, source: R) -> csv::Reader<R> {
    csv::ReaderBuilder::new().delimiter(delimiter).has_headers(false).flexible(true).from_reader(source)
}

/// The characters 0x80 to 0x9f of windows-1252.
const HIGH: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}',
    '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// A field as text, and whether it is UTF-8. What is not is read as windows-1252, which has a character for each byte.
pub(super) fn decoded(field: &[u8]) -> (Cow<'_, str>, bool) {
    let char = |byte: &u8| {
        let high = byte.checked_sub(0x80).and_then(|index| HIGH.get(usize::from(index)));
        high.copied().unwrap_or(char::from(*byte))
    };
    match std::str::from_utf8(field) {
        Ok(text) => (text.into(), true),
        Err(_) => (field.iter().map(char).collect::<String>().into(), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_not_utf8_are_windows_1252() {
        assert_eq!(decoded("gr\u{f6}\u{df}e".as_bytes()), ("größe".into(), true));
        assert_eq!(decoded(b"gr\xf6\xdfe \x80"), ("größe €".into(), false));
    }

    #[test]
    fn delimiter_and_header_are_guessed() {
        let rows = [
            ("day,visitors\n2026-03-01,5\n", (b',', true, false)),
            ("day;price\n2026-03-01;1,5\n2026-03-02;2,5\n", (b';', true, false)),
            ("a\tb\tc\n1\t2\t3\n", (b'\t', true, false)),
            ("a|b\nx|y\n", (b'|', true, false)),
            ("2026-03-01,5\n2026-03-02,6\n", (b',', false, false)),
            ("JFK,LAX,2475\nEWR,SFO,2565\n", (b',', false, false)),
            ("day, visitors\n2026-03-01, 5\n", (b',', true, true)),
            ("text\n\"a; b\"\n", (b',', true, false)),
            ("name,note\nx,\"a;b;c\"\ny,\"d;e;f\"\n", (b',', true, false)),
            ("", (b',', true, false)),
        ];
        for (text, (delimiter, has_header, trim)) in rows {
            assert_eq!(Dialect::guess(text.as_bytes()), Dialect { delimiter, has_header, trim }, "{text}");
        }
    }
}
