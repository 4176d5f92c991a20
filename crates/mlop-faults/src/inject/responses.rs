//! Responses that the API server never gave.

use super::{request::OperatorRequest, server::Answer};
use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use serde_json::{Value, json};
use tower::BoxError;

pub fn refusal(code: u16, reason: &str, message: &str) -> Answer {
    let mut response = Response::new(body(status(code, reason, message).to_string()));
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if code == 429 {
        response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
    }
    response
}

pub fn forbidden(request: &OperatorRequest) -> Answer {
    let OperatorRequest { kind, name, by, verb, .. } = request;
    refusal(403, "Forbidden", &format!("{kind} {name:?} is forbidden: User \"{by}\" cannot {verb} it"))
}

pub fn quota_exceeded(request: &OperatorRequest) -> Answer {
    let OperatorRequest { kind, name, .. } = request;
    refusal(403, "Forbidden", &format!("{kind} {name:?} is forbidden: exceeded quota: count/{kind}"))
}

/// The event with which a watch ends whose resource version is too old.
pub fn expired_event() -> Bytes {
    let object = status(410, "Expired", "too old resource version");
    let mut line = json!({"type": "ERROR", "object": object}).to_string();
    line.push('\n');
    Bytes::from(line)
}

pub fn body(text: String) -> UnsyncBoxBody<Bytes, BoxError> {
    Full::from(text).map_err(|never| match never {}).boxed_unsync()
}

fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code})
}
