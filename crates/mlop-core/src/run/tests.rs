//! Tables of decisions. One row is a situation, built with [`run`], and the summary of its plan.
//!
//! Every row is carried out and decided again: the second plan must be quiet.

mod distributed;
mod preflight;
mod progress;
mod queue;
mod trace;

use super::{Observed, Run};
use crate::{
    Blocked,
    condition::{self, ConditionStatus, Conditions},
    plan::Action,
    resource::JobView,
    testing::{self, ForecastRun, ForecastRunSpec, NOW, RunCase, Situation, at, check, time},
};
use k8s_openapi::{
    api::core::v1::{Container, Pod, PodSpec, PodStatus},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time},
};
use kube::ResourceExt;
use mlop_api::{
    Digest, MEDIA_TREE, Reason,
    contract::condition_type,
    duration::Span,
    labels,
    result::{Failure, ResultDocument},
    task::Subject,
};
use serde_json::json;
use std::collections::BTreeMap;

/// The kind under test. With `JOB`, an attempt is a Job.
struct Runs<const JOB: bool>;

impl<const JOB: bool> Run for Runs<JOB> {
    type Resource = ForecastRun;
    type Related = ();
    const MEDIA_TYPE: &'static str = MEDIA_TREE;
    const JOB: bool = JOB;

    fn attempt(observed: &Observed<Self>, metadata: ObjectMeta, _: Subject) -> Result<Pod, Blocked> {
        if observed.object.labels().contains_key("impossible") {
            return Err(Blocked::stalled(Reason::InvalidSpec, "the run has no input"));
        }
        observed.all_stores()?;
        let containers = vec![Container { name: "worker".to_owned(), ..Default::default() }];
        let node_selector = Some(observed.object.spec.execution.node_selector.clone());
        let spec = PodSpec { containers, node_selector, ..Default::default() };
        Ok(Pod { metadata, spec: Some(spec), status: None })
    }

    fn verdict(observed: &Observed<Self>) -> Option<(bool, String)> {
        let verdict = observed.object.labels().get("verdict")?;
        Some((verdict == "passed", verdict.clone()))
    }
}

type Case<const JOB: bool> = RunCase<Runs<JOB>>;

/// A run with a budget of three attempts, the second of which starts after 10 to 11 s.
fn run() -> Case<false> {
    RunCase::new("delay-1", &json!(ForecastRunSpec::default()))
}

/// As [`run`], with a Job per attempt.
fn job() -> Case<true> {
    RunCase::new("delay-1", &json!(ForecastRunSpec::default()))
}

impl<const JOB: bool> Case<JOB> {
    fn impossible(mut self) -> Self {
        self.object.labels_mut().insert("impossible".into(), String::new());
        self
    }

    /// Somebody deletes the newest pod. Its grace period ends `seconds` after [`NOW`].
    fn pod_deleted(mut self, seconds: i64) -> Self {
        self.pods.last_mut().expect("a pod").metadata.deletion_timestamp = Some(time(NOW + seconds));
        self
    }

    /// The newest Job has this condition.
    fn job_ended(mut self, kind: &str) -> Self {
        let at = time(NOW);
        let condition =
            json!({"type": kind, "status": "True", "message": "node gone", "lastTransitionTime": at});
        self.jobs.last_mut().expect("a Job").status =
            serde_json::from_value(json!({"conditions": [condition]})).unwrap();
        self
    }

    /// The ObjectStore reports this Ready condition from `seconds` after [`NOW`] on.
    fn store_ready(mut self, status: ConditionStatus, reason: Reason, seconds: i64) -> Self {
        let conditions = &mut self.stores[0].status.get_or_insert_default().conditions;
        let mut conditions = Conditions::new(conditions, 1, at(NOW + seconds));
        conditions.set(condition_type::READY, status, reason, "the keys are refused");
        self
    }

    /// The ObjectStore refuses from `seconds` after [`NOW`] on.
    fn store_denies(self, seconds: i64) -> Self {
        self.store_ready(ConditionStatus::False, Reason::StoreDenied, seconds)
    }

    /// The ObjectStore is ready from `seconds` after [`NOW`] on.
    fn store_heals(self, seconds: i64) -> Self {
        self.store_ready(ConditionStatus::True, Reason::Ready, seconds)
    }

    /// Fails the next attempt `seconds` after [`NOW`].
    fn failed(self, failure: Failure, seconds: i64) -> Self {
        let case = self.at(seconds).reconciled();
        case.pod(testing::terminated(&ResultDocument::failed(failure), NOW + seconds)).reconciled()
    }
}

fn user_error() -> Failure {
    Failure::transient(Reason::UserError, "exit code 1")
}

