//! News of new revisions, for watches and controllers.
//!
//! tokio's `watch` channel would be the tool, but it wakes its receivers in random order, and with it everything that
//! hangs on them. `Notify` wakes them in the order in which they began to wait.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tokio::sync::Notify;

#[derive(Debug)]
struct Shared {
    current: AtomicU64,
    closed: AtomicBool,
    news: Notify,
}

/// The counter of revisions, and who is told of it.
#[derive(Debug)]
pub(crate) struct Revision(Arc<Shared>);

impl Revision {
    pub(crate) fn starting_at(first: u64) -> Self {
        Self(Arc::new(Shared {
            current: AtomicU64::new(first),
            closed: AtomicBool::new(false),
            news: Notify::new(),
        }))
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.current.load(Ordering::SeqCst)
    }

    pub(crate) fn set(&self, revision: u64) {
        self.0.current.store(revision, Ordering::SeqCst);
        self.0.news.notify_waiters();
    }

    pub(crate) fn subscribe(&self) -> Revisions {
        Revisions { seen: self.get(), shared: self.0.clone() }
    }
}

impl Drop for Revision {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::SeqCst);
        self.0.news.notify_waiters();
    }
}

/// One reader of the counter, and how far it has come.
#[derive(Debug, Clone)]
pub(crate) struct Revisions {
    shared: Arc<Shared>,
    seen: u64,
}

/// The server is gone.
#[derive(Debug)]
pub(crate) struct Closed;

impl Revisions {
    /// Waits for a revision that this reader has not seen.
    pub(crate) async fn changed(&mut self) -> Result<(), Closed> {
        loop {
            // Made before the look, so that no news falls between the two.
            let news = self.shared.news.notified();
            if self.shared.closed.load(Ordering::SeqCst) {
                return Err(Closed);
            }
            let current = self.shared.current.load(Ordering::SeqCst);
            if self.seen < current {
                self.seen = current;
                return Ok(());
            }
            news.await;
        }
    }

    /// The current revision, which then counts as seen.
    pub(crate) fn latest(&mut self) -> u64 {
        self.seen = self.shared.current.load(Ordering::SeqCst);
        self.seen
    }
}
