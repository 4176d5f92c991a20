//! The snapshot worker against a store in memory: which SQL it runs and refuses, and that it repeats its bytes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests may fail like tests"
)]

mod common;

use arrow::{
    array::{ArrayRef, AsArray, Float64Array, RecordBatch, StringArray, create_array},
    datatypes::{DataType, Float64Type, Int64Type},
};
use common::{Scratch, rows, store, table};
use mlop_api::{
    Reason,
    features::FeatureContent,
    result::{Failure, ResultDocument},
    task::{Input, SnapshotWork},
};
use mlop_artifact::store::ObjectStoreHandle;
use mlop_features::stack::with_room;
use std::sync::Arc;

const MEMORY: u64 = 256 << 20;
/// The mean delay of the last 30 days of a route, never from the future.
const DELAYS: &str = "SELECT origin, dest, time_hour, dep_delay, avg(dep_delay) OVER (PARTITION BY origin, dest \
    ORDER BY time_hour RANGE BETWEEN INTERVAL '30' DAY PRECEDING AND INTERVAL '1' SECOND PRECEDING) AS delay_30d \
    FROM flights";

/// Flights in no order: `(origin, dest, day, delay)`.
fn flights(rows: &[(&str, &str, i64, Option<f64>)]) -> RecordBatch {
    RecordBatch::try_from_iter([
        ("origin", Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.0))) as ArrayRef),
        ("dest", Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.1)))),
        ("time_hour", common::times(rows.iter().map(|row| row.2 * 86_400))),
        ("dep_delay", Arc::new(Float64Array::from_iter(rows.iter().map(|row| row.3)))),
    ])
    .unwrap()
}

fn some_flights() -> RecordBatch {
    flights(&[
        ("JFK", "LAX", 40, Some(9.0)),
        ("JFK", "LAX", 1, Some(3.0)),
        ("EWR", "SFO", 2, None),
        ("JFK", "LAX", 20, Some(5.0)),
        ("JFK", "LAX", 20, Some(7.0)),
    ])
}

async fn snapshot(
    store: &ObjectStoreHandle,
    inputs: &[(&str, &RecordBatch)],
    sql: &str,
    memory_bytes: u64,
) -> Result<ResultDocument, Failure> {
    let mut named = Vec::new();
    for (name, batch) in inputs {
        named.push(Input {
            name: (*name).to_owned(),
            digest: table(store, batch).await,
            media_type: mlop_api::MEDIA_TABLE.to_owned(),
            store: store.store().clone(),
        });
    }
    let work = SnapshotWork {
        inputs: named,
        content: FeatureContent {
            sql: sql.to_owned(),
            entities: vec!["origin".to_owned(), "dest".to_owned()],
            timestamp: "time_hour".to_owned(),
        },
        output: store.store().clone(),
        memory_bytes,
        as_of: None,
        online: None,
        active: None,
    };
    let scratch = Scratch::new();
    mlop_features::snapshot::run(&work, store, |_| Ok(store.clone()), scratch.path()).await
}

#[tokio::test]
async fn window_over_the_past_yields_sorted_features() {
    let store = store();
    let result = snapshot(&store, &[("flights", &some_flights())], DELAYS, MEMORY).await.unwrap();
    assert_eq!(result.summary.as_deref(), Some("5 rows, 2 features"));
    let table = rows(&store, result.digest.as_ref().unwrap()).await;
    let origins: Vec<_> = table["origin"].as_string::<i32>().iter().flatten().collect();
    assert_eq!(origins, ["EWR", "JFK", "JFK", "JFK", "JFK"]);
    let means: Vec<_> = table["delay_30d"].as_primitive::<Float64Type>().iter().collect();
    assert_eq!(means, [None, None, Some(3.0), Some(3.0), Some(6.0)]);
    let delays: Vec<_> = table["dep_delay"].as_primitive::<Float64Type>().iter().collect();
    assert_eq!(delays, [None, Some(3.0), Some(5.0), Some(7.0), Some(9.0)]);
    let manifest = common::manifest(&store, result.digest.as_ref().unwrap()).await;
    let kinds: Vec<_> = manifest.schema.iter().map(|column| column.kind.as_str()).collect();
    assert_eq!(kinds, ["string", "string", "timestamp", "float64", "float64"]);
    let time = &manifest.columns[2];
    assert_eq!((time.min.as_deref(), time.distinct_estimate), (Some("1970-01-02T00:00:00Z"), 4));
}

