//! The parser of delimiter-separated records: one pass over the bytes, in chunks of any size.

use crate::version::reader::Flaw;

/// Longest record in bytes.
pub const RECORD_BYTES_MAX: usize = 1 << 20;
/// Most fields of a record.
pub const FIELDS_MAX: usize = 4_096;

/// The characters that have a meaning. Each is ASCII.
#[derive(Clone, Copy, Debug)]
pub struct Dialect {
    pub delimiter: u8,
    pub quote: Option<u8>,
    pub escape: Option<u8>,
    pub comment: Option<u8>,
    /// Blanks around values and their quotes are no part of the value.
    pub trim: bool,
    /// A quote inside an unquoted value is text.
    pub bare_quotes: bool,
    /// Most lines of a record.
    pub lines_max: u64,
}

/// A field of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Field {
    /// Its place in the record, without its quotes.
    pub start: usize,
    pub end: usize,
    pub is_quoted: bool,
    /// It holds doubled quotes or escapes, which [`append_text`](super::record::Records::append_text) resolves.
    pub is_escaped: bool,
}

/// The next part of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A record: see [`Records`](super::record::Records).
    Record {
        /// Number of its first line.
        line: u64,
        /// Number of lines that it spans.
        lines: u64,
        flaw: Option<Flaw>,
    },
    /// An empty line.
    Empty {
        line: u64,
    },
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before a record.
    Start,
    /// In a line that is skipped.
    Comment,
    /// Before the first character of a field.
    Field,
    Unquoted,
    Quoted,
    /// Behind the escape character inside quotes.
    Escape,
    /// Behind a quote inside quotes: it closes the value, or the next one is a quote too.
    Quote,
    /// Behind a closing quote and blanks.
    Closed,
}

/// Whether a byte may change the state.
type Stops = [bool; 256];

/// Reads records from chunks of an object.
pub struct Parser {
    pub dialect: Dialect,
    /// Inside unquoted and inside quoted values.
    unquoted_stops: Stops,
    quoted_stops: Stops,
    state: State,
    /// Line ends so far; CRLF is one.
    line_ends: u64,
    is_after_cr: bool,
    /// The current record, at most [`RECORD_BYTES_MAX`] bytes of it.
    pub record: Vec<u8>,
    /// The fields of the current record that have ended.
    pub fields: Vec<Field>,
    field: Field,
    /// Bytes of the current record, also those that are not kept, and the last of them.
    length: usize,
    last: u8,
    first_line: u64,
    flaw: Option<Flaw>,
}

fn stops(bytes: [Option<u8>; 2]) -> Stops {
    let mut stops = [false; 256];
    for byte in bytes.into_iter().flatten().chain(*b"\r\n") {
        if let Some(stop) = stops.get_mut(usize::from(byte)) {
            *stop = true;
        }
    }
    stops
}

