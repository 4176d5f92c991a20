//! News of changes, for watches and controllers: each is told only of what it asked for.
//!
//! tokio's channels would be the tool, but `watch` and `broadcast` wake everybody for everything, the former in random
//! order, and with it everything that hangs on them. Here readers are woken in the order in which they subscribed.

use std::{
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::Notify;

/// What has happened to one reader since it last looked.
#[derive(Debug, Default)]
struct Mailbox {
    news: AtomicBool,
    closed: AtomicBool,
    wake: Notify,
}

impl Mailbox {
    fn deliver(&self) {
        self.news.store(true, Ordering::SeqCst);
        self.wake.notify_one();
    }
}

struct Subscriber<T> {
    mailbox: Weak<Mailbox>,
    wants: Box<dyn Fn(&T) -> bool + Send + Sync>,
}

/// Those who want to know of changes of type `T`.
pub(crate) struct Subscribers<T>(Vec<Subscriber<T>>);

impl<T> Subscribers<T> {
    pub(crate) fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn subscribe(&mut self, wants: impl Fn(&T) -> bool + Send + Sync + 'static) -> News {
        let mailbox = Arc::default();
        // Readers come and go with every watch: this is where those that are gone are noticed.
        self.0.retain(|subscriber| subscriber.mailbox.strong_count() > 0);
        self.0.push(Subscriber { mailbox: Arc::downgrade(&mailbox), wants: Box::new(wants) });
        News(mailbox)
    }

    /// Tells those who want to know.
    pub(crate) fn tell(&self, change: &T) {
        for Subscriber { mailbox, wants } in &self.0 {
            if let Some(mailbox) = mailbox.upgrade().filter(|_| wants(change)) {
                mailbox.deliver();
            }
        }
    }

    /// Tells everybody: something is different that is not a change of an object.
    pub(crate) fn tell_all(&self) {
        self.0
            .iter()
            .filter_map(|subscriber| subscriber.mailbox.upgrade())
            .for_each(|mailbox| mailbox.deliver());
    }
}

impl<T> Drop for Subscribers<T> {
    fn drop(&mut self) {
        for mailbox in self.0.iter().filter_map(|subscriber| subscriber.mailbox.upgrade()) {
            mailbox.closed.store(true, Ordering::SeqCst);
            mailbox.deliver();
        }
    }
}

impl<T> fmt::Debug for Subscribers<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} subscribers", self.0.len())
    }
}

/// One reader's news. It ends its subscription when it is dropped.
#[derive(Debug)]
pub(crate) struct News(Arc<Mailbox>);

/// The server is gone.
#[derive(Debug)]
pub(crate) struct Closed;

impl News {
    /// Waits until there was news since the last look.
    pub(crate) async fn next(&mut self) -> Result<(), Closed> {
        loop {
            if self.0.closed.load(Ordering::SeqCst) {
                return Err(Closed);
            }
            if self.0.news.swap(false, Ordering::SeqCst) {
                return Ok(());
            }
            self.0.wake.notified().await;
        }
    }

    /// Counts as seen what has come so far.
    pub(crate) fn catch_up(&mut self) {
        self.0.news.store(false, Ordering::SeqCst);
    }
}
