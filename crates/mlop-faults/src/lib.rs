//! The whole chain under faults, in virtual time.
//!
//! A [`plan`] says what goes wrong and when: at a write, at a notification, or at a piece of work of a pod. The
//! [`inject`] layer lies below each operator's client, under its retries, and carries the plan out. A [`scenario`] is
//! what users do meanwhile. The [`oracle`]s judge what was done and what came of it. [`explore`] makes one plan for
//! every write and every notification of a run without faults, and [`random`] makes the rest from seeds.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test bed fails as tests do"
)]

pub mod explore;
pub mod generate;
pub mod inject;
pub mod oracle;
pub mod plan;
pub mod random;
pub mod scenario;
pub mod table;
pub mod users;
pub mod world;