impl Parser {
    pub fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            unquoted_stops: stops([Some(dialect.delimiter), dialect.quote]),
            quoted_stops: stops([dialect.quote, dialect.escape]),
            state: State::Start,
            line_ends: 0,
            is_after_cr: false,
            record: Vec::new(),
            fields: Vec::new(),
            field: Field::default(),
            length: 0,
            last: 0,
            first_line: 1,
            flaw: None,
        }
    }

    /// The next line is skipped with its quotes.
    pub fn begin_skipped_line(&mut self) {
        self.state = State::Comment;
    }

    pub fn is_in_skipped_line(&self) -> bool {
        self.state == State::Comment
    }

    /// Prepares for the next record.
    pub fn begin(&mut self) {
        self.record.clear();
        self.fields.clear();
        self.field = Field::default();
        self.length = 0;
        self.flaw = None;
    }

    /// Reads `chunk` until a record or an empty line ends; returns the number of bytes read.
    pub fn read(&mut self, chunk: &[u8]) -> (usize, Option<Next>) {
        let mut at = 0;
        if self.state == State::Start {
            at = usize::from(self.is_after_cr && chunk.first() == Some(&b'\n'));
            self.is_after_cr = false;
            match chunk.get(at) {
                None => return (at, None),
                Some(&end @ (b'\r' | b'\n')) => {
                    self.end_line(end);
                    return (at + 1, Some(Next::Empty { line: self.line_ends }));
                }
                Some(byte) if Some(*byte) == self.dialect.comment => self.state = State::Comment,
                Some(_) => {
                    self.state = State::Field;
                    self.first_line = self.line_ends + 1;
                }
            }
        }
        if self.state == State::Comment {
            return (at + self.skip_line(chunk.get(at..).unwrap_or_default()), None);
        }
        let begin = at;
        // Position in the record of the byte at `begin`.
        let base = self.length;
        while let Some(&byte) = chunk.get(at) {
            if self.state == State::Field
                && let Some(read) = self.plain_field(chunk.get(at..).unwrap_or_default(), base + at - begin)
            {
                at += read;
                continue;
            }
            if self.step(byte, base + at - begin) {
                self.keep(chunk.get(begin..at).unwrap_or_default());
                return (at + 1, Some(self.end_record(0)));
            }
            at += 1;
            let stops = match self.state {
                State::Unquoted => &self.unquoted_stops,
                State::Quoted if !self.is_after_cr => &self.quoted_stops,
                _ => continue,
            };
            let rest = chunk.get(at..).unwrap_or_default();
            let plain = rest.iter().position(|byte| stops.get(usize::from(*byte)) == Some(&true));
            at += plain.unwrap_or(rest.len());
        }
        self.keep(chunk.get(begin..at).unwrap_or_default());
        (at, None)
    }

    /// Takes a field without quotes that ends with a delimiter in `rest`, which is at `place` of the record. Returns
    /// the number of bytes read. Most fields are such ones, so they do not pass through [`step`](Self::step).
    fn plain_field(&mut self, rest: &[u8], place: usize) -> Option<usize> {
        if self.dialect.trim || self.fields.len() == FIELDS_MAX {
            return None;
        }
        let length =
            rest.iter().position(|byte| self.unquoted_stops.get(usize::from(*byte)) == Some(&true))?;
        if rest.get(length) != Some(&self.dialect.delimiter) {
            return None;
        }
        let end = place + length;
        self.fields.push(Field { start: place, end, is_quoted: false, is_escaped: false });
        self.field = Field { start: end + 1, ..Field::default() };
        Some(length + 1)
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = RECORD_BYTES_MAX.saturating_sub(self.record.len());
        self.record.extend_from_slice(bytes.get(..bytes.len().min(room)).unwrap_or_default());
        self.length += bytes.len();
        self.last = bytes.last().copied().unwrap_or(self.last);
        if self.length > RECORD_BYTES_MAX {
            self.flaw.get_or_insert(Flaw::Length);
        }
    }

    /// Takes one byte at `place` of the record; true when it is the line end that ends the record.
    fn step(&mut self, byte: u8, place: usize) -> bool {
        let dialect = self.dialect;
        let (is_line_end, is_delimiter) = (matches!(byte, b'\r' | b'\n'), byte == dialect.delimiter);
        let is_quote = Some(byte) == dialect.quote;
        let is_blank = dialect.trim && matches!(byte, b' ' | b'\t') && !is_delimiter;
        match self.state {
            State::Quoted if Some(byte) == dialect.escape => {
                self.field.is_escaped = true;
                self.is_after_cr = false;
                self.state = State::Escape;
            }
            State::Quoted if is_quote => {
                self.is_after_cr = false;
                self.state = State::Quote;
            }
            State::Quoted | State::Escape => {
                self.end_line(byte);
                self.state = State::Quoted;
            }
            State::Quote if is_quote && dialect.escape.is_none() => {
                self.field.is_escaped = true;
                self.state = State::Quoted;
            }
            State::Field if is_quote => {
                self.field = Field { start: place + 1, end: 0, is_quoted: true, is_escaped: false };
                self.state = State::Quoted;
            }
            _ if is_delimiter || is_line_end => {
                self.end_field(place);
                self.state = State::Field;
                self.end_line(byte);
                return is_line_end;
            }
            State::Field if is_blank => self.field.start = place + 1,
            State::Field => self.state = State::Unquoted,
            State::Quote | State::Closed if is_blank => {
                self.close(place);
                self.state = State::Closed;
            }
            State::Quote | State::Closed => {
                self.flaw.get_or_insert(Flaw::TextBehindQuote);
                self.state = State::Unquoted;
            }
            State::Unquoted if is_quote && !dialect.bare_quotes => {
                self.flaw.get_or_insert(Flaw::StrayQuote);
            }
            State::Unquoted | State::Start | State::Comment => {}
        }
        false
    }

    /// Counts `byte` if it ends a line.
    fn end_line(&mut self, byte: u8) {
        self.line_ends += u64::from(byte == b'\r' || byte == b'\n' && !self.is_after_cr);
        self.is_after_cr = byte == b'\r';
    }

    /// Notes the end of a quoted value, whose closing quote is right before `place`.
    fn close(&mut self, place: usize) {
        if self.state == State::Quote {
            self.field.end = place.saturating_sub(1);
        }
    }

    /// Ends a field at `place`, where the next one may begin.
    fn end_field(&mut self, place: usize) {
        match self.state {
            State::Quote => self.close(place),
            State::Closed => {}
            _ => self.field.end = place,
        }
        if self.fields.len() == FIELDS_MAX {
            self.flaw.get_or_insert(Flaw::Length);
        } else {
            self.fields.push(self.field);
        }
        self.field = Field { start: place + 1, ..Field::default() };
    }

    /// The last record, if the object ended within one.
    pub fn end_of_input(&mut self) -> Next {
        if matches!(self.state, State::Start | State::Comment) {
            self.state = State::Start;
            return Next::End;
        }
        if matches!(self.state, State::Quoted | State::Escape) {
            self.flaw = Some(Flaw::UnclosedQuote);
        }
        // The line end at the end of an object begins no line.
        let open_lines = u64::from(!matches!(self.last, b'\r' | b'\n'));
        self.end_field(self.length);
        self.end_record(open_lines)
    }

    /// The record that has ended, with `open_lines` lines that have no line end.
    fn end_record(&mut self, open_lines: u64) -> Next {
        let lines = self.line_ends + open_lines + 1 - self.first_line;
        if lines > self.dialect.lines_max && self.flaw != Some(Flaw::UnclosedQuote) {
            self.flaw = Some(Flaw::Lines);
        }
        self.state = State::Start;
        Next::Record { line: self.first_line, lines, flaw: self.flaw }
    }

    /// Reads `chunk` to the end of a line that is skipped; returns the number of bytes read.
    pub fn skip_line(&mut self, chunk: &[u8]) -> usize {
        let begin = usize::from(self.is_after_cr && chunk.first() == Some(&b'\n'));
        self.is_after_cr = false;
        let rest = chunk.get(begin..).unwrap_or_default();
        let Some(length) = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
            return chunk.len();
        };
        self.end_line(rest.get(length).copied().unwrap_or_default());
        self.state = State::Start;
        begin + length + 1
    }
}
