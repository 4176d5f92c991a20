//! Caches of watched objects.
//!
//! A cache takes in events of a watch and the API server's answers to our own writes. An answer is in the cache before
//! the reconcile ends, so no controller acts on a state older than its own last write.

use super::{index_entries::Entries, workqueue::Key};
use crate::resource::{Cached, Unavailable};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::watch, time::Instant};

/// How long a tombstone stays. No answer to a write that the API server carried out before the deletion takes longer.
const TOMBSTONE_TTL: Duration = Duration::from_secs(60);

/// The annotation in which `kubectl apply` keeps the whole manifest.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

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
    project: fn(&mut K),
    objects: Mutex<Objects<K>>,
    listeners: Mutex<Vec<Listener<K>>>,
    availability_listeners: Mutex<Vec<Box<dyn Fn() + Send + Sync>>>,
    synced: watch::Sender<bool>,
    unavailable: watch::Sender<UnavailableScopes>,
}

/// The namespaces (none: all) whose objects cannot be listed, and why.
pub(crate) type UnavailableScopes = BTreeMap<Option<String>, Unavailable>;

struct Objects<K> {
    by_key: BTreeMap<Key, Arc<K>>,
    indexes: Vec<Entries<K>>,
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

    /// An object is there again: it had left the watch only, because a label was taken off.
    fn forget(&mut self, uid: Option<&String>) {
        if let Some(uid) = uid {
            self.uids.remove(uid);
        }
    }

    fn contains(&self, uid: Option<&String>) -> bool {
        uid.is_some_and(|uid| self.uids.contains(uid))
    }
}

impl<K> Objects<K> {
    /// Puts `after` in the place of the object `key`, which it returns.
    fn replace(&mut self, key: &Key, after: Option<&Arc<K>>) -> Option<Arc<K>> {
        let before = match after {
            Some(after) => self.by_key.insert(key.clone(), Arc::clone(after)),
            None => self.by_key.remove(key),
        };
        for index in &mut self.indexes {
            index.replace(key, before.as_deref(), after.map(AsRef::as_ref));
        }
        before
    }

    fn mark_listed(&mut self, key: &Key) {
        for (scope, listed) in &mut self.lists {
            if covers(scope.as_deref(), key) {
                listed.insert(key.clone());
            }
        }
    }
}

impl<K: Cached> Default for Cache<K> {
    fn default() -> Self {
        Self::new(|_| ())
    }
}

impl<K: Cached> Cache<K> {
    /// A cache of objects without the parts that `project` drops.
    pub(super) fn new(project: fn(&mut K)) -> Self {
        Self {
            project,
            objects: Mutex::new(Objects {
                by_key: BTreeMap::new(),
                indexes: Vec::new(),
                lists: BTreeMap::new(),
                invalidated: false,
                tombstones: Tombstones::default(),
            }),
            listeners: Mutex::default(),
            availability_listeners: Mutex::default(),
            synced: watch::Sender::new(false),
            unavailable: watch::Sender::default(),
        }
    }

    /// Number of objects.
    pub(super) fn len(&self) -> usize {
        self.objects().by_key.len()
    }

    /// The object with this key.
    pub fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.objects().by_key.get(key).cloned()
    }

    /// Those of the objects `names` of `namespace` that exist, by name.
    pub fn named<'a>(
        &self,
        namespace: &str,
        names: impl IntoIterator<Item = &'a str>,
    ) -> BTreeMap<String, Arc<K>> {
        let objects = self.objects();
        let known = |name: &str| {
            let object = objects.by_key.get(&Key::new(namespace, name))?;
            Some((name.to_owned(), Arc::clone(object)))
        };
        names.into_iter().filter_map(known).collect()
    }

    /// All objects, by namespace and name.
    pub(super) fn all(&self) -> Vec<Arc<K>> {
        self.objects().by_key.values().cloned().collect()
    }

    /// All keys.
    pub fn keys(&self) -> Vec<Key> {
        self.objects().by_key.keys().cloned().collect()
    }

    /// Calls `listener` after every later change.
    pub fn on_change(&self, listener: impl Fn(&Change<K>) + Send + Sync + 'static) {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(listener));
    }

    /// Calls `listener` after the objects of a namespace became available or unavailable.
    pub(crate) fn on_availability(&self, listener: impl Fn() + Send + Sync + 'static) {
        let mut listeners = self.availability_listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.push(Box::new(listener));
    }

    /// Why the objects of `namespace` cannot be listed; none if they can.
    pub(crate) fn unavailable(&self, namespace: &str) -> Option<Unavailable> {
        let scopes = self.unavailable.borrow();
        scopes.get(&None).or_else(|| scopes.get(&Some(namespace.to_owned()))).copied()
    }

    /// The namespaces whose objects cannot be listed.
    pub(crate) fn unavailable_scopes(&self) -> watch::Receiver<UnavailableScopes> {
        self.unavailable.subscribe()
    }

    /// Records whether the objects of `scope` can be listed.
    pub(crate) fn set_unavailable(&self, scope: &Option<String>, why: Option<Unavailable>) {
        let is_new = self.unavailable.send_if_modified(|scopes| {
            let before = match why {
                Some(why) => scopes.insert(scope.clone(), why),
                None => scopes.remove(scope),
            };
            before != why
        });
        if is_new {
            for listener in self.availability_listeners.lock().unwrap_or_else(PoisonError::into_inner).iter()
            {
                listener();
            }
        }
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
        self.objects().tombstones.forget(object.meta().uid.as_ref());
        self.put_if(object, |_, _| true);
    }

    fn put_if(&self, mut object: K, wanted: impl Fn(&Objects<K>, Option<&K>) -> bool) {
        let meta = object.meta_mut();
        meta.managed_fields = None;
        if let Some(annotations) = &mut meta.annotations {
            annotations.remove(LAST_APPLIED);
        }
        object.project();
        (self.project)(&mut object);
        let key = Key::of(object.meta());
        let after = Arc::new(object);
        let before = {
            let mut objects = self.objects();
            let trusted = !objects.invalidated;
            match objects.by_key.get(&key) {
                known if !wanted(&objects, known.map(AsRef::as_ref)) => return,
                Some(known) if trusted && !is_newer(after.meta(), known.meta()) => return,
                _ => objects.replace(&key, Some(&after)),
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
                    objects.replace(key, None)
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

mod indexed;
#[cfg(test)]
mod tests;
