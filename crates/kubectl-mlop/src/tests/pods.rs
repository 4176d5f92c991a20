//! The choice of pods and Events.

use super::flights;
use crate::{
    events,
    pods::{choose, selector},
    snapshot::{Object, ObjectId, Snapshot},
};
use expect_test::expect_file;
use k8s_openapi::api::core::v1::{Event, Pod};
use serde_json::{Value, json};

/// A pod with its labels, init containers and containers, created at a minute past twelve.
fn pod(name: &str, labels: Value, init: &[&str], main: &[&str], minute: u32) -> Pod {
    let containers = |names: &[&str]| names.iter().map(|name| json!({"name": name})).collect::<Vec<_>>();
    serde_json::from_value(json!({
        "metadata": {"name": name, "labels": labels, "creationTimestamp": format!("2026-11-29T12:{minute:02}:00Z")},
        "spec": {"initContainers": containers(init), "containers": containers(main)},
    }))
    .unwrap()
}

fn attempt(name: &str, run: &str, number: u32) -> Pod {
    let labels = json!({"mlop.dev/run": run, "mlop.dev/attempt": number.to_string(), "mlop.dev/role": "run"});
    pod(name, labels, &["copy", "fetch"], &["user", "worker"], 20 + number)
}

fn object<'a>(snapshot: &'a Snapshot, kind: &str, name: &str) -> &'a Object {
    snapshot.get(&ObjectId::new(kind, name)).unwrap()
}

#[test]
fn newest_attempt_of_the_newest_run_is_shown() {
    let snapshot = flights().snapshot();
    let job = object(&snapshot, "TrainingJob", "delay");
    let pods = [
        attempt("old", "delay-0b622fe92bb8", 4),
        attempt("first", "delay-541303624bf0", 1),
        attempt("second", "delay-541303624bf0", 2),
        pod("scan", json!({"mlop.dev/role": "scan"}), &[], &["worker"], 39),
    ];
    let rows = [
        (None, "second/user"),
        (Some("user"), "second/user"),
        (Some("worker"), "second/worker"),
        (Some("fetch"), "second/fetch"),
    ];
    for (container, want) in rows {
        let found = choose(&snapshot, job, &pods, container).unwrap();
        assert_eq!(format!("{}/{}", found.pod, found.container), want, "{container:?}");
    }
    let error = choose(&snapshot, job, &pods, Some("sidecar")).unwrap_err().to_string();
    assert_eq!(error, "pod second has no container \"sidecar\"; it has copy, fetch, user, worker");
}

#[test]
fn server_is_preferred_to_a_check() {
    let snapshot = flights().snapshot();
    let pods = [
        pod("delay-mdep-1", json!({"mlop.dev/role": "serving"}), &["fetch"], &["mlserver"], 20),
        pod("probe", json!({"mlop.dev/role": "probe"}), &[], &["worker"], 39),
    ];
    let found = choose(&snapshot, object(&snapshot, "ModelDeployment", "delay"), &pods, None).unwrap();
    assert_eq!((found.pod.as_str(), found.container.as_str()), ("delay-mdep-1", "mlserver"));
}

#[test]
fn gone_pod_is_replaced_by_the_last_failure() {
    let run = "TrainingRun/delay-541303624bf0";
    let failure = json!({"attempt": 3, "reason": "UserError", "message": "ValueError: bad row", "retryable": false, "at": "2026-11-29T12:29:00Z"});
    let snapshot = flights().with(run, json!({"status": {"failure": failure}})).snapshot();
    let error =
        choose(&snapshot, object(&snapshot, "TrainingJob", "delay"), &[], None).unwrap_err().to_string();
    assert!(
        error.ends_with("attempt 3 of delay-541303624bf0 ended with UserError: ValueError: bad row"),
        "{error}"
    );
}

#[test]
fn selector_has_the_labels_of_operators() {
    let snapshot = flights().snapshot();
    assert_eq!(
        selector(object(&snapshot, "TrainingJob", "delay")),
        "mlop.dev/intent=delay,mlop.dev/intent-kind=TrainingJob"
    );
    assert_eq!(
        selector(object(&snapshot, "TrainingRun", "delay-541303624bf0")),
        "mlop.dev/run=delay-541303624bf0,mlop.dev/run-kind=TrainingRun"
    );
}

#[test]
fn events_are_those_of_the_object_its_runs_and_their_pods() {
    let event = |kind: &str, name: &str, reason: &str, minute: u32, count: i32| -> Event {
        serde_json::from_value(json!({
            "metadata": {}, "involvedObject": {"kind": kind, "name": name}, "reason": reason, "type": "Normal",
            "message": format!("{reason} of {name}"), "count": count, "lastTimestamp": format!("2026-11-29T12:{minute:02}:00Z"),
        }))
        .unwrap()
    };
    let snapshot = flights().snapshot();
    let events = [
        event("TrainingJob", "delay", "UpToDate", 24, 1),
        event("Model", "delay", "GateFailed", 23, 1),
        event("TrainingRun", "delay-541303624bf0", "Succeeded", 22, 1),
        event("Pod", "delay-541303624bf0-1-7qtng", "Pulled", 21, 3),
        event("Pod", "delay-mdep-7fb8687548-rwtjl", "Started", 20, 1),
    ];
    let job = object(&snapshot, "TrainingJob", "delay");
    let entries = events::of(&snapshot, job, &[], &events);
    expect_file!["golden/events.txt"].assert_eq(&events::table(&entries, &job.id, snapshot.now));
}
