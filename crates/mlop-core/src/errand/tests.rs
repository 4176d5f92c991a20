//! Tables of the pods of an errand and of the decision on them.

use super::*;
use crate::{
    children::pod as pods,
    condition,
    testing::{Forecast, ForecastSpec, NOW, NS, at, held_up, object, running, scheduled, terminated, time},
};
use k8s_openapi::api::core::v1::{Container, Pod, PodStatus};
use mlop_api::{
    contract::condition_type,
    labels,
    status::ConnectionStatus,
    task::{Store, Work},
};
use serde_json::json;

/// The interval of the errand, in seconds.
const INTERVAL: i64 = 600;

fn forecast() -> Forecast {
    let mut owner = Forecast::new("files", ForecastSpec::default());
    owner.metadata.namespace = Some(NS.to_owned());
    owner.metadata.uid = Some("u".to_owned());
    owner.metadata.generation = Some(1);
    owner
}

/// An errand in one situation.
struct Case {
    owner: Forecast,
    pods: Vec<Arc<PodView>>,
    question: &'static str,
    request: Option<String>,
    interval: Option<SignedDuration>,
    image: &'static str,
    profile: Profile,
    waits_for: Option<Blocked>,
}

fn case() -> Case {
    Case {
        owner: forecast(),
        pods: Vec::new(),
        question: "spec",
        request: None,
        interval: Some(SignedDuration::from_secs(INTERVAL)),
        image: "worker:1",
        profile: Profile::default(),
        waits_for: None,
    }
}

impl Case {
    fn question(self, question: &'static str) -> Self {
        Self { question, ..self }
    }
    fn request(self, request: &str) -> Self {
        Self { request: Some(request.to_owned()), ..self }
    }
    fn request_withdrawn(self) -> Self {
        Self { request: None, ..self }
    }
    fn image(self, image: &'static str) -> Self {
        Self { image, ..self }
    }
    fn once(self) -> Self {
        Self { interval: None, ..self }
    }
    fn blocked(self) -> Self {
        let blocked = Blocked::waiting(Reason::ConnectionNotReady, "Redis is not ready");
        Self { waits_for: Some(blocked), ..self }
    }

    fn decide(&self, second: i64) -> Decision {
        let errand = Errand {
            owner: &self.owner,
            role: "probe",
            operator: "mlop-test",
            pods: &self.pods,
            question: Digest::of_bytes(self.question.as_bytes()),
            request: self.request.clone(),
            interval: self.interval,
            limits: Limits {
                deadline: SignedDuration::from_secs(60),
                deadline_field: Some("spec.deadline"),
                memory_field: None,
            },
            profile: &self.profile,
            waits_for: self.waits_for.clone(),
        };
        let container = || Container {
            name: "worker".to_owned(),
            image: Some(self.image.to_owned()),
            ..Container::default()
        };
        let build = |builder: pods::Builder| builder.container(container());
        errand.decide(Work::Probe { store: Store::default(), read_only: false }, build, at(second))
    }

    /// Carries out the decision at `second`: the created pod has `status`.
    fn then(mut self, second: i64, status: PodStatus) -> Self {
        let decision = self.decide(second);
        for delete in &decision.deletes {
            self.pods.retain(|pod| pod.metadata.name.as_deref() != Some(&delete.name));
        }
        let create = decision.create.unwrap_or_else(|| panic!("no pod is due: {:?}", decision.state));
        let pod: Pod = serde_json::from_value(create.object).unwrap();
        let mut metadata = pod.metadata;
        metadata.uid = metadata.name.clone();
        metadata.creation_timestamp = Some(time(second));
        self.pods.push(Arc::new(PodView { metadata, status, ..PodView::default() }));
        self
    }

    /// The pod that was created last is being deleted by somebody.
    fn deleted(mut self, second: i64) -> Self {
        let mut pod = self.pods.pop().map(Arc::unwrap_or_clone).unwrap();
        pod.metadata.deletion_timestamp = Some(time(second));
        self.pods.push(Arc::new(pod));
        self
    }

