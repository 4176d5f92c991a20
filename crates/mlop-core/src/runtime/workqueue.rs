//! The workqueue of one controller: every key at most once, delays, and a rate limit per key.
//!
//! It is deterministic under tokio's time: no hash decides an order. kube's `Controller` is not used because its order
//! depends on hash seeds, and a panic in one reconcile ends it.
//!
//! The rate limit lets a few reconciles of one key follow each other at once, then one a second. Two controllers that
//! undo each other's writes, or a cache that lags, cannot overload the API server.

use std::{
    collections::{BTreeMap, VecDeque, btree_map::Entry},
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// Reconciles of one key that may follow each other without a delay. A run with all its attempts needs fewer.
const BURST: u32 = 30;
/// Time between reconciles of one key in the long run.
const PACE: Duration = Duration::from_secs(1);
/// Least number of rates at which those without effect are dropped.
const RATES_KEPT: usize = 1024;

/// Namespace and name of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub namespace: String,
    pub name: String,
}

impl Key {
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    pub fn of(meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> Self {
        Self::new(meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Keys of objects that wait for a reconcile.
#[derive(Default)]
pub(crate) struct Workqueue {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    ready: VecDeque<Key>,
    /// When each of them was enqueued.
    queued: BTreeMap<Key, Instant>,
    /// How long each has waited.
    active: BTreeMap<Key, Duration>,
    /// Enqueued while active, and when: they are enqueued again when the present reconcile ends.
    again: BTreeMap<Key, Instant>,
    timers: BTreeMap<(Instant, Key), ()>,
    timer_of: BTreeMap<Key, Instant>,
    /// When the reconciles of a key would be over at one per [`PACE`] (generic cell rate algorithm).
    rates: BTreeMap<Key, Instant>,
    /// Number of rates at which those without effect are dropped next: twice the number that was left last time, so that
    /// dropping costs each reconcile the same however many there are.
    rates_limit: usize,
}

impl Workqueue {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enqueues `key` now. A key that is queued keeps its place.
    pub(crate) fn enqueue(&self, key: Key) {
        self.state().push(key, Instant::now());
        self.changed.notify_one();
    }

    /// Enqueues `key` at `at`. This replaces an earlier call.
    pub(crate) fn enqueue_at(&self, key: Key, at: Instant) {
        let mut state = self.state();
        state.cancel(&key);
        state.set_timer(key, at);
        drop(state);
        self.changed.notify_one();
    }

    /// The next key; it counts as active until [`done`](Self::done).
    pub(crate) async fn next(&self) -> Key {
        loop {
            let due = {
                let mut state = self.state();
                let now = Instant::now();
                state.release_due(now);
                while let Some(key) = state.ready.pop_front() {
                    let since = state.queued.remove(&key).unwrap_or(now);
                    state.cancel(&key);
                    match state.pace(&key, now) {
                        None => {
                            state.active.insert(key.clone(), now.duration_since(since));
                            return key;
                        }
                        Some(at) => state.set_timer(key, at),
                    }
                }
                state.timers.first_key_value().map(|((at, _), ())| *at)
            };
            match due {
                Some(at) => tokio::select! {
                    () = sleep_until(at) => {}
                    () = self.changed.notified() => {}
                },
                None => self.changed.notified().await,
            }
        }
    }

    /// The reconcile of `key` has ended.
    pub(crate) fn done(&self, key: &Key) {
        let mut state = self.state();
        state.active.remove(key);
        if let Some(since) = state.again.remove(key) {
            state.push(key.clone(), since);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// How long an active key has waited.
    pub(crate) fn waited(&self, key: &Key) -> Duration {
        self.state().active.get(key).copied().unwrap_or_default()
    }

    /// Number of keys that wait now.
    pub(crate) fn depth(&self) -> usize {
        self.state().ready.len()
    }
}

impl State {
    fn push(&mut self, key: Key, since: Instant) {
        if self.active.contains_key(&key) {
            self.again.entry(key).or_insert(since);
        } else if let Entry::Vacant(place) = self.queued.entry(key) {
            self.ready.push_back(place.key().clone());
            place.insert(since);
        }
    }

    fn set_timer(&mut self, key: Key, at: Instant) {
        self.timers.insert((at, key.clone()), ());
        self.timer_of.insert(key, at);
    }

    /// Counts a reconcile, or returns when the next one may start.
    fn pace(&mut self, key: &Key, now: Instant) -> Option<Instant> {
        if self.rates.len() > self.rates_limit.max(RATES_KEPT) {
            self.rates.retain(|_, over| *over > now);
            self.rates_limit = 2 * self.rates.len();
        }
        let over = self.rates.get(key).map_or(now, |over| (*over).max(now));
        let ahead = PACE * (BURST - 1);
        if over.duration_since(now) > ahead {
            return Some(over - ahead);
        }
        self.rates.insert(key.clone(), over + PACE);
        None
    }

    fn cancel(&mut self, key: &Key) {
        if let Some(at) = self.timer_of.remove(key) {
            self.timers.remove(&(at, key.clone()));
        }
    }

    fn release_due(&mut self, now: Instant) {
        while let Some(((at, key), ())) = self.timers.first_key_value() {
            if *at > now {
                return;
            }
            let (at, key) = (*at, key.clone());
            self.cancel(&key);
            self.push(key, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn key(name: &str) -> Key {
        Key::new("ns", name)
    }

    #[tokio::test(start_paused = true)]
    async fn keys_come_in_order_and_once() {
        let queue = Workqueue::default();
        for name in ["b", "a", "b"] {
            queue.enqueue(key(name));
        }
        assert_eq!(queue.next().await, key("b"));
        assert_eq!(queue.next().await, key("a"));
        assert_eq!(queue.depth(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn active_key_waits_for_its_reconcile_to_end() {
        let queue = Workqueue::default();
        queue.enqueue(key("a"));
        let active = queue.next().await;
        queue.enqueue(key("a"));
        assert!(tokio::time::timeout(Duration::from_secs(5), queue.next()).await.is_err());
        queue.done(&active);
        let again = tokio::time::timeout(Duration::from_secs(5), queue.next()).await;
        assert_eq!(again.ok(), Some(key("a")));
    }

    #[tokio::test(start_paused = true)]
    async fn busy_key_is_rate_limited_and_others_are_not() {
        let queue = Workqueue::default();
        let start = Instant::now();
        let mut reconciles = 0;
        while start.elapsed() < Duration::from_secs(60) {
            queue.enqueue(key("busy"));
            let next = queue.next().await;
            assert_eq!(next, key("busy"));
            queue.done(&next);
            reconciles += 1;
        }
        assert!((80..=95).contains(&reconciles), "{reconciles} reconciles in a minute");
        queue.enqueue(key("busy"));
        queue.enqueue(key("other"));
        let before = Instant::now();
        assert_eq!((queue.next().await, before.elapsed()), (key("other"), Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn enqueue_overrides_a_delay() {
        let queue = Workqueue::default();
        let start = Instant::now();
        queue.enqueue_at(key("late"), start + Duration::from_secs(60));
        queue.enqueue_at(key("soon"), start + Duration::from_secs(10));
        let soon = queue.next().await;
        assert_eq!((soon.clone(), start.elapsed()), (key("soon"), Duration::from_secs(10)));
        queue.enqueue(key("late"));
        assert_eq!((queue.next().await, start.elapsed()), (key("late"), Duration::from_secs(10)));
        queue.done(&soon);
        assert!(tokio::time::timeout(Duration::from_secs(300), queue.next()).await.is_err());
    }
}