fn success() -> ResultDocument {
    ResultDocument {
        digest: Some(Digest::of_bytes(b"model")),
        summary: Some("auc 0.71".into()),
        ..Default::default()
    }
}

#[test]
fn attempt_starts_when_its_objects_exist() {
    check(vec![
        ("nothing holds it up", run(), "quiet create Pod delay-1-1"),
        ("its ObjectStore does not exist", run().without_stores(), "Unknown/ConnectionNotReady 0 attempts"),
        ("the spec can never work", run().impossible(), "Unknown/InvalidSpec Stalled 0 attempts"),
        ("the run is being deleted", run().being_deleted(), "quiet"),
    ]);
    check(vec![("an attempt is a Job", job(), "quiet create Job delay-1-1")]);
}

#[test]
fn attempt_starts_when_its_connections_are_ready() {
    let waits = "Unknown/ConnectionNotReady 0 attempts";
    let mut unprobed = run();
    unprobed.stores[0].status = None;
    let read_only = || {
        let mut case = run();
        case.stores[0].spec.read_only = true;
        case
    };
    check(vec![
        ("the ObjectStore has not been probed", unprobed, waits),
        ("the ObjectStore refuses", run().store_denies(0), waits),
        ("the ObjectStore of the output is read-only", read_only(), "Unknown/InvalidSpec Stalled 0 attempts"),
        (
            "it has been mended",
            run().store_denies(0).reconciled().store_heals(9).at(9),
            "Unknown/Running 0 attempts create Pod delay-1-1",
        ),
        (
            "it refuses while a pod runs",
            run().reconciled().pod(testing::running()).store_denies(1),
            "quiet requeue 10",
        ),
        (
            "it refuses when the pod has succeeded: the work counts",
            run().reconciled().pod(testing::terminated(&success(), NOW)).store_denies(0),
            "True/Succeeded 1 attempts event Succeeded requeue 3600",
        ),
        (
            "it refuses when the next attempt is due",
            run().failed(user_error(), 0).store_denies(5).at(12),
            "Unknown/ConnectionNotReady 1 attempts",
        ),
    ]);
    let status = run().store_denies(0).plan().status.unwrap();
    let succeeded = condition::get(&status.conditions, condition_type::SUCCEEDED).unwrap();
    assert_eq!(succeeded.message, "ObjectStore files is not ready: StoreDenied: the keys are refused");
}

#[test]
fn refusal_by_a_connection_costs_no_attempt() {
    let refusals = [
        Reason::StoreDenied,
        Reason::BucketNotFound,
        Reason::SecretMissing,
        Reason::TrackingDenied,
        Reason::StoreUnreachable,
        Reason::TrackingUnreachable,
        Reason::OnlineStoreUnreachable,
    ];
    // A user cancels a run, no worker does.
    for (reason, _) in Reason::ALL.iter().filter(|(reason, _)| *reason != Reason::Cancelled) {
        let mut case = run();
        for attempt in 1..=4 {
            case = case.failed(Failure::terminal(*reason, "refused"), 100 * attempt);
        }
        let status = case.status();
        let goes_on = !condition::is_false(&status.conditions, condition_type::SUCCEEDED);
        assert_eq!(goes_on, refusals.contains(reason), "{reason}");
        let cost = status.attempts - status.budget_start;
        assert_eq!(cost, u32::from(!goes_on), "{reason}");
    }
}