    /// The decision in words: the state, the attempt that starts, the pods that are deleted, and the requeue.
    fn words(&self, second: i64) -> String {
        let decision = self.decide(second);
        let state = match &decision.state {
            State::Blocked(blocked) => format!("blocked {}", blocked.reason),
            State::Active { attempt, held_up, last } => {
                let held_up = held_up.as_ref().map(|(reason, _)| format!(" {reason}")).unwrap_or_default();
                let last =
                    last.as_ref().map(|failure| format!(" after {}", failure.reason)).unwrap_or_default();
                format!("active {attempt}{held_up}{last}")
            }
            State::Answered => "answered".to_owned(),
            State::Failed { attempt, failure, disrupted, .. } => {
                let disrupted = if *disrupted { " disrupted" } else { "" };
                format!("failed {attempt} {}{disrupted}", failure.reason)
            }
        };
        let create = if decision.create.is_some() { " +pod" } else { "" };
        let deletes =
            if decision.deletes.is_empty() { String::new() } else { format!(" -{}", decision.deletes.len()) };
        let answer = if decision.answer.is_some() { " (has answer)" } else { "" };
        format!("{state}{create}{deletes}{answer}")
    }

    fn requeue(&self, second: i64) -> Option<i64> {
        match self.decide(second).action {
            Action::RequeueAt(time) => Some(time.as_second() - second),
            Action::AwaitChange => None,
        }
    }
}

fn success(second: i64) -> PodStatus {
    terminated(&ResultDocument { summary: Some("ok".to_owned()), ..ResultDocument::default() }, second)
}

fn failure(reason: Reason, second: i64) -> PodStatus {
    terminated(&ResultDocument::failed(Failure::transient(reason, "no answer")), second)
}

fn refusal(second: i64) -> PodStatus {
    terminated(&ResultDocument::failed(Failure::terminal(Reason::StoreDenied, "denied")), second)
}

fn unschedulable() -> PodStatus {
    serde_json::from_value(json!({"phase": "Pending", "conditions": [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}]}))
    .unwrap()
}

fn evicted() -> PodStatus {
    serde_json::from_value(json!({"phase": "Failed", "reason": "Evicted", "message": "memory"})).unwrap()
}

#[test]
fn errand_is_decided_from_its_pods() {
    let unreachable = |second| failure(Reason::StoreUnreachable, second);
    let rows: Vec<(&str, Case, i64, &str)> = vec![
        ("no pod", case(), 0, "active 1 +pod"),
        ("its connection is not ready", case().blocked(), 0, "blocked ConnectionNotReady"),
        ("it starts", case().then(NOW, scheduled()), 5, "active 1"),
        ("the image cannot be pulled", case().then(NOW, held_up()), 5, "active 1 ImagePull"),
        ("no node has room", case().then(NOW, unschedulable()), 90_000, "active 1 Unschedulable"),
        ("it runs", case().then(NOW, running()), 5, "active 1"),
        ("it has succeeded", case().then(NOW, success(NOW + 2)), 5, "answered (has answer)"),
        ("the answer is old", case().then(NOW, success(NOW + 2)), 605, "active 1 +pod (has answer)"),
        ("one answer is enough", case().once().then(NOW, success(NOW)), 605, "answered (has answer)"),
        ("the user asks again", case().then(NOW, success(NOW)).request("a"), 5, "active 1 +pod (has answer)"),
        ("the spec was edited", case().then(NOW, success(NOW)).question("new"), 5, "active 1 +pod -1"),
        ("it was edited while it ran", case().then(NOW, running()).question("new"), 5, "active 1 +pod -1"),
        ("it has failed", case().then(NOW, unreachable(NOW)), 5, "failed 1 StoreUnreachable"),
        (
            "the delay is over",
            case().then(NOW, unreachable(NOW)),
            12,
            "active 2 after StoreUnreachable +pod -1",
        ),
        (
            "the second attempt runs",
            case().then(NOW, unreachable(NOW)).then(NOW + 12, running()),
            15,
            "active 2 after StoreUnreachable",
        ),
        (
            "the second attempt has failed",
            case().then(NOW, unreachable(NOW)).then(NOW + 12, unreachable(NOW + 13)),
            30,
            "failed 2 StoreUnreachable",
        ),
        (
            "the second attempt has succeeded",
            case().then(NOW, unreachable(NOW)).then(NOW + 12, success(NOW + 13)),
            30,
            "answered (has answer)",
        ),
        (
            "it fails after an answer",
            case().then(NOW, success(NOW)).then(NOW + 605, refusal(NOW + 606)),
            607,
            "failed 1 StoreDenied (has answer)",
        ),
        (
            "a failure and a new image",
            case().then(NOW, refusal(NOW)).image("worker:2"),
            1,
            "active 1 after StoreDenied +pod",
        ),
        (
            "a failure and a request",
            case().then(NOW, refusal(NOW)).request("a"),
            1,
            "active 1 after StoreDenied +pod",
        ),
        (
            "a request has failed and is withdrawn",
            case()
                .then(NOW, success(NOW))
                .request("a")
                .then(NOW + 5, unreachable(NOW + 5))
                .request_withdrawn(),
            17,
            "active 2 after StoreUnreachable +pod -1 (has answer)",
        ),
        ("a wrong image is corrected", case().then(NOW, held_up()).image("worker:2"), 5, "active 1 +pod -1"),
        ("an upgrade while it runs", case().then(NOW, running()).image("worker:2"), 5, "active 1"),
        (
            "an upgrade after its answer",
            case().then(NOW, success(NOW)).image("worker:2"),
            5,
            "answered (has answer)",
        ),
        ("it never starts", case().then(NOW, held_up()), 601, "failed 1 ImagePull"),
        (
            "it never started, and the user asks again",
            case().then(NOW, held_up()).request("a"),
            601,
            "active 1 after ImagePull +pod -1",
        ),
        ("the kubelet says nothing", case().then(NOW, scheduled()), 601, "failed 1 StartTimeout"),
        (
            "it never started; the delay is over",
            case().then(NOW, held_up()),
            612,
            "active 2 after ImagePull +pod -1",
        ),
        ("it hangs", case().then(NOW, running()), 121, "failed 1 DeadlineExceeded"),
        (
            "it hung; the delay is over",
            case().then(NOW, running()),
            132,
            "active 2 after DeadlineExceeded +pod -1",
        ),
        ("it was evicted", case().then(NOW, evicted()), 0, "failed 1 Evicted disrupted"),
        ("somebody deletes it", case().then(NOW, running()).deleted(NOW + 30), 40, "active 1"),
        ("its node is lost", case().then(NOW, running()).deleted(NOW + 30), 91, "failed 1 PodLost disrupted"),
        (
            "its node was lost; the delay is over",
            case().then(NOW, running()).deleted(NOW + 30),
            93,
            "active 2 +pod",
        ),
        (
            "blocked between attempts",
            case().then(NOW, unreachable(NOW)).blocked(),
            12,
            "blocked ConnectionNotReady -1",
        ),
        ("blocked after its answer", case().then(NOW, success(NOW)).blocked(), 5, "answered (has answer)"),
    ];
    for (situation, case, after, want) in rows {
        assert_eq!(case.words(NOW + after), want, "{situation}");
    }
}

