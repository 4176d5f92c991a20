//! The caches of all kinds that may be inputs.

use super::{
    gate::{InputState, signal},
    graph::holds,
};
use crate::{
    resource::{ApiKind, Cached, InputObject},
    runtime::{cache::Cache, index::Index, setup::Setup, triggers::Controls, workqueue::Key},
};
use mlop_api::{
    common::{NamedInput, ObjectRef},
    dataset::ObjectStore,
};
use std::{collections::BTreeMap, sync::Arc};

/// The caches of all kinds that may be inputs.
#[derive(Clone, Default)]
pub struct Inputs {
    caches: BTreeMap<GroupKind, InputCache>,
}

type GroupKind = (String, String);
type InputCache = (ApiKind, Arc<Cache<InputObject>>);

impl Inputs {
    /// Watches all kinds that may be inputs, as `--input-kinds` lists them.
    pub fn watch(setup: &mut Setup) -> Self {
        let kinds = setup.settings().input_kinds.clone();
        let caches = kinds.into_iter().map(|kind| {
            let cache = setup.watch_dynamic(kind.clone());
            ((kind.group.clone(), kind.kind.clone()), (kind, cache))
        });
        Self { caches: caches.collect() }
    }

    /// The input as its cache knows it.
    pub fn state(&self, namespace: &str, input: &NamedInput) -> InputState {
        match self.cache(&input.from) {
            None => InputState::unknown(input),
            Some((kind, cache)) => InputState {
                kind: Some(kind.clone()),
                object: cache.get(&Key::new(namespace, &input.from.name)),
                unavailable: cache.unavailable(namespace),
                holds: holds(&input.from, |from| self.lookup(namespace, from)),
                ..InputState::unknown(input)
            },
        }
    }

    /// The object that a reference names.
    pub fn lookup(&self, namespace: &str, from: &ObjectRef) -> Option<Arc<InputObject>> {
        self.cache(from).and_then(|(_, cache)| cache.get(&Key::new(namespace, &from.name)))
    }

    fn cache(&self, from: &ObjectRef) -> Option<&InputCache> {
        self.caches.get(&(from.api_group.clone(), from.kind.clone()))
    }

    /// Enqueues the dependents of an input when its [`Signal`](super::Signal) changes, and all dependents when a kind
    /// becomes available or unavailable. Returns the dependents of each input.
    pub fn enqueue_dependents<K: Cached>(
        &self,
        controls: &Controls<K>,
        references: impl Fn(&K) -> Vec<ObjectRef> + Send + Sync + 'static,
    ) -> Dependents<K> {
        let names = move |object: &K| {
            references(object).iter().map(|from| reference(&from.api_group, &from.kind, &from.name)).collect()
        };
        let dependents = Dependents(Arc::new(controls.index(names)));
        for ((group, kind), (_, cache)) in &self.caches {
            let (group, kind) = (group.clone(), kind.clone());
            let (enqueued, inputs) = (controls.clone(), dependents.clone());
            cache.on_change(move |change| {
                let is_unchanged = match (&change.before, &change.after) {
                    (Some(before), Some(after)) => signal(before) == signal(after),
                    _ => false,
                };
                if !is_unchanged {
                    enqueued.enqueue(inputs.of(&group, &kind, &change.key));
                }
            });
            let enqueued = controls.clone();
            cache.on_availability(move || enqueued.enqueue_all());
        }
        dependents
    }

    /// A change of an ObjectStore enqueues the dependents of the inputs whose artifacts it holds.
    pub fn enqueue_on_stores<K: Cached>(
        &self,
        controls: &Controls<K>,
        dependents: &Dependents<K>,
        stores: &Arc<Cache<ObjectStore>>,
    ) {
        for ((group, kind), (_, cache)) in &self.caches {
            let (group, kind, dependents) = (group.clone(), kind.clone(), dependents.clone());
            let held = Index::new(cache, |object| {
                object.status.artifact.iter().map(|artifact| artifact.store.clone()).collect()
            });
            controls.clone().enqueue_keys(stores, move |store| {
                let Key { namespace, name } = Key::of(&store.metadata);
                let inputs = held.keys(&namespace, &name);
                inputs.iter().flat_map(|input| dependents.of(&group, &kind, input)).collect()
            });
        }
    }
}

/// The dependents of each input.
pub struct Dependents<K>(Arc<Index<K>>);

