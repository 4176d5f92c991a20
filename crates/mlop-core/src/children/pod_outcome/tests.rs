//! Tables of pod statuses as the kubelet reports them.

use super::*;
use crate::resource::PodPlace;
use mlop_api::{Digest, preflight::Check};
use serde_json::{Value, json};

fn pod(status: Value) -> PodView {
    PodView { status: serde_json::from_value(status).unwrap(), ..Default::default() }
}

fn container(name: &str, state: Value) -> Value {
    json!({"name": name, "image": "i:1", "imageID": "", "ready": false, "restartCount": 0, "state": state})
}

fn ended(exit_code: i32, reason: &str, message: &str) -> Value {
    json!({"terminated": {"exitCode": exit_code, "reason": reason, "message": message,
        "finishedAt": "2026-01-01T00:00:07Z"}})
}

fn waiting(reason: &str) -> Value {
    refused(reason, "no such image")
}

fn refused(reason: &str, message: &str) -> Value {
    json!({"waiting": {"reason": reason, "message": message}})
}

fn worker(phase: &str, state: Value) -> Value {
    json!({"phase": phase, "containerStatuses": [container("worker", state)]})
}

fn success() -> String {
    ResultDocument { digest: Some(Digest::of_bytes(b"x")), ..Default::default() }.to_message()
}

fn failure(failure: Failure) -> String {
    ResultDocument::failed(failure).to_message()
}

/// The outcome in one word, with the reason and whether it is retryable or a disruption.
fn word(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Starting(None) => "starting".to_owned(),
        Outcome::Starting(Some((reason, _))) => format!("starting {reason}"),
        Outcome::Running => "running".to_owned(),
        Outcome::Succeeded(_) => "succeeded".to_owned(),
        Outcome::Failed(ended) => {
            let retryable = if ended.failure.retryable { " retryable" } else { "" };
            let disrupted = if ended.disrupted { " disrupted" } else { "" };
            format!("failed {}{retryable}{disrupted}", ended.failure.reason)
        }
    }
}

#[track_caller]
fn check(rows: Vec<(&str, Value, &str)>) {
    for (situation, status, want) in rows {
        assert_eq!(word(&of(&pod(status))), want, "{situation}");
    }
}

#[test]
fn pod_that_has_not_ended_is_starting_or_running() {
    let unschedulable = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable"});
    check(vec![
        ("no status", json!({}), "starting"),
        ("scheduled", json!({"phase": "Pending"}), "starting"),
        (
            "no node has room",
            json!({"phase": "Pending", "conditions": [unschedulable]}),
            "starting Unschedulable",
        ),
        ("image pull fails", worker("Pending", waiting("ErrImagePull")), "starting ImagePull"),
        ("image pull backs off", worker("Pending", waiting("ImagePullBackOff")), "starting ImagePull"),
        (
            "a Secret is missing",
            worker("Pending", refused("CreateContainerConfigError", "secret \"s3\" not found")),
            "starting SecretMissing",
        ),
        (
            "a key of a Secret is missing",
            worker("Pending", refused("CreateContainerConfigError", "couldn't find key k in Secret ns/s3")),
            "starting SecretMissing",
        ),
        (
            "the image wants to be root",
            worker("Pending", refused("CreateContainerConfigError", "image will run as root")),
            "starting PodRefused",
        ),
        (
            "the runtime does not answer",
            worker("Pending", refused("CreateContainerError", "context deadline exceeded")),
            "starting PodRefused",
        ),
        ("the container is being created", worker("Pending", waiting("ContainerCreating")), "starting"),
        ("the worker runs", worker("Running", json!({"running": {}})), "running"),
        (
            "an init container runs",
            json!({"phase": "Pending", "initContainerStatuses": [container("fetch", json!({"running": {}}))]}),
            "running",
        ),
        (
            "the user's container has not started",
            json!({"phase": "Running", "containerStatuses": [container("worker", json!({"running": {}})),
                container("user", waiting("ContainerCreating"))]}),
            "starting",
        ),
    ]);
}

#[test]
fn ended_pod_reports_its_result() {
    let terminal = failure(Failure::terminal(Reason::SchemaMismatch, "no column x"));
    let transient = failure(Failure::transient(Reason::StoreUnreachable, "no connection"));
    check(vec![
        ("success", worker("Succeeded", ended(0, "Completed", &success())), "succeeded"),
        (
            "the worker has ended, the user's container has not",
            worker("Running", ended(0, "Completed", &success())),
            "succeeded",
        ),
        ("a terminal failure", worker("Failed", ended(1, "Error", &terminal)), "failed SchemaMismatch"),
        (
            "a transient failure",
            worker("Failed", ended(1, "Error", &transient)),
            "failed StoreUnreachable retryable",
        ),
        ("no result", worker("Failed", ended(1, "Error", "")), "failed ResultMissing retryable"),
        (
            "success without a result",
            worker("Succeeded", ended(0, "Completed", "")),
            "failed ResultMissing retryable",
        ),
        (
            "an unreadable result",
            worker("Failed", ended(1, "Error", "panic")),
            "failed ResultMissing retryable",
        ),
        (
            "a failed init container reports first",
            json!({"phase": "Failed", "initContainerStatuses": [container("fetch", ended(1, "Error", &terminal))],
                "containerStatuses": [container("worker", waiting("PodInitializing"))]}),
            "failed SchemaMismatch",
        ),
    ]);
}

