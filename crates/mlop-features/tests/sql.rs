//! What SQL computes: exact numbers, overflow that is an error, and the same rows in every process.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests may fail like tests"
)]

mod common;

use arrow::{
    array::{ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray},
    datatypes::{Float64Type, Int64Type},
};
use common::{Scratch, rows, store, table};
use mlop_api::{
    Reason,
    features::FeatureContent,
    result::{Failure, ResultDocument},
    task::{Input, SnapshotWork},
};
use mlop_artifact::store::ObjectStoreHandle;
use std::sync::Arc;

const DAY: i64 = 86_400;

/// Rows of `t`: a whole number and a double of entity 'a', a day apart.
fn numbers(whole: &[Option<i64>], double: &[f64]) -> RecordBatch {
    let count = whole.len();
    RecordBatch::try_from_iter([
        ("id", Arc::new(StringArray::from(vec!["a"; count])) as ArrayRef),
        ("at", common::times((0..count as i64).map(|day| day * DAY))),
        ("v", Arc::new(Int64Array::from(whole.to_vec())) as ArrayRef),
        ("x", Arc::new(Float64Array::from(double.to_vec()))),
        ("tag", Arc::new(StringArray::from_iter_values((0..count).map(|n| format!("t{}", n * 7 % 50))))),
        ("Fare", Arc::new(Float64Array::from(vec![1.5; count]))),
    ])
    .unwrap()
}

async fn run(store: &ObjectStoreHandle, batch: &RecordBatch, sql: &str) -> Result<ResultDocument, Failure> {
    let work = SnapshotWork {
        inputs: vec![Input {
            name: "t".to_owned(),
            digest: table(store, batch).await,
            media_type: mlop_api::MEDIA_TABLE.to_owned(),
            store: store.store().clone(),
        }],
        content: FeatureContent {
            sql: sql.to_owned(),
            entities: vec!["id".to_owned()],
            timestamp: "at".to_owned(),
        },
        output: store.store().clone(),
        memory_bytes: 256 << 20,
        as_of: None,
        online: None,
        active: None,
    };
    let scratch = Scratch::new();
    mlop_features::snapshot::run(&work, store, |_| Ok(store.clone()), scratch.path()).await
}

/// Asserts that `sql` is refused with `words`, and without words of the engine's own.
async fn refused(batch: &RecordBatch, sql: &str, words: &str) {
    let failure = run(&store(), batch, sql).await.expect_err(sql);
    let Failure { reason, retryable, message, .. } = failure;
    assert_eq!((reason, retryable), (Reason::QueryInvalid, false), "{sql}: {message}");
    assert!(message.contains(words), "{sql}: {message}");
    for internal in ["datafusion", "Int64", "Utf8", "Interval", "Error", "issue"] {
        assert!(!message.contains(internal), "{sql}: {message}");
    }
}

async fn computed(batch: &RecordBatch, sql: &str) -> RecordBatch {
    let store = store();
    let result = run(&store, batch, sql).await.unwrap_or_else(|failure| panic!("{sql}: {}", failure.message));
    rows(&store, result.digest.as_ref().unwrap()).await
}

fn doubles(batch: &RecordBatch, column: &str) -> Vec<Option<f64>> {
    batch[column].as_primitive::<Float64Type>().iter().collect()
}

fn wholes(batch: &RecordBatch, column: &str) -> Vec<Option<i64>> {
    batch[column].as_primitive::<Int64Type>().iter().collect()
}

const MAX: i64 = i64::MAX;
const MIN: i64 = i64::MIN;

