//! Attempts of several pods.

use super::*;
use crate::{
    children::pod_outcome::Ended,
    run::outcome::{Outcome, Pods},
    testing::worker_of,
};
use serde_json::Value;

/// A kind whose attempts are two pods each.
struct Pairs;

impl Run for Pairs {
    type Resource = ForecastRun;
    type Related = ();
    const MEDIA_TYPE: &'static str = MEDIA_TREE;
    const JOB: bool = true;

    fn replicas(_: &ForecastRun) -> Option<u32> {
        Some(2)
    }

    fn attempt(observed: &Observed<Self>, metadata: ObjectMeta, _: Subject) -> Result<Pod, Blocked> {
        let containers = vec![Container { name: "worker".to_owned(), ..Default::default() }];
        let node_selector = Some(observed.object.spec.execution.node_selector.clone());
        let spec = PodSpec { containers, node_selector, ..Default::default() };
        Ok(Pod { metadata, spec: Some(spec), status: None })
    }
}

fn pair() -> RunCase<Pairs> {
    RunCase::new("delay-1", &json!(ForecastRunSpec::default()))
}

impl RunCase<Pairs> {
    /// The Job controller creates the pods of the first attempt with these statuses, from rank 0 on.
    fn pods(mut self, statuses: impl IntoIterator<Item = PodStatus>) -> Self {
        let pod = |(rank, status): (usize, PodStatus)| {
            let mut pod = worker_of("delay-1-1", 1, u32::try_from(rank).unwrap(), status);
            pod.metadata.annotations.clone_from(&self.jobs[0].metadata.annotations);
            pod.metadata.creation_timestamp = Some(time(NOW));
            pod
        };
        self.pods = statuses.into_iter().enumerate().map(pod).collect();
        self
    }

    /// Only the pod of this rank is there.
    fn only(mut self, rank: u32, status: PodStatus) -> Self {
        self.pods = vec![worker_of("delay-1-1", 1, rank, status)];
        self
    }

    /// The Job controller reports this.
    fn job_status(mut self, status: Value) -> Self {
        self.jobs[0].status = serde_json::from_value(status).unwrap();
        self
    }

    /// The pod of this rank is deleted, and has until `seconds` after [`NOW`] to end.
    fn deleted(mut self, rank: usize, seconds: i64) -> Self {
        self.pods[rank].metadata.deletion_timestamp = Some(time(NOW + seconds));
        self.pods[rank].metadata.deletion_grace_period_seconds = Some(30);
        self
    }
}

fn started() -> RunCase<Pairs> {
    pair().reconciled()
}

fn unschedulable() -> PodStatus {
    let unscheduled = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": "0/1 nodes are available"});
    serde_json::from_value(json!({"phase": "Pending", "conditions": [unscheduled]})).unwrap()
}

fn failed_at(failure: Failure, seconds: i64) -> PodStatus {
    testing::terminated(&ResultDocument::failed(failure), NOW + seconds)
}

fn succeeded_worker() -> PodStatus {
    testing::terminated(&ResultDocument::default(), NOW)
}

/// The leader's command has ended with 0, and the agent uploads.
fn publishing() -> PodStatus {
    let container = |name: &str, state: Value| {
        json!({"name": name, "image": "i", "imageID": "",
        "ready": false, "restartCount": 0, "state": state})
    };
    let ended = json!({"terminated": {"exitCode": 0, "finishedAt": time(NOW)}});
    serde_json::from_value(json!({"phase": "Running", "containerStatuses": [
        container("user", ended), container("worker", json!({"running": {}}))]}))
    .unwrap()
}

