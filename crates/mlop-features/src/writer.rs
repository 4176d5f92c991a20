//! Writes a table: Parquet parts and the manifest over them.
//!
//! The same rows give the same bytes: the sizes of parts, row groups and batches are fixed, in whichever pieces the rows
//! come in, and a file says nothing about when and by which version it was written.

use crate::{stats::Statistics, types};
use arrow::{
    array::RecordBatch,
    compute::BatchCoalescer,
    datatypes::{Field, Schema, SchemaRef},
};
use futures::{Stream, StreamExt};
use mlop_api::{Reason, result::Failure};
use mlop_artifact::{
    manifest::{ColumnSchema, Part, TableManifest},
    store::ObjectStoreHandle,
    table,
};
use parquet::{
    arrow::{ArrowWriter, arrow_writer::ArrowWriterOptions},
    basic::{Compression, ZstdLevel},
    errors::ParquetError,
    file::properties::WriterProperties,
};
use std::{
    fs::File,
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
};

/// Rows that are handed to the Parquet writer at a time.
const BATCH_ROWS: usize = 8_192;
/// Rows of a row group: what a reader holds in memory at least.
const GROUP_ROWS: usize = 8 * BATCH_ROWS;
/// Rows of a part: what the worker has on disk at most.
const PART_ROWS: usize = 16 * GROUP_ROWS;

/// Uploads `rows`, which have the `schema`, part by part through the directory `scratch`. A table without rows has one
/// part too, so that every table can be opened.
///
/// # Errors
/// Those of `rows`, of the disk and of the store.
pub async fn write(
    store: &ObjectStoreHandle,
    scratch: &Path,
    schema: &SchemaRef,
    rows: impl Stream<Item = Result<RecordBatch, Failure>>,
) -> Result<TableManifest, Failure> {
    let schema = nullable(schema);
    let mut statistics = Statistics::new(&schema);
    let mut pieces = BatchCoalescer::new(schema.clone(), BATCH_ROWS);
    let mut parts = Parts { store, path: scratch.join("part.parquet"), schema, open: None, written: vec![] };
    let mut rows = pin!(rows);
    loop {
        let batch = rows.next().await.transpose()?;
        let ended = batch.is_none();
        match batch {
            Some(batch) => {
                let batch = RecordBatch::try_new(parts.schema.clone(), batch.columns().to_vec());
                pieces.push_batch(batch.map_err(|e| failed(e.into()))?).map_err(|e| failed(e.into()))?;
            }
            None => pieces.finish_buffered_batch().map_err(|e| failed(e.into()))?,
        }
        while let Some(piece) = pieces.next_completed_batch() {
            statistics.add(&piece)?;
            parts.write(&piece).await?;
        }
        if ended {
            break;
        }
    }
    let columns = parts.schema.fields().iter().map(|field| column(field)).collect();
    Ok(table::manifest(columns, parts.finish().await?, statistics.finish()))
}

/// Whether a column may hold nulls is the engine's guess, which changes with its releases: here each may.
fn nullable(schema: &Schema) -> SchemaRef {
    let field = |field: &Arc<Field>| Field::new(field.name(), field.data_type().clone(), true);
    Arc::new(Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>()))
}

fn column(field: &Field) -> ColumnSchema {
    ColumnSchema { name: field.name().clone(), kind: types::name(field.data_type()), nullable: true }
}

fn failed(error: ParquetError) -> Failure {
    Failure::transient(Reason::WorkerFailed, format!("writing the table: {error}"))
}

/// The parts of one table, of which one at a time is on disk.
struct Parts<'a> {
    store: &'a ObjectStoreHandle,
    path: PathBuf,
    schema: SchemaRef,
    open: Option<(ArrowWriter<File>, usize)>,
    written: Vec<Part>,
}

impl Parts<'_> {
    async fn write(&mut self, piece: &RecordBatch) -> Result<(), Failure> {
        let (mut writer, mut rows) = match self.open.take() {
            Some(open) => open,
            None => (self.create()?, 0),
        };
        writer.write(piece).map_err(failed)?;
        rows += piece.num_rows();
        if rows < PART_ROWS {
            self.open = Some((writer, rows));
            return Ok(());
        }
        self.upload(writer, rows).await
    }

    async fn finish(mut self) -> Result<Vec<Part>, Failure> {
        match self.open.take() {
            Some((writer, rows)) => self.upload(writer, rows).await?,
            None if self.written.is_empty() => {
                let writer = self.create()?;
                self.upload(writer, 0).await?;
            }
            None => {}
        }
        Ok(self.written)
    }

    fn create(&self) -> Result<ArrowWriter<File>, Failure> {
        let file = File::create(&self.path).map_err(|error| failed(error.into()))?;
        let properties = WriterProperties::builder()
            .set_created_by("mlop".to_owned())
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(3).map_err(failed)?))
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .build();
        let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
        ArrowWriter::try_new_with_options(file, self.schema.clone(), options).map_err(failed)
    }

    async fn upload(&mut self, writer: ArrowWriter<File>, rows: usize) -> Result<(), Failure> {
        writer.close().map_err(failed)?;
        self.written.push(table::put_part(self.store, &self.path, rows as u64).await?);
        Ok(())
    }
}
