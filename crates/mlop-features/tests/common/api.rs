//! The online API in the process of the test.

use super::{redis::TestRedis, view::NAMESPACE};
use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode, header::CONTENT_TYPE},
};
use jiff::Timestamp;
use mlop_features::serve::{Options, router};
use serde_json::Value;
use std::collections::BTreeMap;
use tower::ServiceExt;

/// The API over `redis` at the time that `now` tells.
pub fn of(redis: &TestRedis, feature_store: Option<&str>, now: fn() -> Timestamp) -> Router {
    let options = Options {
        feature_store: feature_store.map(str::to_owned),
        password_file: Some(redis.password_file()),
        ..options(redis.address())
    };
    router(options, now)
}

/// The flags of an API for the Redis at `address`, which wants no password.
pub fn options(address: String) -> Options {
    Options {
        feature_store: None,
        redis: address,
        user: None,
        tls: false,
        cluster: false,
        ca_file: None,
        password_file: None,
        namespace: NAMESPACE.to_owned(),
        listen: String::new(),
        drain_seconds: 0,
    }
}

async fn send(api: &Router, request: Request<Body>) -> (StatusCode, String) {
    let response = api.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

pub async fn post(api: &Router, body: impl Into<Body>) -> (StatusCode, Value) {
    let request = Request::post("/get-online-features").header(CONTENT_TYPE, "application/json");
    let (status, body) = send(api, request.body(body.into()).unwrap()).await;
    (status, serde_json::from_str(&body).unwrap())
}

pub async fn get(api: &Router, path: &str) -> (StatusCode, String) {
    send(api, Request::get(path).body(Body::empty()).unwrap()).await
}

/// Results by name: clients must not rely on an order.
pub fn by_name(answer: &Value) -> BTreeMap<String, Value> {
    let names = answer["metadata"]["feature_names"].as_array().unwrap();
    let results = answer["results"].as_array().unwrap();
    assert_eq!(names.len(), results.len());
    names.iter().map(|name| name.as_str().unwrap().to_owned()).zip(results.iter().cloned()).collect()
}