#[test]
fn errand_out_of_memory_names_the_field_of_its_owner() {
    let mut status = failure(Reason::WorkerFailed, NOW);
    let ended = status.container_statuses.as_mut().and_then(|all| all[0].state.as_mut()?.terminated.as_mut());
    ended.unwrap().reason = Some("OOMKilled".to_owned());
    let pod = PodView { status, ..PodView::default() };
    for (memory_field, want) in [
        (Some("spec.resources.memory"), "raise spec.resources.memory"),
        (None, "its limit is fixed: please report this"),
    ] {
        let deadline = SignedDuration::from_secs(60);
        let (state, _) = Limits { deadline, deadline_field: None, memory_field }.state(&pod, at(NOW));
        let PodState::Failed { failure, .. } = state else { panic!("{state:?}") };
        assert_eq!((failure.reason, failure.retryable), (Reason::OutOfMemory, false));
        assert!(failure.message.ends_with(want), "{}", failure.message);
    }
}

#[test]
fn delays_between_attempts_grow_to_five_minutes() {
    let (mut case, mut now, mut delays) = (case().once(), NOW, Vec::new());
    for _ in 0..8 {
        case = case.then(now, refusal(now));
        let delay = case.requeue(now).unwrap();
        delays.push(delay);
        now += delay + 1;
    }
    let bounds = [10, 20, 40, 80, 160, 300, 300, 300];
    for (delay, bound) in delays.iter().zip(bounds) {
        assert!((bound..=bound + bound / 10).contains(delay), "{delays:?}");
    }
    assert_eq!(case.pods.len(), 1, "an ended pod gives way to the next one");
    assert_eq!(case.pods[0].metadata.labels.as_ref().unwrap()[labels::ATTEMPT], "8");
}

