//! Versions end to end over stores in memory.

mod cases;
mod dialects;
mod formats;
mod odd;

use super::*;
use crate::scan;
use ::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use arrow::{
    array::{Array, AsArray},
    datatypes::{DataType, TimestampMicrosecondType},
    util::display::array_value_to_string,
};
use flate2::{Compression, read::MultiGzDecoder, write::GzEncoder};
use futures::TryStreamExt;
use mlop_api::{
    dataset::{Column, ColumnType, Csv, DatasetContent, Freshness, Quarantine as Budget, Rules},
    task::ScanWork,
};
use mlop_artifact::store::Outage;
use proptest::prelude::*;
use std::{
    io::{Read, Write},
    time::Duration,
};
use tokio::time::timeout;

/// The time of all tests.
fn now() -> Timestamp {
    "2026-03-01T10:00:00Z".parse().unwrap()
}

struct World {
    source: ObjectStoreHandle,
    output: ObjectStoreHandle,
    work: VersionWork,
}

fn column(name: &str, kind: ColumnType) -> Column {
    Column::new(name, kind)
}

fn nullable(name: &str, kind: ColumnType) -> Column {
    Column { nullable: true, ..column(name, kind) }
}

async fn world(objects: &[(&str, &[u8])], columns: Vec<Column>) -> World {
    let (source, output) = (ObjectStoreHandle::in_memory("raw"), ObjectStoreHandle::in_memory("data"));
    for (key, content) in objects {
        source.create(key, content.to_vec()).await.unwrap();
    }
    let scan_work = ScanWork {
        source: source.store().clone(),
        prefix: String::new(),
        include: Vec::new(),
        output: output.store().clone(),
    };
    let listing = scan::scan(&source, &output, &scan_work).await.unwrap().digest.unwrap();
    let csv = Csv { null_tokens: vec!["NA".into(), String::new()], ..Csv::default() };
    let work = VersionWork {
        source: source.store().clone(),
        listing,
        content: DatasetContent {
            format: Format { csv: Some(csv), ndjson: None, parquet: None },
            columns,
            unique: Vec::new(),
            quarantine: Budget { max_ratio: "0".into() },
            rules: Rules::default(),
        },
        previous_rows: None,
        output: output.store().clone(),
    };
    World { source, output, work }
}

impl World {
    fn csv(&mut self) -> &mut Csv {
        self.work.content.format.csv.get_or_insert_default()
    }

    /// The summary and the notes.
    async fn summary(&self) -> String {
        let result = self.version().await.unwrap();
        let told: Vec<_> = result.summary.into_iter().chain(result.notes).collect();
        told.join("; ")
    }

    async fn version(&self) -> Result<ResultDocument, Failure> {
        version(&self.source, &self.output, self.work.clone(), now()).await
    }

    async fn fails(&self, reason: Reason, what: &[&str]) {
        let failure = self.version().await.unwrap_err();
        assert_eq!(failure.reason, reason, "{}", failure.message);
        assert!(failure.message.len() <= 1_024);
        for what in what {
            assert!(failure.message.contains(what), "{what:?} is not in {:?}", failure.message);
        }
    }

    /// The manifest and all rows, cells joined by `|`.
    async fn table(&self) -> (TableManifest, Vec<String>) {
        let digest = self.version().await.unwrap().digest.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let manifest = mlop_artifact::table::download(&self.output, &digest, directory.path()).await.unwrap();
        let mut rows = Vec::new();
        for part in 0..manifest.parts.len() {
            let file = std::fs::File::open(mlop_artifact::table::part_file(directory.path(), part)).unwrap();
            for batch in ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap() {
                let batch = batch.unwrap();
                for row in 0..batch.num_rows() {
                    let cell = |column: &std::sync::Arc<dyn Array>| match column.data_type() {
                        _ if column.is_null(row) => String::new(),
                        DataType::Timestamp(..) => civil::display_timestamp(
                            column.as_primitive::<TimestampMicrosecondType>().value(row),
                        ),
                        _ => array_value_to_string(column, row).unwrap(),
                    };
                    rows.push(batch.columns().iter().map(cell).collect::<Vec<_>>().join("|"));
                }
            }
        }
        (manifest, rows)
    }

