//! Tables of pods and what a profile makes of them.

use super::*;
use crate::testing::object;
use k8s_openapi::api::core::v1::SecurityContext;

fn profile(spec: &Value) -> Profile {
    Profile::new(None, Some(&object("default", spec)))
}

/// A pod of mlop, and one with user code between mlop's containers.
fn pods() -> [Value; 2] {
    let worker = json!({
        "name": "worker", "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
        "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "1Gi"}},
    });
    let user = json!({"name": "user", "env": [{"name": "HOME", "value": "/tmp"}]});
    let own = json!({
        "metadata": {"labels": {"mlop.dev/role": "run", "team": "ml"}},
        "spec": {"containers": [worker], "nodeSelector": {"pool": "gpu"}, "volumes": [{"name": "tmp", "emptyDir": {}}]},
    });
    let mut mixed = own.clone();
    mixed["spec"]["initContainers"] = json!([{"name": "fetch"}]);
    mixed["spec"]["containers"].as_array_mut().unwrap().insert(0, user);
    [own, mixed]
}

/// The parts of the pods that the profile with this spec adds or changes, by their paths.
fn changes(pod: &Value, spec: &Value) -> Vec<String> {
    let complete = |spec: &Value| {
        let pod: Pod = serde_json::from_value(pod.clone()).unwrap();
        serde_json::to_value(profile(spec).complete(pod)).unwrap()
    };
    let mut found = Vec::new();
    differences("", &complete(&json!({})), &complete(spec), &mut found);
    found
}

fn differences(path: &str, before: &Value, after: &Value, found: &mut Vec<String>) {
    match (before, after) {
        (Value::Object(old), Value::Object(new)) => {
            for name in old.keys().chain(new.keys().filter(|name| !old.contains_key(*name))) {
                let (old, new) =
                    (old.get(name).unwrap_or(&Value::Null), new.get(name).unwrap_or(&Value::Null));
                differences(&format!("{path}.{name}"), old, new, found);
            }
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            let pairs = old.iter().zip(new).enumerate();
            pairs.for_each(|(nth, (old, new))| differences(&format!("{path}[{nth}]"), old, new, found));
        }
        (old, new) if old == new => {}
        (_, new) => found.push(format!("{}={new}", path.trim_start_matches('.'))),
    }
}