#[test]
fn errand_requeues_when_time_changes_its_state() {
    let rows = [
        ("start timeout", case().then(NOW, held_up()), Some(600)),
        ("deadline and margin", case().then(NOW, running()), Some(120)),
        ("no node has room", case().then(NOW, unschedulable()), None),
        ("one answer is enough", case().once().then(NOW, success(NOW)), None),
        ("the node should have reported the end", case().then(NOW, running()).deleted(NOW + 30), Some(90)),
    ];
    for (situation, case, want) in rows {
        assert_eq!(case.requeue(NOW), want, "{situation}");
    }
    let next = case().then(NOW, success(NOW)).requeue(NOW).unwrap();
    assert!((1..=INTERVAL).contains(&next), "{next}");
}

#[test]
fn pod_has_room_for_the_longest_request() {
    let long = "x".repeat(256 * 1024);
    let asked = case().request(&long);
    let pod: Pod = serde_json::from_value(asked.decide(NOW).create.unwrap().object).unwrap();
    let size: usize = pod.metadata.annotations.unwrap().values().map(String::len).sum();
    assert!(size < 4096, "{size} bytes of annotations");
    let answered = asked.then(NOW, success(NOW));
    assert_eq!(answered.words(NOW + 5), "answered (has answer)");
    assert_eq!(answered.request(&format!("{long}y")).words(NOW + 5), "active 1 +pod (has answer)");
}

#[test]
fn slots_of_owners_begin_at_different_times() {
    let ends = |name: &str| {
        let mut case = case();
        case.owner.metadata.name = Some(name.to_owned());
        case.then(NOW, success(NOW)).requeue(NOW).unwrap()
    };
    let all: std::collections::BTreeSet<_> = (0..20).map(|name| ends(&name.to_string())).collect();
    assert!(all.len() > 10, "{all:?}");
}

#[test]
fn pod_has_a_deadline_and_a_name_of_its_attempt() {
    let case = case().then(NOW, failure(Reason::StoreUnreachable, NOW));
    let pod: Pod = serde_json::from_value(case.decide(NOW + 12).create.unwrap().object).unwrap();
    assert_eq!(pod.spec.unwrap().active_deadline_seconds, Some(660));
    let (first, second) = (case.pods[0].metadata.name.clone().unwrap(), pod.metadata.name.unwrap());
    assert_eq!(second, format!("{first}-2"));
    assert!(first.starts_with("files-probe-"), "{first}");
}

/// Conditions of the connection in words.
fn reported(case: &Case, before: Option<&ConnectionStatus>, second: i64) -> (String, ConnectionStatus) {
    let decision = case.decide(second);
    let report = |before: Option<&ConnectionStatus>| {
        let plan = report_connection(
            &case.owner,
            before,
            "http://a".to_owned(),
            &decision,
            "it answers",
            at(second),
        );
        plan.status.unwrap()
    };
    let status = report(before);
    assert_eq!(report(Some(&status)), status, "the second report changes nothing");
    let kinds = [condition_type::READY, condition_type::RECONCILING, condition_type::STALLED];
    let words = kinds.iter().filter_map(|kind| condition::get(&status.conditions, kind));
    (words.map(|c| format!("{}={}/{}", c.type_, c.status, c.reason)).collect::<Vec<_>>().join(" "), status)
}

#[test]
fn secret_without_a_key_is_named_by_the_operator() {
    let missing = || {
        let message = format!("ObjectStore files: {UNNAMED_SECRET} has no key a; add it");
        terminated(&ResultDocument::failed(Failure::terminal(Reason::SecretMissing, message)), NOW)
    };
    let again = case().then(NOW, missing()).then(NOW + 610, running());
    for (case, second) in [(case().then(NOW, missing()), NOW + 1), (again, NOW + 611)] {
        let decision = case.decide(second).naming_secret(Some("s3-keys"));
        let message = decision.trouble().unwrap().blocked.message;
        assert_eq!(message, "ObjectStore files: its Secret s3-keys has no key a; add it");
    }
}

