//! What every run does: one attempt after the other until one succeeds or the budget is used up.
//!
//! An attempt is a Pod, or a Job with one. A kind supplies the pod ([`Run::attempt`]) and nothing else; here it is
//! created, read, classified, repeated and cleaned up.

use crate::{
    Blocked,
    children::{
        pod,
        pod_outcome::{self, Ended, Outcome},
    },
    condition::{self, ConditionStatus, Conditions},
    plan::{Action, Create, Plan},
    resource::{JobView, PodView},
    runtime::{
        backoff,
        cache::{Cache, Cached},
        context::Context,
        controller::{Reconciler, Reports},
        error::Error,
        workqueue::Key,
    },
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::Resource;
use mlop_api::{
    Digest, MEDIA_TABLE, Reason,
    contract::condition_type,
    dataset::ObjectStore,
    duration::Span,
    labels,
    result::ResultDocument,
    run::{Execution, Lineage},
    status::{AttemptFailure, Output, RunStatus},
    task::{self, Subject},
};
use serde::Serialize;
use std::{collections::BTreeMap, sync::Arc};

/// How long a pod may take to start unless the run says otherwise.
const START_TIMEOUT: Span = Span::minutes(10);
/// How long the last attempt's pod stays for its logs unless the run says otherwise.
const KEEP_PODS: Span = Span::hours(1);

/// A kind of run.
pub trait RunResource: Cached + Resource<DynamicType = ()> + Reports<Status = RunStatus> + Serialize {
    fn lineage(&self) -> &Lineage;
    fn execution(&self) -> &Execution;
    /// Name of the ObjectStore that receives the output.
    fn store(&self) -> &str;
}

macro_rules! run_resource {
    ($($kind:path: |$run:ident| $store:expr),+ $(,)?) => {$(
        impl RunResource for $kind {
            fn lineage(&self) -> &Lineage {
                &self.spec.identity.lineage
            }
            fn execution(&self) -> &Execution {
                &self.spec.execution
            }
            fn store(&self) -> &str {
                let $run = self;
                $store
            }
        }
    )+};
}
run_resource!(
    mlop_api::dataset::DatasetVersion: |run| &run.spec.identity.store,
    mlop_api::features::FeatureSnapshot: |run| &run.spec.identity.store,
    mlop_api::training::TrainingRun: |run| &run.spec.identity.store,
    // A version adds nothing to the tree that it registers: it stays in its input's store.
    mlop_api::registry::ModelVersion: |run| run.spec.identity.lineage.inputs.first().map_or("", |input| &input.store),
);

/// What a kind of run adds to the common course.
pub trait Run: Send + Sync + 'static {
    type Resource: RunResource;
    /// What it needs besides ObjectStores, read from caches.
    type Related: Send + Default;

    /// Media type of the output.
    const MEDIA_TYPE: &'static str;
    /// Whether an attempt is a Job around the pod.
    const JOB: bool = false;

    fn observe(&self, _object: &Self::Resource) -> Self::Related {
        Self::Related::default()
    }

    /// The pod of attempt `subject.attempt`; name, owner and labels are given in `meta`.
    ///
    /// # Errors
    /// The object that has to exist or be ready first.
    fn attempt(
        observed: &Observed<Self>,
        meta: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
        subject: Subject,
    ) -> Result<Pod, Blocked>
    where
        Self: Sized;
}

/// What a run's decision depends on.
pub struct Observed<R: Run> {
    pub object: Arc<R::Resource>,
    pub pods: Vec<Arc<PodView>>,
    pub jobs: Vec<Arc<JobView>>,
    pub stores: BTreeMap<String, Arc<ObjectStore>>,
    pub worker_image: String,
    pub operator: String,
    pub related: R::Related,
}

impl<R: Run> Observed<R> {
    /// The ObjectStore of this name.
    ///
    /// # Errors
    /// When it does not exist.
    pub fn store(&self, name: &str) -> Result<&ObjectStore, Blocked> {
        let missing =
            || Blocked::waiting(Reason::ConnectionNotReady, format!("ObjectStore {name} does not exist"));
        self.stores.get(name).map(AsRef::as_ref).ok_or_else(missing)
    }

