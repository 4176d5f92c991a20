//! Tables of differences between children as the API server stores them and their wanted states.

use super::*;
use json_patch::Patch;

/// A Deployment as mlop wants it.
fn wanted() -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "a",
            "labels": {"mlop.dev/intent": "a"},
            "ownerReferences": [{"kind": "Model", "name": "a", "uid": "u", "controller": true}],
        },
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "a"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {
                "metadata": {"labels": {"app": "a"}, "annotations": {"mlop.dev/task": "{}"}},
                "spec": {
                    "automountServiceAccountToken": false,
                    "nodeSelector": {"gpu": "a100"},
                    "containers": [{
                        "name": "server",
                        "image": "server:1",
                        "args": [],
                        "env": [{"name": "HOME", "value": "/tmp"}, {"name": "EMPTY", "value": ""}],
                        "ports": [{"name": "http", "containerPort": 80}],
                        "readinessProbe": {"httpGet": {"path": "/", "port": "http"}},
                        "resources": {"requests": {"cpu": "1000m", "memory": "1024Mi"}, "limits": {"memory": "1.5Gi"}},
                    }],
                    "volumes": [
                        {"name": "tmp", "emptyDir": {"sizeLimit": "1024Mi"}},
                        {"name": "keys", "projected": {"sources": [{"secret": {"name": "s", "optional": true}}]}},
                        {"name": "task", "downwardAPI": {"items": [{"path": "t", "fieldRef": {"fieldPath": "f"}}]}},
                    ],
                },
            },
        },
    })
}

/// The same Deployment as the API server stores it.
fn stored() -> Value {
    let mut live = wanted();
    let meta = &mut live["metadata"];
    meta["uid"] = json!("d");
    meta["resourceVersion"] = json!("7");
    meta["annotations"] = json!({"deployment.kubernetes.io/revision": "1"});
    let spec = &mut live["spec"];
    spec["revisionHistoryLimit"] = json!(10);
    spec["progressDeadlineSeconds"] = json!(600);
    spec["template"]["metadata"]["creationTimestamp"] = Value::Null;
    let pod = &mut spec["template"]["spec"];
    pod["restartPolicy"] = json!("Always");
    pod["dnsPolicy"] = json!("ClusterFirst");
    pod["schedulerName"] = json!("default-scheduler");
    pod["terminationGracePeriodSeconds"] = json!(30);
    pod["securityContext"] = json!({});
    pod["volumes"] = json!([
        {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}},
        {"name": "keys", "projected": {"defaultMode": 420, "sources": [{"secret": {"name": "s", "optional": true}}]}},
        {"name": "task", "downwardAPI": {"defaultMode": 420,
            "items": [{"path": "t", "fieldRef": {"apiVersion": "v1", "fieldPath": "f"}}]}},
    ]);
    let container = &mut pod["containers"][0];
    container["args"] = Value::Null;
    container["env"][1] = json!({"name": "EMPTY"});
    container["imagePullPolicy"] = json!("IfNotPresent");
    container["terminationMessagePath"] = json!("/dev/termination-log");
    container["terminationMessagePolicy"] = json!("File");
    container["ports"][0]["protocol"] = json!("TCP");
    container["readinessProbe"] = json!({
        "httpGet": {"path": "/", "port": "http", "scheme": "HTTP"},
        "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3});
    container["resources"] =
        json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "1536Mi"}});
    live["status"] = json!({"readyReplicas": 1});
    live
}

/// The paths of the changes from `live`; they leave no difference.
fn paths(kind: &str, live: &Value, wanted: &Value) -> Vec<String> {
    let operations = changes(kind, live, wanted);
    let patch: Patch = serde_json::from_value(operations.clone().into()).unwrap();
    let mut written = live.clone();
    json_patch::patch(&mut written, &patch).unwrap();
    assert_eq!(changes(kind, &written, wanted), Vec::<Value>::new(), "a second write follows");
    operations.iter().map(|operation| operation["path"].as_str().unwrap().to_owned()).collect()
}

/// A value at a JSON pointer; `None` takes it out.
fn with(mut object: Value, pointer: &str, value: Option<Value>) -> Value {
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    let parent = object.pointer_mut(parent).unwrap();
    match (parent, value) {
        (Value::Object(fields), Some(value)) => drop(fields.insert(field.replace("~1", "/"), value)),
        (Value::Object(fields), None) => drop(fields.remove(field)),
        (Value::Array(items), Some(value)) => items.push(value),
        _ => panic!("no container at {pointer}"),
    }
    object
}

