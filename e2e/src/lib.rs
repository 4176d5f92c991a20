//! What the end-to-end tests and the demo share: a cluster with the operators installed, and ways to look at it.
//!
//! `KUBECONFIG` names the cluster, `MLOP_CLUSTER` its provider and `MLOP_AUDIT_LOG` its API server's audit log, as
//! `cargo xtask cluster env` prints them. Nothing here sleeps: every wait is for a condition, with a limit and an error
//! that shows the state in which the waiting ended.

pub mod audit;
pub mod chain;
pub mod cluster;
pub mod conduct;
pub mod demo;
pub mod flights;
pub mod forward;
pub mod hand_off;
pub mod moments;
pub mod predict;
pub mod prober;
pub mod s3;
pub mod scratch;
pub mod state;
pub mod trace;
pub mod wait;
