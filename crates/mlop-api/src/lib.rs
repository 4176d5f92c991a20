//! The kinds and the contract of mlop.
//!
//! Three things live here and nothing else: the custom resources that users and operators exchange (one module
//! per stage), the contract by which a stage publishes an artifact to the next ([`contract`]), and the documents
//! that pass between an operator and the pods that work for it ([`task`], [`result`]). No I/O and no clock.

// Printer columns repeat `type_` and `json_path` inside one attribute; that is how kube's derive takes them.
#![allow(clippy::duplicated_attributes)]

pub mod common;
pub mod contract;
pub mod dataset;
mod defaults;
pub mod deployment;
pub mod digest;
pub mod distributed;
pub mod duration;
mod exact;
pub mod features;
pub mod headline;
pub mod kinds;
pub mod labels;
pub mod operators;
pub mod preflight;
pub mod profile;
pub mod progress;
pub mod quantity;
pub mod queue;
pub mod reason;
pub mod registry;
pub mod result;
pub mod rollout;
pub mod routes;
pub mod run;
pub mod status;
pub mod task;
pub mod text;
pub mod time;
pub mod trace;
pub mod training;

pub use contract::Artifact;
pub use digest::Digest;
pub use quantity::Quantity;
pub use reason::Reason;
pub use time::Time;

/// API group of every mlop kind.
pub const GROUP: &str = "mlop.dev";
/// Served version of every mlop kind.
pub const VERSION: &str = "v1alpha1";
/// Media type of a table: a manifest that lists Parquet parts.
pub const MEDIA_TABLE: &str = "application/vnd.mlop.table.v1+json";
/// Media type of a tree: a manifest that lists files of any kind.
pub const MEDIA_TREE: &str = "application/vnd.mlop.tree.v1+json";

/// Whether a field has its default and is left out of JSON, so that digests do not depend on which fields exist.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