#[test]
fn connection_is_ready_while_its_last_probe_succeeded() {
    let unreachable = |second| failure(Reason::StoreUnreachable, second);
    let answered = || case().then(NOW, success(NOW));
    let rows: Vec<(&str, Case, i64, &str)> = vec![
        ("new", case(), 0, "Ready=Unknown/Probing Reconciling=True/Probing"),
        ("held up", case().then(NOW, held_up()), 1, "Ready=Unknown/ImagePull Reconciling=True/ImagePull"),
        (
            "blocked",
            case().blocked(),
            1,
            "Ready=Unknown/ConnectionNotReady Reconciling=True/ConnectionNotReady",
        ),
        ("answered", answered(), 1, "Ready=True/Ready"),
        ("probed again", answered().then(NOW + 605, running()), 610, "Ready=True/Ready"),
        (
            "no room to probe again",
            answered().then(NOW + 605, unschedulable()),
            610,
            "Ready=True/Ready Reconciling=True/Unschedulable",
        ),
        (
            "disrupted",
            answered().then(NOW + 605, evicted()),
            605,
            "Ready=True/Ready Reconciling=True/Evicted",
        ),
        (
            "away",
            answered().then(NOW + 605, unreachable(NOW + 606)),
            607,
            "Ready=False/StoreUnreachable Reconciling=True/StoreUnreachable",
        ),
        (
            "away, tried again",
            answered().then(NOW + 605, unreachable(NOW + 606)).then(NOW + 618, running()),
            620,
            "Ready=False/StoreUnreachable Reconciling=True/StoreUnreachable",
        ),
        (
            "away, then disrupted",
            answered().then(NOW + 605, unreachable(NOW + 606)).then(NOW + 618, evicted()),
            618,
            "Ready=False/Evicted Reconciling=True/Evicted",
        ),
        ("refused", case().then(NOW, refusal(NOW)), 1, "Ready=False/StoreDenied Stalled=True/StoreDenied"),
        (
            "refused, then a request",
            case().then(NOW, refusal(NOW)).request("a"),
            1,
            "Ready=False/StoreDenied Reconciling=True/StoreDenied",
        ),
        (
            "back",
            case().then(NOW, unreachable(NOW)).then(NOW + 12, success(NOW + 13)),
            14,
            "Ready=True/Ready",
        ),
    ];
    for (situation, case, after, want) in rows {
        assert_eq!(reported(&case, None, NOW + after).0, want, "{situation}");
    }
}

/// Everything that waits for a connection repeats the message of its Ready.
#[test]
fn message_of_a_connection_stays_while_it_is_probed_again() {
    let unreachable = |second| failure(Reason::StoreUnreachable, second);
    let first = || case().then(NOW, unreachable(NOW));
    let second = || first().then(NOW + 12, unreachable(NOW + 13));
    let message = |case: &Case, after| {
        let (_, status) = reported(case, None, NOW + after);
        condition::get(&status.conditions, condition_type::READY).unwrap().message.clone()
    };
    let failed = message(&first(), 1);
    assert_eq!(message(&first().then(NOW + 12, running()), 12), failed, "the second attempt runs");
    assert_eq!(message(&second(), 14), failed, "the second attempt has failed");
}

#[test]
fn connection_stays_ready_when_its_probe_pod_is_gone() {
    let (_, ready) = reported(&case().then(NOW, success(NOW)), None, NOW + 1);
    assert_eq!(reported(&case(), Some(&ready), NOW + 2).0, "Ready=True/Ready");
    let mut edited = case().question("new");
    edited.owner.metadata.generation = Some(2);
    let want = "Ready=Unknown/Probing Reconciling=True/Probing";
    assert_eq!(reported(&edited, Some(&ready), NOW + 2).0, want);
}

#[test]
fn errand_waits_for_its_profile() {
    let profile = |spec| Profile::new(Some("quota"), Some(&object("quota", &spec)));
    let with = |profile| Case { profile, ..case() };
    let missing = || with(Profile::new(Some("quota"), None));
    let cheap = || profile(json!({"workers": {"priorityClassName": "low"}}));
    let held_up_then = |profile| Case { profile, ..with(cheap()).then(0, held_up()) };
    let answered_then = |profile| Case { profile, ..with(cheap()).then(0, success(5)) };
    let rows = [
        ("it is missing", missing(), 0, "blocked ProfileNotFound"),
        ("it appears", Case { profile: cheap(), ..missing() }, 0, "active 1 +pod"),
        (
            "it is edited while the pod has not started",
            held_up_then(profile(json!({"workers": {"priorityClassName": "high"}}))),
            1,
            "active 1 +pod -1",
        ),
        (
            "it is edited after the answer",
            answered_then(profile(json!({"workers": {"priorityClassName": "high"}}))),
            6,
            "answered (has answer)",
        ),
        ("it disappears after the answer", answered_then(missing().profile), 6, "answered (has answer)"),
    ];
    for (situation, case, second, want) in rows {
        assert_eq!(case.words(second), want, "{situation}");
    }
}