#[test]
fn profile_adds_to_a_pod_what_mlop_does_not_set() {
    let rows = [
        ("nothing", json!({}), vec![]),
        (
            "a section for user code",
            json!({"serviceAccountName": "x"}),
            vec!["spec.serviceAccountName=\"x\""],
        ),
        ("a label", json!({"metadata": {"labels": {"cost": "1"}}}), vec!["metadata.labels.cost=\"1\""]),
        ("a label that the pod has", json!({"metadata": {"labels": {"team": "x"}}}), vec![]),
        ("a label of mlop", json!({"metadata": {"labels": {"mlop.dev/intent": "x"}}}), vec![]),
        (
            "a label for clients of MLflow",
            json!({"metadata": {"labels": {"mlop.dev/tracking-client": "true"}}}),
            vec!["metadata.labels.mlop.dev/tracking-client=\"true\""],
        ),
        ("an annotation of mlop", json!({"metadata": {"annotations": {"mlop.dev/task": "x"}}}), vec![]),
        (
            "labels of nodes",
            json!({"nodeSelector": {"pool": "cpu", "zone": "a"}}),
            vec!["spec.nodeSelector.zone=\"a\""],
        ),
        (
            "a variable",
            json!({"container": {"env": [{"name": "HTTPS_PROXY", "value": "http://p"}]}}),
            vec![r#"spec.containers[0].env=[{"name":"HTTPS_PROXY","value":"http://p"}]"#],
        ),
        (
            "a mount at a path of mlop",
            json!({"volumes": [{"name": "x", "emptyDir": {}}],
                "container": {"volumeMounts": [{"name": "x", "mountPath": "/tmp/"}]}}),
            vec![],
        ),
        ("a volume without a mount", json!({"volumes": [{"name": "x", "emptyDir": {}}]}), vec![]),
        (
            "a mount of a volume of mlop",
            json!({"container": {"volumeMounts": [{"name": "tmp", "mountPath": "/x"}]}}),
            vec![
                r#"spec.containers[0].volumeMounts=[{"mountPath":"/tmp","name":"tmp"},{"mountPath":"/x","name":"profile-workers-tmp"}]"#,
            ],
        ),
        (
            "a claim for devices",
            json!({"resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "half"}],
                "container": {"resources": {"claims": [{"name": "gpu", "request": "a"}]}}}),
            vec![
                r#"spec.containers[0].resources.claims=[{"name":"profile-workers-gpu","request":"a"}]"#,
                r#"spec.resourceClaims=[{"name":"profile-workers-gpu","resourceClaimTemplateName":"half"}]"#,
            ],
        ),
        (
            "a claim that no container uses",
            json!({"resourceClaims": [{"name": "gpu", "resourceClaimName": "shared"}]}),
            vec![],
        ),
        (
            "limits",
            json!({"container": {"resources": {"limits": {"cpu": "2", "ephemeral-storage": "1Gi", "memory": "9Gi"}}}}),
            vec![
                "spec.containers[0].resources.limits.cpu=\"2\"",
                "spec.containers[0].resources.limits.ephemeral-storage=\"1Gi\"",
            ],
        ),
        (
            "a limit below the request",
            json!({"container": {"resources": {"limits": {"cpu": "500m"}}}}),
            vec!["spec.containers[0].resources.limits.cpu=\"1\""],
        ),
    ];
    let [own, _] = pods();
    for (situation, workers, want) in rows {
        assert_eq!(changes(&own, &json!({"workers": workers})), want, "{situation}");
        assert_eq!(
            changes(&own, &json!({"user": workers})),
            Vec::<String>::new(),
            "{situation}, for user code"
        );
    }
}

#[test]
fn pod_with_user_code_has_both_sections_apart() {
    let [_, mixed] = pods();
    let section = |name: &str| {
        json!({
            "serviceAccountName": name, "imagePullSecrets": [{"name": name}], "priorityClassName": name,
            "volumes": [{"name": "ca", "secret": {"secretName": name}}],
            "resourceClaims": [{"name": "gpu", "resourceClaimName": name}],
            "container": {
                "env": [{"name": "WHO", "value": name}, {"name": "HOME", "value": name}],
                "volumeMounts": [{"name": "ca", "mountPath": "/ca"}],
                "resources": {"limits": {"cpu": "3"}, "claims": [{"name": "gpu"}]},
            },
        })
    };
    let pod: Pod = serde_json::from_value(mixed).unwrap();
    let pod = profile(&json!({"workers": section("ours"), "user": section("theirs")})).complete(pod);
    let spec = pod.spec.unwrap();
    assert_eq!(spec.service_account_name.as_deref(), Some("theirs"));
    assert_eq!(spec.priority_class_name.as_deref(), Some("theirs"));
    let secrets: Vec<_> =
        spec.image_pull_secrets.iter().flatten().map(|secret| secret.name.as_str()).collect();
    assert_eq!(secrets, ["theirs", "ours"], "the images of mlop are pulled too");
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let seen: Vec<_> = containers
        .map(|container| {
            let env = container.env.iter().flatten();
            let env = env
                .map(|variable| format!("{}={}", variable.name, variable.value.clone().unwrap_or_default()));
            let ca =
                container.volume_mounts.iter().flatten().find(|mount| mount.mount_path == "/ca").unwrap();
            let resources = container.resources.as_ref().unwrap();
            let (limits, claims) = (resources.limits.as_ref().unwrap(), resources.claims.as_ref().unwrap());
            let env = env.collect::<Vec<_>>().join(" ");
            format!("{}: {env} {} cpu {} {}", container.name, ca.name, limits["cpu"].0, claims[0].name)
        })
        .collect();
    assert_eq!(
        seen,
        [
            "fetch: WHO=ours HOME=ours profile-workers-ca cpu 3 profile-workers-gpu",
            "user: WHO=theirs HOME=/tmp profile-user-ca cpu 3 profile-user-gpu",
            "worker: WHO=ours HOME=ours profile-workers-ca cpu 3 profile-workers-gpu",
        ]
    );
    let volumes: Vec<_> = spec.volumes.iter().flatten().map(|volume| volume.name.as_str()).collect();
    assert_eq!(volumes, ["tmp", "profile-workers-ca", "profile-user-ca"]);
    let claims: Vec<_> = spec.resource_claims.iter().flatten().map(|claim| claim.name.as_str()).collect();
    assert_eq!(claims, ["profile-workers-gpu", "profile-user-gpu"]);
}

#[test]
fn security_fields_are_set_after_the_profile() {
    // A field that the schema does not have, as an older API server may keep it.
    let fragment = json!({"workers": {"hostNetwork": true, "automountServiceAccountToken": true,
        "securityContext": {"runAsUser": 0}, "container": {"securityContext": {"privileged": true}}}});
    for pod in pods() {
        assert_eq!(changes(&pod, &fragment), Vec::<String>::new());
        let lax = SecurityContext { privileged: Some(true), ..Default::default() };
        let mut pod: Pod = serde_json::from_value(pod).unwrap();
        pod.spec.as_mut().unwrap().containers[0].security_context = Some(lax);
        let pod = profile(&json!({"workers": {"schedulerName": "x"}})).complete(pod).spec.unwrap();
        assert_eq!(pod.automount_service_account_token, Some(false));
        assert_eq!(pod.containers[0].security_context.as_ref().unwrap().privileged, None);
    }
}

#[test]
fn profile_blocks_when_it_is_missing_or_cannot_be_read() {
    let wrong: PodProfile = object("gpu", &json!({"user": {"affinity": {"nodeAffinity": "here"}}}));
    let rows = [
        ("no profile", Profile::new(None, None), None),
        (
            "a missing one",
            Profile::new(Some("gpu"), None),
            Some((Reason::ProfileNotFound, false, "PodProfile gpu")),
        ),
        (
            "a field of another type",
            Profile::new(Some("gpu"), Some(&wrong)),
            Some((Reason::ProfileInvalid, true, "PodProfile gpu: spec.user: invalid type")),
        ),
    ];
    for (situation, profile, want) in rows {
        let got = profile.check().err();
        let got = got.as_ref().map(|blocked| (blocked.reason, blocked.stalled, blocked.message.as_str()));
        match (got, want) {
            (Some((reason, stalled, message)), Some((wanted, is_stalled, words))) => {
                assert_eq!((reason, stalled), (wanted, is_stalled), "{situation}");
                assert!(message.starts_with(words), "{message}");
            }
            (got, want) => assert_eq!(got, want, "{situation}"),
        }
        let [own, _] = pods();
        let pod: Pod = serde_json::from_value(own).unwrap();
        assert_eq!(profile.complete(pod.clone()), pod, "{situation}");
    }
}