#[test]
fn refusal_that_no_probe_sees_is_not_repeated_forever() {
    let denied = || Failure::terminal(Reason::StoreDenied, "writing s3://b/trees/1 is refused");
    let away = || Failure::transient(Reason::StoreUnreachable, "no answer");
    let long = || run().failed(denied(), 0).failed(denied(), 3_600);
    let waits = "Unknown/StoreDenied Stalled 2 attempts";
    let again = "Unknown/Running 2 attempts create Pod delay-1-3 delete delay-1-2";
    let retry = |spec: &mut ForecastRunSpec| spec.execution.retry_requested_at = Some("1".into());
    check(vec![
        (
            "a training of an hour is refused once",
            run().failed(denied(), 0).at(3),
            "Unknown/Running 1 attempts create Pod delay-1-2 delete delay-1-1",
        ),
        ("it is refused again, and probes have succeeded meanwhile", long().at(4_000), waits),
        ("it waits without an attempt", long().at(4_000).reconciled().at(90_000), waits),
        ("a retry is requested", long().at(4_000).reconciled().edited(retry), again),
        (
            "the settings are edited",
            long().at(4_000).reconciled().edited(|spec| spec.execution.retry.limit = 5),
            again,
        ),
        (
            "the ObjectStore is not ready, and ready again",
            long().at(4_000).reconciled().store_denies(4_100).store_heals(4_200).at(4_200),
            again,
        ),
        (
            "the ObjectStore became ready during the second attempt",
            run().failed(denied(), 0).store_denies(1).store_heals(3_000).failed(denied(), 3_600).at(3_605),
            again,
        ),
        (
            "it was refused for less time than two probes take",
            run().failed(denied(), 0).failed(denied(), 1_199).at(1_205),
            again,
        ),
        (
            "it failed for another reason in between",
            run().failed(denied(), 0).failed(away(), 900).failed(denied(), 3_600).at(3_610),
            "Unknown/Running 3 attempts create Pod delay-1-4 delete delay-1-3",
        ),
        (
            "the store does not answer: it is repeated without limit",
            run().failed(away(), 0).failed(away(), 3_600).at(3_605),
            again,
        ),
    ]);
    let status = long().at(4_000).reconciled().status();
    assert_eq!((status.attempts, status.budget_start), (2, 2), "it costs no attempt");
    let succeeded = condition::get(&status.conditions, condition_type::SUCCEEDED).unwrap();
    let words = "writing s3://b/trees/1 is refused; the probe of the ObjectStore succeeds";
    assert!(succeeded.message.starts_with(words), "{}", succeeded.message);
    assert_eq!(status.cause.map(|cause| cause.reason).as_deref(), Some("StoreDenied"));
}

#[test]
fn attempt_is_repeated_as_soon_as_its_connection_is_mended() {
    let denied = || Failure::terminal(Reason::StoreDenied, "the keys are refused");
    let repeated = (1..=6).fold(run(), |case, attempt| case.failed(denied(), 100 * attempt));
    let again = "Unknown/Running 6 attempts create Pod delay-1-7 delete delay-1-6";
    let of_user = || run().failed(user_error(), 0);
    check(vec![
        ("nothing has changed: the delay has grown", repeated.clone().at(601), "quiet requeue 35"),
        ("the delay is over", repeated.clone().at(648), again),
        ("the ObjectStore was ready before", repeated.clone().store_heals(600).at(601), "quiet requeue 35"),
        (
            "the ObjectStore refuses, too",
            repeated.clone().store_denies(601).at(601),
            "Unknown/ConnectionNotReady 6 attempts",
        ),
        ("the ObjectStore is ready again", repeated.store_denies(601).store_heals(603).at(603), again),
        ("the work itself has failed", of_user().store_denies(1).store_heals(3).at(3), "quiet requeue 7"),
    ]);
}

#[test]
fn repeated_failure_is_the_cause_until_an_attempt_lasts() {
    let away = || Failure::transient(Reason::StoreUnreachable, "no answer");
    let failing = |times: i64| (1..=times).fold(run(), |case, attempt| case.failed(away(), 100 * attempt));
    let running =
        |seconds: i64| failing(4).at(500).reconciled().pod(testing::running()).at(500 + seconds).reconciled();
    let mended = running(600).pod(testing::terminated(&success(), NOW + 1_200)).at(1_200);
    let mut waiting = run().store_denies(0);
    waiting.object.labels_mut().insert(labels::INTENT.into(), "demand".into());
    waiting.object.labels_mut().insert(labels::INTENT_KIND.into(), "Forecast".into());
    let mut blocked = waiting.clone().without_stores();
    blocked.now += 1;
    let rows = [
        ("twice may be chance", failing(2), None),
        ("three times", failing(3), Some("ForecastRun delay-1: StoreUnreachable: no answer")),
        ("the words stay", failing(4), Some("ForecastRun delay-1: StoreUnreachable: no answer")),
        ("the next attempt runs", running(60), Some("ForecastRun delay-1: StoreUnreachable: no answer")),
        ("it has lasted", running(600), None),
        ("it has succeeded", mended, None),
        ("its connection refuses", waiting, Some("ObjectStore files: StoreDenied: the keys are refused")),
        (
            "its connection is missing",
            blocked,
            Some("Forecast demand: ConnectionNotReady: ObjectStore files does not exist"),
        ),
    ];
    for (situation, case, want) in rows {
        let cause = case.reconciled().status().cause;
        let told = cause.map(|it| format!("{} {}: {}: {}", it.kind, it.name, it.reason, it.message));
        assert_eq!(told.as_deref(), want, "{situation}");
    }
}

