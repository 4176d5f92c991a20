//! Formats besides CSV, and columns from the keys of objects.

use super::*;
use ::parquet::{arrow::ArrowWriter, basic::Compression as Codec, file::properties::WriterProperties};
use arrow::{
    array::{
        ArrayRef, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Float64Array, Int32Array,
        Int64Array, NullArray, RecordBatch, StringArray, TimestampMicrosecondArray, TimestampNanosecondArray,
        UInt64Array,
    },
    datatypes::Int32Type,
};
use mlop_api::dataset::{Ndjson, Parquet};
use std::sync::Arc;

fn parquet(columns: Vec<(&str, ArrayRef)>, codec: Codec) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let properties = WriterProperties::builder().set_compression(codec).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

async fn parquet_world(object: &[u8], columns: Vec<Column>) -> World {
    let mut world = world(&[("x.parquet", object)], columns).await;
    world.work.content.format =
        Format { csv: None, ndjson: None, parquet: Some(Parquet { null_tokens: vec![String::new()] }) };
    world
}

async fn ndjson_world(object: &[u8], columns: Vec<Column>) -> World {
    let mut world = world(&[("x.json", object)], columns).await;
    world.work.content.format =
        Format { csv: None, ndjson: Some(Ndjson { null_tokens: vec![String::new()] }), parquet: None };
    world
}

#[tokio::test]
async fn typed_columns_of_parquet_are_read() {
    let dictionary: DictionaryArray<Int32Type> = ["Oslo", "Bergen", "Oslo"].into_iter().collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("Unit Price", Arc::new(Float64Array::from(vec![Some(0.1), None, Some(2.5)]))),
        ("id", Arc::new(Int32Array::from(vec![1, 2, 3]))),
        ("big", Arc::new(UInt64Array::from(vec![1, 2, i64::MAX as u64]))),
        ("city", Arc::new(dictionary)),
        ("ok", Arc::new(BooleanArray::from(vec![true, false, true]))),
        ("day", Arc::new(Date32Array::from(vec![0, -1, 2_932_896]))),
        ("at", Arc::new(TimestampNanosecondArray::from(vec![0, -1, 1_500]))),
        (
            "until",
            Arc::new(TimestampMicrosecondArray::from(vec![253_402_214_400_000_000; 3]).with_timezone("UTC")),
        ),
        ("sum", Arc::new(Decimal128Array::from(vec![125, 250, -1]).with_precision_and_scale(10, 2).unwrap())),
        ("unread", Arc::new(StringArray::from(vec!["a", "b", "c"]))),
    ];
    let mut price = nullable("price", ColumnType::Float64);
    price.header = Some("Unit Price".into());
    let columns_of_spec = vec![
        column("id", ColumnType::Int64),
        price,
        column("big", ColumnType::Int64),
        column("city", ColumnType::String),
        column("ok", ColumnType::Bool),
        column("day", ColumnType::Date),
        column("at", ColumnType::Timestamp),
        column("until", ColumnType::Timestamp),
        column("sum", ColumnType::Float64),
    ];
    for codec in [
        Codec::UNCOMPRESSED,
        Codec::SNAPPY,
        Codec::LZ4_RAW,
        Codec::GZIP(Default::default()),
        Codec::ZSTD(Default::default()),
    ] {
        let world = parquet_world(&parquet(columns.clone(), codec), columns_of_spec.clone()).await;
        let expected = [
            "1|0.1|1|Oslo|true|1970-01-01|1970-01-01T00:00:00Z|9999-12-31T00:00:00Z|1.25",
            "2||2|Bergen|false|1969-12-31|1969-12-31T23:59:59.999999Z|9999-12-31T00:00:00Z|2.5",
            "3|2.5|9223372036854775807|Oslo|true|9999-12-31|1970-01-01T00:00:00.000001Z|9999-12-31T00:00:00Z|-0.01",
        ];
        assert_eq!(world.table().await.1, expected);
    }
}

#[tokio::test]
async fn values_of_parquet_are_checked_like_others() {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("a", Arc::new(Int64Array::from(vec![1, 2, 3, 4]))),
        ("b", Arc::new(Float64Array::from(vec![1.0, f64::NAN, 2.5, 3.0]))),
    ];
    let mut whole = column("b", ColumnType::Int64);
    whole.zero_fraction = true;
    let mut first = column("a", ColumnType::Int64);
    first.max = Some("3".into());
    let mut world = parquet_world(&parquet(columns, Codec::SNAPPY), vec![first, whole]).await;
    world.work.content.quarantine.max_ratio = "1".into();
    assert_eq!(world.table().await.1, ["1|1"]);
    let rejects = world.rejects().await;
    let shown: Vec<_> = rejects.iter().map(|r| format!("{} {} {}", r["line"], r["rule"], r["raw"])).collect();
    assert!(shown[1].contains("3 \"type\"") && shown[1].contains("2.5"), "{shown:?}");
    assert!(shown[2].contains("4 \"max\""), "{shown:?}");
}

