//! Feast's encodings, byte for byte, so that rows in Redis can be read with Feast's own tools.
//!
//! Three things are encoded: the [entity key](key) that names a row, the [field](key::field) that names a feature
//! inside it, and the [value](value). All of them are a few fixed byte patterns. A protobuf library would be larger
//! than these files.

pub mod key;
pub mod value;
mod wire;

pub use key::EntityValue;
pub use value::Value;

/// Bytes that are not what Feast would have written.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a Feast encoding: {0}")]
pub struct Malformed(pub &'static str);