#[test]
fn secret_of_a_container_counts_against_the_budget() {
    let waits = json!({"phase": "Pending", "conditions": [
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": time(NOW)}],
        "containerStatuses": [{"name": "worker", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": "CreateContainerConfigError", "message": "secret \"a\" not found"}}}]});
    let late = run().reconciled().pod(serde_json::from_value(waits).unwrap()).at(600).reconciled();
    let status = late.status();
    let failure = status.failure.unwrap();
    assert_eq!((failure.reason.as_str(), status.attempts, status.budget_start), ("SecretMissing", 1, 0));
}

#[test]
fn attempt_starts_when_its_profile_exists() {
    let quota = || testing::object("quota", &json!({"workers": {"priorityClassName": "low"}}));
    let named = || run().edited(|spec| spec.execution.profile = Some("quota".into()));
    check(vec![
        ("the profile that it names is missing", named(), "Unknown/ProfileNotFound 0 attempts"),
        ("the profile exists", named().profiled(quota()), "quiet create Pod delay-1-1"),
        (
            "the missing profile appears",
            named().reconciled().profiled(quota()),
            "Unknown/Running 0 attempts create Pod delay-1-1",
        ),
        (
            "the default profile cannot be read",
            run().profiled(testing::object("default", &json!({"user": {"affinity": {"podAffinity": 1}}}))),
            "Unknown/ProfileInvalid Stalled 0 attempts",
        ),
        (
            "the profile disappears while the attempt runs",
            named().profiled(quota()).reconciled().pod(testing::running()).without_profiles(),
            "quiet requeue 10",
        ),
    ]);
}

#[test]
fn blocked_run_recovers_when_its_objects_exist() {
    let mut case = run().without_stores().reconciled();
    case.stores = vec![testing::store("files")];
    check(vec![("the store is there", case, "Unknown/Running 0 attempts create Pod delay-1-1")]);
}

#[test]
fn pod_of_the_attempt_is_followed() {
    let started = || run().reconciled();
    check(vec![
        ("it has no node yet", started(), "quiet requeue 10"),
        ("it has no node for a long time", started().at(6_000), "Unknown/Running 0 attempts"),
        ("it has a node", started().pod(testing::scheduled()), "quiet requeue 10"),
        (
            "it has a node for a while",
            started().pod(testing::scheduled()).at(10),
            "Unknown/Running 0 attempts requeue 590",
        ),
        ("it runs", started().pod(testing::running()), "quiet requeue 10"),
        ("it runs for a while", started().pod(testing::running()).at(10), "Unknown/Running 0 attempts"),
        ("it runs for hours", started().pod(testing::running()).at(10).reconciled().at(6_000), "quiet"),
        (
            "the command has just ended",
            started().pod(testing::running()).at(10).reconciled().pod(publishing(30)).at(31),
            "quiet requeue 9",
        ),
        (
            "the upload of the output takes a while",
            started().pod(testing::running()).at(10).reconciled().pod(publishing(30)).at(40),
            "Unknown/Running 0 attempts",
        ),
        (
            "its image cannot be pulled",
            started().pod(testing::held_up()),
            "Unknown/ImagePull 0 attempts requeue 600",
        ),
        (
            "it runs after it was held up",
            started().pod(testing::held_up()).reconciled().pod(testing::running()),
            "Unknown/Running 0 attempts",
        ),
        (
            "it has not started in time",
            started().pod(testing::scheduled()).at(600),
            "Unknown/Retrying 1 attempts delete delay-1-1 event StartTimeout requeue 10",
        ),
        (
            "no node has room: it waits without limit",
            started().pod(unschedulable()).at(6_000),
            "Unknown/Unschedulable 0 attempts",
        ),
        (
            "it is deleted, and its node may still report",
            started().pod(testing::running()).at(10).reconciled().pod_deleted(30).at(89),
            "quiet requeue 1",
        ),
        (
            "it is deleted, and its node is silent",
            started().pod(testing::running()).pod_deleted(30).at(90),
            "Unknown/Retrying 1 attempts event PodLost requeue 1",
        ),
        (
            "it has succeeded",
            started().pod(testing::terminated(&success(), NOW)),
            "True/Succeeded 1 attempts event Succeeded requeue 3600",
        ),
        (
            "it reports success without a digest",
            started().pod(testing::terminated(&ResultDocument::default(), NOW)),
            "Unknown/Retrying 1 attempts event ResultMissing requeue 10",
        ),
        (
            "the ObjectStore is gone when it succeeds: the work is kept",
            started().pod(testing::terminated(&success(), NOW)).without_stores(),
            "Unknown/ConnectionNotReady 0 attempts",
        ),
        (
            "the ObjectStore is back",
            with_stores(started().pod(testing::terminated(&success(), NOW)).without_stores().reconciled()),
            "True/Succeeded 1 attempts event Succeeded requeue 3600",
        ),
    ]);
}

