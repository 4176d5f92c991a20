//! Rejected rows: set aside with object, line and rule, counted, and judged by the budget at the end.

use super::{
    column::{Breach, shown},
    reader::{Cells, Row},
    value::type_name,
};
use crate::text;
use flate2::{Compression, write::GzEncoder};
use mlop_api::{
    Reason,
    dataset::{self, Column},
    result::Failure,
};
use serde::Serialize;
use std::{
    borrow::Cow,
    collections::BTreeMap,
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

/// Most rejected rows that are set aside; beyond them they are only counted.
const RECORDS_MAX: u64 = 100_000;
/// Rules and examples of each that are in the message.
const RULES_SHOWN: usize = 3;
const EXAMPLES_SHOWN: usize = 3;
/// Longest message in bytes.
const MESSAGE_BYTES_MAX: usize = 1_024;
/// Longest value of a rule in a message, in bytes.
const RULE_BYTES_MAX: usize = 80;
/// Most bytes of rejected rows that are set aside.
const RECORDS_BYTES_MAX: u64 = 1 << 30;

/// Takes rejected rows.
pub struct Quarantine {
    max_ratio: f64,
    /// Names of the columns.
    names: Vec<String>,
    path: PathBuf,
    file: GzEncoder<BufWriter<File>>,
    total: u64,
    rejected: u64,
    /// Records that were set aside, and bytes of their rows.
    records: (u64, u64),
    /// By column (none: the row as a whole) and rule.
    tallies: BTreeMap<(Option<usize>, Breach), Tally>,
}

#[derive(Default)]
struct Tally {
    rows: u64,
    /// `object:line`.
    examples: Vec<String>,
    /// The first value that broke the rule.
    value: Option<String>,
}

/// A rejected row as it is set aside: one line of JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Record<'a> {
    object: &'a str,
    line: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<&'a str>,
    rule: &'static str,
    /// Lines that were lost with it, if it is more than one.
    #[serde(skip_serializing_if = "Option::is_none")]
    lines: Option<u64>,
    /// The row as it is in the source.
    raw: Cow<'a, str>,
    /// Its bytes, where they are not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    raw_hex: Option<String>,
}

/// How the rows of a version did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub rejected: u64,
    /// The rules that rejected most rows, with examples, the worst first.
    pub reasons: Vec<String>,
}

impl Quarantine {
    /// A quarantine with this budget that keeps its file in `scratch` until it is closed.
    ///
    /// # Errors
    /// [`Reason::InvalidSpec`] when the budget is no number.
    pub fn new(budget: &dataset::Quarantine, names: Vec<String>, scratch: &Path) -> Result<Self, Failure> {
        let max_ratio = budget.max_ratio.parse().map_err(|_| {
            let message = format!("quarantine.maxRatio: {:?} is no number", budget.max_ratio);
            Failure::terminal(Reason::InvalidSpec, message)
        })?;
        let path = scratch.join("rejects.jsonl.gz");
        let file = File::create(&path).map_err(|error| unwritable(&error))?;
        let file = GzEncoder::new(BufWriter::new(file), Compression::default());
        Ok(Self {
            max_ratio,
            names,
            path,
            file,
            total: 0,
            rejected: 0,
            records: (0, 0),
            tallies: BTreeMap::new(),
        })
    }

    /// Rows so far.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Counts a row that is accepted.
    pub fn accept(&mut self) {
        self.total += 1;
    }

    /// Sets `row` of `object` aside because of `breach`, in column number `column` called `name` if it is one's fault,
    /// with the value for people. A row that took further lines into it counts as so many rows.
    ///
    /// # Errors
    /// When the scratch disk cannot be written.
    pub fn reject(
        &mut self,
        object: &str,
        row: &Row<'_>,
        column: Option<(usize, &str)>,
        breach: Breach,
        value: Option<String>,
    ) -> Result<(), Failure> {
        self.total += row.lines;
        self.rejected += row.lines;
        let tally = self.tallies.entry((column.map(|(number, _)| number), breach)).or_default();
        tally.rows += row.lines;
        if tally.examples.len() < EXAMPLES_SHOWN {
            tally.examples.push(format!("{}:{}", text::shorten_key(object), row.line));
            tally.value = tally.value.take().or(value);
        }
        let (records, bytes) = self.records;
        if records >= RECORDS_MAX || bytes >= RECORDS_BYTES_MAX {
            return Ok(());
        }
        let raw = match (row.raw, &row.cells) {
            (Some(raw), _) => String::from_utf8_lossy(raw),
            (None, Ok(cells)) => Cow::Owned(self.as_json(cells)),
            (None, Err(_)) => Cow::Borrowed(""),
        };
        self.records = (records + 1, bytes + raw.len() as u64);
        let record = Record {
            object,
            line: row.line,
            column: column.map(|(_, name)| name),
            rule: breach.as_str(),
            lines: (row.lines > 1).then_some(row.lines),
            raw_hex: row.raw.filter(|raw| std::str::from_utf8(raw).is_err()).map(hex),
            raw,
        };
        serde_json::to_writer(&mut self.file, &record).map_err(|error| unwritable(&error.into()))?;
        self.file.write_all(b"\n").map_err(|error| unwritable(&error))
    }

    /// A row as the JSON object of its cells.
    fn as_json(&self, cells: &Cells<'_>) -> String {
        let cell = |number| cells.get(number).map(|cell| shown(cell).into_owned());
        let named = self.names.iter().enumerate().map(|(number, name)| (name.clone(), cell(number).into()));
        serde_json::Value::Object(named.collect()).to_string()
    }

