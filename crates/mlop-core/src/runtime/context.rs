//! What a pass has at hand: the client, the caches to write through to, the clock, and whether we lead.

use super::{cache::WriteThrough, metrics::Metrics, workqueue::Key};
use crate::resource::ApiKind;
use jiff::Timestamp;
use kube::{Api, Client, core::DynamicObject};
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc};
use tokio::{sync::watch, time::Instant};

/// Reads the time; tests give one that follows tokio's paused time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What an operator is told at its start.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Name of the operator, for example `mlop-training`.
    pub operator: String,
    /// Namespaces to work in; none: all.
    pub namespaces: Vec<String>,
    /// Kinds that may be inputs.
    pub input_kinds: Vec<ApiKind>,
    /// Image of this operator's worker.
    pub worker_image: String,
}

pub struct Context {
    pub client: Client,
    pub settings: Settings,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    pub(crate) leading: watch::Receiver<bool>,
    pub(crate) stores: BTreeMap<ApiKind, Arc<dyn WriteThrough>>,
}

impl Context {
    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }

    pub fn is_leading(&self) -> bool {
        *self.leading.borrow()
    }

    /// The moment of tokio's clock at which ours shows `at`.
    pub fn instant(&self, at: Timestamp) -> Instant {
        let ahead = at.duration_since(self.now());
        Instant::now() + std::time::Duration::try_from(ahead).unwrap_or_default()
    }

    /// The kind's objects in `namespace`, untyped.
    pub fn api(&self, kind: &ApiKind, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &kind.resource())
    }

    pub(crate) fn write_through(&self, kind: &ApiKind, object: &DynamicObject) {
        let Some(store) = self.stores.get(kind) else { return };
        if let Ok(value) = serde_json::to_value(object) {
            store.put_written_json(value);
        }
    }

    /// Takes in that an object is being deleted, if it has not been seen to be gone already.
    pub(crate) fn write_through_deletion(&self, kind: &ApiKind, object: &DynamicObject) {
        let Some(store) = self.stores.get(kind) else { return };
        if let Ok(value) = serde_json::to_value(object) {
            store.put_deleted_json(value);
        }
    }

    /// The object as the cache has it, if the kind is cached whole.
    pub(crate) fn live(&self, kind: &ApiKind, key: &Key) -> Option<Value> {
        self.stores.get(kind).and_then(|store| store.live_json(key))
    }
}