    /// The run's inputs as a pod reads them.
    ///
    /// # Errors
    /// When one of their ObjectStores does not exist.
    pub fn inputs(&self) -> Result<Vec<task::Input>, Blocked> {
        let inputs = self.object.lineage().inputs.iter();
        inputs
            .map(|input| {
                Ok(task::Input {
                    name: input.record.name.clone(),
                    digest: input.record.digest.clone(),
                    media_type: input.media_type.clone(),
                    store: pod::store(self.store(&input.store)?),
                })
            })
            .collect()
    }

    /// Every ObjectStore that the run reads or writes.
    ///
    /// # Errors
    /// When one of them does not exist.
    pub fn all_stores(&self) -> Result<Vec<&ObjectStore>, Blocked> {
        let inputs = self.object.lineage().inputs.iter().map(|input| input.store.as_str());
        let mut names: Vec<&str> = inputs.chain([self.object.store()]).collect();
        names.sort_unstable();
        names.dedup();
        names.into_iter().map(|name| self.store(name)).collect()
    }
}

/// The controller of a kind of run.
pub struct Runs<R: Run> {
    pub run: R,
    pub pods: Arc<Cache<PodView>>,
    pub jobs: Option<Arc<Cache<JobView>>>,
    pub stores: Arc<Cache<ObjectStore>>,
}

impl<R: Run> Reconciler for Runs<R> {
    type Resource = R::Resource;
    type Status = RunStatus;
    type Observed = Observed<R>;

    async fn observe(&self, cx: &Context, object: Arc<R::Resource>) -> Result<Observed<R>, Error> {
        let key = Key::of(object.meta());
        let pods = self.pods.select(&key.namespace, |pod| works_for(pod, &key.name));
        let jobs =
            self.jobs.iter().flat_map(|jobs| jobs.select(&key.namespace, |job| works_for(job, &key.name)));
        let stores = self.stores.select(&key.namespace, |_| true);
        let named =
            stores.into_iter().filter_map(|store| store.metadata.name.clone().map(|name| (name, store)));
        Ok(Observed {
            related: self.run.observe(&object),
            pods,
            jobs: jobs.collect(),
            stores: named.collect(),
            worker_image: cx.settings.worker_image.clone(),
            operator: cx.settings.operator.clone(),
            object,
        })
    }

    fn plan(observed: &Observed<R>, now: Timestamp) -> Plan<RunStatus> {
        plan(observed, now)
    }
}

fn works_for<K: Resource>(child: &K, run: &str) -> bool {
    child.meta().labels.as_ref().and_then(|labels| labels.get(labels::RUN)).is_some_and(|name| name == run)
}

fn attempt_of<K: Resource>(child: &K) -> Option<u32> {
    child.meta().labels.as_ref()?.get(labels::ATTEMPT)?.parse().ok()
}

/// Decides what a run does next.
pub fn plan<R: Run>(observed: &Observed<R>, now: Timestamp) -> Plan<RunStatus> {
    let meta = observed.object.meta();
    if meta.deletion_timestamp.is_some() {
        return Plan::idle();
    }
    let mut status = observed.object.reported().cloned().unwrap_or_default();
    if condition::is_true(&status.conditions, condition_type::SUCCEEDED) {
        return tidy(observed, &status, now);
    }
    let generation = meta.generation.unwrap_or_default();
    status.observed_generation = Some(generation);
    renew_budget(observed, &mut status);
    if let Some(failure) = status.failure.clone().filter(|failure| exhausted(observed, &status, failure)) {
        return give_up(observed, status, &failure, generation, now);
    }
    let attempt = status.attempts + 1;
    let pod = observed.pods.iter().find(|pod| attempt_of(pod.as_ref()) == Some(attempt));
    let job = observed.jobs.iter().find(|job| attempt_of(job.as_ref()) == Some(attempt));
    match (pod, job) {
        (Some(pod), _) => follow(observed, status, pod, generation, now),
        (None, Some(job)) => follow_job(observed, status, job, generation, now),
        (None, None) => start(observed, status, attempt, generation, now),
    }
}

