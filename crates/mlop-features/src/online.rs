//! The layout of Redis.
//!
//! Every key of a view begins with `mlop:{<namespace>/<view>}:`, so that views never touch, and a cluster keeps a view
//! on one node, where scripts can work. A *generation* is the rows that were loaded under a revision, called
//! `<revision>-<12 hex of a digest over table and schema>`:
//!
//! | key after the prefix | type | content |
//! |---|---|---|
//! | `pointer` | hash | `revision`, `digest`, `generation` and number of `entities` being served; `claimed` and `claimant`, the highest revision that began to load and its generation |
//! | `generations` | sorted set | every generation that may have keys, by revision |
//! | `<generation>:meta` | string | the view's [schema](Schema) as JSON: readers need nothing else |
//! | `<generation>:index` | hash | batch number to the entity keys of that batch, each after its length (4 bytes, little endian) |
//! | `<generation>:e:<entity key>` | hash | one row, exactly as [Feast](crate::feast) keeps it; the project is the namespace |
//!
//! Why one hash for each entity and not one for the generation: a request asks for a few features of an entity, which
//! is one HMGET of a small hash, and Feast's tools can read it. The index lets a generation be deleted without scanning
//! the server's keys, at about a sixth of the memory of a set.
//!
//! The pointer only moves to a higher revision, or to the same table under another schema (an edited ttl). A load writes next to the served rows, moves the pointer in the end, and
//! begins with deleting rows that are neither served nor its own; so there are never more than two generations, and the
//! previous one stays for readers that are on their way. Batches are numbered and a table's rows are ordered, so a load
//! that was interrupted is repeated over itself.
//!
//! A view that has left for another FeatureStore has no rows here, and a pointer without any: its `claimed` keeps loads of
//! lower revisions out, which may come late.
//!
//! Besides the views, each FeatureStore has a [mark](mark).

pub mod connection;
mod keys;
pub mod load;
pub mod mark;
mod memory;
pub mod read;
mod script;
mod shared;

pub use keys::Generation;

use serde::{Deserialize, Serialize};

/// The facts about a view that a reader needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Schema {
    /// The columns that name a row, sorted by name.
    pub entities: Vec<Entity>,
    /// The column with the time since which a row is true.
    pub timestamp: String,
    pub features: Vec<String>,
    /// Seconds after which a value counts as too old; none: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
}

/// A column that names a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entity {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: EntityKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntityKind {
    String,
    Int64,
}
