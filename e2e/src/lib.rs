//! Shared code of the end-to-end tests and the demo: access to a cluster in which the operators are installed.
//!
//! `KUBECONFIG` names the cluster, `MLOP_CLUSTER` its provider, `MLOP_AUDIT_LOG` its API server's audit log and
//! `MLOP_NODE_EXEC` the way to its nodes, as `cargo xtask cluster env` prints them. Nothing here sleeps: every wait has a condition, a time limit, and an error that
//! shows the last state.

pub mod audit;
pub mod audit_checks;
pub mod bench;
pub mod chain;
pub mod cluster;
pub mod control_plane;
pub mod demo;
pub mod flights;
pub mod flux;
pub mod golden;
pub mod latency;
pub mod lineage;
pub mod namespace;
pub mod node;
pub mod observe;
pub mod port_forward;
pub mod predict;
pub mod prober;
pub mod rights;
pub mod s3;
mod server;
pub mod stage;
pub mod state;
pub mod wait;