#[test]
fn pods_start_together_or_not_at_all() {
    let starts = "quiet create Job delay-1-1 apply Service delay-1";
    let quota = || started().only(0, testing::running());
    check(vec![
        ("nothing holds it up", pair(), starts),
        ("its ObjectStore does not exist", pair().without_stores(), "Unknown/ConnectionNotReady 0 attempts"),
        ("no pod is there yet", started(), "quiet requeue 10"),
        ("none has room: that is a queue", started().pods([unschedulable(), unschedulable()]).at(6_000), {
            "Unknown/Unschedulable 0 attempts"
        }),
        (
            "one runs, the other has no room",
            started().pods([testing::running(), unschedulable()]),
            "Unknown/Unschedulable 0 attempts requeue 600",
        ),
        (
            "it has none in time",
            started().pods([testing::running(), unschedulable()]).at(600),
            "Unknown/Retrying 1 attempts delete delay-1-1 event Unschedulable requeue 1",
        ),
        ("one has not been created", quota().at(5), "quiet requeue 5"),
        (
            "it is not created in time",
            quota().at(600),
            "Unknown/Retrying 1 attempts delete delay-1-1 event StartTimeout requeue 1",
        ),
        (
            "an image cannot be pulled",
            started().pods([testing::held_up(), testing::running()]),
            "Unknown/ImagePull 0 attempts requeue 600",
        ),
        ("both run", started().pods([testing::running(), testing::running()]), "quiet requeue 10"),
        (
            "both run for a while",
            started().pods([testing::running(), testing::running()]).at(10),
            "Unknown/Running 0 attempts",
        ),
    ]);
    let refused = quota().at(10);
    let summary = refused.summary(&refused.plan());
    assert_eq!(
        summary, "Unknown/Running 0 attempts try Pod delay-1-1 requeue 10",
        "a quota may be the reason"
    );
    let outdated = started()
        .pods([testing::running(), testing::held_up()])
        .edited(|spec| spec.execution.node_selector = [("a".to_owned(), "b".to_owned())].into());
    let summary = outdated.summary(&outdated.plan());
    assert!(summary.contains("delete delay-1-1"), "another pod is wanted by now: {summary}");
    let waiting = started().pods([testing::running(), testing::scheduled()]).at(10).reconciled();
    let words = |case: RunCase<Pairs>| {
        condition::get(&case.status().conditions, condition_type::SUCCEEDED).unwrap().message.clone()
    };
    assert_eq!(words(waiting), "attempt 1 starts; 1 of 2 pods run");
    let running = started().pods([testing::running(), testing::running()]).at(10).reconciled();
    assert_eq!(words(running), "attempt 1 is under way on 2 pods");
    let status = started().pods([testing::running(), unschedulable()]).at(600).reconciled().status();
    assert_eq!((status.attempts, status.budget_start), (1, 1), "it costs no attempt");
}

#[test]
fn first_pod_to_fail_ends_the_attempt() {
    let both = || started().pods([testing::running(), testing::running()]);
    let worker_fails = || both().pods([testing::running(), failed_at(user_error(), 0)]);
    check(vec![
        (
            "a worker fails: the leader is ended",
            worker_fails(),
            "Unknown/Retrying 1 attempts delete delay-1-1-0 event UserError requeue 10",
        ),
        (
            "the leader fails: the worker is ended",
            both().pods([failed_at(user_error(), 0), testing::running()]),
            "Unknown/Retrying 1 attempts delete delay-1-1-1 event UserError requeue 10",
        ),
        (
            "a worker fails for good",
            both().pods([testing::running(), failed_at(Failure::terminal(Reason::InvalidSpec, "x"), 0)]),
            "False/InvalidSpec Stalled 1 attempts delete delay-1-1-0 delete delay-1 event InvalidSpec requeue 60",
        ),
        (
            "a worker is deleted, and saves",
            both().at(10).reconciled().deleted(1, 30).at(11),
            "quiet requeue 79",
        ),
        (
            "its node is silent",
            both().at(10).reconciled().deleted(1, 30).at(90),
            "Unknown/Retrying 1 attempts delete delay-1-1-0 event PodLost requeue 1",
        ),
        (
            "the pod of a worker has failed and is gone",
            both().only(0, testing::running()).job_status(json!({"failed": 1, "failedIndexes": "1"})),
            "Unknown/Retrying 1 attempts delete delay-1-1-0 event PodLost requeue 1",
        ),
        (
            "a worker fails while the leader publishes: its work is done",
            both().at(10).reconciled().pods([publishing(), failed_at(user_error(), 0)]).at(10),
            "Unknown/Running 0 attempts",
        ),
        (
            "the leader that publishes is lost",
            both().pods([publishing(), testing::running()]).deleted(0, 30).at(90),
            "Unknown/Retrying 1 attempts delete delay-1-1-1 event PodLost requeue 1",
        ),
    ]);
}

#[test]
fn attempt_has_succeeded_when_its_leader_has() {
    let both = |leader: PodStatus, worker: PodStatus| started().pods([leader, worker]);
    let done = "True/Succeeded 1 attempts delete delay-1 event Succeeded requeue 3600";
    let leader = || testing::terminated(&success(), NOW);
    check(vec![
        ("only the worker has ended", both(testing::running(), succeeded_worker()), "quiet requeue 10"),
        ("both have ended", both(leader(), succeeded_worker()), done),
        ("the worker still runs", both(leader(), testing::running()), done),
        ("the worker has failed", both(leader(), failed_at(user_error(), 0)), done),
        (
            "the worker still runs a minute later",
            both(leader(), testing::running()).reconciled().at(60),
            "quiet delete delay-1-1-1 requeue 3540",
        ),
        (
            "the worker has ended and its pod is gone",
            both(testing::running(), testing::running())
                .only(0, testing::running())
                .job_status(json!({"succeeded": 1, "completedIndexes": "1"})),
            "quiet requeue 10",
        ),
        (
            "the leader has ended, and no cache has seen its pod",
            both(testing::running(), testing::running())
                .only(1, testing::running())
                .job_status(json!({"succeeded": 1, "completedIndexes": "0", "conditions": [
                    {"type": "Complete", "status": "True", "lastTransitionTime": time(NOW)}]})),
            "quiet requeue 300",
        ),
        (
            "the time to live is over",
            both(leader(), succeeded_worker()).reconciled().at(3_600),
            "quiet delete delay-1-1",
        ),
    ]);
}