#[test]
fn stored_deployment_does_not_differ() {
    assert_eq!(paths("Deployment", &stored(), &wanted()), Vec::<String>::new());
}

#[test]
fn foreign_addition_is_taken_out_unless_harmless() {
    let pod = "/spec/template/spec";
    let container = "/spec/template/spec/containers/0";
    let foreign_owner = json!({"kind": "App", "name": "argo", "uid": "x"});
    let rows = [
        // Where, what, and the field that is written.
        ("/metadata/labels/argocd.argoproj.io~1instance".to_owned(), json!("x"), None),
        ("/metadata/annotations/note".to_owned(), json!("x"), None),
        ("/metadata/ownerReferences/-".to_owned(), foreign_owner, None),
        ("/metadata/labels/mlop.dev~1old".to_owned(), json!("x"), Some("/metadata/labels/mlop.dev~1old")),
        (
            "/metadata/labels/mlop.dev~1intent".to_owned(),
            json!("b"),
            Some("/metadata/labels/mlop.dev~1intent"),
        ),
        (
            "/spec/template/metadata/annotations/kubectl.kubernetes.io~1restartedAt".to_owned(),
            json!("t"),
            None,
        ),
        ("/spec/template/metadata/annotations/mlop.dev~1old".to_owned(), json!("x"), Some("/spec/template")),
        ("/spec/template/metadata/labels/x".to_owned(), json!("y"), Some("/spec/template")),
        ("/spec/selector/matchLabels/x".to_owned(), json!("y"), Some("/spec/selector")),
        ("/spec/paused".to_owned(), json!(true), Some("/spec/paused")),
        (format!("{pod}/nodeSelector/x"), json!("y"), Some("/spec/template")),
        (format!("{pod}/tolerations"), json!([{"key": "k"}]), Some("/spec/template")),
        (format!("{pod}/hostNetwork"), json!(true), Some("/spec/template")),
        (format!("{pod}/containers/-"), json!({"name": "sidecar"}), Some("/spec/template")),
        (format!("{pod}/volumes/-"), json!({"name": "v", "emptyDir": {}}), Some("/spec/template")),
        (format!("{container}/env/-"), json!({"name": "FOO", "value": "x"}), Some("/spec/template")),
        (format!("{container}/resources/limits/cpu"), json!("1"), Some("/spec/template")),
        (format!("{container}/command"), json!(["sh"]), Some("/spec/template")),
        (format!("{container}/livenessProbe"), json!({"exec": {"command": ["a"]}}), Some("/spec/template")),
        (format!("{container}/imagePullPolicy"), json!("Always"), None),
    ];
    for (pointer, value, want) in rows {
        let live = with(stored(), &pointer, Some(value));
        assert_eq!(paths("Deployment", &live, &wanted()), Vec::from_iter(want), "{pointer}");
    }
}

#[test]
fn field_that_is_no_longer_wanted_is_taken_out() {
    let pod = "/spec/template/spec";
    let rows = [
        ("/spec/template/spec/nodeSelector", None),
        ("/spec/template/spec/containers/0/env", None),
        ("/spec/template/spec/containers/0/readinessProbe", None),
        ("/spec/template/spec/volumes", Some(json!([]))),
        ("/spec/template/spec/volumes/0/emptyDir", Some(json!({}))),
        ("/spec/template/spec/containers/0/resources", Some(json!({"requests": {"cpu": "1"}}))),
    ];
    for (pointer, value) in rows {
        let wanted = with(wanted(), pointer, value);
        assert_eq!(paths("Deployment", &stored(), &wanted), ["/spec/template"], "{pointer}");
        let of = |written: &[Value]| written[0]["value"].clone();
        let template = of(&changes("Deployment", &stored(), &wanted));
        assert_eq!(
            template["spec"],
            wanted.pointer(pod).unwrap().clone(),
            "{pointer}: defaults are not repeated"
        );
    }
    let scaled_by_others = with(wanted(), "/spec/replicas", None);
    assert_eq!(paths("Deployment", &stored(), &scaled_by_others), Vec::<String>::new());
}

