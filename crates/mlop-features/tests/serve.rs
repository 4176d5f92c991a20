//! The online API over a real Redis: Feast's form, statuses, errors.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests may fail like tests"
)]

mod common;

use axum::{Router, http::StatusCode};
use common::{
    api::{by_name, get, options, post},
    redis::TestRedis,
    view::{EARLY, NAMESPACE, activate, recorded, users},
};
use futures::future::join_all;
use jiff::Timestamp;
use mlop_features::serve::router;
use serde_json::{Value, json};
use std::{collections::BTreeMap, net::TcpListener, time::Duration};
use tokio::time::Instant;

/// When the vectors were recorded: 2026-11-21T04:28:00Z.
fn then() -> Timestamp {
    Timestamp::constant(1_795_235_280, 0)
}

fn api(redis: &TestRedis) -> Router {
    common::api::of(redis, None, then)
}

#[tokio::test]
async fn answers_are_those_of_feast_with_true_statuses() {
    let Some(redis) = TestRedis::start().await else { return };
    activate(&redis, &recorded(), 1).await.unwrap();
    let body = json!({
        "features": ["user_stats:amount_avg", "user_stats:tx_count", "user_stats:country", "user_stats:is_vip",
            "user_stats:emb", "user_stats:last_seen"],
        "entities": {"user_id": [1001, 7, 8, 999_999]},
    });
    let (status, answer) = post(&api(&redis), body.to_string()).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let times =
        ["2026-11-21T04:23:00Z", "2026-11-19T04:28:00Z", "2026-11-21T04:23:00Z", "1970-01-01T00:00:00Z"];
    let column = |values: Value, statuses: [&str; 4]| json!({"values": values, "statuses": statuses, "event_timestamps": times});
    // Values and times are those that Feast's server was recorded with; it calls everything PRESENT.
    let usual = ["PRESENT", "OUTSIDE_MAX_AGE", "PRESENT", "NOT_FOUND"];
    let expected = BTreeMap::from([
        (
            "user_id",
            json!({"values": [1001, 7, 8, 999_999], "statuses": vec!["PRESENT"; 4],
            "event_timestamps": vec!["1970-01-01T00:00:00Z"; 4]}),
        ),
        (
            "country",
            column(
                json!(["RO", "RO", null, null]),
                ["PRESENT", "OUTSIDE_MAX_AGE", "NULL_VALUE", "NOT_FOUND"],
            ),
        ),
        ("amount_avg", column(json!([1501.5, 10.5, 12.0, null]), usual)),
        ("is_vip", column(json!([true, true, true, null]), usual)),
        ("last_seen", column(json!([1_795_235_280, 1_795_235_280, 1_795_235_280, null]), usual)),
        ("emb", column(json!([[0.5, 1.5], [0.5, 1.5], [0.5, 1.5], null]), usual)),
        ("tx_count", column(json!([1001, 7, 8, null]), usual)),
    ]);
    let expected: BTreeMap<_, _> =
        expected.into_iter().map(|(name, column)| (name.to_owned(), column)).collect();
    assert_eq!(by_name(&answer), expected);
}

