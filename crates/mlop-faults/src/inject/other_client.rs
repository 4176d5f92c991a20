//! Requests of another client of the API server: a user, or a controller that is not part of mlop.

use super::{injector::Injector, request::OperatorRequest};
use crate::timing::RECREATION;
use http::{Method, Request, header};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::time::sleep;

/// How long another client's object keeps a name.
const NAME_TAKEN: Duration = Duration::from_secs(30);
/// How often that client deletes its object: a restored server brings it back.
const NAME_RELEASES: u32 = 10;

const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";

async fn request(
    injector: &Injector,
    method: Method,
    path: &str,
    content: &str,
    body: &Value,
) -> Option<Value> {
    let request = Request::builder()
        .method(method)
        .uri(format!("{path}?fieldManager=somebody"))
        .header(header::CONTENT_TYPE, content)
        .body(Body::from(if body.is_null() { Vec::new() } else { body.to_string().into_bytes() }))
        .ok()?;
    let response = injector.server.call(request).await.ok()?;
    let bytes = BodyExt::collect(response.into_body()).await.ok()?.to_bytes();
    serde_json::from_slice(&bytes).ok()
}

/// Deletes an object. If it belongs to a user, the user recreates it.
pub async fn delete(injector: &Arc<Injector>, path: &str) {
    let object = request(injector, Method::GET, path, "", &Value::Null).await;
    request(injector, Method::DELETE, path, JSON, &Value::Null).await;
    let is_users = |object: &Value| object["metadata"]["ownerReferences"].is_null();
    if let Some(object) = object.filter(|object| is_users(object) && object["kind"] != "Status") {
        injector.recreate_later(object, RECREATION);
    }
}

pub async fn label(injector: &Injector, path: &str) {
    let label = json!({"metadata": {"labels": {"edited-by": "somebody"}}});
    request(injector, Method::PATCH, path, MERGE, &label).await;
}

/// Creates an object of the name that an operator is about to create, and deletes it after a while.
pub async fn take_name(injector: &Arc<Injector>, create: &OperatorRequest) {
    let mut object: Value = serde_json::from_slice(&create.body).unwrap_or_default();
    let name = object["metadata"]["name"].clone();
    object["metadata"] = json!({"name": name, "labels": {"app": "somebody"}});
    let taken = request(injector, Method::POST, &create.path, JSON, &object).await.unwrap_or_default();
    let only_it = json!({"preconditions": {"uid": taken["metadata"]["uid"]}});
    let (injector, path) = (Arc::clone(injector), create.object_path());
    injector.extend_faults(NAME_TAKEN);
    tokio::spawn(async move {
        for _ in 0..NAME_RELEASES {
            sleep(NAME_TAKEN).await;
            request(&injector, Method::DELETE, &path, JSON, &only_it).await;
        }
    });
}
