//! Apache Parquet: typed values, which are never altered on their way into a column.

use super::{
    civil, content,
    reader::{Cell, Cells, Reader, Row},
    source::{self, Body},
    value::Value,
};
use crate::text;
use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::{
        DataType, Date32Type, Field, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
        Schema, SchemaRef, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
        TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
    },
    util::display::array_value_to_string,
};
use mlop_api::{Reason, dataset::Column, result::Failure};
use parquet::{
    arrow::{
        ProjectionMask,
        arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder},
    },
    basic::Type,
};
use std::{
    fmt::Display,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
};

/// Rows that are decoded at once.
const BATCH_ROWS: usize = 1_024;
/// What every object begins with.
const MAGIC: &[u8] = b"PAR1";
/// Columns that fit into a message.
const NAMES_SHOWN: usize = 20;

/// Rows of one object.
pub struct ParquetReader {
    key: String,
    batches: ParquetRecordBatchReader,
    batch: Option<RecordBatch>,
    /// Row of the batch that is next, and number of the current row of the object.
    next: usize,
    number: u64,
    /// For each column of the spec its name in the object, unless it comes from the key.
    names: Vec<Option<String>>,
    /// For each column of the spec its place in a batch.
    places: Vec<Option<usize>>,
    text: String,
    cells: Vec<Cell>,
}

impl ParquetReader {
    /// Copies the object `key` to the disk at `scratch`, since its index is at its end.
    ///
    /// # Errors
    /// [`Reason::SchemaMismatch`] when the object lacks a column or is something else.
    pub fn new(key: &str, body: Body, columns: &[Column], scratch: &Path) -> Result<Self, Failure> {
        let file = copy(key, body, scratch)?;
        let names: Vec<_> = columns
            .iter()
            .map(|column| column.from_key.is_none().then(|| column.source_name().to_owned()))
            .collect();
        let unreadable = |error: String| {
            Failure::terminal(Reason::SchemaMismatch, format!("{key} is not readable as Parquet: {error}"))
        };
        let builder = guarded(|| builder(file)).map_err(unreadable)?;
        let mut roots = Vec::new();
        for name in names.iter().flatten() {
            roots.push(root(key, builder.schema(), name)?);
        }
        let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
        let batches = guarded(|| builder.with_projection(mask).with_batch_size(BATCH_ROWS).build());
        Ok(Self {
            key: key.to_owned(),
            batches: batches.map_err(unreadable)?,
            batch: None,
            next: 0,
            number: 0,
            names,
            places: Vec::new(),
            text: String::new(),
            cells: Vec::new(),
        })
    }

    /// Makes the next row the current one; false at the end.
    fn advance(&mut self) -> Result<bool, Failure> {
        while self.batch.as_ref().is_none_or(|batch| self.next >= batch.num_rows()) {
            let batch = guarded(|| self.batches.next().transpose()).map_err(|error| {
                let message = format!("{} is damaged behind row {}: {error}", self.key, self.number);
                Failure::terminal(Reason::SchemaMismatch, message)
            })?;
            let Some(batch) = batch else { return Ok(false) };
            let schema = batch.schema();
            let place = |name: &Option<String>| schema.index_of(name.as_ref()?).ok();
            self.places = self.names.iter().map(place).collect();
            self.batch = Some(batch);
            self.next = 0;
        }
        Ok(true)
    }
}

impl Reader for ParquetReader {
    fn next(&mut self) -> Result<Option<Row<'_>>, Failure> {
        if !self.advance()? {
            return Ok(None);
        }
        self.text.clear();
        self.cells.clear();
        for place in &self.places {
            let array = place.and_then(|place| self.batch.as_ref()?.columns().get(place));
            let cell = array.map_or(Cell::Missing, |array| cell(array.as_ref(), self.next, &mut self.text));
            self.cells.push(cell);
        }
        self.next += 1;
        self.number += 1;
        let cells = Ok(Cells::new(&self.text, &self.cells));
        Ok(Some(Row { line: self.number, lines: 1, cells, raw: None }))
    }
}

/// The outcome of `read`. At some damaged content the library panics, which is an error of the object like any other.
fn guarded<T, E: Display>(read: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(outcome) => outcome.map_err(|error| error.to_string()),
        Err(_) => Err("its parts contradict each other".to_owned()),
    }
}

/// The content of `body` as a file without a name.
fn copy(key: &str, mut body: Body, scratch: &Path) -> Result<File, Failure> {
    let mut start = Vec::new();
    let read = body.by_ref().take(content::START_BYTES as u64).read_to_end(&mut start);
    read.map_err(|error| source::failure(key, &error))?;
    if !start.starts_with(MAGIC) {
        let what = content::describe(&start).unwrap_or("not Parquet; leave it out with include");
        return Err(Failure::terminal(Reason::SchemaMismatch, format!("{key} is {what}")));
    }
    let local = |error: io::Error| {
        let message = format!("copying {key} to the scratch disk: {error}");
        Failure::transient(Reason::WorkerFailed, message)
    };
    let mut file = tempfile::tempfile_in(scratch).map_err(local)?;
    io::Write::write_all(&mut file, &start).map_err(local)?;
    loop {
        let chunk = body.fill_buf().map_err(|error| source::failure(key, &error))?;
        if chunk.is_empty() {
            break;
        }
        io::Write::write_all(&mut file, chunk).map_err(local)?;
        let read = chunk.len();
        body.consume(read);
    }
    file.seek(SeekFrom::Start(0)).map_err(local)?;
    Ok(file)
}