#[tokio::test]
async fn api_is_unhealthy_while_the_store_has_no_mark() {
    let Some(redis) = TestRedis::start().await else { return };
    let api = common::api::of(&redis, Some("features"), then);
    let (status, body) = get(&api, "/health").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{body}");
    assert!(body.contains("has lost its data"), "{body}");
    let mark = format!("mlop:store:{{{NAMESPACE}/features}}:mark");
    redis.run(&["SET", &mark, "m"]).await;
    assert_eq!(get(&api, "/health").await.0, StatusCode::OK);
    redis.run(&["FLUSHALL"]).await;
    assert_eq!(get(&api, "/health").await.0, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn full_names_carry_the_view() {
    let Some(redis) = TestRedis::start().await else { return };
    activate(&redis, &recorded(), 1).await.unwrap();
    let body = json!({"features": ["user_stats:tx_count", "user_stats:amount_avg"], "entities": {"user_id": [1001]},
        "full_feature_names": true});
    let (_, answer) = post(&api(&redis), body.to_string()).await;
    let names = json!(["user_id", "user_stats__tx_count", "user_stats__amount_avg"]);
    assert_eq!(answer["metadata"]["feature_names"], names);
    assert_eq!(answer["results"][1]["values"], json!([1001]));
}

#[tokio::test]
async fn answer_has_the_new_generation_at_once() {
    let Some(redis) = TestRedis::start().await else { return };
    let api = api(&redis);
    let body = json!({"features": ["user_stats:amount_avg"], "entities": {"user_id": [1]}}).to_string();
    for revision in 1..=4 {
        activate(&redis, &users(&[(Some(1), EARLY, revision as f64, None)]), revision).await.unwrap();
        let (_, answer) = post(&api, body.clone()).await;
        assert_eq!(answer["results"][1]["values"], json!([revision as f64]));
    }
}

#[tokio::test]
async fn error_names_the_field_to_correct() {
    let Some(redis) = TestRedis::start().await else { return };
    activate(&redis, &recorded(), 1).await.unwrap();
    let api = api(&redis);
    for (code, body, words) in [
        (404, r#"{"features":["nope:x"],"entities":{"user_id":[1]}}"#, "no view \"nope\""),
        (404, r#"{"features":["user_stats:nope"],"entities":{"user_id":[1]}}"#, "no feature \"nope\""),
        (400, r#"{"features":["user_stats:emb"],"entities":{"wrong":[1]}}"#, "entity column \"user_id\""),
        (400, r#"{"features":["user_stats:emb"],"entities":{"user_id":[1,2],"x":[1]}}"#, "differ in length"),
        (400, r#"{"features":["user_stats:emb"],"entities":{"user_id":[1,"a"]}}"#, "an integer in row 1"),
        (400, r#"{"features":["user_stats:emb"],"entities":{"user_id":[]}}"#, "at least one"),
        (400, r#"{"features":["#, "no request"),
    ] {
        let (status, answer) = post(&api, body).await;
        assert_eq!(
            (status.as_u16(), answer["status_code"].as_u64()),
            (code, Some(u64::from(code))),
            "{body}"
        );
        assert!(answer["error"].as_str().unwrap().contains(words), "{body}: {answer}");
    }
    let (status, answer) = post(&api, vec![b' '; (4 << 20) + 1]).await;
    assert_eq!((status, answer["status_code"].as_u64()), (StatusCode::PAYLOAD_TOO_LARGE, Some(413)));
    let (status, _) = get(&api, "/get-online-features").await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(get(&api, "/nope").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn health_and_metrics_follow_the_online_store() {
    let Some(mut redis) = TestRedis::start().await else { return };
    activate(&redis, &recorded(), 1).await.unwrap();
    let api = api(&redis);
    let body =
        json!({"features": ["user_stats:country"], "entities": {"user_id": [1001, 7, 8, 9]}}).to_string();
    assert_eq!(post(&api, body.clone()).await.0, StatusCode::OK);
    assert_eq!(get(&api, "/health").await.0, StatusCode::OK);
    redis.stop();
    let (status, answer) = post(&api, body).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{answer}");
    assert_eq!(get(&api, "/health").await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(get(&api, "/livez").await, (StatusCode::OK, "ok".to_owned()));
    let (_, text) = get(&api, "/metrics").await;
    for line in [
        "mlop_features_requests_total{code=\"200\"} 1",
        "mlop_features_requests_total{code=\"503\"} 1",
        "mlop_features_values_total{status=\"NOT_FOUND\"} 1",
        "mlop_features_values_total{status=\"NULL_VALUE\"} 1",
        "mlop_features_request_duration_seconds_count 2",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

/// Requests that are sent at once: far more than are answered at a time.
const MANY: usize = 200;
/// Longest time in which a request is answered while Redis is silent.
const LIMIT: Duration = Duration::from_millis(2_500);

/// Sends [`MANY`] requests at once. Each one fails within [`LIMIT`].
async fn fail_at_once(api: &Router) {
    let body = json!({"features": ["user_stats:country"], "entities": {"user_id": [1001]}}).to_string();
    let begin = Instant::now();
    let requests = (0..MANY).map(|_| async {
        let (status, answer) = post(api, body.clone()).await;
        (status, answer, begin.elapsed())
    });
    for (status, answer, elapsed) in join_all(requests).await {
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{answer}");
        assert!(elapsed < LIMIT, "answered after {elapsed:?}: {answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn requests_fail_in_time_when_redis_does_not_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let connections = || std::iter::from_fn(|| listener.accept().ok()).count();
    let api = router(options(listener.local_addr().unwrap().to_string()), then);
    for attempt in 1..=2 {
        fail_at_once(&api).await;
        assert_eq!(connections(), 1, "connections of attempt {attempt}");
        tokio::time::advance(Duration::from_secs(2)).await;
    }
}

#[tokio::test]
async fn requests_fail_in_time_when_redis_falls_silent() {
    let Some(redis) = TestRedis::start().await else { return };
    activate(&redis, &recorded(), 1).await.unwrap();
    let api = api(&redis);
    assert_eq!(get(&api, "/health").await.0, StatusCode::OK);
    // It ends by itself: Redis would not answer CLIENT UNPAUSE either.
    redis.run(&["CLIENT", "PAUSE", "6000", "ALL"]).await;
    fail_at_once(&api).await;
    let is_back = async {
        while get(&api, "/health").await.0 != StatusCode::OK {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), is_back).await.expect("Redis answers again");
}

#[tokio::test]
async fn connection_is_made_again_at_once_when_it_was_closed() {
    let Some(redis) = TestRedis::start().await else { return };
    let api = api(&redis);
    assert_eq!(get(&api, "/health").await.0, StatusCode::OK);
    redis.run(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
    // The client may still find the connection open.
    let _ = get(&api, "/health").await;
    assert_eq!(get(&api, "/health").await.0, StatusCode::OK);
}

#[tokio::test]
async fn failure_is_reported_when_redis_lost_a_generation() {
    let Some(redis) = TestRedis::start().await else { return };
    activate(&redis, &recorded(), 1).await.unwrap();
    let meta = redis.keys().await.into_iter().find(|key| key.ends_with(":meta")).unwrap();
    redis::cmd("DEL").arg(meta).exec_async(&mut redis.connect().await).await.unwrap();
    let body = json!({"features": ["user_stats:country"], "entities": {"user_id": [1001]}}).to_string();
    let (status, answer) = post(&api(&redis), body).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer["error"].as_str().unwrap().contains("lost keys"), "{answer}");
}
