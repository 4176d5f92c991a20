//! How the simulator's own controllers reach the server without keeping it alive.

use std::sync::{Mutex, PoisonError, Weak};

use crate::server::Server;

/// Runs `f` on the server, unless the test has dropped it.
pub(crate) fn with<T>(server: &Weak<Mutex<Server>>, f: impl FnOnce(&mut Server) -> T) -> Option<T> {
    let shared = server.upgrade()?;
    let mut server = shared.lock().unwrap_or_else(PoisonError::into_inner);
    Some(f(&mut server))
}
