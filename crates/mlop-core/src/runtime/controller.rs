//! The controller of one kind: observe → plan → execute → report, one object at a time.

use crate::{
    condition::Conditions,
    headline,
    plan::{Action, Plan},
    resource::{ApiKind, Cached},
    runtime::{
        backoff,
        cache::Cache,
        context::Context,
        error::Error,
        execute::{Guard, Subject, execute, report},
        leader_election::RENEW_DEADLINE,
        logging::{self, LogKeys},
        metrics::{ControllerLabel, ReasonLabels, ReconcileLabels},
        workqueue::{Key, Workqueue},
    },
    span::Span,
};
use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Resource, core::object::HasStatus};
use mlop_api::{Reason, contract::condition_type, status::Conditioned};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    future::Future,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;
use tracing::Instrument as _;

/// Concurrent reconciles per kind.
const CONCURRENCY: usize = 16;
/// Concurrent reconciles during an outage. More than one, because a single object may be all that hangs.
const PROBES: usize = 4;
/// Failures of an object in a row after which it is reported that its requests get no answer, while others do.
const HANGS: u32 = 4;
/// A reconcile that takes longer is cancelled and retried with backoff.
const RECONCILE_TIMEOUT: Duration = Duration::from_secs(30);

/// The reconciler of one kind. `plan` gets no client and no clock: its signature is the invariant.
pub trait Reconciler: Send + Sync + 'static {
    type Resource: Cached + Resource<DynamicType = ()> + HasStatus<Status = Self::Status>;
    type Status: Conditioned + Serialize + PartialEq + Clone + Send + Sync;
    type Observed: Send;

    /// Whether the status is a decision that later ones build on. It is then written only over the version that was read, so
    /// that of two writers one has to decide again.
    const DECIDES_IN_STATUS: bool = false;

    /// Reads the state that `plan` depends on, mostly from caches. It never writes and never decides.
    ///
    /// # Errors
    /// When a read fails.
    fn observe(
        &self,
        cx: &Context,
        object: Arc<Self::Resource>,
    ) -> impl Future<Output = Result<Self::Observed, Error>> + Send;

    /// Decides; total and synchronous. The same state at the same time gives the same plan.
    fn plan(observed: &Self::Observed, now: Timestamp) -> Plan<Self::Status>;

    /// The keys of the log lines about `object` besides kind, namespace and name.
    fn log_keys(_object: &Self::Resource) -> LogKeys {
        LogKeys::default()
    }

    /// The spans that end with the status `planned`, and those that ended a short time before `now`. Each is exported once.
    fn spans(_observed: &Self::Observed, _planned: Option<&Self::Status>, _now: Timestamp) -> Vec<Span> {
        Vec::new()
    }
}

/// Runs one reconciler over the objects of its cache.
pub(crate) struct Controller<R: Reconciler> {
    reconciler: R,
    cx: Arc<Context>,
    cache: Arc<Cache<R::Resource>>,
    queue: Arc<Workqueue>,
    kind: ApiKind,
    /// Objects whose last reconcile failed.
    failing: Mutex<BTreeMap<Key, Failing>>,
    outage: Mutex<Option<Outage>>,
    /// When the last reconcile ended that had reached the API server.
    reached: Mutex<Option<Instant>>,
}

/// The backoff of one object.
#[derive(Clone, Copy)]
struct Failing {
    failures: u32,
    until: Instant,
}

/// The API server does not answer. As in a half-open circuit breaker, a few reconciles probe it; the others wait for it
/// without a backoff of their own.
#[derive(Clone, Copy)]
struct Outage {
    failures: u32,
    until: Instant,
}

impl<R: Reconciler> Controller<R> {
    pub(crate) fn new(
        reconciler: R,
        cx: Arc<Context>,
        cache: Arc<Cache<R::Resource>>,
        queue: Arc<Workqueue>,
    ) -> Self {
        Self {
            reconciler,
            cx,
            cache,
            queue,
            kind: ApiKind::of::<R::Resource>(),
            failing: Mutex::default(),
            outage: Mutex::default(),
            reached: Mutex::default(),
        }
    }

    /// Never returns. Without the lease, reconciles do nothing; gaining it enqueues every object.
    pub(crate) async fn run(self) {
        let mut reconciles = FuturesUnordered::new();
        loop {
            let depth = i64::try_from(self.queue.depth()).unwrap_or(i64::MAX);
            self.cx.metrics.depth.get_or_create(&self.label()).set(depth);
            let outage = *self.outage();
            let limit = if outage.is_some() { PROBES } else { CONCURRENCY };
            tokio::select! {
                biased;
                Some(key) = reconciles.next() => self.queue.done(&key),
                key = async {
                    if let Some(outage) = outage {
                        tokio::time::sleep_until(outage.until).await;
                    }
                    self.queue.next().await
                }, if reconciles.len() < limit => reconciles.push(self.isolated(key)),
            }
        }
    }

