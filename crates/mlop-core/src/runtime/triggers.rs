//! Triggers: the objects that a change in a cache enqueues.

use super::{
    cache::Cache,
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
    pub(super) fn new(objects: &Arc<Cache<K>>, queue: &Arc<Workqueue>) -> Self {
        let controls = Self { objects: Arc::clone(objects), queue: Arc::clone(queue) };
        enqueue_on(objects, queue, |object| Some(Key::of(object.meta())));
        controls
    }

    /// A change of an object of `others` enqueues the objects of its namespace that depend on it.
    pub fn enqueue_on<C: Cached>(
        self,
        others: &Arc<Cache<C>>,
        depends: impl Fn(&K, &C) -> bool + Send + Sync + 'static,
    ) -> Self {
        let controls = self.clone();
        others.on_change(move |change| {
            if let Some(other) = change.object() {
                controls.enqueue(&change.key.namespace, |object| depends(object, other));
            }
        });
        self
    }

    /// Enqueues the objects of `namespace` that satisfy `filter`.
    pub fn enqueue(&self, namespace: &str, filter: impl Fn(&K) -> bool) {
        for object in self.objects.select(namespace, filter) {
            self.queue.enqueue(Key::of(object.meta()));
        }
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
        enqueue_on(attempts, &self.queue, |child| {
            labelled_key(child, labels::RUN, labels::RUN_KIND, &K::kind(&()))
        });
        self
    }
}

/// The key of the object of kind `P` that a child was made for, from its labels.
pub fn intent_key<P: Resource<DynamicType = ()>, C: Resource>(child: &C) -> Option<Key> {
    labelled_key(child, labels::INTENT, labels::INTENT_KIND, &P::kind(&()))
}

fn labelled_key<C: Resource>(child: &C, name: &str, kind: &str, wanted: &str) -> Option<Key> {
    let labels = child.meta().labels.as_ref()?;
    let name = labels.get(name)?;
    let namespace = child.meta().namespace.clone().unwrap_or_default();
    (labels.get(kind)? == wanted).then(|| Key::new(namespace, name))
}

/// Every change in `cache` enqueues the key that `key` returns.
fn enqueue_on<C: Cached>(
    cache: &Arc<Cache<C>>,
    queue: &Arc<Workqueue>,
    key: impl Fn(&C) -> Option<Key> + Send + Sync + 'static,
) {
    let queue = Arc::clone(queue);
    cache.on_change(move |change| {
        if let Some(key) = change.object().and_then(|object| key(object)) {
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
        let depends = |intent: &Forecast, run: &ForecastRun| intent.spec.pin == run.metadata.name;
        let _controls = controls.enqueue_on(&runs, depends);
        let mut run = ForecastRun::new("a", ForecastRunSpec::default());
        run.metadata.namespace = Some("ns".into());
        runs.put(run);
        assert_eq!((queue.next().await, queue.depth()), (Key::new("ns", "a"), 0));
    }
}