    /// Hands the file of rejected rows to `upload`, which returns its uri, and judges.
    ///
    /// # Errors
    /// [`Reason::QuarantineBudgetExceeded`], terminal, with the rules that rejected most.
    pub fn close(
        self,
        columns: &[Column],
        upload: impl FnOnce(&Path) -> Result<String, Failure>,
    ) -> Result<Verdict, Failure> {
        let Self { max_ratio, path, file, total, rejected, tallies, .. } = self;
        if rejected == 0 {
            return Ok(Verdict { rejected, reasons: Vec::new() });
        }
        file.finish().and_then(|mut file| file.flush()).map_err(|error| unwritable(&error))?;
        let uri = upload(&path)?;
        tracing::warn!(rejected, total, uri, "rows were rejected");
        let reasons = worst(&tallies, columns);
        let budget = Budget { total, rejected, max_ratio };
        if let Some(message) = budget.exceeded().or_else(|| columns_exceeded(&tallies, columns, total)) {
            // The uri is what remains useful of a message that is too long.
            let (message, end) =
                (format!("{message}: {}", reasons.join("; ")), format!(". All are in {uri}"));
            let cut = text::cut(&message, MESSAGE_BYTES_MAX.saturating_sub(end.len()));
            return Err(Failure::terminal(Reason::QuarantineBudgetExceeded, format!("{cut}{end}")));
        }
        Ok(Verdict { rejected, reasons })
    }
}

/// A budget and its use.
struct Budget {
    total: u64,
    rejected: u64,
    max_ratio: f64,
}

impl Budget {
    fn exceeded(&self) -> Option<String> {
        let Self { total, rejected, max_ratio } = *self;
        if rejected as f64 / total as f64 <= max_ratio {
            return None;
        }
        Some(format!(
            "{} of {} rejected ({:.3} %), more than quarantine.maxRatio {max_ratio} allows",
            text::thousands(rejected),
            text::count(total, "row"),
            100.0 * rejected as f64 / total as f64,
        ))
    }
}

/// The first column that exceeds its own budget.
fn columns_exceeded(
    tallies: &BTreeMap<(Option<usize>, Breach), Tally>,
    columns: &[Column],
    total: u64,
) -> Option<String> {
    columns.iter().enumerate().find_map(|(number, column)| {
        let max_ratio = column.quarantine.as_ref()?.max_ratio.parse().ok()?;
        let of_column = tallies.iter().filter(|((place, _), _)| *place == Some(number));
        let rejected = of_column.map(|(_, tally)| tally.rows).sum();
        let exceeded = Budget { total, rejected, max_ratio }.exceeded()?;
        Some(format!("columns[{}]: {exceeded}", column.name))
    })
}

/// The rules that rejected most rows, with examples.
fn worst(tallies: &BTreeMap<(Option<usize>, Breach), Tally>, columns: &[Column]) -> Vec<String> {
    let mut worst: Vec<_> = tallies.iter().collect();
    worst.sort_by_key(|(_, tally)| std::cmp::Reverse(tally.rows));
    let shown = worst.iter().take(RULES_SHOWN).map(|((column, breach), tally)| {
        let examples = tally.examples.join(", ");
        let rows = text::count(tally.rows, "row");
        let value = tally.value.as_ref().map(|value| format!(", for example {value}")).unwrap_or_default();
        match column.and_then(|number| columns.get(number)) {
            Some(column) => {
                format!("{}: {rows} against {}{value} ({examples})", column.name, rule(column, *breach))
            }
            None => format!("{rows} {} ({examples}){}", whole_row(*breach), hint(*breach)),
        }
    });
    let mut shown: Vec<_> = shown.collect();
    let more = worst.len() - shown.len();
    if more > 0 {
        shown.push(format!("and {} more", text::count(more as u64, "rule")));
    }
    shown
}

/// The rule as the spec has it.
fn rule(column: &Column, breach: Breach) -> String {
    let value = match breach {
        Breach::Type => type_name(column.kind).to_owned(),
        Breach::Null => "false".to_owned(),
        Breach::Min => column.min.clone().unwrap_or_default(),
        Breach::Max => column.max.clone().unwrap_or_default(),
        Breach::Pattern => column.pattern.clone().unwrap_or_default(),
        _ => return breach.to_string(),
    };
    format!("{breach} {}", text::cut(&value, RULE_BYTES_MAX))
}

/// The defect of a row as a whole, as a phrase that follows "rows" or the number of a line.
pub const fn whole_row(breach: Breach) -> &'static str {
    match breach {
        Breach::Unique => "with a key of unique that was there before",
        Breach::Cells => "with more or fewer cells than the header",
        Breach::Encoding => "that are not UTF-8",
        Breach::UnclosedQuote => "behind a quote that is never closed",
        Breach::TextBehindQuote => "with text behind a closing quote",
        Breach::StrayQuote => "with a quote inside an unquoted value",
        Breach::Lines => "with too many lines",
        Breach::Header => "that repeat the header",
        Breach::Json => "that are not one JSON object per line",
        _ => "longer than a row may be (1 MiB, 4,096 cells)",
    }
}

/// The fields that may help with such rows.
const fn hint(breach: Breach) -> &'static str {
    match breach {
        Breach::Cells => ", see trailingDelimiter of source.format.csv",
        Breach::Encoding => ", see encoding of source.format.csv",
        Breach::TextBehindQuote => ", see escape and trim of source.format.csv",
        Breach::StrayQuote => ", see bareQuotes and trim of source.format.csv",
        Breach::Json => ": write each object in one line, as jq -c does",
        Breach::Lines => ", see maxRecordLines of source.format.csv",
        _ => "",
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        for nibble in [byte >> 4, byte & 15] {
            text.extend(char::from_digit(u32::from(nibble), 16));
        }
    }
    text
}

fn unwritable(error: &io::Error) -> Failure {
    Failure::transient(Reason::WorkerFailed, format!("writing rejected rows to the scratch disk: {error}"))
}