#[tokio::test]
async fn named_windows_and_distinct_rows_are_computed() {
    let store = store();
    let sql = "SELECT DISTINCT origin, dest, time_hour, avg(dep_delay) OVER past AS delay_30d, \
        avg(CASE WHEN dep_delay > 4 THEN 1.0 WHEN dep_delay <= 4 THEN 0.0 END) OVER past AS late_30d, \
        count(dep_delay) OVER past AS flights_30d FROM flights \
        WINDOW past AS (PARTITION BY origin, dest ORDER BY time_hour \
        RANGE BETWEEN INTERVAL '30' DAY PRECEDING AND INTERVAL '1' DAY PRECEDING)";
    let result = snapshot(&store, &[("flights", &some_flights())], sql, MEMORY).await.unwrap();
    assert_eq!(result.summary.as_deref(), Some("4 rows, 3 features"));
    let table = rows(&store, result.digest.as_ref().unwrap()).await;
    let late: Vec<_> = table["late_30d"].as_primitive::<Float64Type>().iter().collect();
    assert_eq!(late, [None, None, Some(0.0), Some(1.0)]);
    assert_eq!(table["flights_30d"].as_primitive::<Int64Type>().values(), &[0, 0, 1, 2]);
}

#[tokio::test]
async fn digest_is_independent_of_row_order_and_memory() {
    let days =
        |from: i64, to: i64| (from..to).map(|n| ("JFK", "LAX", n / 10, Some((n * 7919 % 1009) as f64 / 3.0)));
    let forth: Vec<_> = days(0, 40_000).collect();
    let back: Vec<_> = forth.iter().rev().copied().collect();
    let sql = "SELECT origin, dest, time_hour, dep_delay, max(dep_delay) OVER (PARTITION BY origin ORDER BY \
               time_hour) AS worst FROM flights";
    let digest = async |batch: &RecordBatch, memory| {
        let result = snapshot(&store(), &[("flights", batch)], sql, memory).await.unwrap();
        (result.digest, result.schema_digest)
    };
    let first = digest(&flights(&forth), MEMORY).await;
    assert_eq!(digest(&flights(&forth), MEMORY).await, first);
    assert_eq!(digest(&flights(&back), 4 << 20).await, first);
    assert_ne!(digest(&flights(&forth[1..]), MEMORY).await.0, first.0);
}

#[tokio::test]
async fn tables_are_joined_under_their_names() {
    let store = store();
    let (code, tz) = (create_array!(Utf8, ["LAX", "SFO"]), create_array!(Int64, [-8, -8]));
    let airports = RecordBatch::try_from_iter([("code", code as ArrayRef), ("tz", tz)]).unwrap();
    let sql = "WITH late AS (SELECT * FROM \"my-flights\" WHERE dep_delay > 3) SELECT f.origin, f.dest, \
        date_trunc('day', f.time_hour) AS time_hour, a.tz, row_number() OVER (ORDER BY time_hour, dep_delay) AS n, \
        CAST(dep_delay AS REAL) AS delay, upper(f.dest) || 'X' AS label, count(*) OVER () AS many, \
        make_array(dep_delay, 1.5) AS list, regexp_like(f.dest, '^L') AS west, time_hour - INTERVAL '1' DAY AS before \
        FROM late f JOIN airports a ON a.code = f.dest";
    let inputs = [("my-flights", &some_flights()), ("airports", &airports)];
    let result = snapshot(&store, &inputs, sql, MEMORY).await.unwrap();
    assert_eq!(result.summary.as_deref(), Some("3 rows, 8 features"));
    let table = rows(&store, result.digest.as_ref().unwrap()).await;
    assert_eq!(table["n"].data_type(), &DataType::Int64);
    assert_eq!(table["label"].as_string::<i32>().value(0), "LAXX");
}

#[tokio::test]
async fn empty_result_is_a_table() {
    let store = store();
    let sql = "SELECT origin, dest, time_hour FROM flights WHERE origin = 'XXX'";
    let result = snapshot(&store, &[("flights", &some_flights())], sql, MEMORY).await.unwrap();
    assert_eq!(result.summary.as_deref(), Some("0 rows, 0 features"));
    assert_eq!(common::manifest(&store, result.digest.as_ref().unwrap()).await.parts.len(), 1);
}

#[track_caller]
fn refused(ended: Result<ResultDocument, Failure>, sql: &str, words: &str) {
    let failure = ended.expect_err(sql);
    assert_eq!(
        (failure.reason, failure.retryable),
        (Reason::QueryInvalid, false),
        "{sql}: {}",
        failure.message
    );
    assert!(failure.message.contains(words), "{sql}: {}", failure.message);
}

