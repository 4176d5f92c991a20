//! The stored objects, the counter of revisions, and the history that watches read.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use serde_json::{Value, json};

use super::{
    managers::Managers,
    object_version::ObjectVersion,
    subscriptions::{Subscribers, Subscription},
};
use crate::object::Object;

/// The revision of an empty store. Earlier revisions count as compacted, as on a server that has run for some time.
const FIRST_REVISION: u64 = 1000;

/// The key of an object. Cluster-scoped objects have an empty namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    /// `plural.group`, or the plural alone for the core group.
    pub(crate) resource: Arc<str>,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// One write. `before` is `None` for a creation, `after` for a removal.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) revision: u64,
    pub(crate) key: Key,
    pub(crate) before: Option<Arc<ObjectVersion>>,
    pub(crate) after: Option<Arc<ObjectVersion>>,
}

/// The error of a read at a revision whose history was discarded.
#[derive(Debug)]
pub(crate) struct Compacted {
    pub(crate) revision: u64,
    /// The oldest revision that can be read.
    pub(crate) oldest: u64,
}

/// The objects of all types at the current revision, and the history of their changes.
#[derive(Debug)]
pub(crate) struct Store {
    objects: BTreeMap<Key, Arc<ObjectVersion>>,
    history: VecDeque<Change>,
    /// The oldest revision from which a watch can start.
    compacted: u64,
    /// The newest compacted change of each resource. A watch that has shown it can continue.
    compacted_changes: BTreeMap<Arc<str>, u64>,
    revision: u64,
    /// How often the store was restored from a backup.
    restarts: u64,
    subscribers: Subscribers<Change>,
}

/// All objects at one revision.
#[derive(Debug, Clone)]
pub(crate) struct Backup {
    objects: BTreeMap<Key, Arc<ObjectVersion>>,
    revision: u64,
}

impl Store {
    pub(crate) fn new() -> Self {
        Self {
            objects: BTreeMap::new(),
            history: VecDeque::new(),
            compacted: FIRST_REVISION,
            compacted_changes: BTreeMap::new(),
            revision: FIRST_REVISION,
            restarts: 0,
            subscribers: Subscribers::new(),
        }
    }

    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    pub(crate) fn restarts(&self) -> u64 {
        self.restarts
    }

    /// Subscribes to the changes that `filter` accepts, and to restores and changes of types.
    pub(crate) fn subscribe(
        &mut self,
        filter: impl Fn(&Change) -> bool + Send + Sync + 'static,
    ) -> Subscription {
        self.subscribers.subscribe(filter)
    }

    /// Notifies all subscribers although no object has changed.
    pub(crate) fn notify_all(&self) {
        self.subscribers.notify_all();
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&Arc<ObjectVersion>> {
        self.objects.get(key)
    }

    /// All objects, ordered by resource, namespace and name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Key, &Arc<ObjectVersion>)> {
        self.objects.iter()
    }

    /// The objects of one resource in `namespace`, or in all namespaces if it is `None`.
    pub(crate) fn list<'a>(
        &'a self,
        resource: &'a str,
        namespace: Option<&'a str>,
    ) -> impl Iterator<Item = (&'a Key, &'a Arc<ObjectVersion>)> {
        let first = Key {
            resource: resource.into(),
            namespace: namespace.unwrap_or_default().into(),
            name: String::new(),
        };
        self.objects.range(first..).take_while(move |(key, _)| {
            *key.resource == *resource && namespace.is_none_or(|namespace| key.namespace == namespace)
        })
    }

    /// The objects of one resource at `revision`.
    pub(crate) fn list_at<'a>(
        &'a self,
        resource: &'a str,
        namespace: Option<&'a str>,
        revision: u64,
    ) -> Result<BTreeMap<&'a Key, &'a Arc<ObjectVersion>>, Compacted> {
        self.check_history(revision)?;
        let mut objects: BTreeMap<&Key, &Arc<ObjectVersion>> = self.list(resource, namespace).collect();
        for change in self.changes_since(revision).rev().filter(|change| change.concerns(resource, namespace))
        {
            match &change.before {
                Some(before) => objects.insert(&change.key, before),
                None => objects.remove(&change.key),
            };
        }
        Ok(objects)
    }

    /// Fails if the history does not reach back to `revision`.
    pub(crate) fn check_history(&self, revision: u64) -> Result<(), Compacted> {
        if revision < self.compacted { Err(self.compacted_at(revision)) } else { Ok(()) }
    }

    fn compacted_at(&self, revision: u64) -> Compacted {
        Compacted { revision, oldest: self.compacted }
    }

    /// The changes of one resource after `revision`, oldest first. Fails if some of them were compacted.
    pub(crate) fn changes_of<'a>(
        &'a self,
        resource: &'a str,
        revision: u64,
    ) -> Result<impl Iterator<Item = &'a Change>, Compacted> {
        match self.compacted_changes.get(resource) {
            Some(newest) if revision < *newest => Err(self.compacted_at(revision)),
            _ => Ok(self.changes_since(revision).filter(move |change| *change.key.resource == *resource)),
        }
    }

    fn changes_since(&self, revision: u64) -> impl DoubleEndedIterator<Item = &Change> {
        let start = self.history.partition_point(|change| change.revision <= revision);
        self.history.range(start..)
    }

    /// Writes `object` under a new revision, which becomes its resource version.
    pub(crate) fn put(&mut self, key: &Key, mut object: Value, managers: Managers) -> Arc<ObjectVersion> {
        self.stamp_revision(&mut object);
        let after = Arc::new(ObjectVersion::new(object, managers));
        let before = self.objects.insert(key.clone(), after.clone());
        self.record(key.clone(), before, Some(after.clone()));
        after
    }

    /// Removes an object and returns its last state, with the revision of the removal.
    pub(crate) fn remove(&mut self, key: &Key) -> Option<ObjectVersion> {
        let before = self.objects.remove(key)?;
        let mut last = Value::clone(&before);
        self.stamp_revision(&mut last);
        let last = ObjectVersion::new(last, before.managers().clone());
        self.record(key.clone(), Some(before), None);
        Some(last)
    }

    /// Discards the history: watches and lists from older revisions fail.
    pub(crate) fn compact(&mut self) {
        for change in self.history.drain(..) {
            self.compacted_changes.insert(change.key.resource, change.revision);
        }
        self.compacted = self.revision;
    }

    pub(crate) fn backup(&self) -> Backup {
        Backup { objects: self.objects.clone(), revision: self.revision }
    }

    /// Restores a backup, and discards the history and all later changes.
    pub(crate) fn restore(&mut self, backup: Backup) {
        self.objects = backup.objects;
        self.revision = backup.revision;
        self.compacted = backup.revision;
        self.history.clear();
        self.compacted_changes.clear();
        self.restarts += 1;
        self.notify_all();
    }

    fn stamp_revision(&mut self, object: &mut Value) {
        self.revision += 1;
        object.meta_mut().insert("resourceVersion".into(), json!(self.revision.to_string()));
    }

    fn record(&mut self, key: Key, before: Option<Arc<ObjectVersion>>, after: Option<Arc<ObjectVersion>>) {
        let change = Change { revision: self.revision, key, before, after };
        self.subscribers.notify(&change);
        self.history.push_back(change);
    }
}

impl Change {
    pub(crate) fn concerns(&self, resource: &str, namespace: Option<&str>) -> bool {
        *self.key.resource == *resource && namespace.is_none_or(|namespace| self.key.namespace == namespace)
    }
}
