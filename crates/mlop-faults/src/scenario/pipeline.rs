//! The pipeline of all scenarios.

/// An intent of every kind, from a bucket to a served model.
pub const PIPELINE: &str = include_str!("pipeline.yaml");
