//! Which field of a source belongs to which column.

use super::{parser::Next, record::Records};
use crate::{
    text,
    version::{content, quarantine::whole_row, source},
};
use mlop_api::{
    Reason,
    dataset::{Column, Csv, Header},
    result::Failure,
};

/// Names of a header that fit into a message.
const NAMES_SHOWN: usize = 20;
const NAME_BYTES_SHOWN: usize = 64;

/// Tools that put files together leave one in the middle, or two at the beginning.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// An object before its first row.
pub struct Source<'a> {
    pub key: &'a str,
    /// Its first bytes.
    pub start: &'a [u8],
    pub format: &'a Csv,
}

impl Source<'_> {
    /// Reads the header, if there is one. Returns the number of fields, and for each column its field.
    ///
    /// # Errors
    /// [`Reason::SchemaMismatch`] when the header lacks a column or has it twice, or the object is no CSV at all.
    pub fn header(
        &self,
        records: &mut Records,
        columns: &[Column],
    ) -> Result<(usize, Vec<Option<usize>>), Failure> {
        let is_read = |column: &&Column| column.from_key.is_none();
        let mut names = self.format.names.clone();
        match self.format.header {
            Header::Present => {
                let (line, header) = self.names(records)?;
                if names.is_empty() {
                    names = header;
                } else if names.len() != header.len() {
                    let what = format!(
                        "has {} in line {line}, but source.format.csv.names has {}",
                        text::count(header.len() as u64, "field"),
                        names.len(),
                    );
                    return Err(self.mismatch(&what));
                }
                self.places(&names, line, columns)
            }
            Header::Absent => {
                // Text may begin like JSON or XML.
                let known = content::describe(self.start)
                    .filter(|known| content::is_binary(self.start) || *known == content::HTML);
                if let Some(what) = known {
                    return Err(self.mismatch(&format!("is {what}")));
                }
                if names.is_empty() {
                    names = columns
                        .iter()
                        .filter(is_read)
                        .map(|column| column.source_name().to_owned())
                        .collect();
                }
                self.places(&names, 0, columns)
            }
        }
    }

    /// The first record, and its line.
    fn names(&self, records: &mut Records) -> Result<(u64, Vec<String>), Failure> {
        let unreadable = |what: &str| match content::describe(self.start) {
            Some(known) => self.mismatch(&format!("is {known}")),
            None => self.mismatch(&format!("has no readable header: {what}")),
        };
        loop {
            let next = records.next().map_err(|error| source::failure(self.key, &error))?;
            let line = match next {
                Next::Empty { .. } => continue,
                Next::End => return Err(unreadable("it is empty")),
                Next::Record { line, flaw: Some(flaw), .. } => {
                    return Err(unreadable(&format!("line {line} {}", whole_row(flaw.into()))));
                }
                Next::Record { line, .. } => line,
            };
            let names = records.fields().iter().map(|field| {
                let mut bytes = Vec::new();
                records.append_text(*field, &mut bytes);
                String::from_utf8_lossy(&bytes).trim_start_matches(BYTE_ORDER_MARK).to_owned()
            });
            return Ok((line, names.collect()));
        }
    }

    fn places(
        &self,
        names: &[String],
        line: u64,
        columns: &[Column],
    ) -> Result<(usize, Vec<Option<usize>>), Failure> {
        let (mut places, mut missing) = (Vec::with_capacity(columns.len()), Vec::new());
        for column in columns {
            if column.from_key.is_some() {
                places.push(None);
                continue;
            }
            let mut found = names.iter().enumerate().filter(|(_, name)| *name == column.source_name());
            match (found.next(), found.next()) {
                (Some(_), Some(_)) => {
                    return Err(self.mismatch(&format!("has the column {:?} twice", column.source_name())));
                }
                (Some((place, _)), None) => places.push(Some(place)),
                (None, _) => missing.push(column.source_name()),
            }
        }
        if missing.is_empty() {
            return Ok((names.len(), places));
        }
        if let Some(known) = content::describe(self.start) {
            return Err(self.mismatch(&format!("is {known}")));
        }
        let there: Vec<&str> = names.iter().map(String::as_str).collect();
        let what = format!(
            "lacks the column {}; its header in line {line} has {}; {}",
            enumerate(&missing),
            enumerate(&there),
            self.advice(&there, &missing),
        );
        Err(self.mismatch(&what))
    }

    /// The likely mistake behind a header that lacks columns, and the field to set.
    fn advice(&self, names: &[&str], missing: &[&str]) -> String {
        let first = names.first().copied().unwrap_or_default();
        if first.starts_with("sep=") {
            return "set source.format.csv.skipLines to 1".to_owned();
        }
        let has_malformed = names.iter().any(|name| name.contains('\u{fffd}'));
        if has_malformed && content::is_binary(self.start) {
            return "it is no text: leave the object out with include".to_owned();
        }
        if has_malformed {
            return "it is not UTF-8: set source.format.csv.encoding, for example to windows-1252".to_owned();
        }
        let trimmed = |name: &str| name.trim_matches([' ', '\t']).to_owned();
        if names.iter().any(|name| trimmed(name) != *name && missing.contains(&trimmed(name).as_str())) {
            return "set source.format.csv.trim".to_owned();
        }
        // Blanks of other kinds, characters without width, capital letters.
        let alike = |name: &str| {
            let seen = name.chars().filter(|c| !c.is_whitespace() && !is_invisible(*c));
            seen.flat_map(char::to_lowercase).collect::<String>()
        };
        if let Some(name) =
            names.iter().find(|name| missing.iter().any(|column| alike(column) == alike(name)))
        {
            return format!(
                "names are compared exactly: set columns[].header to {:?}",
                text::cut(name, NAME_BYTES_SHOWN)
            );
        }
        let other = [";", "\t", "|", ","].into_iter().find(|other| {
            *other != self.format.delimiter
                && first.split(other).any(|part| missing.contains(&part.trim_matches('"')))
        });
        match other {
            Some(other) if names.len() == 1 => format!("set source.format.csv.delimiter to {other:?}"),
            _ => "correct columns[].header, or leave the object out with include".to_owned(),
        }
    }

    fn mismatch(&self, what: &str) -> Failure {
        Failure::terminal(Reason::SchemaMismatch, format!("{} {what}", self.key))
    }
}

/// Characters that have no width: spaces and marks that direct the text.
const fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}' | '\u{feff}')
}

/// Some names for a message, quoted and shortened.
fn enumerate(names: &[&str]) -> String {
    let shown = names.iter().take(NAMES_SHOWN);
    let shown: Vec<String> = shown.map(|name| format!("{:?}", text::cut(name, NAME_BYTES_SHOWN))).collect();
    let more = names.len() - shown.len();
    let list = shown.join(", ");
    if more > 0 { format!("{list} and {more} more") } else { list }
}
