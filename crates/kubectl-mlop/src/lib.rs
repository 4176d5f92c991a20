//! The library behind `kubectl mlop`: the state of chains, its causes, their origin, and the actions of users.
//!
//! Every command is a pure function from a [`Snapshot`](snapshot::Snapshot), the objects of a namespace as they were read
//! at one time, to a model, and a renderer from the model to text. Only [`cluster`] has a client, and only [`cli`] reads
//! arguments and the clock, so a console can use everything else.
//!
//! | module | answers |
//! |---|---|
//! | [`status`] | the objects, and the versions in use |
//! | [`why`] | where a problem or a wait began, and what to do |
//! | [`trace`] | what an artifact was made from |
//! | [`versions`], [`diff`] | which runs there are, and what differs |
//! | [`actions`] | pin, roll back, retry, cancel, refresh, run, suspend |
//! | [`rollout`] | the step and the last measurement of a rollout in steps |
//! | [`queue`] | the usage of TrainingQueues, and their runs in order |
//! | [`dead_letters`], [`pods`], [`events`] | what failed, and where to look |
//! | [`check`] | the mistakes in a file that is not applied yet |
//! | [`init`] | a pipeline for a CSV file |
//! | [`predict`], [`online`] | requests to servers, and the answers |
//! | [`bundle`] | a support bundle without secrets |
//!
//! # Example
//!
//! ```
//! use jiff::Timestamp;
//! use kubectl_mlop::{
//!     output::Style,
//!     snapshot::{Object, Snapshot},
//!     status::{self, Chain, Width},
//!     why::Explanation,
//! };
//!
//! let dataset = Object::from_value(&serde_json::json!({
//!     "apiVersion": "mlop.dev/v1alpha1",
//!     "kind": "Dataset",
//!     "metadata": {"name": "flights", "namespace": "demo", "generation": 1},
//!     "spec": {"source": {"objects": {"store": "raw"}}, "store": "mlop"},
//! }))?
//! .ok_or("not a kind of mlop")?;
//! let snapshot = Snapshot { namespace: "demo".to_owned(), objects: vec![dataset], now: Timestamp::UNIX_EPOCH };
//! let tree = status::tree(&Chain::of(&snapshot, None), Width::Normal, Style::PLAIN);
//! assert!(tree.contains("Dataset/flights   … pending"));
//! let explanation = Explanation::of(&snapshot, &snapshot.objects[0]);
//! assert!(!explanation.is_ready());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Pitfalls
//!
//! - A name has several kinds in a chain: [`names::candidates`] returns the most downstream object first.
//! - Texts of a status come from outside. Whatever reaches a terminal passes through [`mlop_api::text::printable`].

#![warn(unreachable_pub)]

pub mod actions;
pub mod age;
pub mod bundle;
pub mod check;
pub mod cli;
pub mod cluster;
pub mod columns;
pub mod dead_letters;
pub mod diff;
pub mod events;
pub mod init;
pub mod kinds;
pub mod names;
pub mod online;
pub mod output;
pub mod plot;
pub mod pods;
pub mod predict;
pub mod queue;
pub mod references;
pub mod rollout;
pub mod snapshot;
pub mod state;
pub mod status;
#[cfg(test)]
mod tests;
pub mod trace;
pub mod versions;
pub mod why;
