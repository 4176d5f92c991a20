//! The target of a pointer in an external system.

/// The active revision of a feature table, or the claim on an alias.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pointer {
    pub revision: i64,
    /// The table's digest, or the version's number.
    pub content: String,
}