#[test]
fn field_that_is_true_by_default_is_set_to_false_again() {
    let token = "/spec/template/spec/automountServiceAccountToken";
    let container = "/spec/template/spec/containers/0/securityContext";
    let stored_again = with(stored(), token, None);
    assert_eq!(paths("Deployment", &stored_again, &wanted()), ["/spec/template"]);
    let escalation =
        |object: Value| with(object, container, Some(json!({"allowPrivilegeEscalation": false})));
    assert_eq!(paths("Deployment", &stored(), &escalation(wanted())), ["/spec/template"]);
    assert_eq!(paths("Deployment", &escalation(stored()), &escalation(wanted())), Vec::<String>::new());
}

#[test]
fn rewritten_template_keeps_the_annotations_of_others() {
    let restarted = "/spec/template/metadata/annotations/kubectl.kubernetes.io~1restartedAt";
    let live = with(stored(), restarted, Some(json!("now")));
    let wanted = with(wanted(), "/spec/template/metadata/labels/x", Some(json!("y")));
    let [change] = changes("Deployment", &live, &wanted).try_into().unwrap();
    let annotations = &change["value"]["metadata"]["annotations"];
    assert_eq!(annotations, &json!({"mlop.dev/task": "{}", "kubectl.kubernetes.io/restartedAt": "now"}));
}

#[test]
fn owner_that_is_no_longer_wanted_is_taken_out() {
    let unowned = with(wanted(), "/metadata/ownerReferences", None);
    let live = with(stored(), "/metadata/ownerReferences/-", Some(json!({"kind": "App", "uid": "x"})));
    let [change] = changes("Deployment", &live, &unowned).try_into().unwrap();
    assert_eq!(change["value"], json!([{"kind": "App", "uid": "x"}]));
    let orphan = with(stored(), "/metadata/ownerReferences", None);
    assert_eq!(paths("Deployment", &orphan, &wanted()), ["/metadata/ownerReferences"]);
}

#[test]
fn service_keeps_its_addresses_and_loses_foreign_selectors() {
    let wanted = json!({"spec": {"selector": {"app": "a"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]}});
    let stored = json!({"spec": {
        "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
        "internalTrafficPolicy": "Cluster", "sessionAffinity": "None", "type": "ClusterIP",
        "selector": {"app": "a"},
        "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}],
    }});
    assert_eq!(paths("Service", &stored, &wanted), Vec::<String>::new());
    let rows = [
        ("/spec/selector/x", json!("y"), "/spec/selector"),
        ("/spec/externalIPs", json!(["1.2.3.4"]), "/spec/externalIPs"),
        ("/spec/type", json!("NodePort"), "/spec/type"),
        ("/spec/ports/-", json!({"port": 81}), "/spec/ports"),
    ];
    for (pointer, value, want) in rows {
        assert_eq!(paths("Service", &with(stored.clone(), pointer, Some(value)), &wanted), [want]);
    }
}

#[test]
fn immutable_fields_are_not_written() {
    let claim = |size: &str| json!({"spec": {"resources": {"requests": {"storage": size}}}});
    assert_eq!(paths("PersistentVolumeClaim", &claim("2Gi"), &claim("1Gi")), Vec::<String>::new());
    let set =
        |service: &str| json!({"spec": {"serviceName": service, "volumeClaimTemplates": [claim(service)]}});
    assert_eq!(paths("StatefulSet", &set("a"), &set("b")), Vec::<String>::new());
}

#[test]
fn amounts_are_compared_by_value() {
    let same = [
        ("1", "1000m"),
        ("0.5", "500m"),
        (".5", "500m"),
        ("1Gi", "1024Mi"),
        ("1.5Gi", "1536Mi"),
        ("128974848", "123Mi"),
        ("1e3", "1k"),
        ("12E", "12000P"),
        ("0", "0m"),
        ("0.1n", "1n"),
        ("100u", "100000n"),
    ];
    for (one, other) in same {
        assert!(is_same_amount(one, other), "{one} is {other}");
    }
    for (one, other) in [("1", "1m"), ("1G", "1Gi"), ("1", "x"), ("x", "y"), ("", "0"), ("1e999", "1")] {
        assert!(!is_same_amount(one, other), "{one} is not {other}");
    }
    assert!(is_same_amount("x", "x"), "equal texts are the same amount");
}
