//! A scripted scheduler and kubelet: pods start and end in virtual time, and no process runs.
//!
//! ```
//! # use std::time::Duration;
//! # use mlop_sim::{Sim, kubelet::{self, PodOutcome}};
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let sim = Sim::new();
//! kubelet::spawn(&sim, |pod| match pod.metadata.name.as_deref() {
//!     Some("broken") => PodOutcome::fail(137, "OOMKilled", ""),
//!     Some("queued") => PodOutcome::succeed("").queued_for(Duration::from_secs(3600)),
//!     Some("wrong-image") => PodOutcome::image_pull_back_off().in_container("user"),
//!     _ => PodOutcome::succeed(r#"{"digest":"sha256:..."}"#),
//! });
//! # }
//! ```
//!
//! Tests compare the statuses with those that a real kubelet reported.

mod outcome;
mod pod_status;
mod runner;

pub use outcome::PodOutcome;
pub use runner::spawn;
