//! What runs controllers. Nothing here knows intents or runs.

pub(crate) mod backoff;
pub(crate) mod cache;
pub mod client;
pub(crate) mod context;
pub(crate) mod controller;
pub(crate) mod decoded;
pub(crate) mod error;
pub(crate) mod events;
pub(crate) mod execute;
pub(crate) mod finalizers;
pub(crate) mod health;
pub(crate) mod index;
mod index_entries;
pub(crate) mod installation;
pub mod leader_election;
pub(crate) mod leftovers;
pub(crate) mod logging;
pub(crate) mod metrics;
pub(crate) mod otlp;
pub(crate) mod reflector;
pub(crate) mod service_account;
pub(crate) mod setup;
pub(crate) mod tracer;
pub(crate) mod triggers;
pub(crate) mod workqueue;

#[cfg(test)]
mod tests;
