//! Stand-ins for the controllers of Jobs, Deployments and StatefulSets.
//!
//! ```
//! # use std::time::Duration;
//! # use mlop_sim::{Sim, controllers};
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let sim = Sim::new();
//! controllers::spawn_jobs(&sim);
//! controllers::spawn_workloads(&sim, |name| (name != "stuck").then_some(Duration::from_secs(5)));
//! # }
//! ```
//!
//! The Job controller creates pods and derives the status of the Job from theirs, which a [`kubelet`](crate::kubelet)
//! reports. It sets no tracking finalizers, does not back off, and ignores pod failure policies and success policies.
//! Deployments and StatefulSets get a status, but no pods.

mod common;
mod jobs;
mod workloads;

pub use jobs::spawn_jobs;
pub use workloads::spawn_workloads;