/// An edit of the execution, or a request to try again, gives a new budget of attempts. Numbers go on.
fn renew_budget<R: Run>(observed: &Observed<R>, status: &mut RunStatus) {
    let digest = Digest::of_json(observed.object.execution()).ok();
    if status.execution_digest.is_some() && status.execution_digest != digest {
        status.budget_start = status.attempts;
        status.failure = None;
    }
    status.execution_digest = digest;
}

fn exhausted<R: Run>(observed: &Observed<R>, status: &RunStatus, failure: &AttemptFailure) -> bool {
    !failure.retryable
        || status.attempts.saturating_sub(status.budget_start) >= observed.object.execution().retry.limit
}

fn give_up<R: Run>(
    observed: &Observed<R>,
    mut status: RunStatus,
    failure: &AttemptFailure,
    generation: i64,
    now: Timestamp,
) -> Plan<RunStatus> {
    let reason = reason_of(failure);
    let message = if failure.retryable {
        format!(
            "attempt {} of {} failed, the last one: {}",
            status.attempts, status.attempts, failure.message
        )
    } else {
        failure.message.clone()
    };
    let was_open = !condition::is_false(&status.conditions, condition_type::SUCCEEDED);
    let mut conditions = Conditions::new(&mut status.conditions, generation, now);
    conditions.set(condition_type::SUCCEEDED, ConditionStatus::False, reason, &message);
    conditions.stalled(reason, &message);
    let tidied = tidy(observed, &status, now);
    let mut plan = Plan { status: Some(status), ..tidied };
    if was_open {
        plan = plan.event(true, reason, message);
    }
    plan
}

fn reason_of(failure: &AttemptFailure) -> Reason {
    Reason::ALL
        .iter()
        .map(|(reason, _)| *reason)
        .find(|reason| reason.as_str() == failure.reason)
        .unwrap_or(Reason::WorkerFailed)
}

/// Starts the next attempt, or waits for its time.
fn start<R: Run>(
    observed: &Observed<R>,
    mut status: RunStatus,
    attempt: u32,
    generation: i64,
    now: Timestamp,
) -> Plan<RunStatus> {
    if let Some(failure) = &status.failure {
        let due = due_at(observed, &status, failure);
        if now < due {
            let message = format!(
                "attempt {} of {} failed: {}: {}; the next one starts at {}",
                failure.attempt,
                failure.attempt.max(status.budget_start + observed.object.execution().retry.limit),
                failure.reason,
                failure.message,
                condition::whole_second(due)
            );
            let mut conditions = Conditions::new(&mut status.conditions, generation, now);
            conditions.set(condition_type::SUCCEEDED, ConditionStatus::Unknown, Reason::Retrying, &message);
            conditions.reconciling(Reason::Retrying, &message);
            return Plan::report(status).requeue_at(due);
        }
    }
    match create(observed, attempt) {
        Ok(create) => Plan { creates: vec![create], ..under_way(status, attempt, generation, now) },
        Err(Blocked { reason, message, stalled }) => {
            let mut conditions = Conditions::new(&mut status.conditions, generation, now);
            conditions.set(condition_type::SUCCEEDED, ConditionStatus::Unknown, reason, &message);
            if stalled {
                conditions.stalled(reason, &message);
            } else {
                conditions.reconciling(reason, &message);
            }
            Plan::report(status)
        }
    }
}