/// A builder that reads the types of Parquet, instead of those that Arrow's writers add: dictionaries and
/// views hold the same values.
fn builder(file: File) -> parquet::errors::Result<ParquetRecordBatchReaderBuilder<File>> {
    let again = file.try_clone()?;
    let options = || ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(file, options())?;
    let schema = builder.schema().clone();
    let is_int96 = |name: &str| {
        let mut leaves = builder.parquet_schema().columns().iter();
        leaves.any(|leaf| leaf.path().string() == name && leaf.physical_type() == Type::INT96)
    };
    if !schema.fields().iter().any(|field| is_int96(field.name())) {
        return Ok(builder);
    }
    // Nanoseconds, the default, end in the year 2262.
    let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
    let fields = schema.fields().iter().map(|field| match is_int96(field.name()) {
        true => Arc::new(Field::new(field.name(), micros.clone(), field.is_nullable())),
        false => Arc::clone(field),
    });
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    ParquetRecordBatchReaderBuilder::try_new_with_options(again, options().with_schema(schema))
}

/// The number of the field `name`, which must be there and not nested.
fn root(key: &str, schema: &SchemaRef, name: &str) -> Result<usize, Failure> {
    let mismatch = |what: String| Failure::terminal(Reason::SchemaMismatch, format!("{key} {what}"));
    let Ok(index) = schema.index_of(name) else {
        let names: Vec<_> = schema
            .fields()
            .iter()
            .take(NAMES_SHOWN)
            .map(|field| format!("{:?}", text::cut(field.name(), 64)))
            .collect();
        return Err(mismatch(format!("lacks the column {name:?}; it has {}", names.join(", "))));
    };
    let kind = schema.field(index).data_type();
    if kind.is_nested() {
        return Err(mismatch(format!("has the nested column {name:?} ({kind}), which no type reads")));
    }
    Ok(index)
}

/// The cell in `row` of `array`, with its text appended to `text`.
fn cell(array: &dyn Array, row: usize, text: &mut String) -> Cell {
    // A column without any value may have no type either, and then no list of its nulls.
    if array.is_null(row) || array.data_type() == &DataType::Null {
        return Cell::Missing;
    }
    let timestamp = |micros: Option<i64>| micros.and_then(civil::in_range).map(Value::Timestamp);
    let value = match array.data_type() {
        DataType::Int64 => Some(Value::Int(array.as_primitive::<Int64Type>().value(row))),
        DataType::Int32 => Some(Value::Int(array.as_primitive::<Int32Type>().value(row).into())),
        DataType::Int16 => Some(Value::Int(array.as_primitive::<Int16Type>().value(row).into())),
        DataType::Int8 => Some(Value::Int(array.as_primitive::<Int8Type>().value(row).into())),
        DataType::UInt32 => Some(Value::Int(array.as_primitive::<UInt32Type>().value(row).into())),
        DataType::UInt16 => Some(Value::Int(array.as_primitive::<UInt16Type>().value(row).into())),
        DataType::UInt8 => Some(Value::Int(array.as_primitive::<UInt8Type>().value(row).into())),
        DataType::UInt64 => i64::try_from(array.as_primitive::<UInt64Type>().value(row)).ok().map(Value::Int),
        DataType::Float64 => Some(Value::Float(array.as_primitive::<Float64Type>().value(row))),
        DataType::Float32 => Some(Value::Float(array.as_primitive::<Float32Type>().value(row).into())),
        DataType::Boolean => Some(Value::Bool(array.as_boolean().value(row))),
        DataType::Date32 => {
            let days = array.as_primitive::<Date32Type>().value(row);
            civil::micros(days, 0).map(|_| Value::Date(days))
        }
        DataType::Timestamp(unit, _) => timestamp(match unit {
            TimeUnit::Second => array.as_primitive::<TimestampSecondType>().value(row).checked_mul(1_000_000),
            TimeUnit::Millisecond => {
                array.as_primitive::<TimestampMillisecondType>().value(row).checked_mul(1_000)
            }
            TimeUnit::Microsecond => Some(array.as_primitive::<TimestampMicrosecondType>().value(row)),
            TimeUnit::Nanosecond => {
                Some(array.as_primitive::<TimestampNanosecondType>().value(row).div_euclid(1_000))
            }
        }),
        _ => None,
    };
    if let Some(value) = value {
        return Cell::Value(value);
    }
    let start = text.len();
    match array.data_type() {
        DataType::Utf8 => text.push_str(array.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => text.push_str(array.as_string::<i64>().value(row)),
        DataType::Utf8View => text.push_str(array.as_string_view().value(row)),
        // Some writers do not say that their bytes are text.
        DataType::Binary => match std::str::from_utf8(array.as_binary::<i32>().value(row)) {
            Ok(bytes) => text.push_str(bytes),
            Err(_) => return Cell::Foreign(start..start),
        },
        kind => {
            text.push_str(&array_value_to_string(array, row).unwrap_or_default());
            let range = start..text.len();
            let is_decimal = matches!(kind, DataType::Decimal128(..) | DataType::Decimal256(..));
            return if is_decimal { Cell::Number(range) } else { Cell::Foreign(range) };
        }
    }
    Cell::Text { range: start..text.len(), is_quoted: true }
}
