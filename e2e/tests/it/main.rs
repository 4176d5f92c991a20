//! End-to-end tests of the charts' operators in a real cluster, from the user's point of view.
//!
//! `cargo xtask test` runs them one after the other, because some of them kill operators that all of them share. Each
//! test has its own namespace.

mod chain;
mod data;
mod distributed;
mod flights;
mod flux;
mod frameworks;
mod gpu;
mod life;
mod mishaps;
mod operators;
mod plugin;
mod preflight;
mod queue;
mod recovery;
mod rollout;
mod support;
mod tenant;
mod training;
mod vault;
