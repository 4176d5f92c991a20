//! Metrics in Prometheus' format, under the names that controller-runtime made common.

use crate::resource::Unavailable;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};
use std::sync::Mutex;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReconcileLabels {
    pub controller: String,
    /// `success`, `error` or `panic`.
    pub result: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ControllerLabel {
    pub controller: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabels {
    pub controller: String,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KindLabel {
    pub kind: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct UnavailableLabels {
    pub resource: String,
    /// Empty: all namespaces.
    pub namespace: String,
}

/// All metrics of one operator.
pub struct Metrics {
    registry: Mutex<Registry>,
    pub reconciles: Family<ReconcileLabels, Counter>,
    pub reconcile_seconds: Family<ControllerLabel, Histogram>,
    pub depth: Family<ControllerLabel, Gauge>,
    pub events: Family<ReasonLabels, Counter>,
    pub leading: Gauge,
    /// Objects in the caches.
    pub cached: Family<KindLabel, Gauge>,
    pub unavailable: Family<UnavailableLabels, Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let reconciles = Family::default();
        let reconcile_seconds = Family::<ControllerLabel, Histogram>::new_with_constructor(|| {
            Histogram::new(exponential_buckets(0.001, 2.0, 14))
        });
        let depth = Family::default();
        let events = Family::default();
        let leading = Gauge::default();
        let cached = Family::<KindLabel, Gauge>::default();
        let unavailable = Family::<UnavailableLabels, Gauge>::default();
        registry.register("mlop_reconcile", "Reconciles by result", reconciles.clone());
        registry.register(
            "mlop_reconcile_time_seconds",
            "Duration of a reconcile",
            reconcile_seconds.clone(),
        );
        registry.register("mlop_workqueue_depth", "Objects that wait for a reconcile", depth.clone());
        registry.register("mlop_events", "Events by reason", events.clone());
        registry.register("mlop_leading", "1 while this process holds the lease", leading.clone());
        registry.register("mlop_cache_objects", "Objects in the caches of a kind", cached.clone());
        registry.register(
            "mlop_watch_unavailable",
            "1 while a resource cannot be listed because it is not served or forbidden",
            unavailable.clone(),
        );
        Self {
            registry: Mutex::new(registry),
            reconciles,
            reconcile_seconds,
            depth,
            events,
            leading,
            cached,
            unavailable,
        }
    }
}

impl Metrics {
    /// Reports whether a resource can be listed in a namespace (none: in all).
    pub(super) fn set_unavailable(&self, resource: &str, namespace: Option<&str>, why: Option<Unavailable>) {
        let namespace = namespace.unwrap_or_default().to_owned();
        let labels = UnavailableLabels { resource: resource.to_owned(), namespace };
        match why {
            Some(_) => {
                self.unavailable.get_or_create(&labels).set(1);
            }
            None => {
                self.unavailable.remove(&labels);
            }
        }
    }

    /// The metrics as text.
    pub fn render(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &registry);
        text
    }
}
