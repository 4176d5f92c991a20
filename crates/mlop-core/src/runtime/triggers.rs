//! Triggers: the objects that a change in a cache enqueues.

use super::{
    cache::Cache,
    index::Index,
    workqueue::{Key, Workqueue},
};
use crate::resource::Cached;
use kube::Resource;
use mlop_api::labels;
use std::sync::Arc;

/// The objects of one controller and their workqueue, for adding triggers.
pub struct Controls<K> {
    objects: Arc<Cache<K>>,
    queue: Arc<Workqueue>,
}

impl<K> Clone for Controls<K> {
    fn clone(&self) -> Self {
        Self { objects: Arc::clone(&self.objects), queue: Arc::clone(&self.queue) }
    }
}

impl<K: Cached> Controls<K> {
    /// Every change of an object enqueues it.
    pub(crate) fn new(objects: &Arc<Cache<K>>, queue: &Arc<Workqueue>) -> Self {
        let controls = Self { objects: Arc::clone(objects), queue: Arc::clone(queue) };
        enqueue_on(objects, queue, |object| [Key::of(object.meta())]);
        controls
    }

    /// A change of an object of `others` enqueues the objects of its namespace that use it. `names` returns the names of
    /// the objects of `others` that an object uses.
    pub fn enqueue_on<C: Cached>(
        self,
        others: &Arc<Cache<C>>,
        names: impl Fn(&K) -> Vec<String> + Send + Sync + 'static,
    ) -> Self {
        let users = self.index(names);
        self.enqueue_keys(others, move |other: &C| {
            let Key { namespace, name } = Key::of(other.meta());
            users.keys(&namespace, &name)
        })
    }

    /// A change of an object of `others` enqueues the keys that `keys` returns for it.
    pub fn enqueue_keys<C: Cached>(
        self,
        others: &Arc<Cache<C>>,
        keys: impl Fn(&C) -> Vec<Key> + Send + Sync + 'static,
    ) -> Self {
        enqueue_on(others, &self.queue, keys);
        self
    }

    /// A change of an object of `others` enqueues the keys that `keys` returns for its states before and after.
    pub fn enqueue_changes<C: Cached>(
        self,
        others: &Arc<Cache<C>>,
        keys: impl Fn(Option<&C>, Option<&C>) -> Vec<Key> + Send + Sync + 'static,
    ) -> Self {
        let queue = Arc::clone(&self.queue);
        others.on_change(move |change| {
            for key in keys(change.before.as_deref(), change.after.as_deref()) {
                queue.enqueue(key);
            }
        });
        self
    }

    /// An index of the objects.
    pub fn index(&self, values: impl Fn(&K) -> Vec<String> + Send + Sync + 'static) -> Index<K> {
        Index::new(&self.objects, values)
    }

    /// Enqueues every object.
    pub(crate) fn enqueue_all(&self) {
        self.enqueue(self.objects.keys());
    }

    /// Enqueues a key.
    pub(crate) fn enqueuer(&self) -> impl Fn(Key) + Send + Sync + 'static {
        let queue = Arc::clone(&self.queue);
        move |key| queue.enqueue(key)
    }

    pub(crate) fn enqueue(&self, keys: impl IntoIterator<Item = Key>) {
        keys.into_iter().for_each(|key| self.queue.enqueue(key));
    }
}

impl<K: Cached + Resource<DynamicType = ()>> Controls<K> {
    /// A change of a child enqueues the object whose name and kind its labels carry.
    pub fn owns<C: Cached>(self, children: &Arc<Cache<C>>) -> Self {
        enqueue_on(children, &self.queue, intent_key::<K, C>);
        self
    }

    /// A change of an attempt's pod or Job enqueues its run.
    pub fn owns_attempts<C: Cached>(self, attempts: &Arc<Cache<C>>) -> Self {
        enqueue_on(attempts, &self.queue, run_key::<K, C>);
        self
    }
}

/// The key of the object of kind `P` that a child was made for, from its labels.
pub fn intent_key<P: Resource<DynamicType = ()>, C: Resource>(child: &C) -> Option<Key> {
    labelled_key(child, labels::INTENT, labels::INTENT_KIND, &P::kind(&()))
}

/// The key of the run of kind `R` that an attempt's pod or Job was made for, from its labels.
fn run_key<R: Resource<DynamicType = ()>, C: Resource>(attempt: &C) -> Option<Key> {
    labelled_key(attempt, labels::RUN, labels::RUN_KIND, &R::kind(&()))
}

