//! Stand-ins for the parts of a cluster around the API server, and operations on a whole cluster.

pub(crate) mod admin;
pub mod controllers;
pub(crate) mod garbage_collector;
pub mod kubelet;
pub(crate) mod snapshot;
