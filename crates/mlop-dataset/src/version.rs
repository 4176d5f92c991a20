//! Reads exactly the listed objects, validates every row and writes a table.
//!
//! Rows stream through: a chunk of an object, its rows, a row group, a part of about 128 MiB on the scratch disk, an
//! upload. Memory does not grow with the source, but for the keys of `unique` columns (`unique`).
//!
//! | module | does |
//! |---|---|
//! | `source` | an object's bytes, in the listed state |
//! | `ahead` | the next small objects, fetched while earlier ones are validated |
//! | `content`, `decompress`, `encoding` | recognition of compression and encoding, and text from the bytes |
//! | `reader`, `csv`, `ndjson`, `parquet` | rows of cells: the seam for formats |
//! | `column`, `reading`, `value` | how a value is read, and the rules that it must meet |
//! | `numbers`, `decimal`, `time_format`, `civil` | how numbers and times are written |
//! | `unique` | whether a row's key was there before |
//! | `quarantine` | rejected rows and their budget |
//! | `volume` | the rules for all rows together |
//! | `stats`, `table` | statistics, and Parquet parts |

mod ahead;
mod civil;
mod column;
mod content;
mod csv;
mod decimal;
mod decompress;
mod encoding;
mod ndjson;
mod numbers;
mod parquet;
mod quarantine;
mod reader;
mod reading;
mod rows;
mod source;
mod stats;
mod table;
mod time_format;
mod unique;
mod value;
mod volume;

use crate::{
    listing::{Listing, Object},
    text,
};
use ahead::Ahead;
use column::Rule;
use csv::CsvReader;
use decompress::Started;
use jiff::Timestamp;
use mlop_api::{
    Digest, Reason,
    common::Metric,
    dataset::{Format, NEWEST},
    result::{Failure, ResultDocument},
    task::VersionWork,
};
use mlop_artifact::{
    manifest::{self, Published, TableManifest, schema_digest},
    store::ObjectStoreHandle,
};
use ndjson::NdjsonReader;
use numbers::Numbers;
use parquet::ParquetReader;
use quarantine::{Quarantine, Verdict};
use reader::{Nothing, Reader};
use rows::Rows;
use std::path::Path;
use tokio::{runtime::Handle, task::JoinError};
use volume::Volume;

/// Columns whose number of missing values is in the result.
const NULLS_SHOWN: usize = 16;

/// Makes the version that `work` describes.
///
/// # Errors
/// [`Reason::SourceChanged`] when an object is not in its listed state any more;
/// [`Reason::SchemaMismatch`], [`Reason::QuarantineBudgetExceeded`] and [`Reason::RuleViolated`] when the data
/// contradict the spec;
/// otherwise as the stores say.
pub async fn version(
    source: &ObjectStoreHandle,
    output: &ObjectStoreHandle,
    work: VersionWork,
    now: Timestamp,
) -> Result<ResultDocument, Failure> {
    let listing = Listing::read(output, &work.listing).await?;
    let pipeline = Pipeline {
        source: source.clone(),
        output: output.clone(),
        listing,
        work,
        runtime: Handle::current(),
        now,
    };
    // Parsing and encoding keep a thread busy. Network and signals need another one.
    let blocking = tokio::task::spawn_blocking(move || pipeline.process());
    let outcome = joined(blocking.await)?;
    let schema = schema_digest(&outcome.manifest.schema)?;
    let table = manifest::publish(output, outcome.manifest).await?;
    Ok(result(&table, schema, &outcome.figures))
}

/// The outcome of a task. Its panic goes on.
fn joined<T>(ended: Result<Result<T, Failure>, JoinError>) -> Result<T, Failure> {
    match ended {
        Ok(outcome) => outcome,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => Err(Failure::transient(Reason::WorkerFailed, format!("cut short: {error}"))),
    }
}

fn result(table: &Published<TableManifest>, schema: Digest, figures: &Figures) -> ResultDocument {
    let Figures { verdict, objects, newest } = figures;
    let (rows, rejected) = (table.manifest.rows, verdict.rejected);
    let bytes: u64 = table.manifest.parts.iter().map(|part| part.bytes).sum();
    let mut metrics = vec![
        Metric::new("rows", rows as f64),
        Metric::new("rejected", rejected as f64),
        Metric::new("bytes", bytes as f64),
        Metric::new("objects", *objects as f64),
    ];
    metrics.extend(newest.map(|second| Metric::new(NEWEST, second as f64)));
    let with_nulls = table.manifest.columns.iter().filter(|column| column.nulls > 0).take(NULLS_SHOWN);
    metrics
        .extend(with_nulls.map(|column| Metric::new(format!("nulls.{}", column.name), column.nulls as f64)));
    ResultDocument {
        digest: Some(table.digest.clone()),
        schema_digest: Some(schema),
        summary: Some(format!("{}, {} rejected", text::count(rows, "row"), text::thousands(rejected))),
        notes: verdict.reasons.iter().map(|reason| format!("rejected {reason}")).collect(),
        metrics,
        ..ResultDocument::default()
    }
}