fn with_stores<const JOB: bool>(mut case: Case<JOB>) -> Case<JOB> {
    case.stores = vec![testing::store("files")];
    case
}

fn unschedulable() -> PodStatus {
    serde_json::from_value(json!({"phase": "Pending", "conditions": [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}]}))
    .unwrap()
}

/// A pod whose user's command ended at `second`, and whose worker goes on.
fn publishing(second: i64) -> PodStatus {
    let mut pod = testing::running();
    let mut user = pod.container_statuses.as_ref().unwrap()[0].clone();
    user.name = labels::USER_CONTAINER.to_owned();
    user.state =
        serde_json::from_value(json!({"terminated": {"exitCode": 0, "finishedAt": time(NOW + second)}}))
            .unwrap();
    pod.container_statuses.as_mut().unwrap().push(user);
    pod
}

#[test]
fn injected_init_container_is_named_by_the_run() {
    let mut behind_sidecar = testing::scheduled();
    let waits = json!({"type": "Initialized", "status": "False",
        "message": "containers with incomplete status: [proxy fetch]"});
    behind_sidecar.conditions.as_mut().unwrap().push(serde_json::from_value(waits).unwrap());
    let waiting = || run().reconciled().pod(behind_sidecar.clone());
    let message = |case: Case<false>| {
        let status = case.plan().status.unwrap();
        condition::get(&status.conditions, condition_type::SUCCEEDED).unwrap().message.clone()
    };
    assert_eq!(
        message(waiting().at(10)),
        "attempt 1 starts: its containers wait for the init container proxy"
    );
    let late = message(waiting().at(600));
    assert!(
        late.contains("did not start within 10m: its containers wait for the init container proxy"),
        "{late}"
    );
}

#[test]
fn recorded_job_without_a_pod_is_followed() {
    let text = include_str!("../../tests/recorded/jobs.yaml");
    let mut recorded: BTreeMap<String, JobView> = serde_saphyr::from_str(text).unwrap();
    let tries = "Unknown/Running 0 attempts try Pod delay-1-1 requeue 10";
    let rows = [
        ("refused-by-quota", tries),
        ("refused-by-webhook", tries),
        ("suspended", tries),
        ("failed", "Unknown/Retrying 1 attempts event PodLost requeue 1"),
        ("finished", "quiet requeue 290"),
    ];
    for (name, want) in rows {
        let mut status = recorded.remove(name).unwrap_or_else(|| panic!("no recording of {name}")).status;
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_transition_time = Some(Time(at(NOW)));
        }
        let mut case = job().reconciled().at(10);
        case.jobs[0].status = status;
        check(vec![(name, case, want)]);
    }
    assert!(recorded.is_empty(), "recordings without a case: {:?}", recorded.keys());
}

#[test]
fn job_without_a_pod_is_followed() {
    let started = || job().reconciled();
    check(vec![
        ("the Job controller has not created the pod", started(), "quiet requeue 10"),
        (
            "nor after ten seconds: the API server is asked why",
            started().at(10),
            "Unknown/Running 0 attempts try Pod delay-1-1 requeue 10",
        ),
        (
            "nor after ten seconds, and its profile is another one now: a Job keeps its template",
            started()
                .profiled(testing::object("default", &json!({"workers": {"schedulerName": "x"}})))
                .at(10),
            "quiet delete delay-1-1 then quiet create Job delay-1-1",
        ),
        (
            "the Job has failed and its pod is gone: the attempt costs nothing",
            started().job_ended("Failed"),
            "Unknown/Retrying 1 attempts event PodLost requeue 1",
        ),
        (
            "the Job is complete and its pod is gone: the next attempt reports the result",
            started().job_ended("Complete").at(300),
            "Unknown/Retrying 1 attempts event PodLost requeue 1",
        ),
        (
            "the Job is complete, and the cache may not have seen its pod",
            started().job_ended("Complete").at(299),
            "quiet requeue 1",
        ),
    ]);
    assert_eq!(started().job_ended("Failed").reconciled().status().budget_start, 1);
}

#[test]
fn failed_attempt_is_repeated_within_its_budget() {
    let once = || run().failed(user_error(), 0);
    check(vec![
        (
            "the first attempt fails",
            run().reconciled().pod(testing::terminated(&ResultDocument::failed(user_error()), NOW)),
            "Unknown/Retrying 1 attempts event UserError requeue 10",
        ),
        ("its backoff is not over", once().at(5), "quiet requeue 5"),
        (
            "its backoff is over",
            once().at(12),
            "Unknown/Running 1 attempts create Pod delay-1-2 delete delay-1-1",
        ),
        (
            "the last attempt fails",
            once()
                .failed(user_error(), 12)
                .at(40)
                .reconciled()
                .pod(testing::terminated(&ResultDocument::failed(user_error()), NOW + 40)),
            "False/UserError Stalled 3 attempts event UserError requeue 3600",
        ),
        (
            "a terminal failure",
            run().reconciled().pod(testing::terminated(
                &ResultDocument::failed(Failure::terminal(Reason::SchemaMismatch, "no column x")),
                NOW,
            )),
            "False/SchemaMismatch Stalled 1 attempts event SchemaMismatch requeue 3600",
        ),
    ]);
}