/// Reports that the attempt runs, but only where the status tells of an earlier trouble: the usual run is not worth a
/// write before it ends.
fn under_way(mut status: RunStatus, attempt: u32, generation: i64, now: Timestamp) -> Plan<RunStatus> {
    let reported = condition::get(&status.conditions, condition_type::SUCCEEDED).map(|c| c.reason.as_str());
    let usual = [None, Some(Reason::Pending.as_str()), Some(Reason::Running.as_str())];
    if usual.contains(&reported) {
        return Plan::idle();
    }
    let message = format!("attempt {attempt} is under way");
    let mut conditions = Conditions::new(&mut status.conditions, generation, now);
    conditions.set(condition_type::SUCCEEDED, ConditionStatus::Unknown, Reason::Running, &message);
    conditions.reconciling(Reason::Running, &message);
    Plan::report(status)
}

fn due_at<R: Run>(observed: &Observed<R>, status: &RunStatus, failure: &AttemptFailure) -> Timestamp {
    let ended: Timestamp = failure.at.parse().unwrap_or(Timestamp::UNIX_EPOCH);
    let failures = status.attempts.saturating_sub(status.budget_start).max(1);
    let seed = observed.object.meta().uid.as_deref().unwrap_or_default();
    let delay = backoff::attempt_delay(&observed.object.execution().retry, failures, seed);
    SignedDuration::try_from(delay).ok().and_then(|delay| ended.checked_add(delay).ok()).unwrap_or(ended)
}

fn create<R: Run>(observed: &Observed<R>, attempt: u32) -> Result<Create, Blocked> {
    let run = observed.object.as_ref();
    let name = run.meta().name.clone().unwrap_or_default();
    let inherited =
        |label: &str| run.meta().labels.as_ref().and_then(|l| l.get(label)).cloned().unwrap_or_default();
    let labels = [
        (labels::OPERATOR, observed.operator.clone()),
        (labels::ROLE, "run".to_owned()),
        (labels::RUN, name.clone()),
        (labels::RUN_KIND, R::Resource::kind(&()).into_owned()),
        (labels::INTENT, inherited(labels::INTENT)),
        (labels::INTENT_KIND, inherited(labels::INTENT_KIND)),
        (labels::ATTEMPT, attempt.to_string()),
    ];
    let meta = pod::child_meta(run, format!("{name}-{attempt}"), labels);
    let subject = Subject {
        kind: R::Resource::kind(&()).into_owned(),
        namespace: run.meta().namespace.clone().unwrap_or_default(),
        uid: run.meta().uid.clone().unwrap_or_default(),
        name,
        attempt,
    };
    let pod = R::attempt(observed, meta, subject)?;
    let why = format!("attempt {attempt}");
    Ok(if R::JOB { Create::of(&job(pod), why) } else { Create::of(&pod, why) })
}

/// A Job of one pod that is never repeated by the Job itself: it can tell neither an out-of-memory from a bad row
/// nor remember why.
fn job(pod: Pod) -> k8s_openapi::api::batch::v1::Job {
    use k8s_openapi::api::{
        batch::v1::{Job, JobSpec},
        core::v1::PodTemplateSpec,
    };
    let template = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
        labels: pod.metadata.labels.clone(),
        annotations: pod.metadata.annotations.clone(),
        ..Default::default()
    };
    let meta =
        k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta { annotations: None, ..pod.metadata };
    Job {
        metadata: meta,
        spec: Some(JobSpec {
            backoff_limit: Some(0),
            pod_replacement_policy: Some("Failed".to_owned()),
            template: PodTemplateSpec { metadata: Some(template), spec: pod.spec },
            ..Default::default()
        }),
        status: None,
    }
}

/// An attempt's pod exists: where does it stand?
fn follow<R: Run>(
    observed: &Observed<R>,
    status: RunStatus,
    pod: &PodView,
    generation: i64,
    now: Timestamp,
) -> Plan<RunStatus> {
    match pod_outcome::of(pod) {
        Outcome::Running => {
            let attempt = status.attempts + 1;
            under_way(status, attempt, generation, now)
        }
        Outcome::Starting(held_up) => starting(observed, status, pod, held_up, generation, now),
        Outcome::Succeeded(result) => succeed(observed, status, result, generation, now),
        Outcome::Failed(ended) => {
            fail(observed, status, &ended, pod_outcome::ended_at(pod).unwrap_or(now), generation, now)
        }
    }
}

