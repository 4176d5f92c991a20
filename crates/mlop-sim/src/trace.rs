//! What clients wrote, in order: the witness that two runs were the same.

use serde::Serialize;

/// One write request and its outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Write {
    /// Server time at which it was answered, RFC 3339.
    pub time: String,
    /// `create`, `update`, `patch`, `apply` or `delete`.
    pub verb: String,
    /// `plural.group`, or the plural alone for the core group.
    pub resource: String,
    /// Empty for cluster-scoped objects.
    pub namespace: String,
    /// For a creation with `generateName` the name it got; empty if it failed before that.
    pub name: String,
    /// Empty, or `status`.
    pub subresource: String,
    /// The field manager that was sent; empty if none was.
    pub field_manager: String,
    /// The HTTP status of the answer.
    pub code: u16,
    /// Whether any object changed.
    pub changed: bool,
}

/// A hash that is the same for the same writes in every process (64-bit FNV-1a).
pub(crate) fn hash(writes: &[Write]) -> u64 {
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let text = serde_json::to_string(writes).unwrap_or_default();
    text.bytes().fold(BASIS, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME))
}
