//! Inputs: which of them may be used, where they come from, and where a problem upstream began.
//!
//! Every decision reads the contract's part of a status ([`Upstream`](mlop_api::contract::Upstream)), never the
//! producer's own type, so any kind that follows the contract can be an input.

mod caches;
mod cause;
mod gate;
mod graph;
mod lineage;
#[cfg(test)]
mod tests;

pub use caches::{Dependents, Inputs};
pub use cause::{UpstreamFailure, path, worst};
pub use gate::{BlockedInput, InputState, ReadyInput, Signal, first_to_mend, gate, signal};
pub use graph::{Hold, cycle, references};
pub use lineage::{ancestors, converged, last_published, newest, renewed_ancestors};