#[tokio::test]
async fn query_is_refused_when_a_number_overflows() {
    let batch = numbers(&[Some(MAX), Some(1), None, Some(MIN)], &[1e300, 2.0, f64::NAN, f64::INFINITY]);
    let over = "OVER (ORDER BY at ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)";
    for (columns, words) in [
        ("v + 1 AS y", "t.v + 1"),
        ("v - 2 AS y", "t.v - 2"),
        ("v * 2 AS y", "t.v * 2"),
        ("-v AS y", "-t.v"),
        ("abs(v) AS y", "abs"),
        ("v / 0 AS y", "division by zero"),
        ("v % 0 AS y", "division by zero"),
        ("v / -1 AS y", "t.v / -1"),
        ("1 + v * 2 AS y", "t.v * 2"),
        ("9223372036854775807 + 1 AS y", "9223372036854775807 + 1"),
        ("CAST(v AS INT) AS y", "CAST(t.v AS INT)"),
        ("CAST(v AS INT UNSIGNED) AS y", "CAST(t.v AS INT UNSIGNED)"),
        ("CAST(x AS BIGINT) AS y", "CAST(t.x AS BIGINT)"),
        ("CAST(tag AS BIGINT) AS y", "CAST(t.tag AS BIGINT)"),
        ("CAST(v AS INT) + 1 AS y", "CAST(t.v AS INT)"),
        ("CASE WHEN v > 0 THEN v + 1 ELSE 0 END AS y", "t.v + 1"),
        ("sum(v) OVER () AS y, sum(v + 1) OVER () AS z", "t.v + 1"),
        ("at + INTERVAL '2147483647' DAY AS y", "t.at + INTERVAL"),
        ("CAST(CAST(2147483647 AS INT) AS DATE) + INTERVAL '1' DAY AS y", "+ INTERVAL '1 day'"),
        ("CAST(at AS DATE) + INTERVAL '2000000' YEAR AS y", "INTERVAL"),
        ("at + INTERVAL '300000' YEAR AS y", "t.at + "),
        ("sum(v) OVER (ORDER BY at) AS y", "sum(t.v)"),
        (&format!("sum(v) {over} AS y"), "sum(t.v)"),
        ("CAST(1 AS INT) + CAST(2147483647 AS INT) AS y", "+"),
    ] {
        refused(&batch, &format!("SELECT id, at, {columns} FROM t"), words).await;
    }
    let batch = numbers(&[Some(MAX), Some(1), None, Some(7)], &[1e300, 2.0, f64::NAN, f64::INFINITY]);
    for (columns, words) in [
        ("sum(v) AS y", "sum(t.v)"),
        ("sum(v) FILTER (WHERE v > 0) AS y", "sum(t.v)"),
        ("sum(DISTINCT v) AS y, count(*) AS n", "sum(DISTINCT t.v)"),
        ("sum(DISTINCT v) AS y", "sum(DISTINCT)"),
        ("sum(v + 1) AS y", "t.v + 1"),
        ("sum(v) + 1 AS y", "sum(t.v)"),
    ] {
        refused(&batch, &format!("SELECT id, max(at) AS at, {columns} FROM t GROUP BY id"), words).await;
    }
}

#[tokio::test]
async fn sums_are_exact_when_they_fit() {
    let batch = numbers(&[Some(MAX), Some(MIN), Some(1), None], &[1e16, 1.0, -1e16, 0.5]);
    let sql = "SELECT id, max(at) AS at, sum(v) AS total, sum(DISTINCT v) AS once, sum(x) AS x, avg(x) AS mean, \
               avg(v) AS of_ints, sum(CAST(v AS DOUBLE)) AS as_double, count(*) AS n FROM t GROUP BY id";
    let table = computed(&batch, sql).await;
    assert_eq!((wholes(&table, "total"), wholes(&table, "once")), (vec![Some(0)], vec![Some(0)]));
    assert_eq!((doubles(&table, "x"), doubles(&table, "mean")), (vec![Some(1.5)], vec![Some(0.375)]));
    assert_eq!(wholes(&table, "n"), [Some(4)]);
    let sql = "SELECT id, at, v - 1 + 1 AS v, CAST(v AS INT) * 2 AS s, -v AS n, v / 2 AS half, v % 10 AS rest FROM t \
               WHERE v = 1";
    let table = computed(&batch, sql).await;
    let row: Vec<_> =
        ["v", "s", "n", "half", "rest"].iter().map(|name| wholes(&table, name)[0].unwrap()).collect();
    assert_eq!(row, [1, 2, -1, 0, 1]);
}

