//! The record of all write requests, which shows whether two simulations were identical.

use serde::Serialize;

/// One write request and its outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Write {
    /// Server time of the response, in RFC 3339.
    pub time: String,
    /// `create`, `update`, `patch`, `apply` or `delete`.
    pub verb: String,
    /// `plural.group`, or the plural alone for the core group.
    pub resource: String,
    /// Empty for cluster-scoped objects.
    pub namespace: String,
    /// The generated name for a creation with `generateName`; empty if the request failed before one was generated.
    pub name: String,
    /// `status`, or empty.
    pub subresource: String,
    /// The field manager of the request; empty if it named none.
    pub field_manager: String,
    /// HTTP status code of the response.
    pub code: u16,
    /// Whether the request changed an object.
    pub changed: bool,
}

/// A 64-bit FNV-1a hash of `writes`. It does not vary between processes.
pub(crate) fn hash(writes: &[Write]) -> u64 {
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let text = serde_json::to_string(writes).unwrap_or_default();
    text.bytes().fold(BASIS, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME))
}
