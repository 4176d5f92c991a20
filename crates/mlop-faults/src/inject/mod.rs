//! The fault injector: it carries a plan out below an operator's client and its retries, above the API server.

mod branches;
mod command;
mod connection;
mod injector;
mod ledger;
mod other_client;
mod request;
mod responses;
mod server;
mod watch;

pub use branches::{Branch, Branches, STOP};
pub use command::Command;
pub use connection::Connection;
pub use injector::{Injector, Witness};
pub use ledger::Ledger;
pub use request::OperatorRequest;
pub use server::{Answer, Server};