#[test]
fn pods_of_earlier_attempts_do_not_stay() {
    let first = run().failed(user_error(), 0);
    let left = first.pods[0].clone();
    let mut second = first.at(12).reconciled();
    second.pods.insert(0, left);
    check(vec![("the operator ended before it had deleted the first pod", second, "quiet delete delay-1-1")]);
}

#[test]
fn attempt_that_cannot_start_gives_way_to_an_edit() {
    let gpu = |spec: &mut ForecastRunSpec| {
        spec.execution.node_selector.insert("gpu".into(), "a100".into());
    };
    let queued = || run().reconciled().pod(unschedulable()).reconciled();
    let again = "quiet delete delay-1-1 then Unknown/Running 0 attempts create Pod delay-1-1";
    let mut of_earlier_release = queued();
    of_earlier_release.pods[0].metadata.annotations = None;
    check(vec![
        ("no node has room", queued().edited(gpu), again),
        (
            "its image cannot be pulled, and its time is over",
            run().reconciled().pod(testing::held_up()).reconciled().edited(gpu).at(600),
            again,
        ),
        (
            "the edit changes no pod: it keeps its place in the queue",
            queued().edited(|spec| spec.execution.retry.limit = 5),
            "Unknown/Unschedulable 0 attempts",
        ),
        ("it runs", run().reconciled().pod(testing::running()).edited(gpu), "quiet requeue 10"),
        ("it starts", run().reconciled().pod(testing::scheduled()).edited(gpu), "quiet requeue 10"),
        ("it is deleted already", queued().edited(gpu).pod_deleted(30), "quiet requeue 90"),
        (
            "an earlier release has made it",
            of_earlier_release.edited(gpu),
            "Unknown/Unschedulable 0 attempts",
        ),
    ]);
    let mut held_up = job().reconciled();
    let mut pod = testing::pod_of("delay-1-1-x", 1, testing::held_up());
    pod.metadata.annotations = held_up.jobs[0].metadata.annotations.clone();
    held_up.pods.push(pod);
    check(vec![
        (
            "a quota refuses the pod of its Job",
            job().reconciled().edited(gpu).at(10),
            "quiet delete delay-1-1 then quiet create Job delay-1-1",
        ),
        (
            "the pod of its Job cannot start",
            held_up.edited(gpu),
            "quiet delete delay-1-1 then quiet delete delay-1-1-x",
        ),
    ]);
}

#[test]
fn budget_of_an_earlier_release_is_not_renewed() {
    // A new field of the execution must not change this digest: every dead run of a cluster would start again.
    let digest = run().failed(user_error(), 0).status().execution_digest.unwrap();
    assert_eq!(digest.as_str(), "sha256:e654cf0e27705dab6eec618c9a73b46d0c887ddc14016836052709de962c075d");
}

#[test]
fn edit_of_the_execution_renews_the_budget() {
    let dead = || run().failed(Failure::terminal(Reason::SchemaMismatch, "no column x"), 0);
    check(vec![
        ("a dead run stays dead", dead(), "quiet requeue 3600"),
        (
            "an edit starts the next attempt",
            dead().edited(|spec| spec.execution.retry.limit = 5),
            "Unknown/Running 1 attempts create Pod delay-1-2 delete delay-1-1",
        ),
        (
            "a request to retry starts it, too",
            dead().edited(|spec| spec.execution.retry_requested_at = Some("1".into())),
            "Unknown/Running 1 attempts create Pod delay-1-2 delete delay-1-1",
        ),
    ]);
}

