//! Reconciles and writes against an API server that answers from a script.

mod controller;
mod execute;
mod finalizers;
mod isolation;
mod server;
mod setup;
