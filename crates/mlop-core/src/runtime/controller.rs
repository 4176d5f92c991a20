//! One kind's controller: observe → plan → execute → report, for one object at a time.

use crate::{
    condition::Conditions,
    plan::{Action, Plan},
    resource::ApiKind,
    runtime::{
        backoff,
        cache::{Cache, Cached},
        context::Context,
        error::Error,
        execute::{Still, Subject, execute, report},
        metrics::{ControllerLabel, PassLabels, ReasonLabels},
        workqueue::{Key, Workqueue},
    },
};
use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Resource;
use mlop_api::{Reason, contract::condition_type};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    future::Future,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// Passes at the same time, per kind.
const CONCURRENCY: usize = 16;
/// Passes at the same time while the API server does not answer: more than one, since an object may be all that hangs.
const PROBES: usize = 4;
/// A pass that takes longer is given up; it is tried again with a delay.
const PASS_TIMEOUT: Duration = Duration::from_secs(30);

/// One kind's controller. `plan` gets no client and no clock: its signature is the invariant.
pub trait Reconciler: Send + Sync + 'static {
    type Resource: Cached + Resource<DynamicType = ()> + Reports<Status = Self::Status>;
    type Status: Serialize + PartialEq + Clone + Send + Sync;
    type Observed: Send;

    /// Reads, mostly from caches; never writes, never decides.
    ///
    /// # Errors
    /// When a read fails.
    fn observe(
        &self,
        cx: &Context,
        object: Arc<Self::Resource>,
    ) -> impl Future<Output = Result<Self::Observed, Error>> + Send;

    /// Decides; total and synchronous: the same observed at the same time gives the same plan.
    fn plan(observed: &Self::Observed, now: Timestamp) -> Plan<Self::Status>;
}

/// A resource with a status that carries conditions.
pub trait Reports {
    type Status;
    fn reported(&self) -> Option<&Self::Status>;
    fn conditions(status: &mut Self::Status) -> &mut Vec<Condition>;
}

macro_rules! reports {
    ($status:path: $($kind:path),+ $(,)?) => {$(
        impl Reports for $kind {
            type Status = $status;
            fn reported(&self) -> Option<&$status> {
                self.status.as_ref()
            }
            fn conditions(status: &mut $status) -> &mut Vec<Condition> {
                &mut status.conditions
            }
        }
    )+};
}
reports!(mlop_api::status::IntentStatus: mlop_api::dataset::Dataset, mlop_api::features::FeatureView,
    mlop_api::training::TrainingJob, mlop_api::registry::Model);
reports!(mlop_api::status::RunStatus: mlop_api::dataset::DatasetVersion, mlop_api::features::FeatureSnapshot,
    mlop_api::training::TrainingRun, mlop_api::registry::ModelVersion);
reports!(mlop_api::status::ConnectionStatus: mlop_api::dataset::ObjectStore, mlop_api::features::FeatureStore,
    mlop_api::registry::TrackingServer);
reports!(mlop_api::status::DeploymentStatus: mlop_api::deployment::ModelDeployment);

/// Runs one reconciler over the objects of its store.
pub struct Controller<R: Reconciler> {
    reconciler: R,
    cx: Arc<Context>,
    store: Arc<Cache<R::Resource>>,
    queue: Arc<Workqueue>,
    kind: ApiKind,
    /// Objects whose last pass failed.
    failing: Mutex<BTreeMap<Key, Failing>>,
    outage: Mutex<Option<Outage>>,
    /// When a pass ended last that had reached the API server.
    reached: Mutex<Option<Instant>>,
}

/// An object whose passes fail: it is tried again after a delay that grows.
#[derive(Clone, Copy)]
struct Failing {
    failures: u32,
    until: Instant,
}

/// The API server does not answer. A few passes at a time find out whether it is back; the others wait for it, each
/// without a growing delay of its own.
#[derive(Clone, Copy)]
struct Outage {
    failures: u32,
    until: Instant,
}