/// A Job without a pod: the Job controller has not made it yet, or the pod is gone for good.
fn follow_job<R: Run>(
    observed: &Observed<R>,
    status: RunStatus,
    job: &JobView,
    generation: i64,
    now: Timestamp,
) -> Plan<RunStatus> {
    let failed = job.status.conditions.iter().flatten().find(|c| c.type_ == "Failed" && c.status == "True");
    match failed {
        Some(condition) => {
            let message =
                format!("the Job failed without a pod: {}", condition.message.as_deref().unwrap_or_default());
            let failure = mlop_api::result::Failure::transient(Reason::PodLost, message);
            let ended = Ended { failure, disrupted: true, checkpoint: None };
            fail(observed, status, &ended, now, generation, now)
        }
        None => Plan::idle(),
    }
}

fn starting<R: Run>(
    observed: &Observed<R>,
    mut status: RunStatus,
    pod: &PodView,
    held_up: Option<(Reason, String)>,
    generation: i64,
    now: Timestamp,
) -> Plan<RunStatus> {
    let created = pod.metadata.creation_timestamp.as_ref().map_or(now, |t| t.0);
    let timeout = observed.object.execution().start_timeout.unwrap_or(START_TIMEOUT);
    let limit = i64::try_from(timeout.as_secs())
        .ok()
        .and_then(|s| created.checked_add(SignedDuration::from_secs(s)).ok());
    // A pod that no node has room for waits as long as it takes: that is a queue, not a failure.
    let unschedulable = matches!(held_up, Some((Reason::Unschedulable, _)));
    if let Some(limit) = limit.filter(|limit| *limit <= now && !unschedulable) {
        let (reason, why) = held_up.unwrap_or((Reason::StartTimeout, String::new()));
        let message = format!("the pod did not start within {timeout}: {why}");
        let ended = Ended {
            failure: mlop_api::result::Failure::transient(reason, message),
            disrupted: false,
            checkpoint: None,
        };
        return fail(observed, status, &ended, limit.max(created), generation, now)
            .delete(pod, "it did not start in time");
    }
    let next = limit.filter(|_| !unschedulable).map_or(Action::AwaitChange, Action::RequeueAt);
    match held_up {
        Some((reason, message)) => {
            let mut conditions = Conditions::new(&mut status.conditions, generation, now);
            conditions.set(condition_type::SUCCEEDED, ConditionStatus::Unknown, reason, &message);
            conditions.reconciling(reason, &message);
            Plan::report(status).with_action(next)
        }
        None => Plan::idle().with_action(next),
    }
}

fn succeed<R: Run>(
    observed: &Observed<R>,
    mut status: RunStatus,
    result: ResultDocument,
    generation: i64,
    now: Timestamp,
) -> Plan<RunStatus> {
    let (Some(digest), Ok(store)) = (result.digest.clone(), observed.store(observed.object.store())) else {
        let message = "the worker reported success without a digest, or its ObjectStore is gone";
        let failure = mlop_api::result::Failure::transient(Reason::ResultMissing, message);
        return fail(
            observed,
            status,
            &Ended { failure, disrupted: false, checkpoint: None },
            now,
            generation,
            now,
        );
    };
    let key = if R::MEDIA_TYPE == MEDIA_TABLE {
        format!("manifests/{}.json", digest.hex())
    } else {
        format!("trees/{}/", digest.hex())
    };
    let message = result.summary.clone().unwrap_or_else(|| "done".to_owned());
    status.output = Some(Output {
        uri: pod::store(store).uri(&key),
        store: observed.object.store().to_owned(),
        media_type: R::MEDIA_TYPE.to_owned(),
        schema_digest: result.schema_digest,
        metrics: result.metrics,
        summary: result.summary,
        registered: result.registered,
        activated: result.activated,
        digest,
    });
    status.attempts += 1;
    status.failure = None;
    status.finished_at = Some(now.to_string());
    status.checkpoint = result.checkpoint.or(status.checkpoint);
    let mut conditions = Conditions::new(&mut status.conditions, generation, now);
    conditions.set(condition_type::SUCCEEDED, ConditionStatus::True, Reason::Succeeded, &message);
    conditions.settled();
    let keep_until = keep_until(observed, now);
    Plan::report(status).event(false, Reason::Succeeded, message).requeue_at(keep_until)
}