#[test]
fn failed_preflight_names_the_node() {
    let unfit = failure(Failure::preflight(Check::Gpu, "no working GPU"));
    let worked = failure(Failure::transient(Reason::UserError, "exit code 1"));
    let on = |text: &str| PodView {
        spec: PodPlace { node_name: Some("a".to_owned()) },
        ..pod(worker("Failed", ended(1, "Error", text)))
    };
    for (pod, want) in [
        (on(&unfit), "node a: no working GPU"),
        (pod(worker("Failed", ended(1, "Error", &unfit))), "no working GPU"),
        (on(&worked), "exit code 1"),
    ] {
        let Outcome::Failed(Ended { failure, .. }) = of(&pod) else { panic!("{pod:?}") };
        assert_eq!(failure.message, want);
    }
}

#[test]
fn kills_and_disruptions_take_precedence_over_results() {
    let transient = failure(Failure::transient(Reason::UserError, "exit code 137"));
    let target = |mut status: Value| {
        status["conditions"] =
            json!([{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}]);
        status
    };
    let reason = |reason: &str| json!({"phase": "Failed", "reason": reason});
    check(vec![
        ("out of memory", worker("Failed", ended(137, "OOMKilled", &transient)), "failed OutOfMemory"),
        (
            "a container of the user is out of memory",
            json!({"phase": "Failed", "containerStatuses": [container("user", ended(137, "OOMKilled", "")),
                container("worker", ended(0, "Completed", &success()))]}),
            "failed OutOfMemory",
        ),
        (
            "evicted by the API",
            target(worker("Failed", ended(137, "Error", ""))),
            "failed Evicted retryable disrupted",
        ),
        ("evicted by the node", reason("Evicted"), "failed Evicted retryable disrupted"),
        ("preempted", reason("Preempting"), "failed Evicted retryable disrupted"),
        ("the node is lost", reason("NodeLost"), "failed PodLost retryable disrupted"),
        ("the deadline is over", reason("DeadlineExceeded"), "failed DeadlineExceeded"),
        ("the node has no room", reason("OutOfcpu"), "failed PodRefused retryable disrupted"),
    ]);
}

#[test]
fn advice_on_memory_depends_on_the_container() {
    let killed = |name: &str, init: bool| {
        let container = |this: &str| {
            container(
                this,
                if this == name { ended(137, "OOMKilled", "") } else { waiting("PodInitializing") },
            )
        };
        let init = if init { vec![container(name)] } else { vec![] };
        json!({"phase": "Failed", "initContainerStatuses": init,
            "containerStatuses": [container("user"), container("worker")]})
    };
    let field = "container user used more memory than its limit; raise spec.resources.memory";
    for (situation, status, want) in [
        ("the user's", killed("user", false), field),
        (
            "the agent beside it",
            killed("worker", false),
            "worker used more memory than its limit; its limit is fixed",
        ),
        (
            "the fetch before it",
            killed("fetch", true),
            "fetch used more memory than its limit; its limit is fixed",
        ),
        (
            "the only one",
            worker("Failed", ended(137, "OOMKilled", "")),
            "worker used more memory than its limit; raise spec.resources.memory",
        ),
    ] {
        let Outcome::Failed(ended) = of(&pod(status)) else { panic!("{situation}: it has not failed") };
        assert!(ended.failure.message.contains(want), "{situation}: {}", ended.failure.message);
    }
}

#[test]
fn success_stands_when_a_sidecar_keeps_its_pod() {
    let kept = |sidecar: Value, end: Value| {
        let mut status = worker("Failed", ended(0, "Completed", &success()));
        status["containerStatuses"].as_array_mut().unwrap().push(container("istio-proxy", sidecar));
        status.as_object_mut().unwrap().extend(end.as_object().unwrap().clone());
        status
    };
    let target = json!([{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}]);
    check(vec![
        ("it runs", kept(json!({"running": {}}), json!({"phase": "Running"})), "succeeded"),
        (
            "the pod's deadline ends it",
            kept(ended(137, "Error", ""), json!({"reason": "DeadlineExceeded"})),
            "succeeded",
        ),
        ("the node evicts it", kept(ended(137, "Error", ""), json!({"reason": "Evicted"})), "succeeded"),
        ("a drain evicts it", kept(ended(137, "Error", ""), json!({"conditions": target})), "succeeded"),
        ("it is out of memory", kept(ended(137, "OOMKilled", ""), json!({})), "succeeded"),
    ]);
    let transient = failure(Failure::transient(Reason::StoreUnreachable, "no connection"));
    let mut killed = kept(ended(137, "OOMKilled", ""), json!({}));
    killed["containerStatuses"][0] = container("worker", ended(1, "Error", &transient));
    check(vec![("the work failed with it", killed, "failed StoreUnreachable retryable")]);
}