#[tokio::test]
async fn sql_is_refused_when_it_is_not_one_repeatable_select() {
    let (store, batch) = (store(), some_flights());
    for (sql, words) in [
        ("SELEC 1", "spec.sql"),
        ("", "spec.sql"),
        ("SELECT 1; SELECT 2", "single SQL statement"),
        ("DROP TABLE flights", "DROP"),
        ("CREATE TABLE x AS SELECT * FROM flights", "CREATE"),
        ("CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'", "CREATE"),
        ("INSERT INTO flights SELECT * FROM flights", "INSERT"),
        ("COPY flights TO '/tmp/x.csv'", "COPY"),
        ("EXPLAIN SELECT * FROM flights", "EXPLAIN"),
        ("SHOW TABLES", "SHOW"),
        ("SET a = 1", "SET"),
        ("SELECT *, now() AS n FROM flights", "now()"),
        ("SELECT *, current_timestamp AS n FROM flights", "now()"),
        ("SELECT *, current_date AS n FROM flights", "current_date()"),
        ("SELECT * FROM flights WHERE random() < 0.5", "random()"),
        ("SELECT *, uuid() AS n FROM flights", "uuid()"),
        ("SELECT * FROM flights WHERE dep_delay > (SELECT max(1 + random()) FROM flights)", "random()"),
        ("SELECT * FROM flights ORDER BY sum(random()) OVER ()", "random()"),
        ("SELECT * INTO x FROM flights", "DDL"),
        ("SELECT *, input_file_name() AS n FROM flights", "input_file_name()"),
        ("SELECT * FROM flights TABLESAMPLE (50 PERCENT)", "TABLESAMPLE"),
        ("SELECT *, $1 AS x FROM flights", "spec.sql"),
        ("SELECT nope FROM flights", "nope"),
        ("SELECT * FROM nope", "nope"),
        ("SELECT * FROM '/etc/passwd'", "passwd"),
        ("SELECT * FROM information_schema.tables", "information_schema"),
        ("SELECT origin, time_hour FROM flights", "\"dest\""),
        ("SELECT origin, dest FROM flights", "\"time_hour\""),
        ("SELECT origin, dest, dep_delay AS time_hour FROM flights", "TIMESTAMP"),
        ("SELECT dep_delay AS origin, dest, time_hour FROM flights", "CAST it to VARCHAR"),
        ("SELECT *, dep_delay + 1 FROM flights", "AS"),
        ("SELECT *, NULL AS x FROM flights", "\"x\""),
        ("SELECT *, CAST(1 AS DECIMAL(9,2)) AS x FROM flights", "\"x\""),
        ("SELECT a.*, b.dest FROM flights a JOIN flights b ON a.dest = b.dest", "two columns"),
        ("SELECT *, make_array(dep_delay, NULL) AS x FROM flights", "null inside a list"),
        ("SELECT *, CAST(origin AS BIGINT) AS x FROM flights", "JFK"),
        ("SELECT *, 1 / (CAST(dep_delay AS BIGINT) - 3) AS x FROM flights", "division by zero"),
    ] {
        refused(snapshot(&store, &[("flights", &batch)], sql, MEMORY).await, sql, words);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expression_is_refused_when_it_nests_too_deeply() {
    let (store, batch) = (store(), some_flights());
    for (terms, fits) in [(100, true), (3_000, false)] {
        let sql = format!("SELECT *, {} AS n FROM flights", vec!["1.5"; terms].join("+"));
        let ended =
            with_room(|| async { snapshot(&store, &[("flights", &batch)], &sql, MEMORY).await }).unwrap();
        if fits {
            assert_eq!(ended.unwrap().summary.as_deref(), Some("5 rows, 2 features"));
        } else {
            refused(ended, "a sum of 3,000 terms", "nests");
        }
    }
}

#[tokio::test]
async fn too_little_memory_is_named() {
    let many: Vec<_> = (0..200_000).map(|n| ("JFK", "LAX", n, Some(n as f64))).collect();
    let sql = "SELECT origin, dest, max(time_hour) AS time_hour, array_agg(dep_delay) AS x FROM flights GROUP BY \
               origin, dest";
    let failure = snapshot(&store(), &[("flights", &flights(&many))], sql, 1 << 20).await.unwrap_err();
    assert_eq!(failure.reason, Reason::OutOfMemory, "{}", failure.message);
}

#[tokio::test]
async fn input_is_corrupt_when_it_is_missing() {
    let store = store();
    let input = Input {
        name: "flights".to_owned(),
        digest: mlop_api::Digest::of_bytes(b"nothing"),
        media_type: mlop_api::MEDIA_TABLE.to_owned(),
        store: store.store().clone(),
    };
    let work = SnapshotWork {
        inputs: vec![input],
        content: FeatureContent {
            sql: DELAYS.to_owned(),
            entities: vec!["origin".to_owned()],
            timestamp: "time_hour".to_owned(),
        },
        output: store.store().clone(),
        memory_bytes: MEMORY,
        as_of: None,
        online: None,
        active: None,
    };
    let scratch = Scratch::new();
    let ended = mlop_features::snapshot::run(&work, &store, |_| Ok(store.clone()), scratch.path()).await;
    assert_eq!(ended.unwrap_err().reason, Reason::InputCorrupt);
}
