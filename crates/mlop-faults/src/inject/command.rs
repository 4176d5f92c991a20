//! Faults that the injector leaves to the owner of the processes.

use serde_json::Value;

/// A fault that only the owner of the processes and of the API server can carry out.
#[derive(Debug)]
pub enum Command {
    Crash(String),
    AllCrash,
    SecondLeader(String),
    /// Send SIGTERM to the operator.
    Terminate(String),
    TakeLease(String),
    /// Set the operator's clock ahead by so many seconds for the time of an outage.
    Clock(String, i64),
    /// Restore the API server from a backup.
    Restore,
    /// Remove the kind of this plural, and bring it back later.
    RemoveType(String),
    EndNamespace,
    /// Delete the Dataset. [`Command::Recreate`] follows.
    RecreateInput,
    /// Create this object of a user again.
    Recreate(Value),
    FlapSource,
}
