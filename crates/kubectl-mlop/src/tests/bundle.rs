//! A support bundle has what helps, and no secret.

use super::flights;
use crate::bundle::{Container, Log, Material, archive, containers, files};
use flate2::read::GzDecoder;
use serde_json::{Value, json};
use std::{collections::BTreeMap, io::Read as _};

/// A secret for each place; the number says which one has leaked.
fn secret(place: usize) -> String {
    format!("s3cr3t-{place:03}-value")
}

/// Number of the places.
const PLACES: usize = 27;

fn container(first: usize) -> Value {
    json!({
        "name": "user", "image": "trainer:dev",
        "command": ["run", "--token", secret(first)],
        "args": [format!("--password={}", secret(first + 1)), secret(first + 2)],
        "env": [{"name": "KEY", "value": secret(first + 3)}, {"name": "REF", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "k"}}}],
        "livenessProbe": {"httpGet": {"httpHeaders": [{"name": "X-Key", "value": secret(first + 4)}]}},
        "lifecycle": {"preStop": {"exec": {"command": [secret(first + 5)]}}},
    })
}

fn planted() -> Material {
    let copy = |place: usize| json!({"spec": {"env": [{"name": "KEY", "value": secret(place)}]}}).to_string();
    let last_applied = "kubectl.kubernetes.io/last-applied-configuration";
    let pod = json!({
        "metadata": {
            "name": "delay-541303624bf0-1-x", "namespace": "flights", "creationTimestamp": "2026-11-29T12:28:00Z",
            "annotations": {last_applied: copy(0), "mlop.dev/task": copy(1), "vault/note": secret(2), "mlop.dev/template": "sha256:kept"},
            "managedFields": [{"manager": secret(3)}],
            "labels": {"mlop.dev/intent-kind": "TrainingJob", "mlop.dev/intent": "delay", "mlop.dev/role": "run"},
        },
        "spec": {
            "containers": [container(4)], "initContainers": [container(10)],
            "volumes": [{"name": "v", "csi": {"driver": "d", "volumeAttributes": {"key": secret(16)}}}],
        },
        "status": {"containerStatuses": [{"name": "user", "restartCount": 1, "state": {"running": {}}}]},
    });
    let job = json!({
        "metadata": {"annotations": {last_applied: copy(17)}},
        "spec": {
            "env": [{"name": "KEY", "value": secret(18)}], "command": ["python", "train.py", secret(19)],
            "code": {"train.py": format!("key = '{}'", secret(20))}, "hyperparameters": {"key": secret(21)},
        },
        "status": {"headline": {"reason": "UserError", "message": format!("cannot log in with {}", secret(18))}},
    });
    let profile = json!({
        "apiVersion": "mlop.dev/v1alpha1", "kind": "PodProfile", "metadata": {"name": "default", "namespace": "flights"},
        "spec": {"user": {"metadata": {"annotations": {"x": secret(22)}}, "container": {"env": [{"name": "KEY", "value": secret(23)}]}}},
    });
    let own = json!({
        "metadata": {"name": "features-fs-1", "namespace": "flights"},
        "spec": {"containers": [{"name": "api", "args": ["--feature-store", "features", "--name=route-delays"], "env": [
            {"name": "MLSERVER_MODEL_VERSION", "value": "27f1e790b964"}, {"name": "WORKER_IMAGE", "value": "mlop.local/trainer:dev"}]}]},
    });
    let store = json!({"spec": {"endpoint": format!("http://me:{}@minio:9000", secret(24))}});
    let secrets = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "data": {"k": secret(25)}});
    let case = flights().with("TrainingJob/delay", job).with("ObjectStore/raw", store).add(profile);
    let operator = json!({
        "metadata": {"name": "mlop-training-1", "namespace": "mlop-system"},
        "spec": {"containers": [{"name": "operator", "args": ["--log=info", "--auth-header", secret(26)], "env": [{"name": "OTLP", "value": secret(8)}]}]},
    });
    // What is removed in one place is printed in others.
    let printed = (0..PLACES).filter(|place| ![2, 3, 6, 9, 12, 15, 19, 20, 22].contains(place)).map(secret);
    let printed: String = printed.map(|secret| format!("at {secret}: PASSWORD={secret}\n")).collect();
    let log = |namespace: &str, pod: &str| Log {
        source: Container {
            namespace: namespace.into(),
            pod: pod.into(),
            name: "user".into(),
            is_previous: false,
        },
        text: printed.clone(),
    };
    Material {
        namespace: "flights".to_owned(),
        now: case.snapshot().now,
        objects: case.objects.iter().cloned().chain([secrets]).collect(),
        pods: vec![pod, own],
        events: vec![
            json!({"message": printed, "reason": "Failed", "metadata": {"annotations": {"x": secret(22)}}}),
        ],
        operators: vec![operator],
        logs: vec![log("flights", "delay-541303624bf0-1-x"), log("mlop-system", "mlop-training-1")],
        versions: json!({"kubectl-mlop": "0.1.0"}),
        failures: vec![format!("reading a log: {}", secret(4))],
    }
}

