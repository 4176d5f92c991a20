//! Parquet parts of about equal size, written and uploaded while rows arrive.
//!
//! The bytes depend on the rows only: row groups end at a fixed number of rows or bytes, parts at a fixed size, and
//! the files hold no time and no version of mlop.

use super::{
    column::Rule,
    reader::Cells,
    value::{Value, type_name},
};
use arrow::{
    array::{
        ArrayRef, BooleanBuilder, Date32Builder, Decimal128Builder, Float64Builder, Int64Builder,
        RecordBatch, StringBuilder, TimestampMicrosecondBuilder,
    },
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
};
use mlop_api::{Reason, dataset::ColumnType, result::Failure};
use mlop_artifact::{
    manifest::{ColumnSchema, Part},
    store::ObjectStoreHandle,
    table::put_part,
};
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    errors::ParquetError,
    file::properties::WriterProperties,
};
use std::{
    fmt::Display,
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::runtime::Handle;

/// Rows that are handed to the encoder at once.
const BATCH_ROWS: u64 = 8_192;
/// Rows of a row group.
const GROUP_ROWS: u64 = 131_072;
/// Bytes of text after which a batch or a row group ends early, so that wide rows need no more memory.
const BATCH_TEXT_BYTES: u64 = 8 << 20;
const GROUP_TEXT_BYTES: u64 = 64 << 20;
/// Size at which a part ends, after its row group.
const PART_BYTES: u64 = 128 << 20;
/// Zstandard's default.
const ZSTD_LEVEL: i32 = 3;

/// Writes a table.
pub struct Writer {
    schema: SchemaRef,
    columns: Vec<Builder>,
    /// Extent of the builders' content.
    batch: Extent,
    /// Extent of the row group, the builders' content included.
    group: Extent,
    /// Size at which a part ends.
    part_bytes: u64,
    part: Option<OpenPart>,
    done: Vec<Part>,
    scratch: PathBuf,
    output: ObjectStoreHandle,
    runtime: Handle,
}

struct OpenPart {
    path: PathBuf,
    writer: ArrowWriter<File>,
    rows: u64,
}

#[derive(Clone, Copy, Default)]
struct Extent {
    rows: u64,
    text_bytes: u64,
}

impl Extent {
    fn add(&mut self, text_bytes: u64) {
        self.rows += 1;
        self.text_bytes += text_bytes;
    }
}

impl Writer {
    /// A writer of parts that pass through `scratch` into `output`.
    ///
    /// # Errors
    /// None that the caller could cause.
    pub fn new(
        rules: &[Rule],
        scratch: &Path,
        output: ObjectStoreHandle,
        runtime: Handle,
    ) -> Result<Self, Failure> {
        let fields = rules.iter().map(|rule| Field::new(&rule.name, data_type(rule), rule.nullable));
        Ok(Self {
            schema: Arc::new(Schema::new(fields.collect::<Vec<_>>())),
            columns: rules.iter().map(Builder::new).collect(),
            batch: Extent::default(),
            group: Extent::default(),
            part_bytes: PART_BYTES,
            part: None,
            done: Vec::new(),
            scratch: scratch.to_owned(),
            output,
            runtime,
        })
    }

    /// Appends a row.
    ///
    /// # Errors
    /// As the scratch disk and the store say.
    pub fn add(&mut self, values: &[Option<Value>], cells: &Cells<'_>) -> Result<(), Failure> {
        let mut text_bytes = 0;
        for (number, (column, value)) in self.columns.iter_mut().zip(values).enumerate() {
            let text = matches!(value, Some(Value::Text)).then(|| cells.text(number)).flatten();
            text_bytes += text.map_or(0, |text| text.len() as u64);
            column.add(*value, text);
        }
        self.batch.add(text_bytes);
        self.group.add(text_bytes);
        let group_is_full = self.group.rows >= GROUP_ROWS || self.group.text_bytes >= GROUP_TEXT_BYTES;
        if group_is_full || self.batch.rows >= BATCH_ROWS || self.batch.text_bytes >= BATCH_TEXT_BYTES {
            self.end_batch()?;
        }
        if group_is_full { self.end_group() } else { Ok(()) }
    }

    /// Ends the last part; a table without rows has one part that shows its columns.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn finish(mut self) -> Result<Vec<Part>, Failure> {
        if self.batch.rows > 0 || self.done.is_empty() && self.part.is_none() {
            self.end_batch()?;
        }
        self.end_part()?;
        Ok(self.done)
    }

    fn end_batch(&mut self) -> Result<(), Failure> {
        let columns = self.columns.iter_mut().map(Builder::finish).collect();
        let batch = RecordBatch::try_new(self.schema.clone(), columns).map_err(|error| unwritable(&error))?;
        let rows = std::mem::take(&mut self.batch).rows;
        let part = match &mut self.part {
            Some(part) => part,
            none => none.insert(OpenPart::new(&self.scratch, self.done.len(), &self.schema)?),
        };
        part.rows += rows;
        part.writer.write(&batch).map_err(|error| unwritable(&error))
    }

    fn end_group(&mut self) -> Result<(), Failure> {
        self.group = Extent::default();
        let Some(part) = &mut self.part else { return Ok(()) };
        part.writer.flush().map_err(|error| unwritable(&error))?;
        if part.writer.bytes_written() as u64 >= self.part_bytes { self.end_part() } else { Ok(()) }
    }

    fn end_part(&mut self) -> Result<(), Failure> {
        let Some(OpenPart { path, writer, rows }) = self.part.take() else { return Ok(()) };
        writer.close().map_err(|error| unwritable(&error))?;
        let part = self.runtime.block_on(put_part(&self.output, &path, rows))?;
        tracing::info!(part = part.path, bytes = part.bytes, rows, "part uploaded");
        self.done.push(part);
        std::fs::remove_file(&path).map_err(|error| unwritable(&error))
    }
}