/// The inputs of the blocking part.
struct Pipeline {
    source: ObjectStoreHandle,
    output: ObjectStoreHandle,
    listing: Listing,
    work: VersionWork,
    runtime: Handle,
    now: Timestamp,
}

/// The result of the blocking part, before it is published.
struct Outcome {
    manifest: TableManifest,
    figures: Figures,
}

/// The figures of a version that its manifest does not have.
struct Figures {
    verdict: Verdict,
    /// Objects that were read.
    objects: u64,
    /// The time of the newest row in seconds since 1970, if `rules.freshness` asks for it.
    newest: Option<i64>,
}

impl Pipeline {
    fn process(self) -> Result<Outcome, Failure> {
        let rules = self.rules()?;
        let scratch = tempfile::tempdir().map_err(|error| {
            Failure::transient(Reason::WorkerFailed, format!("no scratch directory: {error}"))
        })?;
        let names = self.work.content.columns.iter().map(|column| column.name.clone()).collect();
        let quarantine = Quarantine::new(&self.work.content.quarantine, names, scratch.path())?;
        let table = table::Writer::new(&rules, scratch.path(), self.output.clone(), self.runtime.clone())?;
        let mut rows = Rows::new(rules, &self.work.content.unique, quarantine, table);
        let mut ahead = Ahead::new(self.source.clone(), self.runtime.clone());
        let mut read = |(object, body): (Object, Result<source::Body, Failure>)| -> Result<(), Failure> {
            tracing::info!(key = object.key, bytes = object.size, "reading");
            let mut reader = self.reader(&object.key, body?, scratch.path())?;
            rows.begin(&object.key);
            while let Some(row) = reader.next()? {
                rows.add(&object.key, &row)?;
            }
            Ok(())
        };
        let objects = self.listing.for_each(|object| {
            while ahead.is_full_for(&object) {
                ahead.take().map_or(Ok(()), &mut read)?;
            }
            ahead.add(object);
            Ok(())
        })?;
        while let Some(next) = ahead.take() {
            read(next)?;
        }
        let freshness = self.work.content.rules.freshness.as_ref();
        let newest = freshness.and_then(|freshness| rows.greatest(&freshness.column));
        let (manifest, quarantine) = rows.finish()?;
        let verdict = quarantine.close(&self.work.content.columns, |path| {
            let listing = self.work.listing.hex();
            let place = |sha256: &Digest| format!("rejects/{listing}/{}.jsonl.gz", sha256.hex());
            let (key, _) = self.runtime.block_on(self.output.upload(path, place))?;
            Ok(self.output.store().uri(&key))
        })?;
        let volume = Volume { rows: manifest.rows, previous: self.work.previous_rows, newest, now: self.now };
        volume.check(&self.work.content.rules)?;
        Ok(Outcome { manifest, figures: Figures { verdict, objects, newest: volume.newest_second() } })
    }

    fn rules(&self) -> Result<Vec<Rule>, Failure> {
        let null_tokens = self.work.content.format.null_tokens();
        let numbers = self.work.content.format.csv.as_ref().map(Numbers::new).unwrap_or_default();
        self.work.content.columns.iter().map(|column| Rule::new(column, null_tokens, numbers)).collect()
    }

    fn reader(&self, key: &str, body: source::Body, scratch: &Path) -> Result<Box<dyn Reader>, Failure> {
        let columns = &self.work.content.columns;
        let unpacked = |body| decompress::decompressed(body).map_err(|error| source::failure(key, &error));
        match &self.work.content.format {
            Format { csv: Some(format), .. } => match unpacked(body)? {
                Started { start, .. } if start.is_empty() => Ok(Box::new(Nothing)),
                Started { start, body } => Ok(Box::new(CsvReader::new(key, &start, body, format, columns)?)),
            },
            Format { ndjson: Some(_), .. } => Ok(Box::new(NdjsonReader::new(key, unpacked(body)?, columns)?)),
            Format { parquet: Some(_), .. } => Ok(Box::new(ParquetReader::new(key, body, columns, scratch)?)),
            _ => Err(Failure::terminal(
                Reason::InvalidSpec,
                "source.format names no format that this worker knows",
            )),
        }
    }
}

#[cfg(test)]
mod tests;
