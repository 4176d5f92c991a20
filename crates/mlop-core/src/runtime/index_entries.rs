//! The content of one index: the names of objects by a value of theirs.

use super::workqueue::Key;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The values by which an object is found, such as the names of the objects that it uses.
type Values<K> = Box<dyn Fn(&K) -> Vec<String> + Send + Sync>;

/// The content of an index.
pub(super) struct Entries<K> {
    values: Values<K>,
    /// Value, and namespace and name of an object.
    entries: BTreeSet<(String, String, String)>,
}

impl<K> Entries<K> {
    pub(super) fn new(values: impl Fn(&K) -> Vec<String> + Send + Sync + 'static) -> Self {
        Self { values: Box::new(values), entries: BTreeSet::new() }
    }

    /// Adds the objects that were cached before the index was added.
    pub(super) fn fill(&mut self, objects: &BTreeMap<Key, Arc<K>>) {
        for (key, object) in objects {
            self.replace(key, None, Some(object));
        }
    }

    /// Takes in a change of the object `key`.
    pub(super) fn replace(&mut self, key: &Key, before: Option<&K>, after: Option<&K>) {
        let [before, after] = [before, after].map(|object| object.map(&self.values).unwrap_or_default());
        if before == after {
            return;
        }
        let entry = |value: String| (value, key.namespace.clone(), key.name.clone());
        for value in before {
            self.entries.remove(&entry(value));
        }
        self.entries.extend(after.into_iter().map(entry));
    }

    /// Names of the objects of `namespace` with this value.
    pub(super) fn names(&self, namespace: &str, value: &str) -> impl Iterator<Item = &str> {
        let from = (value.to_owned(), namespace.to_owned(), String::new());
        let (value, namespace) = (from.0.clone(), from.1.clone());
        let with_value =
            self.entries.range(from..).take_while(move |(v, n, _)| *v == value && *n == namespace);
        with_value.map(|(_, _, name)| name.as_str())
    }

    /// The keys of the objects of all namespaces with this value.
    pub(super) fn keys(&self, value: &str) -> impl Iterator<Item = Key> {
        let from = (value.to_owned(), String::new(), String::new());
        let value = from.0.clone();
        let with_value = self.entries.range(from..).take_while(move |(v, _, _)| *v == value);
        with_value.map(|(_, namespace, name)| Key::new(namespace, name))
    }
}
