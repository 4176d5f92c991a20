//! What runs controllers. Nothing here knows intents or runs.

pub mod backoff;
pub mod cache;
pub mod client;
pub mod context;
pub mod controller;
pub mod error;
pub mod execute;
pub mod health;
pub mod leader_election;
pub mod logging;
pub mod metrics;
pub mod reflector;
pub mod setup;
pub mod triggers;
pub mod workqueue;

#[cfg(test)]
mod tests;
