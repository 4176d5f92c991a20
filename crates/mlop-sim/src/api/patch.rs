//! Merge patches (RFC 7396) and JSON patches (RFC 6902).

use kube::core::response::Status;
use serde_json::Value;

use super::status::{self, Result};

/// Applies a patch of this content type to `old`.
pub(crate) fn apply_patch(old: &Value, content_type: &str, patch: Value) -> Result<Value> {
    let mut new = old.clone();
    match content_type.split(';').next().unwrap_or_default() {
        "application/merge-patch+json" => json_patch::merge(&mut new, &patch),
        "application/json-patch+json" => {
            let patch: json_patch::Patch =
                serde_json::from_value(patch).map_err(|error| status::bad_request(error.to_string()))?;
            json_patch::patch(&mut new, &patch).map_err(|error| refused(&error.to_string()))?;
        }
        other => return Err(status::unsupported_media_type(other)),
    }
    Ok(new)
}

/// A `test` operation failed, or a path does not exist.
fn refused(why: &str) -> Box<Status> {
    status::unprocessable(format!("the server rejected our request due to an error in our request: {why}"))
}