    /// A reconcile that can neither end the process nor block it.
    async fn isolated(&self, key: Key) -> Key {
        let keys = self.cache.get(&key).map(|object| R::log_keys(&object)).unwrap_or_default();
        let span = logging::span(&self.kind.kind, &key.namespace, &key.name, keys);
        self.timed(&key).instrument(span).await;
        key
    }

    async fn timed(&self, key: &Key) {
        let began = Instant::now();
        self.cx.metrics.waited(&self.kind.kind, self.queue.waited(key));
        let reconcile = tokio::time::timeout(RECONCILE_TIMEOUT, self.reconcile(key));
        let outcome = match AssertUnwindSafe(reconcile).catch_unwind().await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(Error::Reconcile {
                reason: Reason::ApiError,
                message: format!("a reconcile took longer than {} s", RECONCILE_TIMEOUT.as_secs()),
            }),
            Err(panic) => {
                Err(Error::Reconcile { reason: Reason::Panicked, message: panic_message(panic.as_ref()) })
            }
        };
        let result = match &outcome {
            Ok(_) => "success",
            Err(Error::Reconcile { reason: Reason::Panicked, .. }) => "panic",
            Err(_) => "error",
        };
        let labels = ReconcileLabels { controller: self.kind.kind.clone(), result: result.to_owned() };
        self.cx.metrics.reconciles.get_or_create(&labels).inc();
        self.cx.metrics.reconcile_seconds.get_or_create(&self.label()).observe(began.elapsed().as_secs_f64());
        self.schedule(key, began, outcome).await;
    }

    async fn reconcile(&self, key: &Key) -> Result<Action, Error> {
        let Some(object) = self.cache.get(key).filter(|_| self.cx.is_leading()) else {
            return Ok(Action::AwaitChange);
        };
        let observed = self.reconciler.observe(&self.cx, Arc::clone(&object)).await?;
        let mut plan = R::plan(&observed, self.cx.now());
        let planned = plan.status.take().or_else(|| recovered(object.as_ref(), self.cx.now()));
        plan.status = self.presented(&object, planned);
        let is_traced = self.cx.tracer.is_some();
        let spans = is_traced.then(|| R::spans(&observed, plan.status.as_ref(), self.cx.now()));
        let subject = Subject { kind: self.kind.clone(), meta: object.meta() };
        let guard = if R::DECIDES_IN_STATUS { Guard::ResourceVersion } else { self.cx.guard() };
        execute(&self.cx, &subject, &plan, guard).await?;
        self.count(object.as_ref(), &plan);
        if let Some(tracer) = &self.cx.tracer {
            spans.into_iter().flatten().for_each(|span| tracer.record(span, &self.cx.metrics));
        }
        Ok(plan.action)
    }

    /// Counts the work of a plan that has been carried out.
    fn count(&self, object: &R::Resource, plan: &Plan<R::Status>) {
        let (metrics, controller) = (&self.cx.metrics, &self.kind.kind);
        for step in plan.creates.iter().filter(|step| !step.dry_run) {
            metrics.count_created(controller, &step.kind.kind, &step.object);
            if let Some(handover) = &step.handover {
                metrics.handed_over(handover, &step.kind.kind, self.cx.now());
            }
        }
        if let Some(status) = &plan.status {
            metrics.count_status(controller, object.meta(), object.status(), status);
        }
        for event in &plan.events {
            let labels = ReasonLabels { controller: controller.clone(), reason: event.reason.to_string() };
            metrics.events.get_or_create(&labels).inc();
        }
    }

    /// The status to write, as its readers see it; none if it is written already.
    fn presented(&self, object: &R::Resource, planned: Option<R::Status>) -> Option<R::Status> {
        let mut status = planned.or_else(|| object.status().cloned())?;
        let label = format!("{} {}", self.kind.kind, object.meta().name.as_deref().unwrap_or_default());
        headline::present(&label, &mut status);
        if Some(&status) == object.status() {
            return None;
        }
        headline::date(status.conditions_mut(), self.cx.now());
        Some(status)
    }

    async fn schedule(&self, key: &Key, began: Instant, outcome: Result<Action, Error>) {
        match &outcome {
            // If others have reached it meanwhile, only this object hangs.
            Err(error) if error.is_outage() => {
                if !self.reached().is_some_and(|reached| reached >= began) {
                    let failures = self.wait_for_server(key, error);
                    // A leader has reached the API server within this time: an object that hangs is alone in its kind.
                    let is_alone = began.elapsed() >= RENEW_DEADLINE && self.cx.is_leading();
                    if failures >= HANGS && error.is_silence() && is_alone {
                        self.report_failure(key, error, failures).await;
                    }
                    return;
                }
            }
            _ => {
                *self.outage() = None;
                *self.reached() = Some(Instant::now());
            }
        }
        match outcome {
            Ok(action) => {
                self.failing().remove(key);
                if let Action::RequeueAt(at) = action {
                    self.queue.enqueue_at(key.clone(), self.cx.instant(at));
                }
            }
            Err(Error::Gone(what)) => tracing::debug!("{what} is gone, nothing to do"),
            Err(error) => {
                let Failing { failures, until } = self.failed(key, began);
                let delay = until.saturating_duration_since(Instant::now());
                tracing::warn!(%error, failures, ?delay, "reconcile failed; retrying");
                // Without an answer, the cache may lack our own write: it arrives within the first retries. A webhook that
                // never answers lets one object hang for good.
                if !error.is_outage() || failures >= HANGS {
                    self.report_failure(key, &error, failures).await;
                }
                self.queue.enqueue_at(key.clone(), until);
            }
        }
    }

    /// Counts a failed reconcile and returns the object's backoff.
    fn failed(&self, key: &Key, began: Instant) -> Failing {
        let mut failing = self.failing();
        let failures = match failing.get(key) {
            // An event came before the backoff was over. The backoff depends on time, not on the number of events.
            Some(before) if began < before.until => before.failures,
            Some(before) => before.failures.saturating_add(1),
            None => 1,
        };
        let until = Instant::now() + backoff::reconcile_delay(failures, &key.to_string());
        let now = Failing { failures, until };
        failing.insert(key.clone(), now);
        now
    }

    /// Begins or prolongs an outage, and returns its failures in a row.
    fn wait_for_server(&self, key: &Key, error: &Error) -> u32 {
        let now = Instant::now();
        let mut outage = self.outage();
        let failures = match *outage {
            // Reconciles that began together fail together: they count as one failure.
            Some(outage) if now < outage.until => outage.failures,
            Some(outage) => outage.failures.saturating_add(1),
            None => 1,
        };
        let delay = backoff::outage_delay(failures, &self.kind.kind);
        *outage = Some(Outage { failures, until: now + delay });
        tracing::warn!(%error, failures, ?delay, "the API server does not answer");
        self.queue.enqueue(key.clone());
        failures
    }

    /// Adds the reason of the last of `failures` failures in a row to the status. An earlier good state stays visible.
    async fn report_failure(&self, key: &Key, error: &Error, failures: u32) {
        let (Some((reason, stalled)), Some(object)) = (error.report(), self.cache.get(key)) else { return };
        let Some(before) = object.status() else { return };
        let mut status = before.clone();
        let generation = object.meta().generation.unwrap_or_default();
        overlay(status.conditions_mut(), generation, self.cx.now(), reason, stalled, &error.to_string());
        if let Some(cause) = error.problem(failures).and_then(|problem| problem.cause_at(object.as_ref())) {
            status.set_cause(Some(cause));
        }
        let Some(status) = self.presented(&object, Some(status)) else { return };
        let subject = Subject { kind: self.kind.clone(), meta: object.meta() };
        if let Err(error) = report(&self.cx, &subject, &status, Guard::ResourceVersion).await {
            tracing::warn!(%error, "cannot report the failure");
        }
    }

    fn failing(&self) -> std::sync::MutexGuard<'_, BTreeMap<Key, Failing>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reached(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.reached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn outage(&self) -> std::sync::MutexGuard<'_, Option<Outage>> {
        self.outage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn label(&self) -> ControllerLabel {
        ControllerLabel { controller: self.kind.kind.clone() }
    }
}

