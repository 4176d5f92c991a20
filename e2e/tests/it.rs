//! End-to-end tests: the operators of the chart in a real cluster, and what users see of them.
//!
//! `cargo xtask test` runs them one after the other, since some of them kill operators that all of them share. Each
//! has a namespace of its own.

#[path = "it/chain.rs"]
mod chain;
#[path = "it/data.rs"]
mod data;
#[path = "it/flights.rs"]
mod flights;
#[path = "it/operators.rs"]
mod operators;
#[path = "it/recovery.rs"]
mod recovery;
#[path = "it/support.rs"]
mod support;
#[path = "it/training.rs"]
mod training;
