//! A named check, and the macros in which checks are written.

use std::{fmt, future::Future, pin::Pin};

use kube::Client;

use super::bench::{Bench, Outcome};

type Running = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// One documented behaviour of an API server.
pub struct Check {
    /// The behaviour in a few words.
    pub name: &'static str,
    pub(super) run: fn(Bench) -> Running,
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Check {
    /// Runs this check alone.
    ///
    /// # Errors
    /// `name: reason` if the server behaves differently.
    pub async fn run(&self, client: &Client, namespace: &str) -> Result<(), String> {
        let bench = Bench { client: client.clone(), namespace: namespace.into(), check: self.name };
        (self.run)(bench).await.map_err(|failure| format!("{}: {failure}", self.name))
    }
}

/// Builds the list of checks from the names of their functions.
macro_rules! list {
    ($($name:ident),* $(,)?) => {
        vec![$($crate::conformance::check::Check {
            name: stringify!($name),
            run: |bench| Box::pin($name(bench)),
        }),*]
    };
}
/// Fails the check unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(format!($($message)+).into());
        }
    };
}
pub(super) use {ensure, list};
