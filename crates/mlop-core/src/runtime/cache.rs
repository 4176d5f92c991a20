//! Caches of watched objects.
//!
//! A cache takes in events of a watch and the API server's answers to our own writes. An answer is in the cache before
//! the reconcile ends, so no controller acts on a state older than its own last write.

use super::workqueue::Key;
use crate::resource::Cached;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::watch, time::Instant};

/// How long a tombstone stays. No answer to a write that the API server carried out before the deletion takes longer.
const TOMBSTONE_TTL: Duration = Duration::from_secs(60);

/// A change of one object.
pub struct Change<K> {
    pub key: Key,
    pub before: Option<Arc<K>>,
    pub after: Option<Arc<K>>,
}

impl<K> Change<K> {
    /// The newest known state of the object.
    pub fn object(&self) -> Option<&Arc<K>> {
        self.after.as_ref().or(self.before.as_ref())
    }
}

type Listener<K> = Box<dyn Fn(&Change<K>) + Send + Sync>;

/// The objects of one kind that the operator watches.
pub struct Cache<K> {
    objects: Mutex<Objects<K>>,
    listeners: Mutex<Vec<Listener<K>>>,
    synced: watch::Sender<bool>,
}

struct Objects<K> {
    by_key: BTreeMap<Key, Arc<K>>,
    /// The keys that each list under way has brought, by its namespace (none: all namespaces). Our own writes count,
    /// because the list may be older.
    lists: BTreeMap<Option<String>, BTreeSet<Key>>,
    /// Versions of known objects do not count until everything has been listed again: the API server may have been
    /// restored from a backup.
    invalidated: bool,
    tombstones: Tombstones,
}

/// The uids of recently deleted objects. The answer to a write may arrive after the event of the deletion.
#[derive(Default)]
struct Tombstones {
    uids: BTreeSet<String>,
    by_time: VecDeque<(Instant, String)>,
}

impl Tombstones {
    fn insert(&mut self, uid: &str) {
        while let Some((_, old)) = self.by_time.pop_front_if(|(at, _)| at.elapsed() > TOMBSTONE_TTL) {
            self.uids.remove(&old);
        }
        if self.uids.insert(uid.to_owned()) {
            self.by_time.push_back((Instant::now(), uid.to_owned()));
        }
    }

    fn contains(&self, uid: Option<&String>) -> bool {
        uid.is_some_and(|uid| self.uids.contains(uid))
    }
}

impl<K> Objects<K> {
    fn mark_listed(&mut self, key: &Key) {
        for (scope, listed) in &mut self.lists {
            if covers(scope.as_deref(), key) {
                listed.insert(key.clone());
            }
        }
    }
}

impl<K: Resource + Clone> Default for Cache<K> {
    fn default() -> Self {
        Self {
            objects: Mutex::new(Objects {
                by_key: BTreeMap::new(),
                lists: BTreeMap::new(),
                invalidated: false,
                tombstones: Tombstones::default(),
            }),
            listeners: Mutex::default(),
            synced: watch::Sender::new(false),
        }
    }
}

