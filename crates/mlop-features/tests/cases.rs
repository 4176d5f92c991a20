//! Files, views and requests as people have them, each with its right answer: from the CSV to the online API.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests may fail like tests"
)]

mod common;

use arrow::{
    array::AsArray,
    datatypes::{Float64Type, Int64Type},
};
use axum::{Router, http::StatusCode};
use common::{
    api::{by_name, post},
    chain::{self, Chain, now, online},
    redis::TestRedis,
    rows,
    view::NAMESPACE,
};
use mlop_api::{Reason, duration::Span, features::FeatureView, task::ViewKey};
use mlop_features::online::load::View;
use serde_json::{Value, json};

/// The Datasets and FeatureViews of the cases.
const OBJECTS: &str = include_str!("../../mlop-api/tests/cases/features.yaml");

macro_rules! case {
    ($file:literal) => {
        include_bytes!(concat!("cases/", $file))
    };
}

fn chain(dataset: &str) -> Chain {
    Chain::new(chain::object(OBJECTS, "Dataset", dataset))
}

fn view(name: &str) -> FeatureView {
    chain::object(OBJECTS, "FeatureView", name)
}

fn with_sql(name: &str, sql: &str) -> FeatureView {
    let mut view = view(name);
    view.spec.sql = sql.to_owned();
    view
}

/// The message of the refusal of `view` over `csv`.
async fn refused(chain: &Chain, view: &FeatureView, csv: &[u8]) -> String {
    let table = chain.version(csv).await.unwrap().digest.unwrap();
    let failure = chain.snapshot(view, &table).await.expect_err(&view.spec.sql);
    assert_eq!((failure.reason, failure.retryable), (Reason::QueryInvalid, false), "{}", failure.message);
    failure.message
}

fn api(redis: &TestRedis) -> Router {
    common::api::of(redis, None, now)
}

/// The column `name` of the answer to `body`: values and statuses.
async fn asked(api: &Router, body: Value, name: &str) -> (Value, Value) {
    let (status, answer) = post(api, body.to_string()).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let column = &by_name(&answer)[name];
    (column["values"].clone(), column["statuses"].clone())
}

