//! Metrics in Prometheus' format, under the names that controller-runtime made common.

mod queue;
#[cfg(test)]
mod tests;

use super::cache::Cache;
use crate::{
    condition,
    plan::Handover,
    resource::{Cached, Unavailable},
};
use http::{Method, StatusCode};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::core::object::HasStatus;
use mlop_api::{contract::condition_type, labels, status::Conditioned};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Metric, Registry},
};
use serde_json::Value;
use std::{
    fmt::Debug,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

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

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CreatedLabels {
    pub controller: String,
    pub kind: String,
    /// The value of the label `mlop.dev/role`: `run`, `probe`, `scan`, `activation`, `cleanup`; empty for other objects.
    pub role: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RunLabels {
    pub kind: String,
    /// `Succeeded`, or the reason of the failure.
    pub result: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct EdgeLabels {
    /// Kind of the input that was published.
    pub from: String,
    /// Kind of the run that was created.
    pub to: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SpanLabel {
    /// `exported`, or `dropped` if the collector is away or the queue full.
    pub result: &'static str,
}

impl SpanLabel {
    pub(super) const EXPORTED: Self = Self { result: "exported" };
    pub(super) const DROPPED: Self = Self { result: "dropped" };
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LogReadLabels {
    /// `success` or `error`.
    pub result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ConditionLabels {
    pub kind: String,
    pub condition: String,
    pub status: String,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    pub method: String,
    /// HTTP status; `none` if there was no answer.
    pub code: String,
}

/// All metrics of one operator.
pub struct Metrics {
    registry: Mutex<Registry>,
    pub reconciles: Family<ReconcileLabels, Counter>,
    pub reconcile_seconds: Family<ControllerLabel, Histogram>,
    pub depth: Family<ControllerLabel, Gauge>,
    /// Time from the change of an object, or of one that it depends on, to its reconcile.
    pub wait_seconds: Family<ControllerLabel, Histogram>,
    pub created: Family<CreatedLabels, Counter>,
    pub attempts: Family<RunLabels, Counter>,
    pub run_seconds: Family<RunLabels, Histogram>,
    /// Time from the publication of an input to the creation of the run on it.
    pub hand_off_seconds: Family<EdgeLabels, Histogram>,
    pub transitions: Family<ConditionLabels, Counter>,
    pub requests: Family<RequestLabels, Counter>,
    pub events: Family<ReasonLabels, Counter>,
    /// Events that were dropped or refused.
    pub lost_events: Counter,
    pub spans: Family<SpanLabel, Counter>,
    /// Reads of the logs of workers.
    pub log_reads: Family<LogReadLabels, Counter>,
    pub leading: Gauge,
    /// Objects in the caches.
    pub cached: Family<KindLabel, Gauge>,
    pub unavailable: Family<UnavailableLabels, Gauge>,
    /// Objects by condition, and dead letters: counted when the metrics are read.
    objects: Family<ConditionLabels, Gauge>,
    dead_letters: Family<KindLabel, Gauge>,
    queues: queue::Metrics,
    counts: Mutex<Vec<Count>>,
}

/// Adds the objects of one cache to those that are counted.
type Count = Box<dyn Fn(&Metrics) + Send + Sync>;

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let all = &mut registry;
        Self {
            reconciles: registered(all, "mlop_reconcile", "Reconciles by result"),
            reconcile_seconds: seconds(
                all,
                "mlop_reconcile_time_seconds",
                "Duration of a reconcile",
                MILLISECONDS,
            ),
            depth: registered(all, "mlop_workqueue_depth", "Objects that wait for a reconcile"),
            wait_seconds: seconds(
                all,
                "mlop_workqueue_wait_seconds",
                "Time from the change of an object, or of one that it depends on, to its reconcile",
                MILLISECONDS,
            ),
            created: registered(all, "mlop_created", "Objects created by a controller"),
            attempts: registered(all, "mlop_attempts", "Attempts of runs that have ended"),
            run_seconds: seconds(
                all,
                "mlop_run_seconds",
                "Time from the creation of a run to its end",
                MINUTES,
            ),
            hand_off_seconds: seconds(
                all,
                "mlop_hand_off_seconds",
                "Time from the publication of an input to the creation of the run on it",
                HAND_OFF,
            ),
            transitions: registered(all, "mlop_condition_transitions", "Conditions that were set or changed"),
            requests: registered(all, "mlop_api_requests", "Requests to the API server, each retry counted"),
            events: registered(all, "mlop_events", "Events by reason"),
            lost_events: registered(all, "mlop_events_lost", "Events that were dropped or refused"),
            spans: registered(all, "mlop_spans", "Spans by what became of them"),
            log_reads: registered(all, "mlop_log_reads", "Reads of the logs of pods for their progress"),
            leading: registered(all, "mlop_leading", "1 while this process holds the lease"),
            cached: registered(all, "mlop_cache_objects", "Objects in the caches of a kind"),
            unavailable: registered(
                all,
                "mlop_watch_unavailable",
                "1 while a resource cannot be listed because it is not served or forbidden",
            ),
            objects: registered(all, "mlop_objects", "Objects by condition"),
            dead_letters: registered(all, "mlop_dead_letters", "Inputs that were given up"),
            queues: queue::Metrics::new(all),
            counts: Mutex::default(),
            registry: Mutex::new(registry),
        }
    }
}

/// A metric that `render` shows from now on.
fn registered<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

/// The same for histograms, whose buckets begin with `buckets`.
fn seconds<L>(registry: &mut Registry, name: &str, help: &str, buckets: Buckets) -> Family<L, Histogram>
where
    L: EncodeLabelSet + Clone + Debug + Eq + Hash + Send + Sync + 'static,
{
    let metric = Family::<L, Histogram>::new_with_constructor(buckets);
    registry.register(name, help, metric.clone());
    metric
}

type Buckets = fn() -> Histogram;
/// From a millisecond to eight seconds.
const MILLISECONDS: Buckets = || Histogram::new(exponential_buckets(0.001, 2.0, 14));
/// From ten milliseconds to three minutes.
const HAND_OFF: Buckets = || Histogram::new(exponential_buckets(0.01, 2.0, 15));
/// From a second to nine hours.
const MINUTES: Buckets = || Histogram::new(exponential_buckets(1.0, 2.0, 16));

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

    /// Reports the objects of a cache by condition from now on.
    pub(super) fn count_objects<K>(&self, kind: String, cache: Arc<Cache<K>>)
    where
        K: Cached + HasStatus<Status: Conditioned>,
    {
        let count = move |metrics: &Self| {
            let mut dead_letters = 0;
            for object in cache.all() {
                let Some(status) = object.status() else { continue };
                for condition in status.conditions() {
                    metrics.objects.get_or_create(&ConditionLabels::of(&kind, condition)).inc();
                }
                dead_letters += status.dead_letters();
                if let Some(queue) = status.as_queue() {
                    metrics.queues.count(object.meta().name.as_deref().unwrap_or_default(), queue);
                }
            }
            let dead_letters = i64::try_from(dead_letters).unwrap_or(i64::MAX);
            metrics.dead_letters.get_or_create(&KindLabel { kind: kind.clone() }).set(dead_letters);
        };
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(count));
    }

    /// An object was taken out of the workqueue after this time.
    pub(super) fn waited(&self, controller: &str, wait: Duration) {
        let label = ControllerLabel { controller: controller.to_owned() };
        self.wait_seconds.get_or_create(&label).observe(wait.as_secs_f64());
    }

    /// The end of a worker's log was read.
    pub(crate) fn count_log_read(&self, has_succeeded: bool) {
        let labels = LogReadLabels { result: if has_succeeded { "success" } else { "error" } };
        self.log_reads.get_or_create(&labels).inc();
    }

    /// A controller has created an object of a kind.
    pub(super) fn count_created(&self, controller: &str, kind: &str, object: &Value) {
        let labels = object.pointer("/metadata/labels");
        let role = labels.and_then(|labels| labels.get(labels::ROLE)?.as_str()).unwrap_or_default();
        let labels =
            CreatedLabels { controller: controller.to_owned(), kind: kind.to_owned(), role: role.to_owned() };
        self.created.get_or_create(&labels).inc();
    }

    /// A run of kind `to` was created after the publication that it follows.
    pub(super) fn handed_over(&self, handover: &Handover, to: &str, now: Timestamp) {
        let labels = EdgeLabels { from: handover.from.clone(), to: to.to_owned() };
        let seconds = now.duration_since(handover.produced_at).as_secs_f64();
        self.hand_off_seconds.get_or_create(&labels).observe(seconds.max(0.0));
    }

    /// The status `after` was written over `before`.
    pub(super) fn count_status<S: Conditioned>(
        &self,
        kind: &str,
        meta: &ObjectMeta,
        before: Option<&S>,
        after: &S,
    ) {
        let known = before.map_or(&[][..], Conditioned::conditions);
        let is_new = |condition: &&Condition| !known.iter().any(|known| is_same_state(known, condition));
        for condition in after.conditions().iter().filter(is_new) {
            self.transitions.get_or_create(&ConditionLabels::of(kind, condition)).inc();
        }
        if let Some(queue) = after.as_queue() {
            let name = meta.name.as_deref().unwrap_or_default();
            self.queues.admitted(name, before.and_then(Conditioned::as_queue), queue);
        }
        let (Some(run), earlier) = (after.as_run(), before.and_then(Conditioned::as_run)) else { return };
        let has_succeeded = condition::is_true(&run.conditions, condition_type::SUCCEEDED);
        let failure = run.failure.as_ref().filter(|_| !has_succeeded);
        let ended = run.attempts.saturating_sub(earlier.map_or(0, |earlier| earlier.attempts));
        if ended > 0 {
            let result = failure.map_or("Succeeded", |failure| &failure.reason);
            self.attempts.get_or_create(&RunLabels::of(kind, result)).inc_by(ended.into());
        }
        let has_ended = earlier.is_none_or(|earlier| earlier.finished_at.is_none());
        if let (true, Some(end), Some(created)) = (has_ended, run.finished_at, &meta.creation_timestamp) {
            let result = condition::get(&run.conditions, condition_type::SUCCEEDED);
            let labels = RunLabels::of(kind, result.map_or("", |condition| &condition.reason));
            let duration = end.get().duration_since(created.0);
            self.run_seconds.get_or_create(&labels).observe(duration.as_secs_f64());
        }
    }

    /// The metrics as text.
    pub fn render(&self) -> String {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        self.objects.clear();
        self.queues.clear();
        for count in &*self.counts.lock().unwrap_or_else(PoisonError::into_inner) {
            count(self);
        }
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &registry);
        text
    }
}

impl ConditionLabels {
    fn of(kind: &str, condition: &Condition) -> Self {
        Self {
            kind: kind.to_owned(),
            condition: condition.type_.clone(),
            status: condition.status.clone(),
            reason: condition.reason.clone(),
        }
    }
}

impl RunLabels {
    fn of(kind: &str, result: &str) -> Self {
        Self { kind: kind.to_owned(), result: result.to_owned() }
    }
}

impl RequestLabels {
    pub(super) fn of(method: &Method, code: Option<StatusCode>) -> Self {
        let code = code.map_or_else(|| "none".to_owned(), |code| code.as_str().to_owned());
        Self { method: method.to_string(), code }
    }
}

fn is_same_state(a: &Condition, b: &Condition) -> bool {
    (&a.type_, &a.status, &a.reason) == (&b.type_, &b.status, &b.reason)
}