impl<K> Clone for Dependents<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Cached> Dependents<K> {
    /// The keys of the objects that depend on the input of this kind and key.
    fn of(&self, group: &str, kind: &str, input: &Key) -> Vec<Key> {
        self.0.keys(&input.namespace, &reference(group, kind, &input.name))
    }
}

/// An input as the index of dependents has it.
fn reference(group: &str, kind: &str, name: &str) -> String {
    format!("{group}/{kind}/{name}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        resource::Unavailable,
        runtime::workqueue::Workqueue,
        testing::{Forecast, ForecastSpec, NS, dataset, ready},
    };
    use serde_json::{Value, json};

    /// The forecast `name` of the Dataset `input`.
    fn forecast(name: &str, input: &str) -> Forecast {
        let inputs = vec![NamedInput { name: "x".into(), from: ready(input).from }];
        let mut object = Forecast::new(name, ForecastSpec { inputs, ..Default::default() });
        object.metadata.namespace = Some(NS.into());
        object
    }

    /// The first version of the Dataset `name`, as `version` of the object, in the ObjectStore `files`.
    fn input(name: &str, version: u32, edit: impl Fn(&mut Value)) -> InputObject {
        let mut object = dataset(name, 1, 0, json!([]), Value::Null);
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        edit(&mut object);
        serde_json::from_value(object).unwrap()
    }

    fn store(name: &str) -> ObjectStore {
        let spec = json!({"endpoint": "http://s3", "bucket": "b"});
        let meta = json!({"name": name, "namespace": NS});
        serde_json::from_value(
            json!({"apiVersion": "mlop.dev/v1alpha1", "kind": "ObjectStore", "metadata": meta, "spec": spec}),
        )
        .unwrap()
    }

    async fn drained(queue: &Workqueue) -> String {
        let mut names = Vec::new();
        while queue.depth() > 0 {
            let key = queue.next().await;
            queue.done(&key);
            names.push(key.name);
        }
        names.join(" ")
    }

    #[tokio::test(start_paused = true)]
    async fn dependents_of_a_change_are_enqueued_and_no_others() {
        let (objects, queue): (Arc<Cache<Forecast>>, _) = (Arc::default(), Arc::new(Workqueue::default()));
        let (inputs, stores): (Arc<Cache<InputObject>>, Arc<Cache<ObjectStore>>) = Default::default();
        let kind = ready("a").kind.unwrap();
        let caches = [((kind.group.clone(), kind.kind.clone()), (kind, Arc::clone(&inputs)))].into();
        let all = Inputs { caches };
        let controls = Controls::new(&objects, &queue);
        let references =
            |object: &Forecast| object.spec.inputs.iter().map(|input| input.from.clone()).collect();
        let dependents = all.enqueue_dependents(&controls, references);
        all.enqueue_on_stores(&controls, &dependents, &stores);
        for (name, input) in [("of-a", "a"), ("of-b", "b"), ("also-of-a", "a")] {
            objects.put_written(forecast(name, input));
        }
        drained(&queue).await;

        type Step<'a> = Box<dyn Fn() + 'a>;
        let put = |object: InputObject| -> Step<'_> {
            let inputs = Arc::clone(&inputs);
            Box::new(move || inputs.put_written(object.clone()))
        };
        let rows: [(&str, Step<'_>, &str); 8] = [
            ("an input is created", put(input("a", 1, |_| ())), "also-of-a of-a"),
            ("another input", put(input("b", 2, |_| ())), "of-b"),
            ("a metric changes", put(input("a", 3, |object| object["status"]["metrics"] = json!([]))), ""),
            (
                "it is not ready",
                put(input("a", 4, |object| object["status"]["conditions"] = json!([]))),
                "also-of-a of-a",
            ),
            (
                "the artifact moves",
                put(input("a", 5, |object| object["status"]["artifact"]["store"] = json!("other"))),
                "also-of-a of-a",
            ),
            ("the store of the other artifact", Box::new(|| stores.put_written(store("files"))), "of-b"),
            ("a store without artifacts", Box::new(|| stores.put_written(store("empty"))), ""),
            (
                "the kind is not served",
                Box::new(|| inputs.set_unavailable(&None, Some(Unavailable::NotServed))),
                "also-of-a of-a of-b",
            ),
        ];
        for (situation, step, want) in rows {
            step();
            assert_eq!(drained(&queue).await, want, "{situation}");
        }
    }
}