/// The children of each object of kind `P`, by the name that their labels carry.
pub fn by_intent<P, C>(children: &Arc<Cache<C>>) -> Index<C>
where
    P: Resource<DynamicType = ()>,
    C: Cached,
{
    Index::new(children, |child| intent_key::<P, C>(child).map(|key| key.name).into_iter().collect())
}

/// The pods or Jobs of each run of kind `R`, by the name that their labels carry.
pub(crate) fn by_run<R, C>(attempts: &Arc<Cache<C>>) -> Index<C>
where
    R: Resource<DynamicType = ()>,
    C: Cached,
{
    Index::new(attempts, |attempt| run_key::<R, C>(attempt).map(|key| key.name).into_iter().collect())
}

fn labelled_key<C: Resource>(child: &C, name: &str, kind: &str, wanted: &str) -> Option<Key> {
    let labels = child.meta().labels.as_ref()?;
    let name = labels.get(name)?;
    let namespace = child.meta().namespace.clone().unwrap_or_default();
    (labels.get(kind)? == wanted).then(|| Key::new(namespace, name))
}

/// Every change in `cache` enqueues the keys that `keys` returns.
fn enqueue_on<C: Cached, I: IntoIterator<Item = Key>>(
    cache: &Arc<Cache<C>>,
    queue: &Arc<Workqueue>,
    keys: impl Fn(&C) -> I + Send + Sync + 'static,
) {
    let queue = Arc::clone(queue);
    cache.on_change(move |change| {
        for key in change.object().into_iter().flat_map(|object| keys(object)) {
            queue.enqueue(key);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        resource::PodView,
        testing::{Forecast, ForecastRun, ForecastRunSpec, ForecastSpec},
    };
    use serde_json::{Value, json};

    /// An intent that depends on the run of its name.
    fn forecast(name: &str, namespace: &str) -> Forecast {
        let mut object = Forecast::new(name, ForecastSpec { pin: Some(name.into()), ..Default::default() });
        object.metadata.namespace = Some(namespace.into());
        object
    }

    fn pod(labels: Value) -> PodView {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "p", "resourceVersion": "1", "labels": labels},
        }))
        .unwrap()
    }

    struct Setting {
        controls: Controls<Forecast>,
        queue: Arc<Workqueue>,
    }

    /// The intents `a` and `b` of one namespace and `a` of another, none of them enqueued.
    async fn setting() -> Setting {
        let (objects, queue) = (Arc::new(Cache::default()), Arc::new(Workqueue::default()));
        let controls = Controls::new(&objects, &queue);
        for (name, namespace) in [("a", "ns"), ("b", "ns"), ("a", "other")] {
            objects.put(forecast(name, namespace));
            assert_eq!(queue.next().await, Key::new(namespace, name), "its own change enqueues an object");
            queue.done(&Key::new(namespace, name));
        }
        Setting { controls, queue }
    }

    #[tokio::test(start_paused = true)]
    async fn child_enqueues_the_object_of_its_labels() {
        let Setting { controls, queue } = setting().await;
        let pods = Arc::new(Cache::default());
        let _controls = controls.owns(&pods);
        pods.put(pod(json!({labels::INTENT: "a", labels::INTENT_KIND: "Model"})));
        assert_eq!(queue.depth(), 0, "another kind");
        let mut labelled = pod(json!({labels::INTENT: "a", labels::INTENT_KIND: "Forecast"}));
        labelled.metadata.resource_version = Some("2".into());
        pods.put(labelled);
        assert_eq!(queue.next().await, Key::new("ns", "a"));
        assert_eq!(queue.depth(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn attempt_enqueues_the_run_of_its_labels() {
        let Setting { controls, queue } = setting().await;
        let pods = Arc::new(Cache::default());
        let _controls = controls.owns_attempts(&pods);
        pods.put(pod(json!({labels::RUN: "b", labels::RUN_KIND: "Forecast"})));
        assert_eq!((queue.next().await, queue.depth()), (Key::new("ns", "b"), 0));
    }

    #[tokio::test(start_paused = true)]
    async fn related_object_enqueues_its_dependents_in_the_namespace() {
        let Setting { controls, queue } = setting().await;
        let runs: Arc<Cache<ForecastRun>> = Arc::default();
        let _controls = controls.enqueue_on(&runs, |intent| intent.spec.pin.clone().into_iter().collect());
        let mut run = ForecastRun::new("a", ForecastRunSpec::default());
        run.metadata.namespace = Some("ns".into());
        runs.put(run);
        assert_eq!((queue.next().await, queue.depth()), (Key::new("ns", "a"), 0));
    }
}
