//! Rejected rows: set aside with object, line and rule, counted, and judged by the budget at the end.

use super::{column::Breach, reader::Row};
use crate::text;
use flate2::{Compression, write::GzEncoder};
use mlop_api::{
    Reason,
    dataset::{self, Column},
    result::Failure,
};
use serde::Serialize;
use std::{
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
/// Longest key or value of an example, in bytes.
const EXAMPLE_BYTES_MAX: usize = 80;

/// Takes rejected rows.
pub struct Quarantine {
    max_ratio: f64,
    path: PathBuf,
    file: GzEncoder<BufWriter<File>>,
    total: u64,
    rejected: u64,
    /// By column (none: the row as a whole) and rule.
    tallies: BTreeMap<(Option<usize>, Breach), Tally>,
}

#[derive(Default)]
struct Tally {
    rows: u64,
    /// `object:line`.
    examples: Vec<String>,
}

/// A rejected row as it is set aside: one line of JSON.
#[derive(Serialize)]
struct Record<'a> {
    object: &'a str,
    line: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<&'a str>,
    rule: &'static str,
    raw: &'a str,
}

/// How the rows of a version did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub rejected: u64,
}

impl Quarantine {
    /// A quarantine with this budget that keeps its file in `scratch` until it is closed.
    ///
    /// # Errors
    /// [`Reason::InvalidSpec`] when the budget is no number.
    pub fn new(budget: &dataset::Quarantine, scratch: &Path) -> Result<Self, Failure> {
        let max_ratio = budget.max_ratio.parse().map_err(|_| {
            let message = format!("quarantine.maxRatio: {:?} is no number", budget.max_ratio);
            Failure::terminal(Reason::InvalidSpec, message)
        })?;
        let path = scratch.join("rejects.jsonl.gz");
        let file = File::create(&path).map_err(|error| unwritable(&error))?;
        let file = GzEncoder::new(BufWriter::new(file), Compression::default());
        Ok(Self { max_ratio, path, file, total: 0, rejected: 0, tallies: BTreeMap::new() })
    }

    /// Counts a row that is accepted.
    pub fn accept(&mut self) {
        self.total += 1;
    }

    /// Sets `row` of `object` aside because of `breach`, in column number `column` called `name` if it is one's fault.
    ///
    /// # Errors
    /// When the scratch disk cannot be written.
    pub fn reject(
        &mut self,
        object: &str,
        row: &Row<'_>,
        column: Option<(usize, &str)>,
        breach: Breach,
    ) -> Result<(), Failure> {
        self.total += 1;
        self.rejected += 1;
        let tally = self.tallies.entry((column.map(|(number, _)| number), breach)).or_default();
        tally.rows += 1;
        if tally.examples.len() < EXAMPLES_SHOWN {
            tally.examples.push(format!("{}:{}", shorten_key(object), row.line));
        }
        if self.rejected > RECORDS_MAX {
            return Ok(());
        }
        let raw = row.raw.text();
        let name = column.map(|(_, name)| name);
        let record = Record { object, line: row.line, column: name, rule: breach.as_str(), raw: &raw };
        serde_json::to_writer(&mut self.file, &record).map_err(|error| unwritable(&error.into()))?;
        self.file.write_all(b"\n").map_err(|error| unwritable(&error))
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
        let Self { max_ratio, path, file, total, rejected, tallies } = self;
        if rejected == 0 {
            return Ok(Verdict { rejected });
        }
        file.finish().and_then(|mut file| file.flush()).map_err(|error| unwritable(&error))?;
        let uri = upload(&path)?;
        tracing::warn!(rejected, total, uri, "rows were rejected");
        if rejected as f64 / total as f64 <= max_ratio {
            return Ok(Verdict { rejected });
        }
        let share = 100.0 * rejected as f64 / total as f64;
        let mut message = format!(
            "{} of {} rejected ({share:.3} %), more than quarantine.maxRatio {max_ratio} allows: {}",
            text::thousands(rejected),
            text::count(total, "row"),
            worst(&tallies, columns),
        );
        // The uri is what remains useful of a message that is too long.
        let end = format!(". All are in {uri}");
        message.truncate(text::cut(&message, MESSAGE_BYTES_MAX.saturating_sub(end.len())).len());
        Err(Failure::terminal(Reason::QuarantineBudgetExceeded, message + &end))
    }
}

/// The rules that rejected most rows, with examples.
fn worst(tallies: &BTreeMap<(Option<usize>, Breach), Tally>, columns: &[Column]) -> String {
    let mut worst: Vec<_> = tallies.iter().collect();
    worst.sort_by_key(|(_, tally)| std::cmp::Reverse(tally.rows));
    let shown = worst.iter().take(RULES_SHOWN).map(|((column, breach), tally)| {
        let examples = tally.examples.join(", ");
        let rows = text::count(tally.rows, "row");
        match column.and_then(|number| columns.get(number)) {
            Some(column) => {
                format!("{}: {rows} against {} ({examples})", column.name, rule(column, *breach))
            }
            None => format!("{rows} {} ({examples})", whole_row(*breach)),
        }
    });
    let shown: Vec<_> = shown.collect();
    let more = worst.len() - shown.len();
    let more =
        if more > 0 { format!("; and {} more", text::count(more as u64, "rule")) } else { String::new() };
    shown.join("; ") + &more
}

/// The rule as the spec has it.
fn rule(column: &Column, breach: Breach) -> String {
    let value = match breach {
        Breach::Type => super::type_name(column.kind).to_owned(),
        Breach::Null => "false".to_owned(),
        Breach::Min => column.min.clone().unwrap_or_default(),
        Breach::Max => column.max.clone().unwrap_or_default(),
        Breach::Pattern => column.pattern.clone().unwrap_or_default(),
        _ => return breach.to_string(),
    };
    format!("{breach} {}", text::cut(&value, EXAMPLE_BYTES_MAX))
}

fn whole_row(breach: Breach) -> &'static str {
    match breach {
        Breach::Unique => "with a key of unique that was there before",
        Breach::Cells => "with more or fewer cells than the header",
        Breach::Encoding => "that are not UTF-8",
        _ => "longer than a row may be (1 MiB, 4,096 cells)",
    }
}

/// The end of a key tells more than its beginning.
fn shorten_key(key: &str) -> &str {
    let mut start = key.len().saturating_sub(EXAMPLE_BYTES_MAX);
    while !key.is_char_boundary(start) {
        start += 1;
    }
    key.get(start..).unwrap_or_default()
}

fn unwritable(error: &io::Error) -> Failure {
    Failure::transient(Reason::WorkerFailed, format!("writing rejected rows to the scratch disk: {error}"))
}
