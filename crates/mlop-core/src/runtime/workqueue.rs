//! The keyed work queue: one pass per object at a time, in the order of their waking, with delays.
//!
//! Deterministic under tokio's time: no hashing decides an order. kube's `Controller` is not used because its
//! order depends on hash seeds and a panic in one pass ends it.
//!
//! Passes over one key are paced: a few come at once, then one a second. Whatever two controllers undo for each
//! other, or a cache that is behind makes a pass repeat, the API server does not suffer from it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// Passes over one key that may follow each other without a pause. A run with all its attempts needs fewer.
const BURST: u32 = 30;
/// Time between passes over one key in the long run.
const PACE: Duration = Duration::from_secs(1);
/// Paces that are kept before those that have no effect any more are dropped.
const PACES_KEPT: usize = 1024;

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

/// Objects that want a pass.
#[derive(Default)]
pub struct Workqueue {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    ready: VecDeque<Key>,
    queued: BTreeSet<Key>,
    active: BTreeSet<Key>,
    /// Woken while active: they get another pass when the present one ends.
    again: BTreeSet<Key>,
    timers: BTreeMap<(Instant, Key), ()>,
    timer_of: BTreeMap<Key, Instant>,
    /// When the passes that a key has had would be over, one a [`PACE`] (the generic cell rate algorithm).
    paces: BTreeMap<Key, Instant>,
}

impl Workqueue {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes `key` now. A key that is queued already keeps its place.
    pub fn wake(&self, key: Key) {
        self.state().push(key);
        self.changed.notify_one();
    }

    /// Wakes `key` at `at`, instead of at an earlier wish.
    pub fn wake_at(&self, key: Key, at: Instant) {
        let mut state = self.state();
        state.cancel(&key);
        state.set_timer(key, at);
        drop(state);
        self.changed.notify_one();
    }

    /// The next key; it counts as active until [`done`](Self::done).
    pub async fn next(&self) -> Key {
        loop {
            let due = {
                let mut state = self.state();
                let now = Instant::now();
                state.release_due(now);
                while let Some(key) = state.ready.pop_front() {
                    state.queued.remove(&key);
                    state.cancel(&key);
                    match state.pace(&key, now) {
                        None => {
                            state.active.insert(key.clone());
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

    /// The pass over `key` has ended.
    pub fn done(&self, key: &Key) {
        let mut state = self.state();
        state.active.remove(key);
        if state.again.remove(key) {
            state.push(key.clone());
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Number of keys that wait for a pass now.
    pub fn depth(&self) -> usize {
        self.state().ready.len()
    }
}

impl State {
    fn push(&mut self, key: Key) {
        if self.active.contains(&key) {
            self.again.insert(key);
        } else if self.queued.insert(key.clone()) {
            self.ready.push_back(key);
        }
    }

    fn set_timer(&mut self, key: Key, at: Instant) {
        self.timers.insert((at, key.clone()), ());
        self.timer_of.insert(key, at);
    }

    /// Counts a pass, or says when the next one may be.
    fn pace(&mut self, key: &Key, now: Instant) -> Option<Instant> {
        if self.paces.len() > PACES_KEPT {
            self.paces.retain(|_, over| *over > now);
        }
        let over = self.paces.get(key).map_or(now, |over| (*over).max(now));
        let ahead = PACE * (BURST - 1);
        if over.duration_since(now) > ahead {
            return Some(over - ahead);
        }
        self.paces.insert(key.clone(), over + PACE);
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
            let key = key.clone();
            self.cancel(&key);
            self.push(key);
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
            queue.wake(key(name));
        }
        assert_eq!(queue.next().await, key("b"));
        assert_eq!(queue.next().await, key("a"));
        assert_eq!(queue.depth(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn an_active_key_waits_for_its_pass_to_end() {
        let queue = Workqueue::default();
        queue.wake(key("a"));
        let active = queue.next().await;
        queue.wake(key("a"));
        assert!(tokio::time::timeout(Duration::from_secs(5), queue.next()).await.is_err());
        queue.done(&active);
        assert_eq!(queue.next().await, key("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_is_woken_all_the_time_is_paced_and_others_are_not_held_up() {
        let queue = Workqueue::default();
        let start = Instant::now();
        let mut passes = 0;
        while start.elapsed() < Duration::from_secs(60) {
            queue.wake(key("busy"));
            let next = queue.next().await;
            assert_eq!(next, key("busy"));
            queue.done(&next);
            passes += 1;
        }
        assert!((80..=95).contains(&passes), "{passes} passes in a minute");
        queue.wake(key("busy"));
        queue.wake(key("other"));
        let before = Instant::now();
        assert_eq!((queue.next().await, before.elapsed()), (key("other"), Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn a_delay_is_kept_and_a_wake_overrides_it() {
        let queue = Workqueue::default();
        let start = Instant::now();
        queue.wake_at(key("late"), start + Duration::from_secs(60));
        queue.wake_at(key("soon"), start + Duration::from_secs(10));
        let soon = queue.next().await;
        assert_eq!((soon.clone(), start.elapsed()), (key("soon"), Duration::from_secs(10)));
        queue.wake(key("late"));
        assert_eq!((queue.next().await, start.elapsed()), (key("late"), Duration::from_secs(10)));
        queue.done(&soon);
        assert!(tokio::time::timeout(Duration::from_secs(300), queue.next()).await.is_err());
    }
}
