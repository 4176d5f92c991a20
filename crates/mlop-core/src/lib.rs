//! What every mlop operator shares.
//!
//! An operator is a set of controllers, one per kind. A controller's pass is always the same four steps
//! ([`controller`]): *observe* reads, mostly from caches ([`store`]); *plan* decides, a pure function whose result is
//! data ([`plan`]); *execute* is the only writer ([`execute`](mod@execute)); what went wrong is *reported* in the
//! status. Most kinds are one of two classes and need no plan of their own: an [`intent`] turns inputs into runs and
//! publishes their results, a [`run`] turns itself into pods and reads what they report. [`operator`] puts the parts
//! together and is the `main` of them all.

pub mod chain;
pub mod client;
pub mod condition;
pub mod connection;
pub mod context;
pub mod controller;
pub mod error;
pub mod execute;
pub mod health;
pub mod intent;
pub mod lease;
pub mod metrics;
pub mod operator;
pub mod outcome;
pub mod plan;
pub mod pod;
pub mod queue;
pub mod resource;
pub mod retry;
pub mod run;
pub mod store;
pub mod telemetry;
pub mod workload;

pub use context::{Clock, Context, Settings};
pub use controller::Reconciler;
pub use error::Error;
pub use operator::{Setup, main};
pub use plan::{Next, Plan};
