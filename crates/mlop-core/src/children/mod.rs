//! Objects that operators make in the cluster, and how they stand.

pub mod connection;
pub mod pod;
pub mod pod_outcome;
pub mod rollout;
