//! Tables of decisions. One row is a situation, built with [`run`], and the summary of its plan.
//!
//! Every row is carried out and decided again: the second plan must be quiet.

use super::{Observed, Run, plan};
use crate::{
    Blocked, Plan,
    condition::{self, ConditionStatus, Conditions},
    plan::Action,
    resource::{JobView, PodView},
    testing::{self, ForecastRun, ForecastRunSpec, NOW, NS, at, time},
};
use k8s_openapi::{
    api::core::v1::{Pod, PodStatus},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::ResourceExt;
use mlop_api::{
    Digest, MEDIA_TREE, Reason,
    contract::condition_type,
    dataset::ObjectStore,
    duration::Span,
    labels,
    result::{Failure, ResultDocument},
    status::RunStatus,
    task::Subject,
};
use serde_json::json;
use std::sync::Arc;

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
        Ok(Pod { metadata, ..Default::default() })
    }
}

#[derive(Clone)]
struct Case {
    job: bool,
    now: i64,
    object: ForecastRun,
    pods: Vec<PodView>,
    jobs: Vec<JobView>,
    has_store: bool,
}

/// A run with a budget of three attempts, the second of which starts after 10 to 11 s.
fn run() -> Case {
    let mut object = ForecastRun::new("delay-1", ForecastRunSpec::default());
    object.metadata.namespace = Some(NS.into());
    object.metadata.uid = Some("run-uid".into());
    object.metadata.generation = Some(1);
    Case { job: false, now: NOW, object, pods: Vec::new(), jobs: Vec::new(), has_store: true }
}

impl Case {
    fn job(mut self) -> Self {
        self.job = true;
        self
    }

    fn without_store(mut self) -> Self {
        self.has_store = false;
        self
    }

    fn impossible(mut self) -> Self {
        self.object.labels_mut().insert("impossible".into(), String::new());
        self
    }

    fn being_deleted(mut self) -> Self {
        self.object.metadata.deletion_timestamp = Some(time(NOW));
        self
    }

    fn edited(mut self, edit: impl Fn(&mut ForecastRunSpec)) -> Self {
        edit(&mut self.object.spec);
        self.object.metadata.generation = self.object.metadata.generation.map(|generation| generation + 1);
        self
    }

    fn at(mut self, seconds: i64) -> Self {
        self.now = NOW + seconds;
        self
    }

    /// Gives the newest pod a status.
    fn pod(mut self, status: PodStatus) -> Self {
        self.pods.last_mut().expect("a pod").status = status;
        self
    }

    fn without_pods(mut self) -> Self {
        self.pods.clear();
        self
    }

