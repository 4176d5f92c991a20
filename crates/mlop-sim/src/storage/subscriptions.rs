//! Notifications of changes for watches and controllers, filtered for each subscriber.
//!
//! tokio's `watch` and `broadcast` channels wake every receiver for every message, and `watch` wakes them in random
//! order. Here only interested subscribers are woken, in the order of their subscription, so that a simulation stays
//! deterministic.

use std::{
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::Notify;

/// The state of one subscription since its subscriber last looked.
#[derive(Debug, Default)]
struct Mailbox {
    pending: AtomicBool,
    closed: AtomicBool,
    wake: Notify,
}

impl Mailbox {
    fn notify(&self) {
        self.pending.store(true, Ordering::SeqCst);
        self.wake.notify_one();
    }
}

struct Subscriber<T> {
    mailbox: Weak<Mailbox>,
    filter: Box<dyn Fn(&T) -> bool + Send + Sync>,
}

/// All subscribers to changes of type `T`. Dropping it closes their subscriptions.
pub(crate) struct Subscribers<T>(Vec<Subscriber<T>>);

impl<T> Subscribers<T> {
    pub(crate) fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn subscribe(&mut self, filter: impl Fn(&T) -> bool + Send + Sync + 'static) -> Subscription {
        let mailbox = Arc::default();
        // Every watch subscribes, so this is often enough to remove subscribers that were dropped.
        self.0.retain(|subscriber| subscriber.mailbox.strong_count() > 0);
        self.0.push(Subscriber { mailbox: Arc::downgrade(&mailbox), filter: Box::new(filter) });
        Subscription(mailbox)
    }

    /// Notifies the subscribers whose filter accepts `change`.
    pub(crate) fn notify(&self, change: &T) {
        for Subscriber { mailbox, filter } in &self.0 {
            if let Some(mailbox) = mailbox.upgrade().filter(|_| filter(change)) {
                mailbox.notify();
            }
        }
    }

    /// Notifies all subscribers of something other than the change of an object.
    pub(crate) fn notify_all(&self) {
        self.0
            .iter()
            .filter_map(|subscriber| subscriber.mailbox.upgrade())
            .for_each(|mailbox| mailbox.notify());
    }
}

impl<T> Drop for Subscribers<T> {
    fn drop(&mut self) {
        for mailbox in self.0.iter().filter_map(|subscriber| subscriber.mailbox.upgrade()) {
            mailbox.closed.store(true, Ordering::SeqCst);
            mailbox.notify();
        }
    }
}

impl<T> fmt::Debug for Subscribers<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} subscribers", self.0.len())
    }
}

/// The receiving end of one subscription. Dropping it ends the subscription.
#[derive(Debug)]
pub(crate) struct Subscription(Arc<Mailbox>);

/// The error of a subscription whose server was dropped.
#[derive(Debug)]
pub(crate) struct Closed;

impl Subscription {
    /// Waits for a change since the last call.
    pub(crate) async fn changed(&mut self) -> Result<(), Closed> {
        loop {
            if self.0.closed.load(Ordering::SeqCst) {
                return Err(Closed);
            }
            if self.0.pending.swap(false, Ordering::SeqCst) {
                return Ok(());
            }
            self.0.wake.notified().await;
        }
    }

    /// Discards the changes up to now.
    pub(crate) fn mark_seen(&mut self) {
        self.0.pending.store(false, Ordering::SeqCst);
    }
}
