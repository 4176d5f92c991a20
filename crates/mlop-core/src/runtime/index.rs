//! Indexes of a cache: its objects by a value of theirs, so that no lookup costs time in proportion to the number of
//! objects in the namespace.

use super::{cache::Cache, index_entries::Entries, workqueue::Key};
use crate::resource::Cached;
use std::sync::Arc;

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

    /// The objects of all namespaces with this value, sorted by namespace and name.
    pub fn everywhere(&self, value: &str) -> Vec<Arc<K>> {
        self.cache.indexed_everywhere(self.position, value)
    }

    /// The keys of those objects.
    pub fn keys_everywhere(&self, value: &str) -> Vec<Key> {
        self.cache.indexed_keys_everywhere(self.position, value)
    }

    /// The keys of the objects of `namespace` with this value, sorted by name.
    pub fn keys(&self, namespace: &str, value: &str) -> Vec<Key> {
        self.cache.indexed_keys(self.position, namespace, value)
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
            let all: Vec<_> = index.everywhere("x").iter().map(|pod| Key::of(&pod.metadata)).collect();
            let other = index.keys("other", "x");
            assert_eq!(all, [objects, other].concat(), "{situation}");
            assert_eq!(all, index.keys_everywhere("x"), "{situation}");
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
