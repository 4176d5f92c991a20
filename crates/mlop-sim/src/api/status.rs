//! The `metav1.Status` of failures, with the reasons and messages of the real server.

use kube::core::response::{Status, StatusCause, StatusDetails, StatusSummary};
use serde_json::{Value, json};

use crate::{
    schema::{cause::cause, resource::ResourceType},
    storage::store::Compacted,
};

/// The result of an operation: a value, or the `Status` to respond with.
pub type Result<T> = std::result::Result<T, Box<Status>>;

fn failure(code: u16, reason: &str, message: String) -> Box<Status> {
    Box::new(Status {
        status: Some(StatusSummary::Failure),
        code,
        message,
        metadata: None,
        reason: reason.into(),
        details: None,
    })
}

/// The JSON document of a response.
pub(crate) fn json(status: &Status) -> Value {
    let mut document = serde_json::to_value(status).unwrap_or_default();
    document["kind"] = json!("Status");
    document["apiVersion"] = json!("v1");
    document["metadata"] = json!({});
    document
}

fn about(kind: &str, group: &str, name: &str) -> StatusDetails {
    StatusDetails {
        name: name.into(),
        group: group.into(),
        kind: kind.into(),
        uid: String::new(),
        causes: Vec::new(),
        retry_after_seconds: 0,
    }
}

fn about_resource(ty: &ResourceType, name: &str) -> Option<StatusDetails> {
    Some(about(&ty.plural, &ty.group, name))
}

/// The path or the resource type does not exist.
pub(crate) fn no_such_resource() -> Box<Status> {
    let message = "the server could not find the requested resource".to_string();
    Box::new(Status { details: Some(about("", "", "")), ..*failure(404, "NotFound", message) })
}

pub(crate) fn not_found(ty: &ResourceType, name: &str) -> Box<Status> {
    let message = format!("{} \"{name}\" not found", ty.resource);
    Box::new(Status { details: about_resource(ty, name), ..*failure(404, "NotFound", message) })
}

pub(crate) fn already_exists(ty: &ResourceType, name: &str) -> Box<Status> {
    let message = format!("{} \"{name}\" already exists", ty.resource);
    Box::new(Status { details: about_resource(ty, name), ..*failure(409, "AlreadyExists", message) })
}

pub(crate) fn conflict(ty: &ResourceType, name: &str, why: &str) -> Box<Status> {
    let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", ty.resource);
    Box::new(Status { details: about_resource(ty, name), ..*failure(409, "Conflict", message) })
}

/// Other managers own fields of an apply with other values.
pub(crate) fn apply_conflict(message: String, causes: Vec<StatusCause>) -> Box<Status> {
    let details = Some(StatusDetails { causes, ..about("", "", "") });
    Box::new(Status { details, ..*failure(409, "Conflict", message) })
}

pub(crate) fn forbidden(ty: &ResourceType, name: &str, why: &str, causes: Vec<StatusCause>) -> Box<Status> {
    let message = format!("{} \"{name}\" is forbidden: {why}", ty.resource);
    let details = about_resource(ty, name).map(|details| StatusDetails { causes, ..details });
    Box::new(Status { details, ..*failure(403, "Forbidden", message) })
}

pub(crate) fn bad_request(message: impl Into<String>) -> Box<Status> {
    failure(400, "BadRequest", message.into())
}

/// A request parameter is missing or invalid.
pub(crate) fn invalid_options(field: &str, reason: &str, message: &str) -> Box<Status> {
    let text = format!("PatchOptions.meta.k8s.io \"\" is invalid: {field}: {message}");
    let causes = vec![cause(reason, field, message)];
    let details = Some(StatusDetails { causes, ..about("PatchOptions", "meta.k8s.io", "") });
    Box::new(Status { details, ..*failure(422, "Invalid", text) })
}

/// A patch cannot be applied to the object.
pub(crate) fn unprocessable(message: impl Into<String>) -> Box<Status> {
    failure(422, "Invalid", message.into())
}

/// A failure to which the real server gives no reason.
pub(crate) fn unknown(message: String) -> Box<Status> {
    failure(500, "", message)
}

pub(crate) fn internal(message: impl Into<String>) -> Box<Status> {
    failure(500, "InternalError", message.into())
}

pub(crate) fn method_not_allowed() -> Box<Status> {
    let message = "the server does not allow this method on the requested resource".to_string();
    Box::new(Status { details: Some(about("", "", "")), ..*failure(405, "MethodNotAllowed", message) })
}

pub(crate) fn unsupported_media_type(content_type: &str) -> Box<Status> {
    let message = format!(
        "the body of the request was in an unknown format - accepted media types include: \
         application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml; got {content_type}"
    );
    failure(415, "UnsupportedMediaType", message)
}

impl From<Compacted> for Box<Status> {
    fn from(Compacted { revision, oldest }: Compacted) -> Self {
        failure(410, "Expired", format!("too old resource version: {revision} ({oldest})"))
    }
}

/// The request names a resource version that does not exist yet.
pub(crate) fn too_large_resource_version(wanted: u64, current: u64) -> Box<Status> {
    let message = format!("Too large resource version: {wanted}, current: {current}");
    let cause = StatusCause {
        reason: "ResourceVersionTooLarge".into(),
        message: "Too large resource version".into(),
        field: String::new(),
    };
    let details = Some(StatusDetails { causes: vec![cause], retry_after_seconds: 1, ..about("", "", "") });
    Box::new(Status { details, ..*failure(504, "Timeout", message) })
}

/// The object violates its schema or an invariant of its kind.
pub(crate) fn invalid(ty: &ResourceType, name: &str, causes: Vec<StatusCause>) -> Box<Status> {
    let errors: Vec<String> = causes.iter().map(|c| format!("{}: {}", c.field, c.message)).collect();
    let list = match errors.as_slice() {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    };
    let kind = if ty.group.is_empty() { ty.kind.clone() } else { format!("{}.{}", ty.kind, ty.group) };
    let details = Some(StatusDetails { causes, ..about(&ty.kind, &ty.group, name) });
    Box::new(Status { details, ..*failure(422, "Invalid", format!("{kind} \"{name}\" is invalid: {list}")) })
}

/// The response to a deletion that removed the object.
pub(crate) fn deleted(ty: &ResourceType, name: &str, uid: &str) -> Status {
    let details = about_resource(ty, name).map(|details| StatusDetails { uid: uid.into(), ..details });
    Status {
        status: Some(StatusSummary::Success),
        code: 0,
        message: String::new(),
        metadata: None,
        reason: String::new(),
        details,
    }
}
