//! Objects, the one counter of revisions, and the history that watches read.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use serde_json::{Value, json};

use crate::{
    apply::Managers,
    news::{News, Subscribers},
    object::Object,
    status,
    stored::Stored,
};

/// The revision of an empty store. Earlier ones count as compacted, as on a server that has run for a while.
const FIRST_REVISION: u64 = 1000;

/// Where an object is. Cluster-scoped objects have an empty namespace.
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
    pub(crate) before: Option<Arc<Stored>>,
    pub(crate) after: Option<Arc<Stored>>,
}

/// The objects of all types at the current revision, and how they came to be.
#[derive(Debug)]
pub(crate) struct Store {
    objects: BTreeMap<Key, Arc<Stored>>,
    history: VecDeque<Change>,
    /// The oldest revision from which a watch can still start.
    compacted: u64,
    /// The newest forgotten change of each resource. A watch that has seen it has missed nothing.
    forgotten: BTreeMap<Arc<str>, u64>,
    revision: u64,
    /// How many times the server has come up again with other data.
    restarts: u64,
    subscribers: Subscribers<Change>,
}

/// All objects at one revision.
#[derive(Debug, Clone)]
pub(crate) struct Backup {
    objects: BTreeMap<Key, Arc<Stored>>,
    revision: u64,
}

impl Store {
    pub(crate) fn new() -> Self {
        Self {
            objects: BTreeMap::new(),
            history: VecDeque::new(),
            compacted: FIRST_REVISION,
            forgotten: BTreeMap::new(),
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

    /// Tells of the changes that `wants` picks, and of what concerns everybody.
    pub(crate) fn subscribe(&mut self, wants: impl Fn(&Change) -> bool + Send + Sync + 'static) -> News {
        self.subscribers.subscribe(wants)
    }

    /// Makes everybody look again, though no object has changed.
    pub(crate) fn tell_all(&self) {
        self.subscribers.tell_all();
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&Arc<Stored>> {
        self.objects.get(key)
    }

    /// All objects, ordered by resource, namespace and name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Key, &Arc<Stored>)> {
        self.objects.iter()
    }

    /// The objects of one resource, in one namespace or (with `None`) in all.
    pub(crate) fn list<'a>(
        &'a self,
        resource: &'a str,
        namespace: Option<&'a str>,
    ) -> impl Iterator<Item = (&'a Key, &'a Arc<Stored>)> {
        let first = Key {
            resource: resource.into(),
            namespace: namespace.unwrap_or_default().into(),
            name: String::new(),
        };
        self.objects.range(first..).take_while(move |(key, _)| {
            *key.resource == *resource && namespace.is_none_or(|namespace| key.namespace == namespace)
        })
    }

    /// The objects of one resource as they were at `revision`.
    pub(crate) fn list_at<'a>(
        &'a self,
        resource: &'a str,
        namespace: Option<&'a str>,
        revision: u64,
    ) -> status::Result<BTreeMap<&'a Key, &'a Arc<Stored>>> {
        self.check_history(revision)?;
        let mut objects: BTreeMap<&Key, &Arc<Stored>> = self.list(resource, namespace).collect();
        for change in self.changes_since(revision).rev().filter(|change| change.concerns(resource, namespace))
        {
            match &change.before {
                Some(before) => objects.insert(&change.key, before),
                None => objects.remove(&change.key),
            };
        }
        Ok(objects)
    }

    /// 410 when the history does not reach back to `revision`.
    pub(crate) fn check_history(&self, revision: u64) -> status::Result<()> {
        if revision < self.compacted { Err(status::expired(revision, self.compacted)) } else { Ok(()) }
    }

    /// The writes to one resource after `revision`, oldest first; 410 when some of them are forgotten.
    pub(crate) fn changes_of<'a>(
        &'a self,
        resource: &'a str,
        revision: u64,
    ) -> status::Result<impl Iterator<Item = &'a Change>> {
        match self.forgotten.get(resource) {
            Some(forgotten) if revision < *forgotten => Err(status::expired(revision, self.compacted)),
            _ => Ok(self.changes_since(revision).filter(move |change| *change.key.resource == *resource)),
        }
    }

    fn changes_since(&self, revision: u64) -> impl DoubleEndedIterator<Item = &Change> {
        let start = self.history.partition_point(|change| change.revision <= revision);
        self.history.range(start..)
    }

    /// Writes `object` under a new revision, which becomes its resource version.
    pub(crate) fn put(&mut self, key: &Key, mut object: Value, managers: Managers) -> Arc<Stored> {
        self.next(&mut object);
        let after = Arc::new(Stored::new(object, managers));
        let before = self.objects.insert(key.clone(), after.clone());
        self.record(key.clone(), before, Some(after.clone()));
        after
    }

    /// Removes an object; the answer is its last state under the revision of the removal.
    pub(crate) fn remove(&mut self, key: &Key) -> Option<Stored> {
        let before = self.objects.remove(key)?;
        let mut last = Value::clone(&before);
        self.next(&mut last);
        let last = Stored::new(last, before.managers().clone());
        self.record(key.clone(), Some(before), None);
        Some(last)
    }

    /// Forgets the history: watches and lists from older revisions get 410.
    pub(crate) fn compact(&mut self) {
        for change in self.history.drain(..) {
            self.forgotten.insert(change.key.resource, change.revision);
        }
        self.compacted = self.revision;
    }

    pub(crate) fn backup(&self) -> Backup {
        Backup { objects: self.objects.clone(), revision: self.revision }
    }

    /// Goes back to what was backed up, and forgets that there was more.
    pub(crate) fn restore(&mut self, backup: Backup) {
        self.objects = backup.objects;
        self.revision = backup.revision;
        self.compacted = backup.revision;
        self.history.clear();
        self.forgotten.clear();
        self.restarts += 1;
        self.tell_all();
    }

    fn next(&mut self, object: &mut Value) {
        self.revision += 1;
        object.meta_mut().insert("resourceVersion".into(), json!(self.revision.to_string()));
    }

    fn record(&mut self, key: Key, before: Option<Arc<Stored>>, after: Option<Arc<Stored>>) {
        let change = Change { revision: self.revision, key, before, after };
        self.subscribers.tell(&change);
        self.history.push_back(change);
    }
}

impl Change {
    pub(crate) fn concerns(&self, resource: &str, namespace: Option<&str>) -> bool {
        *self.key.resource == *resource && namespace.is_none_or(|namespace| self.key.namespace == namespace)
    }
}
