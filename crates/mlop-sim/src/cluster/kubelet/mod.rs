//! A scripted kubelet: pods start and end in virtual time, and no process runs.
//!
//! ```
//! # use mlop_sim::{Sim, kubelet::{self, PodOutcome}};
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let sim = Sim::new();
//! kubelet::spawn(&sim, |pod| match pod.metadata.name.as_deref() {
//!     Some("broken") => PodOutcome::fail(137, "OOMKilled", ""),
//!     _ => PodOutcome::succeed(r#"{"digest":"sha256:..."}"#),
//! });
//! # }
//! ```

mod outcome;
mod pod_status;
mod runner;

pub use outcome::PodOutcome;
pub use runner::spawn;
