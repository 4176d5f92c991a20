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
/// Rows of a row group. A reader holds at least one in memory.
const GROUP_ROWS: usize = 8 * BATCH_ROWS;
/// When row groups and parts end before they have all their rows: wide rows must not fill memory or disk.
#[derive(Clone, Copy)]
struct Limits {
    /// Encoded bytes of a row group, which the writer holds in memory.
    group_bytes: usize,
    /// Bytes of a part, which the worker has on disk.
    part_bytes: usize,
}

const LIMITS: Limits = Limits { group_bytes: 64 << 20, part_bytes: 1 << 30 };
/// Rows of a part. The worker has at most one on disk.
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
    write_within(LIMITS, store, scratch, schema, rows).await
}

async fn write_within(
    limits: Limits,
    store: &ObjectStoreHandle,
    scratch: &Path,
    schema: &SchemaRef,
    rows: impl Stream<Item = Result<RecordBatch, Failure>>,
) -> Result<TableManifest, Failure> {
    let schema = nullable(schema);
    let mut statistics = Statistics::new(&schema);
    let mut pieces = BatchCoalescer::new(schema.clone(), BATCH_ROWS);
    let path = scratch.join("part.parquet");
    let mut parts = Parts { limits, store, path, schema, open: None, written: vec![] };
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
    limits: Limits,
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
        // The sizes of pieces are fixed, so this is the same each time.
        if writer.in_progress_size() >= self.limits.group_bytes {
            writer.flush().map_err(failed)?;
        }
        rows += piece.num_rows();
        if rows < PART_ROWS && writer.bytes_written() < self.limits.part_bytes {
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

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int64Array};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    /// Numbers that do not compress, in batches of this size.
    fn numbers(batch: usize) -> Vec<Result<RecordBatch, Failure>> {
        let all: Vec<_> = (0..3 * BATCH_ROWS as i64).map(|n| n.wrapping_mul(0x5851_f42d_4c95_7f2d)).collect();
        let batches = all.chunks(batch).map(|some| {
            let column: ArrayRef = Arc::new(Int64Array::from(some.to_vec()));
            Ok(RecordBatch::try_from_iter([("n", column)]).unwrap())
        });
        batches.collect()
    }

    /// The rows of each part, and the row groups of the last.
    async fn written(limits: Limits, batch: usize) -> (Vec<u64>, usize, TableManifest) {
        let store = ObjectStoreHandle::in_memory("files");
        let scratch = std::env::temp_dir().join(format!("mlop-writer-{}-{batch}", std::process::id()));
        std::fs::create_dir_all(&scratch).unwrap();
        let schema = numbers(batch)[0].as_ref().unwrap().schema();
        let rows = futures::stream::iter(numbers(batch));
        let table = write_within(limits, &store, &scratch, &schema, rows).await.unwrap();
        let file = File::open(scratch.join("part.parquet")).unwrap();
        let groups = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().metadata().num_row_groups();
        std::fs::remove_dir_all(scratch).unwrap();
        (table.parts.iter().map(|part| part.rows).collect(), groups, table)
    }

    #[tokio::test]
    async fn groups_and_parts_end_when_their_bytes_are_full() {
        let rows = BATCH_ROWS as u64;
        let wide = Limits { group_bytes: 1, part_bytes: usize::MAX };
        assert_eq!(written(LIMITS, 1_000).await.1, 1);
        assert_eq!(written(wide, 1_001).await.1, 3);
        let large = Limits { group_bytes: 1, part_bytes: 1 };
        let (parts, _, table) = written(large, 1_002).await;
        assert_eq!(parts, [rows, rows, rows]);
        assert_eq!(written(large, 7).await.2, table, "whichever pieces the rows come in");
    }
}