impl<R: Reconciler> Controller<R> {
    pub fn new(
        reconciler: R,
        cx: Arc<Context>,
        store: Arc<Cache<R::Resource>>,
        queue: Arc<Workqueue>,
    ) -> Self {
        Self {
            reconciler,
            cx,
            store,
            queue,
            kind: ApiKind::of::<R::Resource>(),
            failing: Mutex::default(),
            outage: Mutex::default(),
            reached: Mutex::default(),
        }
    }

    /// Never returns. Without the lease nothing is done; whoever gains it wakes every object.
    pub async fn run(self) {
        let mut passes = FuturesUnordered::new();
        loop {
            let depth = i64::try_from(self.queue.depth()).unwrap_or(i64::MAX);
            self.cx.metrics.depth.get_or_create(&self.label()).set(depth);
            let outage = *self.outage();
            let limit = if outage.is_some() { PROBES } else { CONCURRENCY };
            tokio::select! {
                biased;
                Some(key) = passes.next() => self.queue.done(&key),
                key = async {
                    if let Some(outage) = outage {
                        tokio::time::sleep_until(outage.until).await;
                    }
                    self.queue.next().await
                }, if passes.len() < limit => passes.push(self.isolated(key)),
            }
        }
    }

    /// A pass that can neither take the process down nor hold it up.
    async fn isolated(&self, key: Key) -> Key {
        let began = Instant::now();
        let pass = AssertUnwindSafe(tokio::time::timeout(PASS_TIMEOUT, self.pass(&key))).catch_unwind();
        let outcome = match pass.await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(Error::Pass {
                reason: Reason::ApiError,
                message: format!("a pass took longer than {} s", PASS_TIMEOUT.as_secs()),
            }),
            Err(panic) => {
                Err(Error::Pass { reason: Reason::Panicked, message: panic_message(panic.as_ref()) })
            }
        };
        let result = match &outcome {
            Ok(_) => "success",
            Err(Error::Pass { reason: Reason::Panicked, .. }) => "panic",
            Err(_) => "error",
        };
        let labels = PassLabels { controller: self.kind.kind.clone(), result: result.to_owned() };
        self.cx.metrics.passes.get_or_create(&labels).inc();
        self.cx.metrics.pass_seconds.get_or_create(&self.label()).observe(began.elapsed().as_secs_f64());
        self.schedule(&key, began, outcome).await;
        key
    }

    async fn pass(&self, key: &Key) -> Result<Action, Error> {
        let Some(object) = self.store.get(key).filter(|_| self.cx.is_leading()) else {
            return Ok(Action::AwaitChange);
        };
        let observed = self.reconciler.observe(&self.cx, Arc::clone(&object)).await?;
        let mut plan = R::plan(&observed, self.cx.now());
        if plan.status.is_none() {
            plan.status = recovered::<R>(&object, self.cx.now());
        }
        if plan.status.as_ref() == object.reported() {
            plan.status = None;
        }
        let subject = Subject { kind: self.kind.clone(), meta: object.meta() };
        execute(&self.cx, &subject, &plan).await?;
        for note in &plan.events {
            let labels = ReasonLabels { controller: self.kind.kind.clone(), reason: note.reason.to_string() };
            self.cx.metrics.events.get_or_create(&labels).inc();
        }
        Ok(plan.action)
    }

    async fn schedule(&self, key: &Key, began: Instant, outcome: Result<Action, Error>) {
        match &outcome {
            // If others have reached it meanwhile, it is this object that hangs.
            Err(error) if error.is_outage() => {
                if !self.reached().is_some_and(|reached| reached >= began) {
                    return self.wait_for_server(key, error);
                }
            }
            _ => {
                *self.outage() = None;
                *self.reached() = Some(Instant::now());
            }
        }
        match outcome {
            Ok(next) => {
                self.failing().remove(key);
                if let Action::RequeueAt(at) = next {
                    self.queue.wake_at(key.clone(), self.cx.instant(at));
                }
            }
            Err(Error::Gone(what)) => tracing::debug!(object = %key, "{what} is gone, nothing to do"),
            Err(error) => {
                let Failing { failures, until } = self.failed(key, began);
                let delay = until.saturating_duration_since(Instant::now());
                tracing::warn!(object = %key, kind = %self.kind, %error, failures, ?delay, "pass failed, it is tried again");
                // Without an answer nobody knows what was written: the cache may be behind, and a status from it a step back.
                if !error.is_outage() {
                    self.report_failure(key, &error).await;
                }
                self.queue.wake_at(key.clone(), until);
            }
        }
    }

    /// Counts a pass that failed, and says when the next one is due.
    fn failed(&self, key: &Key, began: Instant) -> Failing {
        let mut failing = self.failing();
        let failures = match failing.get(key) {
            // An event came before it was due. However many do, what is wrong has not lasted longer for it.
            Some(before) if began < before.until => before.failures,
            Some(before) => before.failures.saturating_add(1),
            None => 1,
        };
        let until = Instant::now() + backoff::pass_delay(failures, &key.to_string());
        let now = Failing { failures, until };
        failing.insert(key.clone(), now);
        now
    }

    fn wait_for_server(&self, key: &Key, error: &Error) {
        let now = Instant::now();
        let mut outage = self.outage();
        let failures = match *outage {
            // Passes that began together fail together: that is one failure.
            Some(outage) if now < outage.until => outage.failures,
            Some(outage) => outage.failures.saturating_add(1),
            None => 1,
        };
        let delay = backoff::outage_delay(failures, &self.kind.kind);
        *outage = Some(Outage { failures, until: now + delay });
        tracing::warn!(object = %key, kind = %self.kind, %error, failures, ?delay, "the API server does not answer");
        self.queue.wake(key.clone());
    }

    /// Writes the status as it is plus the reason of the failure, so that an earlier good state stays visible.
    async fn report_failure(&self, key: &Key, error: &Error) {
        let (Some((reason, stalled)), Some(object)) = (error.report(), self.store.get(key)) else { return };
        let Some(before) = object.reported() else { return };
        let mut status = before.clone();
        let generation = object.meta().generation.unwrap_or_default();
        overlay(
            R::Resource::conditions(&mut status),
            generation,
            self.cx.now(),
            reason,
            stalled,
            &error.to_string(),
        );
        if &status == before {
            return;
        }
        let subject = Subject { kind: self.kind.clone(), meta: object.meta() };
        if let Err(error) = report(&self.cx, &subject, &status, Still::AsRead).await {
            tracing::warn!(object = %key, %error, "the failure could not be reported");
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

/// The status without the failure of an earlier pass, for a plan that has nothing to say about it.
fn recovered<R: Reconciler>(object: &R::Resource, now: Timestamp) -> Option<R::Status> {
    let mut status = object.reported()?.clone();
    let list = R::Resource::conditions(&mut status);
    let failures = [condition_type::RECONCILING, condition_type::STALLED].into_iter();
    let failed =
        failures.filter_map(|kind| crate::condition::get(list, kind)).any(|c| Error::reports(&c.reason));
    let generation = object.meta().generation.unwrap_or_default();
    failed.then(|| Conditions::new(list, generation, now).settled())?;
    Some(status)
}

/// Adds a failure to conditions. What was True stays True; what was open says why it is.
fn overlay(
    list: &mut Vec<Condition>,
    generation: i64,
    now: Timestamp,
    reason: Reason,
    stalled: bool,
    message: &str,
) {
    let open: Vec<String> = [condition_type::READY, condition_type::SUCCEEDED]
        .into_iter()
        .filter(|kind| crate::condition::get(list, kind).is_some_and(|c| c.status != "True"))
        .map(str::to_owned)
        .collect();
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
    format!("a pass over this object panicked, please report it: {text}")
}