#[tokio::test]
async fn b13_columns_with_capital_letters() {
    let (chain, csv) = (chain("b13"), case!("b13.csv"));
    let message = refused(&chain, &view("b13"), csv).await;
    assert!(
        message.contains("\"PassengerId\": put a name with capital letters into double quotes"),
        "{message}"
    );
    let table = chain.version(csv).await.unwrap().digest.unwrap();
    let whole = with_sql("b13q", r#"SELECT "PassengerId", "SeenAt", 3 / 2 AS whole FROM t"#);
    let table = chain.snapshot(&whole, &table).await.unwrap().digest.unwrap();
    assert_eq!(rows(&chain.store, &table).await["whole"].as_primitive::<Int64Type>().values(), &[1, 1]);
    let Some(redis) = TestRedis::start().await else { return };
    chain.serve(&redis, &view("b13q"), csv, 1).await;
    let body = json!({"features": ["b13q:Fare", "b13q:half"], "entities": {"PassengerId": [1]}});
    assert_eq!(asked(&api(&redis), body.clone(), "Fare").await.0, json!([7.25]));
    assert_eq!(asked(&api(&redis), body, "half").await.0, json!([1]));
}

#[tokio::test]
async fn b13_names_that_differ_by_capital_letters() {
    let mut chain = chain("b13");
    let csv = b"id,ID,at\n1,10,2026-01-01T00:00:00Z\n";
    for (column, name) in chain.columns().iter_mut().zip(["id", "ID", "x", "at"]) {
        name.clone_into(&mut column.name);
    }
    chain.columns().remove(2);
    let mut both = with_sql("b13", r#"SELECT id, "ID", at FROM t"#);
    (both.spec.entities, both.spec.timestamp) = (vec!["id".to_owned()], "at".to_owned());
    let table = chain.version(csv).await.unwrap().digest.unwrap();
    let table = chain.snapshot(&both, &table).await.unwrap().digest.unwrap();
    let rows = rows(&chain.store, &table).await;
    let of = |name: &str| rows[name].as_primitive::<Int64Type>().value(0);
    assert_eq!((of("id"), of("ID")), (1, 10));
}

#[tokio::test]
async fn b14_numbers_that_leave_64_bits() {
    let (chain, csv) = (chain("b14"), case!("b14.csv"));
    for (name, words) in [
        ("b14-sum", &["sum(t.amount)", "exceeds BIGINT"][..]),
        ("b14-times", &["t.amount * 2", "verflow"]),
        ("b14-zero", &["t.amount / t.zero", "division by zero"]),
    ] {
        let message = refused(&chain, &view(name), csv).await;
        assert!(words.iter().all(|words| message.contains(words)), "{name}: {message}");
    }
}

#[tokio::test]
async fn b15_rows_without_an_entity_and_at_one_time() {
    let Some(redis) = TestRedis::start().await else { return };
    let (chain, csv) = (chain("b15"), case!("b15.csv"));
    let table = chain.version(csv).await.unwrap().digest.unwrap();
    let result = chain.snapshot(&view("b15"), &table).await.unwrap();
    let told = "6 rows, 1 feature; not online: 2 rows without entity or time";
    assert_eq!(result.summary.as_deref(), Some(told));
    let digest = chain.serve(&redis, &view("b15"), csv, 1).await;
    let body = json!({"features": ["b15:v"], "entities": {"who": ["a", "b", ""]}});
    let answer = asked(&api(&redis), body.clone(), "v").await;
    assert_eq!(answer, (json!([5, null, null]), json!(["PRESENT", "NOT_FOUND", "NOT_FOUND"])));
    let again = with_sql("b15", "SELECT who, at, v FROM t -- once more");
    let mut reversed: Vec<&[u8]> = csv.split_inclusive(|byte| *byte == b'\n').collect();
    reversed[1..].reverse();
    assert_eq!(chain.serve(&redis, &again, &reversed.concat(), 2).await, digest);
    assert_eq!(asked(&api(&redis), body, "v").await, answer);
}

#[tokio::test]
async fn b16_rows_that_left_the_source_are_gone() {
    let Some(redis) = TestRedis::start().await else { return };
    let (chain, api) = (chain("b16"), api(&redis));
    let (one, two) = (view("b16-one"), view("b16-two"));
    let (before, after) = (case!("b16-before.csv"), case!("b16-after.csv"));
    let of = |feature: &str| json!({"features": [feature], "entities": {"who": ["a", "b", "c"]}});
    let first = chain.serve(&redis, &one, before, 1).await;
    chain.serve(&redis, &two, before, 1).await;
    assert_eq!(asked(&api, of("b16-one:v"), "v").await.0, json!([1, 2, 3]));

    chain.serve(&redis, &one, after, 2).await;
    chain.serve(&redis, &two, after, 2).await;
    let (_, answer) = post(&api, of("b16-one:v").to_string()).await;
    let v = &by_name(&answer)["v"];
    assert_eq!((&v["values"], &v["statuses"][1]), (&json!([1, null, 30]), &json!("NOT_FOUND")));
    assert_eq!(v["event_timestamps"][2], "2026-01-05T00:00:00Z");

    let narrow = with_sql("b16-one", "SELECT who, at, v FROM t");
    chain.serve(&redis, &narrow, after, 3).await;
    assert_eq!(post(&api, of("b16-one:w").to_string()).await.0, StatusCode::NOT_FOUND);

    // A pin to the first snapshot.
    chain.activate(&redis, &online(&one, 4), &first).await;
    assert_eq!(asked(&api, of("b16-one:v"), "v").await.0, json!([1, 2, 3]));

    let key = ViewKey { namespace: NAMESPACE.to_owned(), name: "b16-one".to_owned() };
    View::open(redis.server(), key).await.unwrap().remove().await.unwrap();
    assert!(redis.keys().await.iter().all(|key| !key.contains("b16-one")));
    assert_eq!(post(&api, of("b16-one:v").to_string()).await.0, StatusCode::NOT_FOUND);
    assert_eq!(asked(&api, of("b16-two:v10"), "v10").await.0, json!([10, null, 300]));
    chain.serve(&redis, &one, after, 1).await;
    assert_eq!(asked(&api, of("b16-one:w"), "w").await.0, json!([1, null, 30]));
}

#[tokio::test]
async fn b17_entities_as_clients_send_them() {
    let Some(redis) = TestRedis::start().await else { return };
    let api = api(&redis);
    chain("b17").serve(&redis, &view("b17"), case!("b17.csv"), 1).await;
    let mut answers = Vec::new();
    for line in include_str!("cases/b17.txt").lines().filter(|line| !line.starts_with('#')) {
        let (wanted, body) = line.split_once(' ').unwrap();
        let (status, answer) = post(&api, body.to_owned()).await;
        assert_eq!(status.as_str(), wanted, "{body}: {answer}");
        answers.push(answer);
    }
    assert_eq!(answers.len(), 18);
    let told = |number: usize| answers[number].to_string();
    for (number, column, row) in [(1, "num", 0), (2, "num", 0), (3, "txt", 0), (6, "num", 0), (7, "num", 0)] {
        let place = format!("row {row}");
        let error = told(number);
        assert!(error.contains(&format!("\\\"{column}\\\"")) && error.contains(&place), "{number}: {error}");
        assert!(error.contains("integer") || error.contains("string"), "{number}: {error}");
    }
    assert!(told(4).contains("\\\"txt\\\"") && told(5).contains("\\\"txt\\\""));
    let value = |number: usize, name: &str| by_name(&answers[number])[name]["values"].clone();
    assert_eq!(value(0, "v"), json!([1]));
    assert_eq!((value(8, "v"), value(8, "r1")), (json!([9_007_199_254_740_993_i64]), json!([1.111])));
    assert_eq!(value(9, "v"), json!([i64::MIN, 4, null]));
    assert_eq!(value(9, "num"), json!([i64::MAX, -1, 1001]));
    assert_eq!((value(10, "v"), value(10, "request_id")), (json!([1]), json!(["r-1"])));
    assert_eq!(value(14, "b17__v"), json!([1]));
}

#[tokio::test]
async fn b18_rows_of_other_times_and_odd_numbers() {
    let Some(redis) = TestRedis::start().await else { return };
    let (chain, api, mut view) = (chain("b18"), api(&redis), view("b18"));
    let table = chain.serve(&redis, &view, case!("b18.csv"), 1).await;
    let body: Value = serde_json::from_slice(case!("b18.json")).unwrap();
    let found = |now| json!([now, "PRESENT", "PRESENT", "NOT_FOUND"]);
    let answer = asked(&api, body.clone(), "b18__v").await;
    assert_eq!(answer, (json!([1.0, 2.0, 0.0, null]), found("OUTSIDE_MAX_AGE")));
    let ratio = asked(&api, body.clone(), "b18__ratio").await.0;
    assert_eq!(ratio, json!(["Infinity", "Infinity", "NaN", null]));
    let nothing = json!(["OUTSIDE_MAX_AGE", "NULL_VALUE", "NULL_VALUE", "NOT_FOUND"]);
    assert_eq!(asked(&api, body.clone(), "b18__nothing").await, (json!([null, null, null, null]), nothing));
    for ttl in [Some("20000d"), None] {
        view.spec.ttl = ttl.map(|ttl| Span::try_from(ttl.to_owned()).unwrap());
        chain.activate(&redis, &online(&view, 1), &table).await;
        assert_eq!(asked(&api, body.clone(), "b18__v").await.1, found("PRESENT"), "{ttl:?}");
    }
    // With a data time, a row that is dated later is left out and counted.
    let at_present = mlop_api::task::Online { as_of: Some(now()), ..online(&view, 2) };
    let result = chain.activate(&redis, &at_present, &table).await;
    assert_eq!(result.summary.as_deref(), Some("2 entities online; not online: 1 row of the future"));
    assert_eq!(asked(&api, body, "b18__v").await.1[1], "NOT_FOUND");
    let of_table = rows(&chain.store, &table).await;
    assert_eq!(of_table["v"].as_primitive::<Float64Type>().len(), 3);
}
