//! Records of delimiter-separated values: strict about quotes, exact about lines, in bounded memory.
//!
//! A record is kept as the source has it, so that it can be set aside byte for byte. Its fields are ranges of it.

use super::parser::{Dialect, Field, Next, Parser};
use crate::version::source::Body;
use std::io;

/// Reads the records of an object.
pub struct Records {
    body: Body,
    parser: Parser,
}

impl Records {
    pub fn new(body: Body, dialect: Dialect) -> Self {
        Self { body, parser: Parser::new(dialect) }
    }

    /// The current record as the source has it, without its line end; cut to [`RECORD_BYTES_MAX`](super::parser::RECORD_BYTES_MAX).
    pub fn record(&self) -> &[u8] {
        &self.parser.record
    }

    pub fn fields(&self) -> &[Field] {
        &self.parser.fields
    }

    /// Appends the text of `field` of the current record to `text`: without escapes, and trimmed if the dialect does.
    pub fn append_text(&self, field: Field, text: &mut Vec<u8>) {
        let Dialect { quote, escape, trim, .. } = self.parser.dialect;
        let bytes = self.parser.record.get(field.start..field.end).unwrap_or_default();
        if field.is_escaped {
            let mut bytes = bytes.iter().copied();
            while let Some(byte) = bytes.next() {
                let is_escape = Some(byte) == escape.or(quote);
                text.extend(if is_escape { bytes.next() } else { Some(byte) });
            }
        } else if trim && !field.is_quoted {
            let blanks = bytes.iter().rev().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
            text.extend_from_slice(bytes.get(..bytes.len() - blanks).unwrap_or_default());
        } else {
            text.extend_from_slice(bytes);
        }
    }

    /// Skips `count` lines without looking for quotes.
    ///
    /// # Errors
    /// As reading the object says.
    pub fn skip_lines(&mut self, count: u32) -> io::Result<()> {
        for _ in 0..count {
            self.parser.begin_skipped_line();
            while self.parser.is_in_skipped_line() {
                let chunk = self.body.fill_buf()?;
                if chunk.is_empty() {
                    return Ok(());
                }
                let read = self.parser.skip_line(chunk);
                self.body.consume(read);
            }
        }
        Ok(())
    }

    /// Reads the next record or empty line.
    ///
    /// # Errors
    /// As reading the object says. A record that is broken has a flaw.
    pub fn next(&mut self) -> io::Result<Next> {
        self.parser.begin();
        loop {
            let chunk = self.body.fill_buf()?;
            if chunk.is_empty() {
                return Ok(self.parser.end_of_input());
            }
            let (read, next) = self.parser.read(chunk);
            self.body.consume(read);
            if let Some(next) = next {
                return Ok(next);
            }
        }
    }
}