    /// The lines of all files of rejected rows.
    async fn rejects(&self) -> Vec<serde_json::Value> {
        let mut lines = Vec::new();
        let mut files = self.output.list(&format!("rejects/{}/", self.work.listing.hex()));
        while let Some(file) = files.try_next().await.unwrap() {
            let content = self.output.get(&file.key, 1 << 20).await.unwrap();
            let mut text = String::new();
            MultiGzDecoder::new(&content[..]).read_to_string(&mut text).unwrap();
            lines.extend(text.lines().map(|line| serde_json::from_str(line).unwrap()));
        }
        lines
    }
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn rows_keep_their_order_over_objects_and_types() {
    let columns = vec![
        column("s", ColumnType::String),
        nullable("i", ColumnType::Int64),
        nullable("f", ColumnType::Float64),
        column("b", ColumnType::Bool),
        column("t", ColumnType::Date),
    ];
    let world = world(
        &[
            ("2.csv", b"t,s,i,f,b\n2013-01-02,z,3,0.5,1\n"),
            ("1.csv", b"s,i,f,b,t\ny,NA,,true,1970-01-01\nx,-1,2,0,2013-01-01\n"),
        ],
        columns,
    )
    .await;
    let (manifest, rows) = world.table().await;
    assert_eq!(rows, ["y|||true|1970-01-01", "x|-1|2.0|false|2013-01-01", "z|3|0.5|true|2013-01-02"]);
    let column = |name: &str| manifest.columns.iter().find(|column| column.name == name).unwrap().clone();
    assert_eq!((manifest.rows, manifest.parts.len()), (3, 1));
    assert_eq!((column("i").count, column("i").nulls, column("i").mean), (2, 1, Some("1.0".into())));
    assert_eq!((column("t").min, column("t").max), (Some("1970-01-01".into()), Some("2013-01-02".into())));
    assert_eq!(column("s").distinct_estimate, 3);
    let result = world.version().await.unwrap();
    assert_eq!(result.summary.as_deref(), Some("3 rows, 0 rejected"));
    let metric = |name: &str| result.metrics.iter().find(|metric| metric.name == name).unwrap().number();
    assert_eq!((metric("rows"), metric("rejected"), metric("objects")), (3.0, 0.0, 2.0));
    assert_eq!((metric("nulls.i"), result.metrics.len()), (1.0, 6));
    assert_eq!(result.schema_digest, Some(schema_digest(&manifest.schema).unwrap()));
}

#[tokio::test]
async fn same_listing_gives_the_same_digest() {
    let csv: String = (0..20_000).map(|i| format!("{i},{}\n", i * 7 % 100)).collect();
    let objects: &[(&str, &[u8])] = &[("a.csv", &[b"a,b\n", csv.as_bytes()].concat())];
    let columns = || vec![column("a", ColumnType::Int64), column("b", ColumnType::Float64)];
    let (one, other) = (world(objects, columns()).await, world(objects, columns()).await);
    let (one, other) = (one.version().await.unwrap(), other.version().await.unwrap());
    assert_eq!(one, other);
}

#[tokio::test]
async fn compressed_objects_are_read_with_all_members() {
    let members = [gzip("a\n1\n2"), gzip("3\n4\n")].concat();
    let world = world(&[("a.csv.gz", &members)], vec![column("a", ColumnType::Int64)]).await;
    assert_eq!(world.table().await.1, ["1", "23", "4"]);
}

#[tokio::test]
async fn truncated_gzip_is_refused() {
    let whole = gzip(&"a\n".repeat(10_000));
    let objects: &[(&str, &[u8])] = &[("a.csv.gz", &whole[..whole.len() - 9])];
    let world = world(objects, vec![column("a", ColumnType::String)]).await;
    world.fails(Reason::SchemaMismatch, &["a.csv.gz", "not whole gzip"]).await;
}

#[tokio::test]
async fn table_without_rows_has_its_columns() {
    let mut world = world(&[("a.csv", b"a\n")], vec![column("a", ColumnType::Int64)]).await;
    world.work.content.rules.min_rows = Some(0);
    let (manifest, rows) = world.table().await;
    assert_eq!((manifest.rows, manifest.parts.len(), rows.len()), (0, 1, 0));
}

#[tokio::test]
async fn rules_look_at_the_whole_version() {
    let columns = vec![column("a", ColumnType::Int64), column("at", ColumnType::Timestamp)];
    let mut world = world(&[("a.csv", b"a,at\n1,2026-02-27\n2,2026-02-28\n")], columns).await;
    world.work.previous_rows = Some(100);
    world.table().await;
    world.work.content.rules.max_row_change = Some("0.9".into());
    world.fails(Reason::RuleViolated, &["2 rows", "100", "0.980", "rules.maxRowChange 0.9"]).await;
    world.work.previous_rows = Some(3);
    let freshness =
        |hours| Freshness { column: "at".into(), max_age: mlop_api::duration::Span::hours(hours) };
    let newest = |result: &ResultDocument| {
        let newest = result.metrics.iter().find(|metric| metric.name == "newest");
        newest.map(|metric| metric.value.clone())
    };
    assert_eq!(newest(&world.version().await.unwrap()), None);
    world.work.content.rules.freshness = Some(freshness(34));
    // 2026-02-28T00:00:00Z.
    assert_eq!(newest(&world.version().await.unwrap()).as_deref(), Some("1772236800"));
    world.work.content.rules.freshness = Some(freshness(33));
    world.fails(Reason::RuleViolated, &["the newest at is 2026-02-28T00:00:00Z", "33h"]).await;
}

#[tokio::test]
async fn version_refuses_an_object_that_changed_after_the_scan() {
    let world =
        world(&[("a.csv", b"a\n1\n"), ("b.csv", b"a\n2\n")], vec![column("a", ColumnType::Int64)]).await;
    world.source.delete("b.csv").await.unwrap();
    assert!(world.version().await.unwrap_err().retryable, "gone");
    world.source.create("b.csv", "a\n3\n").await.unwrap();
    let failure = world.version().await.unwrap_err();
    assert_eq!((failure.reason, failure.retryable), (Reason::SourceChanged, false));
    assert!(failure.message.contains("b.csv"), "{}", failure.message);
}

#[tokio::test]
async fn missing_column_names_the_object_and_its_columns() {
    let objects: &[(&str, &[u8])] = &[("a.csv", b"a,b\n1,2\n"), ("b.csv", b"a,c\n1,2\n")];
    let world = world(objects, vec![column("a", ColumnType::Int64), column("b", ColumnType::Int64)]).await;
    world.fails(Reason::SchemaMismatch, &["b.csv", "lacks the column \"b\"", "has \"a\", \"c\""]).await;
}

#[tokio::test]
async fn column_of_another_type_is_a_schema_mismatch() {
    let csv = b"a,b\n1.5,1\nNA,2\nx,3\n";
    let columns = vec![nullable("a", ColumnType::Int64), column("b", ColumnType::Int64)];
    let mut world = world(&[("a.csv", csv)], columns).await;
    world.work.content.quarantine.max_ratio = "1".into();
    world.fails(Reason::SchemaMismatch, &["column a", "2 values", "int64", "\"1.5\"", "(a.csv:2)"]).await;
}

#[tokio::test]
async fn rejected_rows_within_the_budget_are_set_aside() {
    let csv = b"a,b\n1,x\n2,\nq,x\n4,x,y\n\xff,x\n1,y\n7,\"long, quoted\"\n";
    let mut columns = vec![column("a", ColumnType::Int64), column("b", ColumnType::String)];
    columns[1].pattern = Some("[a-z]".into());
    let mut world = world(&[("a.csv", csv)], columns).await;
    world.work.content.unique = vec!["a".into()];
    world.work.content.quarantine.max_ratio = "0.9".into();
    assert_eq!(world.table().await.1, ["1|x"]);
    assert!(world.summary().await.starts_with("1 row, 6 rejected; rejected "));
    let rejects = world.rejects().await;
    let rejects: Vec<_> = rejects
        .iter()
        .map(|r| {
            format!("{}:{} {} {} {}", r["object"], r["line"], r["column"], r["rule"], r["raw"])
                .replace('"', "")
        })
        .collect();
    let expected = [
        "a.csv:3 b nullable 2,",
        "a.csv:4 a type q,x",
        "a.csv:5 null cells 4,x,y",
        "a.csv:6 null encoding \u{fffd},x",
        "a.csv:7 null unique 1,y",
        "a.csv:8 b pattern 7,\\long, quoted\\",
    ];
    assert_eq!(rejects, expected);
}

#[tokio::test]
async fn exceeded_budget_names_the_worst_rules_with_examples() {
    let mut csv = String::from("a,b\n");
    for i in 0..100 {
        csv.push_str(if i % 10 == 0 { "1,99\n" } else { "1,5\n" });
    }
    csv.push_str("x,1\n");
    let mut columns = vec![column("a", ColumnType::Int64), column("b", ColumnType::Int64)];
    columns[1].max = Some("10".into());
    let mut world = world(&[("a.csv", csv.as_bytes())], columns).await;
    world.work.content.quarantine.max_ratio = "0.1".into();
    let uri = format!("s3://data/test/rejects/{}/", world.work.listing.hex());
    let told = [
        "11 of 101 rows",
        "10.891 %",
        "0.1",
        "b: 10 rows against max 10, for example \"99\" (a.csv:2, a.csv:12, a.csv:22)",
    ];
    world
        .fails(
            Reason::QuarantineBudgetExceeded,
            &[&told[..], &["a: 1 row against type int64", &uri]].concat(),
        )
        .await;
    assert_eq!(world.rejects().await.len(), 11);
    world.work.content.quarantine.max_ratio = "0.11".into();
    world.version().await.unwrap();
}

#[tokio::test]
async fn message_is_bounded_when_keys_and_values_are_long() {
    let key = format!("{}.csv", "k/".repeat(200));
    let mut columns = vec![column("a", ColumnType::String), column("b", ColumnType::String)];
    columns[0].pattern = Some("ü".repeat(256));
    columns[1].pattern = Some("é".repeat(256));
    let csv = b"a,b\n1,1\n2,2\n3,3\n4\n5\n6\n\xff,1\n\xff,1\n";
    let world = world(&[(&key, csv)], columns).await;
    world.fails(Reason::QuarantineBudgetExceeded, &["against pattern üü", "All are in s3://"]).await;
}

#[tokio::test]
async fn unique_holds_over_all_objects_and_compares_values() {
    let objects: &[(&str, &[u8])] = &[("a.csv", b"a,b\n1.0,x\n2,\n"), ("b.csv", b"a,b\n1,x\n2,x\n2,NA\n")];
    let mut world =
        world(objects, vec![column("a", ColumnType::Float64), nullable("b", ColumnType::String)]).await;
    world.work.content.unique = vec!["a".into(), "b".into()];
    world.fails(Reason::QuarantineBudgetExceeded, &["1 of 5", "unique", "b.csv:2"]).await;
}

#[tokio::test]
async fn lost_listing_is_corrupt_input() {
    let mut world = world(&[("a.csv", b"a\n1\n")], vec![column("a", ColumnType::Int64)]).await;
    world.work.listing = Digest::of_bytes(b"another");
    world.fails(Reason::InputCorrupt, &["listings/"]).await;
}

#[tokio::test]
async fn small_objects_are_fetched_side_by_side() {
    let objects: Vec<_> = (10..74).map(|n| (format!("{n}.csv"), format!("a\n{n}\n"))).collect();
    let objects: Vec<_> = objects.iter().map(|(key, text)| (key.as_str(), text.as_bytes())).collect();
    let mut world = world(&objects, vec![column("a", ColumnType::Int64)]).await;
    let one_by_one = world.table().await;
    // A store that answers no read before four are under way.
    world.source = world.source.behind(&Outage::of_reads_together(4));
    let together = timeout(Duration::from_secs(60), world.table()).await;
    assert_eq!(together.expect("reads wait for each other"), one_by_one);
}

#[tokio::test]
async fn failure_of_an_object_ahead_names_it() {
    let objects: [(&str, &[u8]); 3] = [("1.csv", b"a\n1\n"), ("2.csv", b"a\n2\n"), ("3.csv", b"a\n3\n")];
    let world = world(&objects, vec![column("a", ColumnType::Int64)]).await;
    world.source.delete("2.csv").await.unwrap();
    world.source.create("2.csv", "a\n9\n").await.unwrap();
    world.source.delete("3.csv").await.unwrap();
    world.fails(Reason::SourceChanged, &["2.csv"]).await;
}

fn quoted(cell: &str) -> String {
    format!("\"{}\"", cell.replace('"', "\"\""))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn quoted_texts_read_back(rows in prop::collection::vec(("[^\r\0]{1,12}", any::<i64>()), 1..40)) {
        let mut csv = String::from("a,b\n");
        for (text, number) in &rows {
            csv.push_str(&format!("{},{number}\n", quoted(text)));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let read = runtime.block_on(async {
            let columns = vec![nullable("a", ColumnType::String), column("b", ColumnType::Int64)];
            let mut world = world(&[("a.csv", csv.as_bytes())], columns).await;
            world.csv().null_tokens.clear();
            world.table().await.1
        });
        let expected: Vec<_> = rows.iter().map(|(text, number)| format!("{text}|{number}")).collect();
        prop_assert_eq!(read, expected);
    }
}