impl OpenPart {
    fn new(scratch: &Path, number: usize, schema: &SchemaRef) -> Result<Self, Failure> {
        let path = scratch.join(format!("{number}.parquet"));
        let file = File::create(&path).map_err(|error| unwritable(&error))?;
        let properties = properties().map_err(|error| unwritable(&error))?;
        let writer = ArrowWriter::try_new(file, schema.clone(), Some(properties));
        Ok(Self { path, writer: writer.map_err(|error| unwritable(&error))?, rows: 0 })
    }
}

fn properties() -> Result<WriterProperties, ParquetError> {
    Ok(WriterProperties::builder()
        .set_created_by("mlop".to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
        // Row groups are ended here, by rows and by bytes.
        .set_max_row_group_row_count(None)
        .build())
}

fn unwritable(error: &dyn Display) -> Failure {
    Failure::transient(Reason::WorkerFailed, format!("writing Parquet to the scratch disk: {error}"))
}

fn data_type(rule: &Rule) -> DataType {
    match rule.kind {
        ColumnType::String => DataType::Utf8,
        ColumnType::Int64 => DataType::Int64,
        ColumnType::Float64 => DataType::Float64,
        ColumnType::Decimal => DataType::Decimal128(rule.digits.precision, rule.digits.scale.cast_signed()),
        ColumnType::Bool => DataType::Boolean,
        ColumnType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        ColumnType::Date => DataType::Date32,
    }
}

/// The columns as the manifest has them.
pub fn schema(rules: &[Rule]) -> Vec<ColumnSchema> {
    let column = |rule: &Rule| ColumnSchema {
        name: rule.name.clone(),
        kind: match rule.kind {
            ColumnType::Decimal => format!("decimal({},{})", rule.digits.precision, rule.digits.scale),
            kind => type_name(kind).to_owned(),
        },
        nullable: rule.nullable,
    };
    rules.iter().map(column).collect()
}

/// Collects the values of a column.
enum Builder {
    Text(StringBuilder),
    Int(Int64Builder),
    Float(Float64Builder),
    Decimal(Decimal128Builder),
    Bool(BooleanBuilder),
    Timestamp(TimestampMicrosecondBuilder),
    Date(Date32Builder),
}

impl Builder {
    fn new(rule: &Rule) -> Self {
        match rule.kind {
            ColumnType::String => Self::Text(StringBuilder::new()),
            ColumnType::Int64 => Self::Int(Int64Builder::new()),
            ColumnType::Float64 => Self::Float(Float64Builder::new()),
            ColumnType::Decimal => Self::Decimal(Decimal128Builder::new().with_data_type(data_type(rule))),
            ColumnType::Bool => Self::Bool(BooleanBuilder::new()),
            ColumnType::Timestamp => {
                Self::Timestamp(TimestampMicrosecondBuilder::new().with_data_type(data_type(rule)))
            }
            ColumnType::Date => Self::Date(Date32Builder::new()),
        }
    }

    /// Appends a value of the column's type, which its rule has checked.
    fn add(&mut self, value: Option<Value>, text: Option<&str>) {
        match (self, value) {
            (Self::Text(builder), _) => builder.append_option(text),
            (Self::Int(builder), Some(Value::Int(value))) => builder.append_value(value),
            (Self::Int(builder), _) => builder.append_null(),
            (Self::Float(builder), Some(Value::Float(value))) => builder.append_value(value),
            (Self::Float(builder), _) => builder.append_null(),
            (Self::Decimal(builder), Some(Value::Decimal(value))) => builder.append_value(value.units),
            (Self::Decimal(builder), _) => builder.append_null(),
            (Self::Bool(builder), Some(Value::Bool(value))) => builder.append_value(value),
            (Self::Bool(builder), _) => builder.append_null(),
            (Self::Timestamp(builder), Some(Value::Timestamp(value))) => builder.append_value(value),
            (Self::Timestamp(builder), _) => builder.append_null(),
            (Self::Date(builder), Some(Value::Date(value))) => builder.append_value(value),
            (Self::Date(builder), _) => builder.append_null(),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Text(builder) => Arc::new(builder.finish()),
            Self::Int(builder) => Arc::new(builder.finish()),
            Self::Float(builder) => Arc::new(builder.finish()),
            Self::Decimal(builder) => Arc::new(builder.finish()),
            Self::Bool(builder) => Arc::new(builder.finish()),
            Self::Timestamp(builder) => Arc::new(builder.finish()),
            Self::Date(builder) => Arc::new(builder.finish()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::numbers::Numbers;
    use mlop_api::dataset::Column;
    use parquet::file::reader::{FileReader, SerializedFileReader};

    /// Writes `rows` numbers in parts that end after `part_bytes`; returns rows of each row group of each part.
    async fn groups(rows: u64, part_bytes: u64) -> Vec<Vec<i64>> {
        let output = ObjectStoreHandle::in_memory("data");
        let column: Column = serde_json::from_str(r#"{"name": "n", "type": "int64"}"#).unwrap();
        let (store, runtime) = (output.clone(), Handle::current());
        let write = move || {
            let scratch = tempfile::tempdir().unwrap();
            let rules = [Rule::new(&column, &[], Numbers::default()).unwrap()];
            let mut writer = Writer::new(&rules, scratch.path(), store, runtime).unwrap();
            writer.part_bytes = part_bytes;
            for row in 0..rows {
                writer.add(&[Some(Value::Int(row as i64))], &Cells::new("", &[])).unwrap();
            }
            let parts = writer.finish().unwrap();
            assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0, "parts leave the scratch disk");
            parts
        };
        let parts = tokio::task::spawn_blocking(write).await.unwrap();
        assert_eq!(parts.iter().map(|part| part.rows).sum::<u64>(), rows);
        let mut groups = Vec::new();
        for part in parts {
            let file = SerializedFileReader::new(output.get(&part.path, 1 << 30).await.unwrap()).unwrap();
            groups.push(file.metadata().row_groups().iter().map(|group| group.num_rows()).collect());
        }
        groups
    }

    #[tokio::test]
    async fn row_groups_and_parts_end_at_fixed_sizes() {
        let group = GROUP_ROWS as i64;
        assert_eq!(groups(0, PART_BYTES).await, [vec![] as Vec<i64>]);
        assert_eq!(groups(GROUP_ROWS, PART_BYTES).await, [vec![group]]);
        assert_eq!(groups(2 * GROUP_ROWS + 1, PART_BYTES).await, [vec![group, group, 1]]);
        assert_eq!(groups(2 * GROUP_ROWS + 1, 1).await, [vec![group], vec![group], vec![1]]);
    }
}