fn fail<R: Run>(
    observed: &Observed<R>,
    mut status: RunStatus,
    ended: &Ended,
    at: Timestamp,
    generation: i64,
    now: Timestamp,
) -> Plan<RunStatus> {
    status.attempts += 1;
    if ended.disrupted {
        status.budget_start += 1;
    }
    status.checkpoint = ended.checkpoint.or(status.checkpoint);
    status.finished_at = Some(now.to_string());
    let failure = AttemptFailure {
        attempt: status.attempts,
        reason: ended.failure.reason.to_string(),
        message: condition::truncated(&ended.failure.message, condition::MESSAGE_BYTES_MAX),
        retryable: ended.failure.retryable,
        at: at.to_string(),
    };
    status.failure = Some(failure.clone());
    if exhausted(observed, &status, &failure) {
        return give_up(observed, status, &failure, generation, now);
    }
    let due = due_at(observed, &status, &failure);
    let message = format!(
        "attempt {} of {} failed: {}: {}; the next one starts at {}",
        failure.attempt,
        status.budget_start + observed.object.execution().retry.limit,
        failure.reason,
        failure.message,
        condition::whole_second(due)
    );
    let mut conditions = Conditions::new(&mut status.conditions, generation, now);
    conditions.set(condition_type::SUCCEEDED, ConditionStatus::Unknown, Reason::Retrying, &message);
    conditions.reconciling(Reason::Retrying, &message);
    Plan::report(status).event(true, ended.failure.reason, message).requeue_at(due)
}

fn keep_until<R: Run>(observed: &Observed<R>, ended: Timestamp) -> Timestamp {
    let keep = observed.object.execution().keep_pods.unwrap_or(KEEP_PODS);
    let seconds = i64::try_from(keep.as_secs()).unwrap_or(i64::MAX);
    ended.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(ended)
}

/// The run has ended: its last pod stays a while for its logs, then all go.
fn tidy<R: Run>(observed: &Observed<R>, status: &RunStatus, now: Timestamp) -> Plan<RunStatus> {
    let mut plan = Plan::idle();
    let Some(ended) = status.finished_at.as_deref().and_then(|at| at.parse().ok()) else { return plan };
    let until = keep_until(observed, ended);
    let leftovers = !observed.pods.is_empty() || !observed.jobs.is_empty();
    if now < until {
        return if leftovers { plan.requeue_at(until) } else { plan };
    }
    for job in &observed.jobs {
        plan = plan.delete(job.as_ref(), "its logs were kept long enough");
    }
    for pod in observed.pods.iter().filter(|_| !R::JOB) {
        plan = plan.delete(pod.as_ref(), "its logs were kept long enough");
    }
    plan
}

/// Wakes the open runs that read or write an ObjectStore when it changes.
pub fn wake_on_stores<K: RunResource>(
    stores: &Arc<Cache<ObjectStore>>,
    runs: &Arc<Cache<K>>,
    queue: &Arc<crate::runtime::workqueue::Workqueue>,
) {
    let runs = Arc::clone(runs);
    crate::runtime::triggers::wake(stores, queue, move |store| {
        let name = store.metadata.name.clone().unwrap_or_default();
        let namespace = store.metadata.namespace.clone().unwrap_or_default();
        let waits = |run: &K| {
            let done = run
                .reported()
                .is_some_and(|status| condition::is_true(&status.conditions, condition_type::SUCCEEDED));
            !done && (run.store() == name || run.lineage().inputs.iter().any(|input| input.store == name))
        };
        runs.select(&namespace, waits).iter().map(|run| Key::of(run.meta())).collect()
    });
}