#[test]
fn injected_container_changes_no_outcome() {
    let beside = |worker: Value, injected: Value| json!({"phase": "Running", "containerStatuses": [container("worker", worker), container("istio-proxy", injected)]});
    let before = |worker: Value, phase: &str, injected: Value| {
        json!({"phase": phase, "initContainerStatuses": [container("istio-proxy", injected)],
            "containerStatuses": [container("worker", worker)]})
    };
    let (runs, success) = (json!({"running": {}}), success());
    check(vec![
        (
            "its image is missing while the worker runs",
            beside(runs.clone(), waiting("ErrImagePull")),
            "running",
        ),
        (
            "it cannot start, nor has the worker",
            before(waiting("PodInitializing"), "Pending", waiting("ErrImagePull")),
            "starting ImagePull",
        ),
        (
            "it runs, the worker is being created",
            before(waiting("ContainerCreating"), "Pending", runs),
            "starting",
        ),
        (
            "it fails after the worker's success",
            before(ended(0, "Completed", &success), "Failed", ended(1, "Error", "")),
            "succeeded",
        ),
        (
            "it is out of memory after the worker's success",
            before(ended(0, "Completed", &success), "Failed", ended(137, "OOMKilled", "")),
            "succeeded",
        ),
        (
            "it fails before the worker",
            before(waiting("PodInitializing"), "Failed", ended(1, "Error", "no route")),
            "failed ResultMissing retryable",
        ),
    ]);
}

#[test]
fn limit_of_disk_is_told_with_the_field_that_sets_it() {
    let evicted = |message: &str| {
        let user = container("user", ended(137, "Error", ""));
        let status =
            json!({"phase": "Failed", "reason": "Evicted", "message": message, "containerStatuses": [user]});
        let Outcome::Failed(ended) = of(&pod(status)) else { panic!("{message}: it has not failed") };
        (
            ended.failure.reason,
            ended.failure.message.split_once("; ").map_or("", |(_, remedy)| remedy).to_owned(),
        )
    };
    let limit = "raise limits.ephemeral-storage in its PodProfile or in the LimitRange of the namespace";
    for (message, reason, remedy) in [
        (
            "Usage of EmptyDir volume \"mlop\" exceeds the limit \"8Mi\". ",
            Reason::OutOfDisk,
            "raise spec.scratch",
        ),
        (
            "Pod ephemeral local storage usage exceeds the total limit of containers 8Mi. ",
            Reason::OutOfDisk,
            limit,
        ),
        ("Container user exceeded its local ephemeral storage limit \"8Mi\". ", Reason::OutOfDisk, limit),
        ("The node was low on resource: ephemeral-storage. ", Reason::Evicted, ""),
    ] {
        assert_eq!(evicted(message), (reason, remedy.to_owned()), "{message}");
    }
}

#[test]
fn deletion_counts_as_disruption_unless_the_result_is_final() {
    let deleted = |message: &str, exit_code: i32| {
        let mut pod = pod(worker("Failed", ended(exit_code, "Error", message)));
        pod.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH));
        word(&of(&pod))
    };
    let terminal = failure(Failure::terminal(Reason::SchemaMismatch, "no column x"));
    let transient = failure(Failure::transient(Reason::UserError, "exit code 143"));
    assert_eq!(deleted("", 143), "failed PodLost retryable disrupted");
    assert_eq!(deleted(&transient, 143), "failed PodLost retryable disrupted");
    assert_eq!(deleted(&terminal, 1), "failed SchemaMismatch");
    assert_eq!(deleted(&success(), 0), "succeeded");
}

#[test]
fn pod_ends_with_its_last_container() {
    let pod = pod(worker("Failed", ended(1, "Error", "")));
    assert_eq!(ended_at(&pod), Some("2026-01-01T00:00:07Z".parse().unwrap()));
    assert_eq!(ended_at(&PodView::default()), None);
}

#[test]
fn pull_error_is_reported_without_the_backoff() {
    assert_eq!(containers::pull_error("Back-off pulling image: ErrImagePull: not found"), "not found");
    assert_eq!(containers::pull_error("not found"), "not found");
}

#[test]
fn restart_of_a_server_does_not_change_its_trouble() {
    let restarted = |times: i32| {
        let last = ended(0, "Completed", "");
        let status = json!({"name": "mlserver", "image": "i:1", "imageID": "", "ready": false, "restartCount": times,
            "state": {"running": {"startedAt": "2026-01-01T00:00:09Z"}}, "lastState": last});
        trouble(&pod(json!({"phase": "Running", "containerStatuses": [status]})))
    };
    let (reason, message) = restarted(1).unwrap();
    assert_eq!(reason, Reason::WorkerFailed);
    assert!(message.starts_with("container mlserver ended with exit code 0: `kubectl logs"), "{message}");
    assert_eq!(restarted(2), Some((reason, message)));
}