#[tokio::test]
async fn columns_differ_when_only_a_cast_does() {
    let batch = numbers(&[Some(1), Some(2)], &[0.5, 1.5]);
    for sql in [
        "SELECT id, max(at) AS at, sum(v) AS a, sum(CAST(v AS DOUBLE)) AS b FROM t GROUP BY id",
        "SELECT id, max(at) AS at, max(v) AS a, max(CAST(v AS DOUBLE)) AS b FROM t GROUP BY id",
        "SELECT id, max(at) AS at, avg(v) AS a, avg(CAST(v AS DOUBLE)) AS b FROM t GROUP BY id",
        "SELECT id, at, sum(v) OVER w AS a, sum(CAST(v AS DOUBLE)) OVER w AS b FROM t WINDOW w AS (PARTITION BY id)",
        "SELECT id, at, v + 1 AS a, CAST(v AS DOUBLE) + 1 AS b FROM t",
    ] {
        let table = computed(&batch, sql).await;
        assert_eq!(doubles(&table, "b").len(), table.num_rows(), "{sql}");
    }
}

/// Values of windows that a huge value, NaN and infinity entered and left.
#[tokio::test]
async fn window_forgets_values_that_have_left() {
    let mut x = vec![0.1; 40];
    (x[0], x[10], x[20], x[30]) = (1e17, f64::NAN, f64::INFINITY, f64::NEG_INFINITY);
    let batch = numbers(&vec![Some(1); 40], &x);
    let over = "OVER (ORDER BY at RANGE BETWEEN INTERVAL '2' DAY PRECEDING AND CURRENT ROW)";
    let sql = format!(
        "SELECT id, at, avg(x) {over} AS mean, sum(x) {over} AS sum, stddev(x) {over} AS dev, var_pop(x) {over} AS \
         var, max(x) {over} AS max, min(x) {over} AS min, median(x) {over} AS mid, corr(x, x) {over} AS corr, \
         covar_pop(x, x) {over} AS covar, regr_avgx(x, x) {over} AS regr, count(x) {over} AS n FROM t"
    );
    let table = computed(&batch, &sql).await;
    for row in [3, 9, 13, 19, 23, 29, 33, 39] {
        let of = |name: &str| doubles(&table, name)[row].unwrap();
        let sum = 0.1 * 3.0;
        assert_eq!((of("sum"), of("mean")), (sum, sum / 3.0), "{row}");
        for name in ["dev", "var", "covar"] {
            assert!(of(name).abs() < 1e-12, "{name} in {row}: {}", of(name));
        }
        for name in ["max", "min", "mid", "regr"] {
            assert!((of(name) - 0.1).abs() < 1e-12, "{name} in {row}: {}", of(name));
        }
    }
    assert!(doubles(&table, "mean")[11].unwrap().is_nan());
    assert_eq!(doubles(&table, "sum")[21], Some(f64::INFINITY));
    assert_eq!(wholes(&table, "n")[..4], [Some(1), Some(2), Some(3), Some(3)]);
}

#[tokio::test]
async fn nan_is_the_greatest_value() {
    let batch = numbers(&[Some(1), Some(2), Some(3)], &[1.0, f64::NAN, f64::INFINITY]);
    let sql = "SELECT id, max(at) AS at, sum(x) AS sum, max(x) AS max, min(x) AS min, count(x) AS n, 0.0 / 0 AS q, 1 / 0.0 AS i FROM t GROUP BY id";
    let table = computed(&batch, sql).await;
    let of = |name: &str| doubles(&table, name)[0].unwrap();
    assert!(of("sum").is_nan() && of("q").is_nan() && of("max").is_nan());
    assert_eq!((of("min"), wholes(&table, "n")[0]), (1.0, Some(3)));
    assert_eq!(of("q").to_bits(), f64::NAN.to_bits());
    assert_eq!(of("i"), f64::INFINITY);
}

