//! The view of the tests: what Feast's vectors were recorded with.

use super::{redis::TestRedis, store, table, times};
use arrow::{
    array::{ArrayRef, BooleanArray, Float64Array, Int64Array, ListArray, RecordBatch, StringArray},
    datatypes::Float32Type,
};
use mlop_api::{
    Digest,
    result::{Activated, Failure, ResultDocument},
    task::{Online, Redis, ViewKey},
};
use mlop_artifact::store::ObjectStoreHandle;
use std::sync::Arc;

pub const NAMESPACE: &str = "fraud";

/// 2026-11-21T04:23:00Z.
pub const EARLY: i64 = 1_795_234_980;

pub fn user_stats() -> ViewKey {
    ViewKey { namespace: NAMESPACE.to_owned(), name: "user_stats".to_owned() }
}

/// One row of `user_stats`: user, second, amount, country.
pub type User = (Option<i64>, i64, f64, Option<&'static str>);

/// A sorted table with the columns that Feast's vectors have.
pub fn users(rows: &[User]) -> RecordBatch {
    let count = rows.len();
    let embedding = || Some(vec![Some(0.5f32), Some(1.5)]);
    RecordBatch::try_from_iter([
        ("user_id", Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.0))) as ArrayRef),
        ("ts", times(rows.iter().map(|row| row.1))),
        ("amount_avg", Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.2)))),
        ("tx_count", Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.0)))),
        ("country", Arc::new(StringArray::from_iter(rows.iter().map(|row| row.3)))),
        ("is_vip", Arc::new(BooleanArray::from(vec![true; count]))),
        (
            "emb",
            Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>((0..count).map(|_| embedding()))),
        ),
        ("last_seen", times((0..count).map(|_| 1_795_235_280))),
    ])
    .unwrap()
}

/// The rows of the recorded server: 1001 and 8 are fresh, 7 is two days old, 8 has no country.
pub fn recorded() -> RecordBatch {
    users(&[
        (Some(7), EARLY - 172_500, 10.5, Some("RO")),
        (Some(8), EARLY, 12.0, None),
        (Some(1001), EARLY - 60, 1.0, Some("DE")),
        (Some(1001), EARLY, 1501.5, Some("RO")),
    ])
}

pub fn online(revision: i64) -> Online {
    Online {
        view: user_stats(),
        entities: vec!["user_id".to_owned()],
        timestamp: "ts".to_owned(),
        ttl_seconds: Some(86_400),
        as_of: None,
        redis: elsewhere(),
        activation: Activated { revision, parameters: Digest::of_bytes(b"a day") },
    }
}

/// A Redis in a task: tests name theirs by an argument.
pub fn elsewhere() -> Redis {
    Redis { address: String::new(), password: true, user: None, tls: false, cluster: false }
}

/// Publishes `batch` and activates it as `revision`.
pub async fn activate(
    redis: &TestRedis,
    batch: &RecordBatch,
    revision: i64,
) -> Result<ResultDocument, Failure> {
    let store = store();
    let digest = table(&store, batch).await;
    run(redis, &store, &digest, &online(revision)).await
}

pub async fn run(
    redis: &TestRedis,
    store: &ObjectStoreHandle,
    digest: &Digest,
    online: &Online,
) -> Result<ResultDocument, Failure> {
    let scratch = super::Scratch::new();
    mlop_features::activate::run(online, digest, store, redis.server(), scratch.path()).await
}