#[test]
fn cancelled_run_goes_on_only_at_a_retry() {
    let cancel = |spec: &mut ForecastRunSpec| spec.execution.cancel_requested_at = Some("1".into());
    let retry = |spec: &mut ForecastRunSpec| spec.execution.retry_requested_at = Some("2".into());
    let running = || run().reconciled().pod(testing::running());
    let cancelled = || running().edited(cancel).reconciled();
    let mut later = run();
    let request = (labels::CANCEL_REQUESTED_AT.to_owned(), "1".to_owned());
    later.object.metadata.annotations = Some([request].into());
    check(vec![
        (
            "it runs",
            running().edited(cancel),
            "False/Cancelled Stalled 1 attempts delete delay-1-1 event Cancelled requeue 60",
        ),
        ("it has not begun", run().edited(cancel), "False/Cancelled Stalled 0 attempts event Cancelled"),
        (
            "it has ended",
            run().reconciled().pod(testing::terminated(&success(), NOW)).edited(cancel),
            "True/Succeeded 1 attempts event Succeeded requeue 3600",
        ),
        ("nothing follows", cancelled(), "quiet"),
        (
            "its settings are edited",
            cancelled().edited(|spec| spec.execution.retry.limit = 5),
            "False/Cancelled Stalled 1 attempts",
        ),
        (
            "a retry is requested",
            cancelled().edited(retry),
            "Unknown/Running 1 attempts create Pod delay-1-2",
        ),
        ("the retry runs", cancelled().edited(retry).reconciled(), "quiet"),
        ("the request was for the run before", later.edited(cancel), "quiet create Pod delay-1-1"),
    ]);
}

#[test]
fn cancelled_run_says_which_checkpoint_is_kept() {
    let cancel = |spec: &mut ForecastRunSpec| spec.execution.cancel_requested_at = Some("1".into());
    let saved = |checkpoint: u64| {
        let failure = Failure::transient(Reason::UserError, "ended by SIGTERM");
        let result =
            ResultDocument { checkpoint: Some(checkpoint.into()), ..ResultDocument::failed(failure) };
        testing::terminated(&result, NOW + 5)
    };
    let running = || run().reconciled().pod(testing::running());
    let cancelled = || running().edited(cancel).reconciled();
    let mut ending = cancelled();
    ending.pods.push(testing::pod_of("delay-1-1", 1, saved(3)));
    let again = running().pod(saved(2)).reconciled().at(12).reconciled().pod(testing::running());
    let rows = [
        ("it has not begun", run().edited(cancel), " before its first attempt; set "),
        ("it runs", running().edited(cancel), "; set mlop.dev/retry-requested-at to go on, from the newest"),
        ("its pod has ended", ending.clone(), "; checkpoint 3 is kept: set mlop.dev/retry-requested-at"),
        ("its pod is gone", ending.reconciled().without_pods().at(6), "; checkpoint 3 is kept"),
        ("an earlier attempt has saved one", again.edited(cancel), "; checkpoint 2 is kept"),
    ];
    for (situation, case, words) in rows {
        let status = case.reconciled().status();
        let succeeded = condition::get(&status.conditions, condition_type::SUCCEEDED).unwrap();
        assert!(succeeded.message.contains(words), "{situation}: {}", succeeded.message);
    }
    let mut ending = cancelled();
    ending.pods.push(testing::pod_of("delay-1-1", 1, saved(3)));
    check(vec![(
        "its pod has saved a checkpoint: one write",
        ending,
        "False/Cancelled Stalled 1 attempts requeue 3600",
    )]);
}

#[test]
fn pods_of_an_ended_run_are_pruned_after_their_time_to_live() {
    let done = || run().reconciled().pod(testing::terminated(&success(), NOW)).reconciled();
    check(vec![
        ("the logs are kept", done().at(100), "quiet requeue 3500"),
        ("the time to live is over", done().at(3600), "quiet delete delay-1-1"),
        ("nothing is left", done().without_pods().at(100), "quiet"),
        (
            "another time to live",
            done().edited(|spec| spec.execution.ttl_after_finished = Some(Span::minutes(1))).at(100),
            "quiet delete delay-1-1",
        ),
    ]);
}

#[test]
fn held_up_attempt_names_the_failure_before_it() {
    let again = run().failed(user_error(), 100).at(111).reconciled().pod(testing::held_up());
    let status = again.plan().status.unwrap();
    let succeeded = condition::get(&status.conditions, condition_type::SUCCEEDED).unwrap();
    let pull = "image i of container worker: no such image";
    assert_eq!(
        (&*succeeded.reason, &*succeeded.message),
        ("ImagePull", &*format!("{pull}; attempt 1 failed: UserError: exit code 1"))
    );
    assert_eq!(status.cause.unwrap().message, pull, "everything downstream repeats the cause");
}

