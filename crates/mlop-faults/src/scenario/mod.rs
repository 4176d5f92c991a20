//! The scenarios: what users do while faults strike.

mod hands;
mod pipeline;
mod play;
mod users;

pub use pipeline::{CHANGES, PIPELINE, objects};
pub use play::{leftovers, play, play_until_namespace_ends};
pub use users::RESTLESS;
