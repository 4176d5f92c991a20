//! The context of a reconcile: client, caches to write through to, clock, and leadership.

use super::{
    cache::WriteThrough, events::Recorder, execute::Guard, leader_election::Leading, leftovers::Leftovers,
    metrics::Metrics, tracer::Tracer, workqueue::Key,
};
use crate::resource::ApiKind;
use jiff::Timestamp;
use kube::{Api, Client, core::DynamicObject};
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{sync::watch, time::Instant};

/// The caches of a new leader may lack its predecessor's last writes for this long, and have older states than its own
/// writes while everything is listed again.
const SETTLING: Duration = Duration::from_secs(5);

/// Reads the time; tests give one that follows tokio's paused time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Settings of an operator.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Name of the operator, for example `mlop-training`.
    pub operator: String,
    /// Namespaces to watch; all if empty.
    pub namespaces: Vec<String>,
    /// Kinds that may be inputs.
    pub input_kinds: Vec<ApiKind>,
    /// Image of this operator's worker.
    pub worker_image: String,
}

/// The context of every reconcile of an operator.
pub struct Context {
    pub client: Client,
    pub settings: Settings,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    pub(crate) leading: watch::Receiver<Leading>,
    pub(crate) stores: BTreeMap<ApiKind, Arc<dyn WriteThrough>>,
    pub(crate) leftovers: Leftovers,
    pub(crate) events: Recorder,
    /// Takes spans; none if they are not exported.
    pub(crate) tracer: Option<Tracer>,
}

impl Context {
    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }

    pub fn is_leading(&self) -> bool {
        self.leading.borrow().is_some()
    }

    /// The precondition of writes that are derived from an object's state.
    pub(crate) fn guard(&self) -> Guard {
        let is_new = self.leading.borrow().is_none_or(|since| since.elapsed() < SETTLING);
        if is_new { Guard::ResourceVersion } else { Guard::Uid }
    }

    /// The instant of tokio's clock at which [`now`](Self::now) will be `at`.
    pub fn instant(&self, at: Timestamp) -> Instant {
        let ahead = at.duration_since(self.now());
        Instant::now() + Duration::try_from(ahead).unwrap_or_default()
    }

    /// The untyped API of a kind in `namespace`; empty for objects without one.
    pub fn api(&self, kind: &ApiKind, namespace: &str) -> Api<DynamicObject> {
        if namespace.is_empty() {
            return Api::all_with(self.client.clone(), &kind.resource());
        }
        Api::namespaced_with(self.client.clone(), namespace, &kind.resource())
    }

    /// Puts a written object into its cache.
    pub(crate) fn write_through(&self, kind: &ApiKind, object: &DynamicObject) {
        let Some(store) = self.stores.get(kind) else { return };
        if let Ok(value) = serde_json::to_value(object) {
            store.put_written_json(value);
        }
    }

    /// Puts an object that is being deleted into its cache, unless it is known to be gone.
    pub(crate) fn write_through_deletion(&self, kind: &ApiKind, object: &DynamicObject) {
        let Some(store) = self.stores.get(kind) else { return };
        if let Ok(value) = serde_json::to_value(object) {
            store.put_deleted_json(value);
        }
    }

    /// The object from its cache, if the kind is cached whole.
    pub(crate) fn live(&self, kind: &ApiKind, key: &Key) -> Option<Value> {
        self.stores.get(kind).and_then(|store| store.live_json(key))
    }
}
