//! Objects that operators create in the cluster, and the reading of their states.

pub mod budget;
pub mod connection;
pub mod container;
pub mod deployment;
pub mod meta;
pub mod network;
pub mod owned;
pub mod pod;
pub mod pod_outcome;
pub mod profile;
pub mod profiles;
pub(crate) mod requests;
pub mod rollout;
pub mod service;
pub mod template;