/// The status without the failure of an earlier reconcile, for a plan that reports no status.
pub(crate) fn recovered<K>(object: &K, now: Timestamp) -> Option<K::Status>
where
    K: Resource + HasStatus<Status: Conditioned + Clone>,
{
    let mut status = object.status()?.clone();
    if !Error::is_shown_in(status.conditions()) {
        return None;
    }
    let generation = object.meta().generation.unwrap_or_default();
    Conditions::new(status.conditions_mut(), generation, now).settled();
    if status.cause().is_some_and(|cause| Error::reports(&cause.reason)) {
        status.set_cause(None);
    }
    Some(status)
}

/// Adds a failure to conditions. `Ready` or `Succeeded` stays True; otherwise it gets the reason. Nobody can tell whether
/// an object whose pod is refused is up to date.
fn overlay(
    list: &mut Vec<Condition>,
    generation: i64,
    now: Timestamp,
    reason: Reason,
    stalled: bool,
    message: &str,
) {
    let mut open: Vec<String> = [condition_type::READY, condition_type::SUCCEEDED]
        .into_iter()
        .filter(|kind| crate::condition::get(list, kind).is_some_and(|c| c.status != "True"))
        .map(str::to_owned)
        .collect();
    // A pod that may not be created cannot look for news.
    let is_refused = matches!(reason, Reason::QuotaExceeded | Reason::PodRefused);
    if is_refused && crate::condition::is_true(list, condition_type::UP_TO_DATE) {
        open.push(condition_type::UP_TO_DATE.to_owned());
    }
    let mut conditions = Conditions::new(list, generation, now);
    for kind in open {
        conditions.set(&kind, crate::condition::ConditionStatus::Unknown, reason, message);
    }
    if stalled {
        conditions.stalled(reason, message);
    } else {
        conditions.reconciling(reason, message);
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    format!("reconciling this object panicked, please report it: {text}")
}

#[cfg(test)]
mod tests;
