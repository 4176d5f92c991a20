//! Violations of a schema or of an invariant, in the form in which the API server reports them.

use kube::core::response::StatusCause;
use serde_json::Value;

pub(crate) fn cause(reason: &str, field: &str, message: impl Into<String>) -> StatusCause {
    StatusCause { reason: reason.into(), message: message.into(), field: field.into() }
}

/// A value that breaks a rule of its field.
pub(crate) fn invalid_value(field: &str, value: &Value, why: &str) -> StatusCause {
    cause("FieldValueInvalid", field, format!("Invalid value: {value}: {why}"))
}

/// The path of the field `name` of the object at `path`.
pub(super) fn child(path: &str, name: &str) -> String {
    if path.is_empty() { name.into() } else { format!("{path}.{name}") }
}
