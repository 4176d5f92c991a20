//! Indexes of a cache: its objects by a value of theirs, so that no lookup costs time in proportion to the number of
//! objects in the namespace.

use super::{cache::Cache, workqueue::Key};
use crate::resource::Cached;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The values by which an object is found, such as the names of the objects that it uses.
type Values<K> = Box<dyn Fn(&K) -> Vec<String> + Send + Sync>;

/// The objects of a cache by values of theirs: children by the name of their parent, dependents by the names of their
/// inputs. The cache keeps it up to date.
pub struct Index<K> {
    cache: Arc<Cache<K>>,
    /// Position among the indexes of the cache.
    position: usize,
}

impl<K: Cached> Index<K> {
    /// Adds an index to `cache`. `values` must depend on nothing but the object.
    pub fn new(cache: &Arc<Cache<K>>, values: impl Fn(&K) -> Vec<String> + Send + Sync + 'static) -> Self {
        let position = cache.add_index(Entries::new(values));
        Self { cache: Arc::clone(cache), position }
    }

    /// The objects of `namespace` with this value, sorted by name.
    pub fn get(&self, namespace: &str, value: &str) -> Vec<Arc<K>> {
        self.cache.indexed(self.position, namespace, value)
    }

    /// The keys of the objects of `namespace` with this value, sorted by name.
    pub fn keys(&self, namespace: &str, value: &str) -> Vec<Key> {
        self.cache.indexed_keys(self.position, namespace, value)
    }
}

/// The content of an index.
pub(super) struct Entries<K> {
    values: Values<K>,
    /// Namespace, value, and name of an object.
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
        let entry = |value: String| (key.namespace.clone(), value, key.name.clone());
        for value in before {
            self.entries.remove(&entry(value));
        }
        self.entries.extend(after.into_iter().map(entry));
    }

    /// Names of the objects of `namespace` with this value.
    pub(super) fn names(&self, namespace: &str, value: &str) -> impl Iterator<Item = &str> {
        let from = (namespace.to_owned(), value.to_owned(), String::new());
        let (namespace, value) = (from.0.clone(), from.1.clone());
        let with_value =
            self.entries.range(from..).take_while(move |(n, v, _)| *n == namespace && *v == value);
        with_value.map(|(_, _, name)| name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::PodView;

    /// A pod whose values are the words of `values`.
    fn pod(namespace: &str, name: &str, version: &str, values: &str) -> PodView {
        let mut pod = PodView::default();
        pod.metadata.namespace = Some(namespace.into());
        pod.metadata.name = Some(name.into());
        pod.metadata.uid = Some(format!("{namespace}-{name}"));
        pod.metadata.resource_version = Some(version.into());
        pod.status.message = Some(values.into());
        pod
    }

    fn words(pod: &PodView) -> Vec<String> {
        pod.status.message.iter().flat_map(|text| text.split_whitespace()).map(str::to_owned).collect()
    }

    #[test]
    fn index_follows_every_change_of_its_cache() {
        type Step = fn(&Cache<PodView>);
        let rows: [(&str, Step, &str); 10] = [
            ("an object", |cache| cache.put(pod("ns", "b", "1", "x")), "b"),
            ("another one, sorted by name", |cache| cache.put(pod("ns", "a", "2", "x y")), "a b"),
            ("another value", |cache| cache.put(pod("ns", "c", "3", "y")), "a b"),
            ("a value that begins alike", |cache| cache.put(pod("ns", "c", "4", "xx")), "a b"),
            ("another namespace", |cache| cache.put(pod("other", "a", "5", "x")), "a b"),
            ("an edit that keeps the value", |cache| cache.put(pod("ns", "a", "6", "z x")), "a b"),
            ("an edit that removes the value", |cache| cache.put(pod("ns", "b", "7", "z")), "a"),
            ("an older version", |cache| cache.put(pod("ns", "b", "6", "x")), "a"),
            ("our own write", |cache| cache.put_written(pod("ns", "b", "8", "x")), "a b"),
            ("a deletion", |cache| cache.remove(&Key::new("ns", "a"), Some("ns-a")), "b"),
        ];
        let cache = Arc::new(Cache::default());
        let index = Index::new(&cache, words);
        for (situation, step, want) in rows {
            step(&cache);
            let names: Vec<_> = index.keys("ns", "x").into_iter().map(|key| key.name).collect();
            assert_eq!(names.join(" "), want, "{situation}");
            let objects: Vec<_> = index.get("ns", "x").iter().map(|pod| Key::of(&pod.metadata)).collect();
            assert_eq!(objects, index.keys("ns", "x"), "{situation}");
        }
        cache.begin_list(None);
        cache.end_list(&None);
        assert_eq!(index.keys("ns", "x"), [], "an empty list");
    }

    #[test]
    fn index_has_the_objects_that_were_cached_before() {
        let cache = Arc::new(Cache::default());
        cache.put(pod("ns", "a", "1", "x"));
        assert_eq!(Index::new(&cache, words).keys("ns", "x"), [Key::new("ns", "a")]);
    }
}
