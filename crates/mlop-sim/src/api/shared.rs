//! The server as it is shared by its clients, watches and controllers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::server::Server;

/// A server and its lock.
#[derive(Clone)]
pub(crate) struct SharedServer(Arc<Mutex<Server>>);

impl SharedServer {
    pub(crate) fn new(server: Server) -> Self {
        Self(Arc::new(Mutex::new(server)))
    }

    /// Locks the server. A panic of an earlier holder does not poison it, so that tests can still read the state.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Server> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn downgrade(&self) -> WeakServer {
        WeakServer(Arc::downgrade(&self.0))
    }
}

/// A reference for watches and controllers. It does not keep the server alive.
#[derive(Clone)]
pub(crate) struct WeakServer(Weak<Mutex<Server>>);

impl WeakServer {
    /// Calls `f` with the server; `None` if the test has dropped it.
    pub(crate) fn with<T>(&self, f: impl FnOnce(&mut Server) -> T) -> Option<T> {
        let shared = SharedServer(self.0.upgrade()?);
        let mut server = shared.lock();
        Some(f(&mut server))
    }
}