/// The files of a packed bundle.
fn unpacked(packed: &[u8]) -> BTreeMap<String, String> {
    let mut archive = tar::Archive::new(GzDecoder::new(packed));
    let file = |entry: std::io::Result<tar::Entry<'_, GzDecoder<&[u8]>>>| {
        let mut entry = entry.unwrap();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        (entry.path().unwrap().display().to_string(), text)
    };
    archive.entries().unwrap().map(file).collect()
}

#[test]
fn bundle_has_no_secret_of_any_place() {
    let material = planted();
    let before = format!("{material:?}");
    let found = unpacked(&archive(&files(&material).unwrap(), "bundle", material.now).unwrap());
    for place in 0..PLACES {
        let secret = secret(place);
        assert!(before.contains(&secret), "{secret} is not planted");
        for (path, text) in &found {
            assert!(!text.contains(&secret) && !path.contains(&secret), "{secret} is in {path}:\n{text}");
        }
    }
    assert!(found.keys().all(|path| !path.contains("Secret")), "{:?}", found.keys());
}

#[test]
fn bundle_has_what_helps() {
    let material = planted();
    let found = unpacked(&archive(&files(&material).unwrap(), "bundle", material.now).unwrap());
    let has = |path: &str, part: &str| {
        let text = found.get(path).unwrap_or_else(|| panic!("no {path} in {:?}", found.keys()));
        assert!(text.contains(part), "{path} has no {part}:\n{text}");
    };
    has("bundle/status.txt", "TrainingJob/delay");
    has("bundle/versions.yaml", "kubectl-mlop: \"0.1.0\"");
    has("bundle/README.txt", "Could not be read:\n- reading a log: <removed>");
    has("bundle/objects/Dataset/flights.yaml", "time_hour");
    has("bundle/objects/TrainingRun/delay-541303624bf0.yaml", "reason: Succeeded");
    has("bundle/objects/TrainingJob/delay.yaml", "cannot log in with <removed>");
    has("bundle/pods/delay-541303624bf0-1-x.yaml", "mlop.dev/template: sha256:kept");
    has("bundle/pods/delay-541303624bf0-1-x.yaml", "secretKeyRef");
    has("bundle/pods/delay-541303624bf0-1-x.yaml", "- name: KEY\n      value: <removed>");
    // Words that mlop itself passes to its containers stay readable elsewhere.
    has("bundle/objects/FeatureStore/features.yaml", "name: features");
    has("bundle/objects/ModelDeployment/delay.yaml", "sha256:27f1e790b964");
    has("bundle/objects/TrainingJob/delay.yaml", "image: mlop.local/trainer:dev");
    has("bundle/events.yaml", "reason: Failed");
    has("bundle/logs/delay-541303624bf0-1-x/user.log", "at <removed>");
    has("bundle/operators/mlop-training-1.yaml", "name: operator");
    has("bundle/operators/mlop-training-1/user.log", "at <removed>");
}

#[test]
fn logs_are_those_of_the_newest_pods_and_of_servers() {
    let pod = |name: &str, role: &str, minute: u32, restarts: u32, state: &str| {
        json!({
            "metadata": {"name": name, "namespace": "flights", "creationTimestamp": format!("2026-11-29T12:{minute:02}:00Z"),
                "labels": {"mlop.dev/intent-kind": "TrainingJob", "mlop.dev/intent": "delay", "mlop.dev/role": role}},
            "status": {"containerStatuses": [{"name": "user", "restartCount": restarts, "state": {state: {}}}]},
        })
    };
    let pods = [
        pod("old", "run", 1, 0, "terminated"),
        pod("new", "run", 2, 0, "running"),
        pod("scan", "scan", 0, 0, "terminated"),
        pod("server-1", "serving", 1, 2, "running"),
        pod("server-2", "serving", 2, 1, "waiting"),
    ];
    let found: Vec<_> = containers(&pods)
        .into_iter()
        .map(|it| format!("{}{}", it.pod, if it.is_previous { " before" } else { "" }))
        .collect();
    assert_eq!(found, ["new", "scan", "server-1 before", "server-1", "server-2 before"]);
}
