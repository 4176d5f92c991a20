//! The oracles: conditions that hold under every fault.

pub mod end_state;
mod held_up;
mod invariants;
mod moments;
mod progress;
mod quota;

pub use invariants::{
    idle_write, is_probing, pod_of_ended_run, unusual_creation, violations, write_since, writes,
    wrong_pointers,
};

use crate::cluster::Cluster;

/// Looks at the moments of a run from now on: at each write, and from time to time at all pods.
pub fn watch(cluster: &Cluster) {
    moments::watch(cluster);
    held_up::watch(cluster);
}
