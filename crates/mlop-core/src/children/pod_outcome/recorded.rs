//! Outcomes of statuses that a real kubelet reported: `tests/recorded/pods.yaml`.

use super::*;
use crate::resource::Cached;
use std::collections::BTreeMap;

type Recorded = BTreeMap<String, PodView>;

fn recorded() -> Recorded {
    let mut pods: Recorded =
        serde_saphyr::from_str(include_str!("../../../tests/recorded/pods.yaml")).unwrap();
    pods.values_mut().for_each(Cached::project);
    pods
}

/// The outcome that a case expects: the variant, the reason and a part of the message.
#[derive(Debug, PartialEq)]
enum Want {
    Starting,
    HeldUp(Reason, &'static str),
    Running,
    Succeeded,
    /// It counts against the budget and may be retried.
    Fails(Reason, &'static str),
    /// A retry cannot help.
    Terminal(Reason, &'static str),
    /// It costs no attempt.
    Disrupted(Reason, &'static str),
}

const CASES: &[(&str, Want)] = &[
    // Waiting
    ("unschedulable", Want::HeldUp(Reason::Unschedulable, "node affinity/selector")),
    ("scheduling-gated", Want::HeldUp(Reason::Unschedulable, "scheduling gate")),
    ("missing-secret-volume", Want::Starting),
    (
        "wrong-image-beside-running-agent",
        Want::HeldUp(Reason::ImagePull, "mlop.local/no-such:dev of container user"),
    ),
    ("invalid-image-name", Want::HeldUp(Reason::ImagePull, "No_Such")),
    ("image-missing-after-fetch", Want::HeldUp(Reason::ImagePull, "mlop.local/no-such:dev")),
    ("missing-secret-in-env", Want::HeldUp(Reason::SecretMissing, "secret \"absent\" not found")),
    (
        "image-changed-by-webhook",
        Want::HeldUp(Reason::ImagePull, "mirror.local/busybox:dev of container fetch"),
    ),
    (
        "native-sidecar-without-image",
        Want::HeldUp(Reason::ImagePull, "mlop.local/no-such:dev of container proxy"),
    ),
    (
        "native-sidecar-crashes-at-its-start",
        Want::HeldUp(Reason::WorkerFailed, "container proxy ended with exit code 1"),
    ),
    ("native-sidecar-never-starts", Want::Starting),
    ("injected-init-container-does-not-end", Want::Starting),
    // Working
    ("fetching", Want::Running),
    ("running", Want::Running),
    ("user-ended-worker-works", Want::Running),
    ("deleted-on-a-silent-node", Want::Running),
    ("deleted-while-fetching-on-a-silent-node", Want::Running),
    ("fetching-beside-native-sidecar", Want::Running),
    ("running-beside-native-sidecar", Want::Running),
    ("worker-works-beside-native-sidecar", Want::Running),
    ("native-sidecar-crashes", Want::Running),
    ("running-beside-extra-container", Want::Running),
    ("running-beside-container-without-image", Want::Running),
    ("running-beside-failed-container", Want::Running),
    // Ended
    ("succeeded", Want::Succeeded),
    ("worker-succeeded-beside-sidecar", Want::Succeeded),
    ("succeeded-beside-native-sidecar", Want::Succeeded),
    ("ended-beside-extra-container", Want::Succeeded),
    ("finished", Want::Fails(Reason::ResultMissing, "without a result")),
    ("failed-with-result", Want::Fails(Reason::UserError, "exit code 1")),
    ("worker-failed-beside-sidecar", Want::Fails(Reason::UserError, "exit code 1")),
    ("failed-without-result", Want::Fails(Reason::ResultMissing, "worker ended with exit code 3")),
    ("failed", Want::Fails(Reason::ResultMissing, "worker ended with exit code 1")),
    (
        "injected-init-container-fails",
        Want::Fails(Reason::ResultMissing, "container proxy ended with exit code 1"),
    ),
    ("program-missing", Want::Fails(Reason::ResultMissing, "/no/such/program")),
    ("deadline-exceeded", Want::Fails(Reason::DeadlineExceeded, "raise spec.deadline")),
    ("fetch-failed", Want::Terminal(Reason::StoreDenied, "access denied")),
    ("user-out-of-memory", Want::Terminal(Reason::OutOfMemory, "container user used more memory")),
    (
        "empty-dir-full",
        Want::Terminal(Reason::OutOfDisk, "\"mlop\" exceeds the limit \"8Mi\"; raise spec.scratch"),
    ),
    ("ephemeral-storage-full", Want::Terminal(Reason::OutOfDisk, "8Mi; raise limits.ephemeral-storage")),
    ("node-affinity-at-kubelet", Want::Disrupted(Reason::PodRefused, "NodeAffinity")),
    ("out-of-cpu-at-kubelet", Want::Disrupted(Reason::PodRefused, "enough resource: cpu")),
];

fn matches(outcome: &Outcome, want: &Want) -> bool {
    let fits = |failure: &Failure, reason: &Reason, text: &str| {
        failure.reason == *reason && failure.message.contains(text)
    };
    match (outcome, want) {
        (Outcome::Starting(None), Want::Starting)
        | (Outcome::Running, Want::Running)
        | (Outcome::Succeeded(_), Want::Succeeded) => true,
        (Outcome::Starting(Some((is, message))), Want::HeldUp(reason, text)) => {
            is == reason && message.contains(text)
        }
        (Outcome::Failed(ended), Want::Fails(reason, text)) => {
            !ended.disrupted && ended.failure.retryable && fits(&ended.failure, reason, text)
        }
        (Outcome::Failed(ended), Want::Terminal(reason, text)) => {
            !ended.disrupted && !ended.failure.retryable && fits(&ended.failure, reason, text)
        }
        (Outcome::Failed(ended), Want::Disrupted(reason, text)) => {
            ended.disrupted && ended.failure.retryable && fits(&ended.failure, reason, text)
        }
        _ => false,
    }
}

#[test]
fn outcome_of_every_recorded_status_is_right() {
    let pods = recorded();
    for (name, want) in CASES {
        let pod = pods.get(*name).unwrap_or_else(|| panic!("no recording of {name}"));
        let outcome = of(pod);
        assert!(matches(&outcome, want), "{name}: {outcome:?}, want {want:?}");
    }
    let untested: Vec<_> = pods.keys().filter(|name| !CASES.iter().any(|(case, _)| case == name)).collect();
    assert!(untested.is_empty(), "recordings without a case: {untested:?}");
}

#[test]
fn activity_is_read_from_recorded_statuses() {
    let pods = recorded();
    let rows = [
        ("fetching", "fetches its inputs"),
        ("running", "is under way"),
        ("user-ended-worker-works", "publishes its output"),
        ("fetching-beside-native-sidecar", "fetches its inputs"),
        ("worker-works-beside-native-sidecar", "publishes its output"),
    ];
    for (name, want) in rows {
        let (doing, since) = activity(pods.get(name).unwrap());
        assert_eq!((doing, since.is_some()), (want, true), "{name}");
    }
}

#[test]
fn start_clock_begins_after_the_queue_and_the_fetch() {
    let pods = recorded();
    assert_eq!(start_clock(pods.get("unschedulable").unwrap()), None);
    let pod = pods.get("image-missing-after-fetch").unwrap();
    let fetched = pod.status.init_container_statuses.iter().flatten().find_map(terminated).unwrap();
    let fetched = fetched.finished_at.as_ref().unwrap().0;
    assert!(fetched > pod.metadata.creation_timestamp.as_ref().unwrap().0);
    assert_eq!(start_clock(pod), Some(fetched));
}

#[test]
fn injected_init_container_is_named_while_others_wait() {
    let pods = recorded();
    let rows = [
        ("native-sidecar-never-starts", Some("proxy")),
        ("native-sidecar-crashes-at-its-start", Some("proxy")),
        ("injected-init-container-does-not-end", Some("proxy")),
        ("fetching-beside-native-sidecar", None),
        ("image-changed-by-webhook", None),
        ("running-beside-native-sidecar", None),
        ("missing-secret-volume", None),
    ];
    for (name, want) in rows {
        assert_eq!(awaited(pods.get(name).unwrap()), want, "{name}");
    }
    let late = |name: &str| delay(pods.get(name).unwrap(), None).1;
    assert_eq!(late("native-sidecar-never-starts"), "its containers wait for the init container proxy");
    assert!(late("missing-secret-volume").contains("are still being created"));
}

#[test]
fn deleted_pod_is_lost_when_its_node_stays_silent() {
    let pods = recorded();
    for name in ["deleted-on-a-silent-node", "deleted-while-fetching-on-a-silent-node"] {
        let pod = pods.get(name).unwrap();
        let grace_end = pod.metadata.deletion_timestamp.as_ref().unwrap().0;
        assert_eq!(lost_at(pod), Some(grace_end + LOST_MARGIN), "{name}");
    }
    assert_eq!(lost_at(pods.get("running").unwrap()), None);
    let mut ended = pods.get("succeeded").unwrap().clone();
    ended.metadata.deletion_timestamp = pods["deleted-on-a-silent-node"].metadata.deletion_timestamp.clone();
    assert_eq!(lost_at(&ended), None);
}

#[test]
fn node_short_of_disk_is_a_disruption() {
    let mut pod = recorded().remove("empty-dir-full").unwrap();
    pod.status.message = Some("The node was low on resource: ephemeral-storage. ".to_owned());
    let Outcome::Failed(ended) = of(&pod) else { panic!("not ended") };
    assert_eq!((ended.failure.reason, ended.disrupted), (Reason::Evicted, true));
}
