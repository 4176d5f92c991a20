//! Reads exactly the listed objects, validates every row and writes a table.
//!
//! Rows stream through: a chunk of an object, its rows, a row group, a part of about 128 MiB on the scratch disk, an
//! upload. Memory does not grow with the source, but for the keys of `unique` columns (`unique`).
//!
//! | module | does |
//! |---|---|
//! | `source` | an object's bytes, in the listed state, decompressed |
//! | `reader`, `csv` | rows of cells out of bytes: the seam for other formats |
//! | `column` | what a value must be |
//! | `unique` | whether a row's key was there before |
//! | `quarantine` | rejected rows and their budget |
//! | `stats`, `table` | statistics, and Parquet parts |

mod column;
mod csv;
mod quarantine;
mod reader;
mod rows;
mod source;
mod stats;
mod table;
mod unique;

use crate::{listing::Listing, text};
use column::Rule;
use csv::CsvReader;
use mlop_api::{
    Digest, Reason,
    common::Metric,
    dataset::{ColumnType, Format},
    result::{Failure, ResultDocument},
    task::VersionWork,
};
use mlop_artifact::{
    manifest::{self, Published, TableManifest, schema_digest},
    store::ObjectStoreHandle,
};
use quarantine::{Quarantine, Verdict};
use reader::Reader;
use rows::Rows;
use tokio::runtime::Handle;

/// Makes the version that `work` describes.
///
/// # Errors
/// [`Reason::SourceChanged`], retryable, when an object is not in its listed state any more;
/// [`Reason::SchemaMismatch`] and [`Reason::QuarantineBudgetExceeded`] when the data are not what the spec says;
/// otherwise as the stores say.
pub async fn version(
    source: &ObjectStoreHandle,
    output: &ObjectStoreHandle,
    work: VersionWork,
) -> Result<ResultDocument, Failure> {
    let listing = Listing::read(output, &work.listing).await?;
    let pipeline = Pipeline {
        source: source.clone(),
        output: output.clone(),
        listing,
        work,
        runtime: Handle::current(),
    };
    // Parsing and encoding keep a thread busy; network and signals must go on beside it.
    let blocking = tokio::task::spawn_blocking(move || pipeline.process());
    let outcome = match blocking.await {
        Ok(outcome) => outcome?,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => return Err(Failure::transient(Reason::WorkerFailed, format!("cut short: {error}"))),
    };
    let schema = schema_digest(&outcome.manifest.schema)?;
    let table = manifest::publish(output, outcome.manifest).await?;
    Ok(result(&table, schema, outcome.verdict, outcome.objects))
}

fn result(
    table: &Published<TableManifest>,
    schema: Digest,
    verdict: Verdict,
    objects: u64,
) -> ResultDocument {
    let (rows, rejected) = (table.manifest.rows, verdict.rejected);
    let bytes: u64 = table.manifest.parts.iter().map(|part| part.bytes).sum();
    ResultDocument {
        digest: Some(table.digest.clone()),
        schema_digest: Some(schema),
        summary: Some(format!("{}, {} rejected", text::count(rows, "row"), text::thousands(rejected))),
        metrics: vec![
            Metric::new("rows", rows as f64),
            Metric::new("rejected", rejected as f64),
            Metric::new("bytes", bytes as f64),
            Metric::new("objects", objects as f64),
        ],
        ..ResultDocument::default()
    }
}

/// All that the blocking part needs.
struct Pipeline {
    source: ObjectStoreHandle,
    output: ObjectStoreHandle,
    listing: Listing,
    work: VersionWork,
    runtime: Handle,
}

/// What the blocking part leaves to be published.
struct Outcome {
    manifest: TableManifest,
    verdict: Verdict,
    objects: u64,
}

impl Pipeline {
    fn process(self) -> Result<Outcome, Failure> {
        let rules = self.work.columns.iter().map(Rule::new).collect::<Result<Vec<_>, _>>()?;
        let scratch = tempfile::tempdir().map_err(|error| {
            Failure::transient(Reason::WorkerFailed, format!("no scratch folder: {error}"))
        })?;
        let quarantine = Quarantine::new(&self.work.quarantine, scratch.path())?;
        let table = table::Writer::new(&rules, scratch.path(), self.output.clone(), self.runtime.clone())?;
        let mut rows = Rows::new(rules, &self.work.unique, quarantine, table);
        for object in &self.listing.objects {
            tracing::info!(key = object.key, bytes = object.size, "reading");
            let body = source::open(&self.source, object, &self.runtime)?;
            let mut reader = self.reader(&object.key, body)?;
            while let Some(row) = reader.next()? {
                rows.add(&object.key, &row)?;
            }
        }
        let (manifest, quarantine) = rows.finish()?;
        let verdict = quarantine.close(&self.work.columns, |path| {
            let listing = self.work.listing.hex();
            let place = |sha256: &Digest| format!("rejects/{listing}/{}.jsonl.gz", sha256.hex());
            let (key, _) = self.runtime.block_on(self.output.upload(path, place))?;
            Ok(self.output.store().uri(&key))
        })?;
        Ok(Outcome { manifest, verdict, objects: self.listing.objects.len() as u64 })
    }

    fn reader(&self, key: &str, body: source::Body) -> Result<impl Reader + use<>, Failure> {
        let Format { csv: Some(format) } = &self.work.format else {
            return Err(Failure::terminal(
                Reason::InvalidSpec,
                "source.format names no format that this worker knows",
            ));
        };
        CsvReader::new(key, body, format, &self.work.columns)
    }
}

/// A type's name in specs, manifests and messages.
const fn type_name(kind: ColumnType) -> &'static str {
    match kind {
        ColumnType::String => "string",
        ColumnType::Int64 => "int64",
        ColumnType::Float64 => "float64",
        ColumnType::Bool => "bool",
        ColumnType::Timestamp => "timestamp",
        ColumnType::Date => "date",
    }
}

#[cfg(test)]
mod tests;
