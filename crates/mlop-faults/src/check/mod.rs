//! The oracles: conditions that hold under every fault.

pub mod end_state;
mod invariants;

pub use invariants::{
    idle_write, pod_of_ended_run, unusual_creation, violations, write_since, writes, wrong_pointers,
};
