//! Defaults and field selectors of built-in kinds.
//!
//! The real server sets many more defaults. These are the ones that affect behaviour (a pod's restart policy, a Job's
//! completions) or server-side apply (the protocol of a port).

use serde_json::{Map, Value, json};

use crate::object::{Object, as_object, object_at, text};

/// Field selectors of a built-in kind beyond `metadata.name` and `metadata.namespace`.
pub(crate) fn selectable(kind: &str) -> Vec<String> {
    let fields: &[&str] = match kind {
        "Pod" => &["spec.nodeName", "spec.restartPolicy", "spec.serviceAccountName", "status.phase"],
        "Event" => &[
            "involvedObject.kind",
            "involvedObject.name",
            "involvedObject.namespace",
            "involvedObject.uid",
            "reason",
            "type",
        ],
        "Job" => &["status.successful"],
        "Namespace" => &["status.phase"],
        "Secret" => &["type"],
        _ => &[],
    };
    fields.iter().map(|field| field.to_string()).collect()
}

/// The defaults of a kind without any.
pub(crate) fn no_defaults(_: &mut Value) {}

pub(crate) fn pod(pod: &mut Value) {
    let spec = object_at(as_object(pod), "spec");
    pod_spec(spec, "Always");
    set(spec, "enableServiceLinks", json!(true));
    set(object_at(as_object(pod), "status"), "phase", json!("Pending"));
}

pub(crate) fn secret(secret: &mut Value) {
    set(as_object(secret), "type", json!("Opaque"));
}

pub(crate) fn namespace(namespace: &mut Value) {
    let name = namespace.name().to_string();
    set(object_at(namespace.meta_mut(), "labels"), "kubernetes.io/metadata.name", json!(name));
    if !namespace.is_deleting() {
        set(object_at(as_object(namespace), "spec"), "finalizers", json!(["kubernetes"]));
    }
    set(object_at(as_object(namespace), "status"), "phase", json!("Active"));
}

pub(crate) fn volume_claim(claim: &mut Value) {
    set(object_at(as_object(claim), "spec"), "volumeMode", json!("Filesystem"));
    set(object_at(as_object(claim), "status"), "phase", json!("Pending"));
}

pub(crate) fn service(service: &mut Value) {
    let spec = object_at(as_object(service), "spec");
    set(spec, "type", json!("ClusterIP"));
    set(spec, "sessionAffinity", json!("None"));
    set(spec, "internalTrafficPolicy", json!("Cluster"));
    set(spec, "ipFamilies", json!(["IPv4"]));
    set(spec, "ipFamilyPolicy", json!("SingleStack"));
    set(spec, "clusterIP", json!("10.96.0.1"));
    set(spec, "clusterIPs", json!(["10.96.0.1"]));
    for port in items(spec, "ports") {
        let port = as_object(port);
        set(port, "protocol", json!("TCP"));
        let target = port.get("port").cloned().unwrap_or(Value::Null);
        set(port, "targetPort", target);
    }
}

pub(crate) fn deployment(deployment: &mut Value) {
    let spec = object_at(as_object(deployment), "spec");
    set(spec, "replicas", json!(1));
    set(spec, "revisionHistoryLimit", json!(10));
    set(spec, "progressDeadlineSeconds", json!(600));
    set(
        spec,
        "strategy",
        json!({"type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}}),
    );
    template(spec, "Always");
}

pub(crate) fn stateful_set(stateful_set: &mut Value) {
    let spec = object_at(as_object(stateful_set), "spec");
    set(spec, "replicas", json!(1));
    set(spec, "revisionHistoryLimit", json!(10));
    set(spec, "podManagementPolicy", json!("OrderedReady"));
    set(spec, "updateStrategy", json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}));
    template(spec, "Always");
}

pub(crate) fn job(job: &mut Value) {
    let (uid, name) = (job.uid().to_string(), job.name().to_string());
    let spec = object_at(as_object(job), "spec");
    set(spec, "completionMode", json!("NonIndexed"));
    if !spec.contains_key("completions") && !spec.contains_key("parallelism") {
        set(spec, "completions", json!(1));
    }
    set(spec, "parallelism", json!(1));
    set(spec, "backoffLimit", json!(6));
    set(spec, "suspend", json!(false));
    set(spec, "manualSelector", json!(false));
    set(spec, "podReplacementPolicy", json!("TerminatingOrFailed"));
    template(spec, "Never");
    if uid.is_empty() {
        return;
    }
    set(spec, "selector", json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}));
    let labels = object_at(object_at(object_at(spec, "template"), "metadata"), "labels");
    for prefix in ["", "batch.kubernetes.io/"] {
        set(labels, &format!("{prefix}controller-uid"), json!(uid));
        set(labels, &format!("{prefix}job-name"), json!(name));
    }
}

fn template(spec: &mut Map<String, Value>, restart_policy: &str) {
    pod_spec(object_at(object_at(spec, "template"), "spec"), restart_policy);
}

fn pod_spec(spec: &mut Map<String, Value>, restart_policy: &str) {
    set(spec, "restartPolicy", json!(restart_policy));
    set(spec, "dnsPolicy", json!("ClusterFirst"));
    set(spec, "schedulerName", json!("default-scheduler"));
    set(spec, "securityContext", json!({}));
    set(spec, "terminationGracePeriodSeconds", json!(30));
    for found in items(spec, "volumes") {
        volume(as_object(found));
    }
    for list in ["initContainers", "containers"] {
        for container in items(spec, list) {
            let container = as_object(container);
            let image = container.get("image").map(text).unwrap_or_default();
            let latest = !image.contains('@') && (image.ends_with(":latest") || !image.contains(':'));
            set(container, "imagePullPolicy", json!(if latest { "Always" } else { "IfNotPresent" }));
            set(container, "terminationMessagePath", json!("/dev/termination-log"));
            set(container, "terminationMessagePolicy", json!("File"));
            set(container, "resources", json!({}));
            for port in items(container, "ports") {
                set(as_object(port), "protocol", json!("TCP"));
            }
            for name in ["startupProbe", "readinessProbe", "livenessProbe"] {
                if let Some(found) = container.get_mut(name) {
                    probe(as_object(found));
                }
            }
        }
    }
}

fn probe(probe: &mut Map<String, Value>) {
    for (field, value) in
        [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
    {
        set(probe, field, json!(value));
    }
    if let Some(get) = probe.get_mut("httpGet") {
        set(as_object(get), "scheme", json!("HTTP"));
    }
}

fn volume(volume: &mut Map<String, Value>) {
    for source in ["projected", "secret", "configMap", "downwardAPI"] {
        if let Some(found) = volume.get_mut(source) {
            set(as_object(found), "defaultMode", json!(0o644));
            for item in items(as_object(found), "items") {
                if let Some(field) = item.get_mut("fieldRef") {
                    set(as_object(field), "apiVersion", json!("v1"));
                }
            }
        }
    }
}

fn set(map: &mut Map<String, Value>, field: &str, value: Value) {
    if map.get(field).is_none_or(Value::is_null) {
        map.insert(field.into(), value);
    }
}

fn items<'a>(map: &'a mut Map<String, Value>, field: &str) -> &'a mut [Value] {
    map.get_mut(field).and_then(Value::as_array_mut).map(Vec::as_mut_slice).unwrap_or_default()
}