#[test]
fn job_is_pruned_with_its_pod() {
    let started = job().reconciled();
    let mut done = started.clone();
    let mut pod = testing::pod_of("delay-1-1-x", 1, testing::terminated(&success(), NOW));
    pod.metadata.owner_references = Some(vec![OwnerReference { kind: "Job".into(), ..Default::default() }]);
    done.pods.push(pod);
    let kinds = |case: &Case<true>| {
        case.plan().deletes.into_iter().map(|delete| delete.kind.kind).collect::<Vec<_>>().join(" ")
    };
    let mut done = done.reconciled().at(3600);
    assert_eq!(kinds(&done), "Job");
    done.jobs.clear();
    assert_eq!(kinds(&done), "", "the garbage collector deletes its pod");
    done.pods[0].metadata.owner_references = None;
    assert_eq!(kinds(&done), "Pod", "somebody has deleted the Job without its pod");
}

#[test]
fn output_is_composed_from_store_and_digest() {
    let done = run().reconciled().pod(testing::terminated(&success(), NOW)).reconciled();
    let output = done.status().output.unwrap();
    assert_eq!(output.uri, format!("s3://b/trees/{}/", Digest::of_bytes(b"model").hex()));
    assert_eq!((output.store.as_str(), output.media_type.as_str()), ("files", MEDIA_TREE));
}

#[test]
fn run_state_reads_the_present_generation() {
    let state = |status, reason, observed| {
        let mut run = run().object;
        let conditions = &mut run.status.get_or_insert_default().conditions;
        Conditions::new(conditions, observed, at(NOW)).set(condition_type::SUCCEEDED, status, reason, "m");
        super::run_state(&run)
    };
    use super::RunState::{Active, Dead, Succeeded};
    assert_eq!(super::run_state(&run().object), Active(None));
    assert_eq!(state(ConditionStatus::True, Reason::Succeeded, 1), Succeeded);
    assert_eq!(state(ConditionStatus::Unknown, Reason::Running, 1), Active(None));
    let held_up = Active(Some((Reason::ImagePull, "m".into())));
    assert_eq!(state(ConditionStatus::Unknown, Reason::ImagePull, 1), held_up);
    assert_eq!(state(ConditionStatus::False, Reason::UserError, 1), Dead(Reason::UserError, "m".into()));
    assert_eq!(state(ConditionStatus::False, Reason::UserError, 0), Active(None), "of an earlier spec");
}

#[test]
fn disruptions_cost_no_attempt_and_wait_longer_each_time() {
    let away = || Failure::transient(Reason::StoreUnreachable, "no answer");
    let mut case = run();
    let mut delays = Vec::new();
    for disruption in 1..=10 {
        case = case.failed(away(), 1_000 * disruption);
        let Action::RequeueAt(due) = case.plan().action else { panic!("no requeue") };
        delays.push(due.as_second() - case.now);
    }
    let status = case.status();
    assert_eq!((status.attempts, status.budget_start, status.disruptions), (10, 10, 10));
    assert!(status.finished_at.is_none(), "a run that goes on has not ended");
    assert!(delays.windows(2).take(6).all(|pair| pair[0] < pair[1]), "{delays:?}");
    assert!(delays.iter().all(|delay| *delay <= 300), "{delays:?}");
    let status = case.failed(user_error(), 20_000).status();
    assert_eq!((status.attempts, status.budget_start, status.disruptions), (11, 10, 0));
}

#[test]
fn run_is_cached_without_its_work_after_success() {
    let rows =
        [(ConditionStatus::Unknown, "arima"), (ConditionStatus::False, "arima"), (ConditionStatus::True, "")];
    for (succeeded, want) in rows {
        let mut run = run().object;
        run.spec.content.method = "arima".to_owned();
        let status = run.status.get_or_insert_default();
        Conditions::new(&mut status.conditions, 1, at(NOW)).set(
            condition_type::SUCCEEDED,
            succeeded,
            Reason::Running,
            "m",
        );
        super::project(&mut run);
        assert_eq!(run.spec.content.method, want, "{succeeded:?}");
    }
}

#[test]
fn verdict_shows_once_the_gates_have_refused_the_result() {
    let done = || run().reconciled().pod(testing::terminated(&success(), NOW)).reconciled();
    let judged = |mut case: Case<false>, verdict: &str| {
        case.object.labels_mut().insert("verdict".into(), verdict.into());
        case
    };
    let accepted = |case: Case<false>| {
        let conditions = case.plan().status?.conditions;
        let accepted = condition::get(&conditions, condition_type::ACCEPTED)?;
        Some(format!("{} {}", accepted.status, accepted.reason))
    };
    let refused = || judged(done(), "refused").reconciled();
    assert_eq!(accepted(done()), None, "not judged");
    assert_eq!(accepted(judged(done(), "passed")), None, "never refused");
    assert_eq!(accepted(judged(done(), "refused")).as_deref(), Some("False GateFailed"));
    assert_eq!(
        accepted(judged(refused(), "passed")).as_deref(),
        Some("True Succeeded"),
        "the gates were relaxed"
    );
}
