//! The headline of a status.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The state of a resource in one line, made from its conditions: the columns REASON and MESSAGE of `kubectl get`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Headline {
    /// Reason of the first condition that is not as it should be; `Ready` or `Succeeded` if all are.
    #[schemars(length(max = 63))]
    pub reason: String,
    /// The beginning of its message in one line, or the first note on the result; absent if there is nothing to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub message: Option<String>,
}