#[test]
fn next_attempt_waits_until_the_pods_of_the_last_have_ended() {
    let failed = || started().pods([testing::running(), failed_at(user_error(), 0)]);
    let leader =
        |case: &RunCase<Pairs>| case.pods.iter().find(|pod| pod.name_any() == "delay-1-1-0").cloned();
    let saving = || {
        let before = failed();
        let mut after = before.clone().reconciled();
        after.pods.extend(leader(&before));
        let last = after.pods.len() - 1;
        after.deleted(last, 40)
    };
    check(vec![
        ("the leader saves a checkpoint", saving().at(11), "Unknown/Running 1 attempts requeue 89"),
        (
            "its node is silent",
            saving().at(100),
            "Unknown/Running 1 attempts create Job delay-1-2 delete delay-1-1",
        ),
        (
            "it has ended",
            failed().reconciled().at(11),
            "Unknown/Running 1 attempts create Job delay-1-2 delete delay-1-1",
        ),
    ]);
    let mut restarted = failed().reconciled();
    restarted.pods.extend(leader(&failed()));
    let summary = restarted.clone().at(11).summary(&restarted.at(11).plan());
    assert_eq!(summary, "Unknown/Running 1 attempts delete delay-1-1-0", "the operator had ended before");
}

#[test]
fn service_of_the_pods_is_kept_while_they_work() {
    let mut removed = started().pods([testing::running(), testing::running()]);
    removed.services.clear();
    check(vec![("somebody deletes it", removed, "quiet apply Service delay-1 requeue 10")]);
    let service = pair().plan().applies.remove(0).object;
    assert_eq!(service["spec"]["clusterIP"], "None");
    assert_eq!(service["spec"]["publishNotReadyAddresses"], true);
    let job = pair().plan().creates.remove(0).object;
    let pod = &job["spec"]["template"];
    assert_eq!(pod["spec"]["subdomain"], service["metadata"]["name"]);
    for (label, value) in service["spec"]["selector"].as_object().unwrap() {
        assert_eq!(&pod["metadata"]["labels"][label], value);
    }
}

/// The cause of the failure of these pods, in words.
fn cause(pods: &[crate::resource::PodView], now: i64) -> Option<Ended> {
    let pods = Pods::new(pods.iter().collect(), 2, None);
    match pods.outcome(Span::minutes(10), at(NOW + now)) {
        Outcome::Failed { ended, .. } => Some(ended),
        _ => None,
    }
}

#[test]
fn cause_is_what_began_first() {
    let lost_peer = |seconds| failed_at(Failure::transient(Reason::UserError, "lost a peer"), seconds);
    let killed = |seconds| failed_at(Failure::transient(Reason::PodLost, "it was killed"), seconds);
    let pods = |leader, worker| started().pods([leader, worker]);
    let rows = [
        (
            "the worker failed first",
            pods(lost_peer(7), failed_at(user_error(), 5)),
            "worker 1 of 2: exit code 1",
        ),
        (
            "the leader failed first",
            pods(failed_at(user_error(), 3), lost_peer(5)),
            "worker 0 of 2: exit code 1",
        ),
        (
            "within one second: an error of the command may be a symptom",
            pods(lost_peer(5), killed(5)),
            "worker 1 of 2: it was killed",
        ),
        (
            "the worker was deleted, and the leader noticed while it saved",
            pods(lost_peer(6), testing::running()).deleted(1, 35),
            "worker 1 of 2: the pod was deleted before it had finished",
        ),
        (
            "the leader failed, and the worker was deleted for that",
            pods(failed_at(user_error(), 5), testing::running()).deleted(1, 37),
            "worker 0 of 2: exit code 1",
        ),
        (
            "the worker ended after its deletion",
            pods(lost_peer(6), failed_at(user_error(), 9)).deleted(1, 35),
            "worker 1 of 2: the pod was deleted before it had finished",
        ),
    ];
    for (situation, case, want) in rows {
        let ended = cause(&case.pods, 20).unwrap();
        assert_eq!(ended.failure.message, want, "{situation}");
        let is_disruption = want.contains("was deleted");
        assert_eq!(ended.disrupted, is_disruption, "{situation}: what was done to the work costs nothing");
    }
    let running = started().pods([testing::running(), testing::running()]);
    assert_eq!(cause(&running.pods, 20), None);
}

#[test]
fn checkpoint_of_a_failed_attempt_is_the_leaders() {
    let saved = ResultDocument {
        checkpoint: Some(4.into()),
        ..ResultDocument::failed(Failure::transient(Reason::UserError, "lost a peer"))
    };
    let case = started().pods([testing::terminated(&saved, NOW + 7), failed_at(user_error(), 5)]);
    assert_eq!(case.reconciled().status().checkpoint, Some(4));
}