#[tokio::test]
async fn counts_and_empty_columns_of_parquet_are_read() {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("year", Arc::new(Int32Array::from(vec![2026, 1999]))),
        ("ms", Arc::new(Int64Array::from(vec![1_772_359_200_123, -1]))),
        ("seconds", Arc::new(Float64Array::from(vec![1_772_359_200.5, -0.5]))),
        // What pandas writes for a column without any value.
        ("none", Arc::new(NullArray::new(2))),
    ];
    let in_format =
        |name: &str, kind, format: &str| Column { formats: vec![format.into()], ..column(name, kind) };
    let mut columns_of_spec = vec![
        in_format("year", ColumnType::Date, "%Y"),
        in_format("ms", ColumnType::Timestamp, "epochMilliseconds"),
        in_format("seconds", ColumnType::Timestamp, "epochSeconds"),
        nullable("none", ColumnType::String),
    ];
    let mut world = parquet_world(&parquet(columns, Codec::SNAPPY), columns_of_spec.clone()).await;
    let expected = [
        "2026-01-01|2026-03-01T10:00:00.123Z|2026-03-01T10:00:00.5Z|",
        "1999-01-01|1969-12-31T23:59:59.999Z|1969-12-31T23:59:59.5Z|",
    ];
    assert_eq!(world.table().await.1, expected);
    // Without a format a number is no time.
    columns_of_spec[1].formats.clear();
    world.work.content.columns = columns_of_spec;
    world.fails(Reason::SchemaMismatch, &["column ms"]).await;
}

#[tokio::test]
async fn objects_that_are_not_the_parquet_of_the_spec_are_named() {
    let columns = vec![column("a", ColumnType::Int64)];
    parquet_world(b"a\n1\n", columns.clone())
        .await
        .fails(Reason::SchemaMismatch, &["x.parquet is not Parquet"])
        .await;
    parquet_world(b"\x1f\x8b\x08\0", columns.clone()).await.fails(Reason::SchemaMismatch, &["gzip"]).await;
    let whole = parquet(vec![("b", Arc::new(Int64Array::from(vec![1])))], Codec::SNAPPY);
    parquet_world(&whole[..whole.len() - 9], columns.clone())
        .await
        .fails(Reason::SchemaMismatch, &["not readable as Parquet"])
        .await;
    parquet_world(&whole, columns)
        .await
        .fails(Reason::SchemaMismatch, &["lacks the column \"a\"; it has \"b\""])
        .await;
}

#[tokio::test]
async fn rows_of_json_are_typed_and_exact() {
    let text =
        "{\"id\": 9007199254740993, \"city\": \"Tromsø\", \"v\": 0.1}\n{\"id\": 1, \"city\": \"NA\"}\n";
    let columns = vec![
        column("id", ColumnType::Int64),
        column("city", ColumnType::String),
        nullable("v", ColumnType::Float64),
    ];
    for object in [text.as_bytes().to_vec(), gzip(text)] {
        let world = ndjson_world(&object, columns.clone()).await;
        assert_eq!(world.table().await.1, ["9007199254740993|Tromsø|0.1", "1|NA|"]);
    }
    let mut world = ndjson_world(
        b"{\"id\":1,\"city\":2}\n{\"id\":1.5,\"city\":\"x\"}\nx\n{\"id\":1,\"city\":\"x\"}\n",
        columns,
    )
    .await;
    world.work.content.quarantine.max_ratio = "0.9".into();
    let summary = world.summary().await;
    assert!(summary.contains("1 row that are not one JSON object per line (x.json:3)"), "{summary}");
    assert!(summary.contains("city: 1 row against type string, for example \"2\""), "{summary}");
}

#[tokio::test]
async fn column_may_come_from_the_key() {
    let mut symbol = column("symbol", ColumnType::String);
    symbol.from_key = Some(r"stocks/([^/]+)\.csv$".into());
    let mut day = nullable("day", ColumnType::Date);
    day.from_key = Some("dt=([^/]+)/".into());
    let objects: &[(&str, &[u8])] =
        &[("dt=2026-01-01/stocks/AAPL.csv", b"v\n1\n2\n"), ("stocks/MSFT.csv", b"v\n3\n")];
    let mut world = world(objects, vec![symbol, column("v", ColumnType::Int64), day]).await;
    assert_eq!(world.table().await.1, ["AAPL|1|2026-01-01", "AAPL|2|2026-01-01", "MSFT|3|"]);
    world.work.content.unique = vec!["symbol".into(), "v".into()];
    assert_eq!(world.table().await.1.len(), 3);
    world.work.content.columns[0].from_key = Some("(a)(b)".into());
    world.fails(Reason::InvalidSpec, &["columns[symbol].fromKey", "2 groups"]).await;
}

#[test]
fn damaged_parquet_never_panics() {
    let text: Vec<String> = (0..40).map(|n| format!("city {}", n % 7)).collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("a", Arc::new(Int64Array::from((0..40).map(|n| (n % 5 > 0).then_some(n)).collect::<Vec<_>>()))),
        ("b", Arc::new(StringArray::from(text))),
    ];
    let columns_of_spec = [nullable("a", ColumnType::Int64), nullable("b", ColumnType::String)];
    let scratch = tempfile::tempdir().unwrap();
    for codec in [Codec::UNCOMPRESSED, Codec::SNAPPY] {
        let whole = parquet(columns.clone(), codec);
        for (at, mask) in (0..whole.len()).flat_map(|at| [(at, 0xff), (at, 0x80), (at, 0x01)]) {
            let mut damaged = whole.clone();
            damaged[at] ^= mask;
            let body = Box::new(std::io::Cursor::new(damaged));
            let Ok(mut reader) = ParquetReader::new("x.parquet", body, &columns_of_spec, scratch.path())
            else {
                continue;
            };
            let mut rows = 0;
            while let Ok(Some(_)) = reader.next() {
                rows += 1;
                assert!(rows <= 1_000, "at {at} {mask}");
            }
        }
    }
}