#[tokio::test]
async fn distinct_values_are_listed_in_order() {
    let batch = numbers(&[Some(1); 50], &[0.1; 50]);
    let sql = "SELECT id, max(at) AS at, array_agg(DISTINCT tag) AS tags, string_agg(DISTINCT tag, ',') AS text, \
               avg(DISTINCT x) AS mean FROM t GROUP BY id";
    let table = computed(&batch, sql).await;
    let tags = table["tags"].as_list::<i32>().value(0);
    let tags: Vec<_> = tags.as_string::<i32>().iter().flatten().collect();
    assert!(tags.len() == 50 && tags.is_sorted(), "{tags:?}");
    assert_eq!(table["text"].as_string::<i32>().value(0), tags.join(","));
    assert_eq!(doubles(&table, "mean"), [Some(0.1)]);
}

#[tokio::test]
async fn query_is_refused_in_words_of_sql() {
    let batch = numbers(&[Some(1)], &[1.0]);
    for (sql, words) in [
        ("SELECT id, at, fare FROM t", "\"Fare\": put a name"),
        ("SELECT id, at, nope FROM t", "there are t.id, t.at"),
        ("SELECT id, at, t.nope FROM t", "there are t.id, t.at"),
        ("SELECT id, at FROM nope", "table 'nope' not found"),
        ("SELECT id, at, x FROM t UNION ALL SELECT id, at, tag FROM t", "UNION"),
        ("SELECT id, at, x FROM t UNION ALL SELECT id, at, v > 1 FROM t", "UNION"),
        ("SELECT id, at, x FROM t UNION ALL SELECT id, at FROM t", "UNION"),
        ("SELECT id, at, v > 1 AS y FROM t UNION ALL SELECT id, at, v FROM t", "UNION"),
        ("SELECT id, at, nosuch(x) AS y FROM t", "nosuch"),
        ("SELECT id, at, sum(tag) OVER () AS y FROM t", "sum"),
        ("SELECT id, at, x + tag AS y FROM t", "DOUBLE + VARCHAR"),
        ("SELECT id, at, sum(x) AS y FROM t", "GROUP BY"),
        ("SELECT id, at, array_agg(DISTINCT tag) OVER (PARTITION BY id) AS y FROM t", "DISTINCT"),
        ("SELECT id at, FROM", "spec.sql"),
        (
            "SELECT id, at, lag(v) OVER () AS a, lag(CAST(v AS DOUBLE)) OVER () AS b FROM t",
            "compute the CAST in a WITH",
        ),
        (
            "SELECT id, max(at) AS at, v AS a, CAST(v AS DOUBLE) AS b FROM t GROUP BY id, v, CAST(v AS DOUBLE)",
            "in a WITH",
        ),
        ("SELECT id, at, make_date(99999999, 1, 1) AS y FROM t", "spec.sql"),
        ("SELECT id, at, to_timestamp(9223372036854775807) AS y FROM t", "spec.sql"),
        ("SELECT id, at, power(10, 30) AS y, factorial(30) AS z FROM t", "spec.sql"),
        ("SELECT id, at, lcm(9223372036854775807, 9223372036854775806) AS z FROM t", "spec.sql"),
        (
            "SELECT id, at, approx_median(x) OVER (ORDER BY at ROWS 2 PRECEDING) AS z FROM t",
            "UNBOUNDED PRECEDING",
        ),
        ("SELECT id, at, CAST(TIMESTAMP '2026-01-01' AS BIGINT) * 9000 AS z FROM t", "spec.sql"),
        ("SELECT id, at, date_bin(INTERVAL '1' DAY, at, TIMESTAMP '1500-01-01') AS z FROM t", "spec.sql"),
        ("SELECT id, at, from_unixtime(9223372036854775807) AS z FROM t", "spec.sql"),
        ("SELECT id, at, to_timestamp_seconds(9223372036854775807) AS z FROM t", "spec.sql"),
        ("SELECT id, at, DATE '2026-01-01' + INTERVAL '300000000' YEAR AS z FROM t", "spec.sql"),
    ] {
        refused(&batch, sql, words).await;
    }
}