    /// Somebody deletes the newest pod. Its grace period ends `seconds` after [`NOW`].
    fn pod_deleted(mut self, seconds: i64) -> Self {
        let time = serde_json::from_value(json!(time(NOW + seconds))).unwrap();
        self.pods.last_mut().expect("a pod").metadata.deletion_timestamp = Some(time);
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

    /// Carries out plans until one is quiet.
    fn reconciled(self) -> Self {
        let mut case = self;
        for _ in 0..10 {
            let plan = case.plan();
            if plan.is_quiet() {
                return case;
            }
            case = case.carried_out(&plan);
        }
        panic!("reconciling does not end: {:#?}", case.plan());
    }

    /// Fails the next attempt `seconds` after [`NOW`].
    fn failed(self, failure: Failure, seconds: i64) -> Self {
        let case = self.at(seconds).reconciled();
        case.pod(testing::terminated(&ResultDocument::failed(failure), NOW + seconds)).reconciled()
    }

    fn status(&self) -> RunStatus {
        self.object.status.clone().unwrap_or_default()
    }

    /// The plan, without a status that the controller would not write.
    fn plan(&self) -> Plan<RunStatus> {
        let now = at(self.now);
        let mut plan =
            if self.job { plan(&self.observed::<true>(), now) } else { plan(&self.observed::<false>(), now) };
        plan.status = plan.status.filter(|status| *status != self.status());
        plan
    }

    fn observed<const JOB: bool>(&self) -> Observed<Runs<JOB>> {
        let store: ObjectStore = serde_json::from_value(json!({
            "apiVersion": "mlop.dev/v1alpha1", "kind": "ObjectStore", "metadata": {"name": "files", "namespace": NS},
            "spec": {"endpoint": "http://s3", "bucket": "b"},
        }))
        .unwrap();
        Observed {
            object: Arc::new(self.object.clone()),
            pods: self.pods.iter().cloned().map(Arc::new).collect(),
            jobs: self.jobs.iter().cloned().map(Arc::new).collect(),
            stores: self.has_store.then(|| ("files".to_owned(), Arc::new(store))).into_iter().collect(),
            worker_image: "worker".into(),
            operator: "mlop-test".into(),
            related: (),
        }
    }

    fn carried_out(&self, plan: &Plan<RunStatus>) -> Self {
        let mut next = self.clone();
        if let Some(status) = &plan.status {
            next.object.status = Some(status.clone());
        }
        for create in &plan.creates {
            let mut object = create.object.clone();
            let name = object["metadata"]["name"].as_str().unwrap().to_owned();
            object["metadata"]["uid"] = json!(format!("{name}-uid"));
            object["metadata"]["creationTimestamp"] = json!(time(self.now));
            object["status"] = json!({});
            match create.kind.kind.as_str() {
                "Job" => next.jobs.push(serde_json::from_value(object).unwrap()),
                _ => next.pods.push(serde_json::from_value(object).unwrap()),
            }
        }
        for delete in &plan.deletes {
            next.pods.retain(|pod| pod.uid().as_ref() != Some(&delete.uid));
            next.jobs.retain(|job| job.uid().as_ref() != Some(&delete.uid));
        }
        next
    }
}

/// The plan in one line: the condition after it, the writes, the Events, and the time of the next reconcile in seconds.
fn summary(case: &Case, plan: &Plan<RunStatus>) -> String {
    let mut words = Vec::new();
    match &plan.status {
        None => words.push("quiet".to_owned()),
        Some(status) => {
            if let Some(c) = condition::get(&status.conditions, condition_type::SUCCEEDED) {
                words.push(format!("{}/{}", c.status, c.reason));
            }
            let is_stalled = condition::get(&status.conditions, condition_type::STALLED).is_some();
            words.extend(is_stalled.then(|| "Stalled".to_owned()));
            words.push(format!("{} attempts", status.attempts));
        }
    }
    for create in &plan.creates {
        words.push(format!(
            "{} {} {}",
            if create.dry_run { "try" } else { "create" },
            create.kind.kind,
            create.object["metadata"]["name"].as_str().unwrap()
        ));
    }
    words.extend(plan.deletes.iter().map(|delete| format!("delete {}", delete.name)));
    words.extend(plan.events.iter().map(|event| format!("event {}", event.reason)));
    if let Action::RequeueAt(due) = plan.action {
        words.push(format!("requeue {}", due.as_second() - case.now));
    }
    words.join(" ")
}

#[track_caller]
fn check(rows: Vec<(&'static str, Case, &'static str)>) {
    let mut wrong = String::new();
    for (situation, case, want) in rows {
        let plan = case.plan();
        let got = summary(&case, &plan);
        if got != want {
            wrong.push_str(&format!("{situation}\n  want {want}\n  got  {got}\n"));
        }
        let second = case.carried_out(&plan).plan();
        if !second.is_quiet() {
            wrong.push_str(&format!("{situation}\n  the second reconcile writes: {second:#?}\n"));
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
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
        ("an attempt is a Job", run().job(), "quiet create Job delay-1-1"),
        ("its ObjectStore does not exist", run().without_store(), "Unknown/ConnectionNotReady 0 attempts"),
        ("the spec can never work", run().impossible(), "Unknown/InvalidSpec Stalled 0 attempts"),
        ("the run is being deleted", run().being_deleted(), "quiet"),
    ]);
}

#[test]
fn blocked_run_recovers_when_its_objects_exist() {
    let mut case = run().without_store().reconciled();
    case.has_store = true;
    check(vec![("the store is there", case, "Unknown/Running 0 attempts create Pod delay-1-1")]);
}

#[test]
fn pod_of_the_attempt_is_followed() {
    let started = || run().reconciled();
    check(vec![
        ("it has no node yet", started().at(6_000), "quiet"),
        ("it has a node", started().pod(testing::scheduled()), "quiet requeue 600"),
        ("it runs", started().pod(testing::running()), "quiet"),
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
            started().pod(testing::running()).pod_deleted(30).at(89),
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
            "the ObjectStore is gone when it succeeds",
            started().pod(testing::terminated(&success(), NOW)).without_store(),
            "Unknown/Retrying 1 attempts event ResultMissing requeue 10",
        ),
    ]);
}

fn unschedulable() -> PodStatus {
    serde_json::from_value(json!({"phase": "Pending", "conditions": [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}]}))
    .unwrap()
}

#[test]
fn job_without_a_pod_is_followed() {
    let started = || run().job().reconciled();
    check(vec![
        ("the Job controller has not created the pod", started(), "quiet requeue 10"),
        (
            "nor after ten seconds: the API server is asked why",
            started().at(10),
            "quiet try Pod delay-1-1 requeue 10",
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
fn job_is_pruned_with_its_pod() {
    let started = run().job().reconciled();
    let mut done = started.clone();
    let meta = ObjectMeta {
        labels: Some([(labels::ATTEMPT.to_owned(), "1".to_owned())].into()),
        name: Some("delay-1-1-x".into()),
        uid: Some("pod-uid".into()),
        ..Default::default()
    };
    done.pods.push(PodView { metadata: meta, status: testing::terminated(&success(), NOW) });
    let plan = done.reconciled().at(3600).plan();
    assert_eq!(plan.deletes.iter().map(|delete| delete.kind.kind.as_str()).collect::<Vec<_>>(), ["Job"]);
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
