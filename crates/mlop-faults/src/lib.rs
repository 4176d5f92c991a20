//! The whole chain under faults, in virtual time.
//!
//! A [`plan`] names faults and their points: a write, a notification, a piece of work of a pod, or a moment.
//! The [`inject`] layer carries the plan out below each operator's client, under its retries. The [`cluster`] is a
//! simulated API server with the operators as processes, and workers that compute digests in place of data. A
//! [`scenario`] plays the users. The oracles of [`check`] judge every write and the state at the end.
//!
//! A [`baseline`] is a run of a scenario without faults. It yields one plan for every write, notification and piece of
//! work, and the outcome that each plan must have. [`random`] makes further plans from seeds.
//!
//! ```
//! use mlop_faults::{baseline::Baseline, plan::Plan};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let plan = Plan::from_yaml(
//!     "
//! scenario: newData
//! faults:
//! - at: {write: {by: mlop-training, verb: create, kind: jobs, name: delay-*-1, nth: 1}}
//!   fault: crashAfter
//! ",
//! )?;
//! let verdict = Baseline::of(plan.scenario)?.judge(&plan);
//! assert_eq!((verdict.failures.len(), verdict.unused), (0, 0));
//! # Ok(())
//! # }
//! ```
//!
//! A plan that fails is written as YAML. It joins `regressions/` when the defect is fixed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test bed fails as tests do"
)]

pub mod baseline;
pub mod check;
pub mod cluster;
pub mod inject;
pub mod judges;
pub mod plan;
pub mod random;
pub mod report;
pub mod scenario;
pub mod timing;