impl<K: Resource + Clone + Send + Sync + 'static> Cache<K> {
    /// The object with this key.
    pub fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.objects().by_key.get(key).cloned()
    }

    /// The objects of `namespace` that satisfy `filter`, sorted by name.
    pub fn select(&self, namespace: &str, filter: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        let objects = self.objects();
        let from = Key::new(namespace, "");
        let in_namespace = objects.by_key.range(from..).take_while(|(key, _)| key.namespace == namespace);
        in_namespace.filter(|(_, object)| filter(object)).map(|(_, object)| Arc::clone(object)).collect()
    }

    /// All keys.
    pub fn keys(&self) -> Vec<Key> {
        self.objects().by_key.keys().cloned().collect()
    }

    /// Calls `listener` after every later change.
    pub fn on_change(&self, listener: impl Fn(&Change<K>) + Send + Sync + 'static) {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(listener));
    }

    /// Turns true when the first list is complete.
    pub fn synced(&self) -> watch::Receiver<bool> {
        self.synced.subscribe()
    }

    fn objects(&self) -> MutexGuard<'_, Objects<K>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in the API server's answer to a write, unless the object is known to have been deleted since: no event
    /// would ever remove it again.
    pub fn put_written(&self, object: K) {
        let uid = object.meta().uid.clone();
        self.objects().mark_listed(&Key::of(object.meta()));
        self.put_if(object, |objects, _| !objects.tombstones.contains(uid.as_ref()));
    }

    /// Takes in the API server's answer to a deletion. An unknown object was gone before the answer arrived.
    fn put_deleted(&self, object: K) {
        let uid = object.meta().uid.clone();
        if object.meta().deletion_timestamp.is_some() {
            self.put_if(object, |_, known| known.is_some_and(|known| known.meta().uid == uid));
        }
    }

    /// Takes in an object from an event.
    pub(super) fn put(&self, object: K) {
        self.put_if(object, |_, _| true);
    }

    fn put_if(&self, mut object: K, wanted: impl Fn(&Objects<K>, Option<&K>) -> bool) {
        object.meta_mut().managed_fields = None;
        let key = Key::of(object.meta());
        let after = Arc::new(object);
        let before = {
            let mut objects = self.objects();
            let trusted = !objects.invalidated;
            match objects.by_key.get(&key) {
                known if !wanted(&objects, known.map(AsRef::as_ref)) => return,
                Some(known) if trusted && !is_newer(after.meta(), known.meta()) => return,
                _ => objects.by_key.insert(key.clone(), Arc::clone(&after)),
            }
        };
        self.notify(&Change { key, before, after: Some(after) });
    }

    /// Removes an object, if it has this uid.
    pub(super) fn remove(&self, key: &Key, uid: Option<&str>) {
        let before = {
            let mut objects = self.objects();
            uid.into_iter().for_each(|uid| objects.tombstones.insert(uid));
            match objects.by_key.get(key) {
                Some(known) if uid.is_none() || known.meta().uid.as_deref() == uid => {
                    objects.by_key.remove(key)
                }
                _ => None,
            }
        };
        if before.is_some() {
            self.notify(&Change { key: key.clone(), before, after: None });
        }
    }

    /// Begins to receive the list of `scope`.
    pub(super) fn begin_list(&self, scope: Option<String>) {
        self.objects().lists.insert(scope, BTreeSet::new());
    }

    /// Takes in an object from a list.
    pub(super) fn put_listed(&self, object: K) {
        self.objects().mark_listed(&Key::of(object.meta()));
        self.put(object);
    }

    /// Removes the objects of `scope` that its list has not brought. Without a list there are none.
    pub(super) fn end_list(&self, scope: &Option<String>) {
        let gone: Vec<Key> = {
            let mut objects = self.objects();
            let listed = objects.lists.remove(scope).unwrap_or_default();
            let is_gone = |key: &&Key| covers(scope.as_deref(), key) && !listed.contains(*key);
            objects.by_key.keys().filter(is_gone).cloned().collect()
        };
        for key in gone {
            self.remove(&key, None);
        }
    }

    /// Makes every listed version count, also an older one, until [`end_sync`](Self::end_sync). Deleted objects may
    /// exist again.
    pub(super) fn invalidate(&self) {
        let mut objects = self.objects();
        objects.invalidated = true;
        objects.tombstones = Tombstones::default();
    }

    /// Everything has been listed.
    pub(super) fn end_sync(&self) {
        self.objects().invalidated = false;
        self.synced.send_replace(true);
    }

    fn notify(&self, change: &Change<K>) {
        for listener in self.listeners.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            listener(change);
        }
    }
}

/// Whether `new` supersedes `known`. Resource versions of one kind are comparable numbers (guaranteed since Kubernetes
/// 1.35, and true before). Another uid is another object and always counts.
fn is_newer(new: &ObjectMeta, known: &ObjectMeta) -> bool {
    let version = |text: &Option<String>| text.as_deref().and_then(|v| v.parse::<u64>().ok());
    match (version(&new.resource_version), version(&known.resource_version)) {
        (Some(new_version), Some(known_version)) if new.uid == known.uid => new_version > known_version,
        (Some(new_version), Some(known_version)) => new_version >= known_version,
        _ => true,
    }
}

/// Whether an object belongs to the namespace of a watch (none: all).
fn covers(scope: Option<&str>, key: &Key) -> bool {
    scope.is_none_or(|namespace| key.namespace == namespace)
}

/// A cache whose kind is erased, for the executor.
pub(crate) trait WriteThrough: Send + Sync {
    /// Takes in a written object.
    fn put_written_json(&self, object: Value);
    /// Takes in an object that is being deleted.
    fn put_deleted_json(&self, object: Value);
    /// The object, if this cache keeps objects whole.
    fn live_json(&self, key: &Key) -> Option<Value>;
}

impl<K: Cached> WriteThrough for Cache<K> {
    fn put_written_json(&self, object: Value) {
        match serde_json::from_value(object) {
            Ok(object) => self.put_written(object),
            Err(error) => {
                tracing::warn!(%error, "cannot read the answer to a write; waiting for the watch event");
            }
        }
    }

    fn put_deleted_json(&self, object: Value) {
        // The answer is a Status if nothing is left. The watch event follows.
        if let Ok(object) = serde_json::from_value(object) {
            self.put_deleted(object);
        }
    }

    fn live_json(&self, key: &Key) -> Option<Value> {
        self.get(key).and_then(|object| object.whole())
    }
}

#[cfg(test)]
mod tests;
