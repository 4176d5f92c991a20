//! Checks of the objects with every value that a platform team can set: [`VALUES`].
#![allow(clippy::indexing_slicing, reason = "a field that a JSON value does not have is null, not a panic")]
use anyhow::{Context as _, Result, ensure};
use mlop_api::operators;
use serde_json::{Value, json};

/// Below the repository.
pub const VALUES: &str = "xtask/src/charts/everything.yaml";

/// Each value of the file is where it belongs.
pub fn check(objects: &[Value]) -> Result<()> {
    for operator in operators::ALL {
        of_operator(objects, operator.name).with_context(|| operator.name.to_owned())?;
    }
    for object in objects.iter().filter(|object| object["kind"] != "CustomResourceDefinition") {
        let labels = &object["metadata"]["labels"];
        let mlops_own = labels["rbac.authorization.k8s.io/aggregate-to-view"] == "true"
            || labels["rbac.authorization.k8s.io/aggregate-to-edit"] == "true";
        ensure!(
            mlops_own || labels["team"] == "platform",
            "{} has no common labels",
            object["metadata"]["name"]
        );
        ensure!(labels["app.kubernetes.io/name"] != "not-this", "a common label replaces the chart's");
    }
    own_settings(
        find(objects, "Deployment", operators::TRAINING.name)?,
        find(objects, "ServiceAccount", operators::TRAINING.name)?,
    )
}

/// Settings of `global`.
fn of_operator(objects: &[Value], name: &str) -> Result<()> {
    let deployment = find(objects, "Deployment", name)?;
    let selector = deployment["spec"]["selector"]["matchLabels"].clone();
    for (pointer, value) in [
        ("/spec/replicas", json!(2)),
        ("/spec/template/metadata/labels/team", json!("platform")),
        ("/spec/template/metadata/labels/app.kubernetes.io~1name", json!(name)),
        ("/spec/template/metadata/annotations", json!({"sidecar.istio.io/inject": "false"})),
        ("/spec/template/spec/imagePullSecrets", json!([{"name": "registry"}])),
        ("/spec/template/spec/nodeSelector", json!({"kubernetes.io/os": "linux"})),
        ("/spec/template/spec/tolerations/0/key", json!("platform")),
        ("/spec/template/spec/topologySpreadConstraints/0/topologyKey", json!("topology.kubernetes.io/zone")),
        ("/spec/template/spec/topologySpreadConstraints/0/labelSelector/matchLabels", selector.clone()),
        ("/spec/template/spec/containers/0/env/2/name", json!("HTTPS_PROXY")),
        ("/spec/template/spec/containers/0/imagePullPolicy", json!("Always")),
    ] {
        holds(deployment, pointer, &value)?;
    }
    let args = super::checks::list(&deployment["spec"]["template"]["spec"]["containers"][0]["args"]);
    let endpoint = json!("--otlp-endpoint=http://collector.observability:4318");
    ensure!(args.contains(&endpoint), "no endpoint for spans: {args:?}");
    ensure!(args.last() == Some(&json!("--lease-namespace=leases")), "no further argument: {args:?}");
    ensure!(deployment["spec"]["template"]["spec"]["affinity"]["nodeAffinity"].is_object(), "no affinity");
    holds(find(objects, "PodDisruptionBudget", name)?, "/spec/selector/matchLabels", &selector)?;
    let monitor = find(objects, "PodMonitor", name)?;
    holds(monitor, "/spec/selector/matchLabels", &selector)?;
    holds(monitor, "/spec/podMetricsEndpoints/0/interval", &json!("30s"))?;
    holds(monitor, "/metadata/labels/release", &json!("prometheus"))?;
    let policy = find(objects, "NetworkPolicy", name)?;
    for (pointer, value) in [
        ("/spec/podSelector/matchLabels", selector),
        ("/spec/policyTypes", json!(["Ingress", "Egress"])),
        ("/spec/ingress/0/ports", json!([{"protocol": "TCP", "port": "health"}])),
        (
            "/spec/ingress/0/from/0/namespaceSelector/matchLabels/kubernetes.io~1metadata.name",
            json!("monitoring"),
        ),
        ("/spec/egress/0/ports", json!([{"protocol": "TCP", "port": 6443}])),
        ("/spec/egress/0/to", json!([{"ipBlock": {"cidr": "192.0.2.1/32"}}])),
        ("/spec/egress/1/ports/0/port", json!(3128)),
        ("/spec/egress/2/ports", json!([{"protocol": "TCP", "port": 4318}])),
        (
            "/spec/egress/2/to/0/namespaceSelector/matchLabels/kubernetes.io~1metadata.name",
            json!("observability"),
        ),
        ("/spec/egress/3/ports/0", json!({"protocol": "UDP", "port": 53})),
    ] {
        holds(policy, pointer, &value)?;
    }
    flow_control(objects, name)
}

/// The operator's requests, and only these, have a priority level of their own.
fn flow_control(objects: &[Value], name: &str) -> Result<()> {
    let cluster_name = format!("{name}.{}", super::NAMESPACE);
    find(objects, "PriorityLevelConfiguration", &cluster_name)?;
    let flow = find(objects, "FlowSchema", &cluster_name)?;
    holds(flow, "/spec/priorityLevelConfiguration/name", &json!(cluster_name))?;
    let subject =
        json!([{"kind": "ServiceAccount", "serviceAccount": {"name": name, "namespace": super::NAMESPACE}}]);
    holds(flow, "/spec/rules/0/subjects", &subject)
}

/// Settings of one operator, which come before those of `global`.
fn own_settings(deployment: &Value, account: &Value) -> Result<()> {
    let pod = &deployment["spec"]["template"]["spec"];
    let digest = |last| format!("@sha256:{last:064}");
    let image = pod["containers"][0]["image"].as_str().unwrap_or_default();
    ensure!(image == format!("registry.example/{}{}", operators::TRAINING.name, digest(1)), "{image}");
    let arguments = pod["containers"][0]["args"].to_string();
    let worker = operators::TRAINING.worker.unwrap_or_default();
    let worker = format!("--worker-image=registry.example/{worker}{}", digest(2));
    ensure!(arguments.contains(&worker), "{arguments}");
    for argument in ["--log-level=warn", "--log-format=text"] {
        ensure!(arguments.contains(argument), "{arguments}");
    }
    holds(deployment, "/spec/template/spec/priorityClassName", &json!("platform"))?;
    holds(deployment, "/spec/template/metadata/labels/cost-centre", &json!("training"))?;
    holds(account, "/metadata/annotations", &json!({"example.com/role": "mlop"}))
}

/// One replica needs neither a budget, which would stop node drains, nor a constraint.
pub fn single_replica(objects: &[Value]) -> Result<()> {
    for object in objects {
        ensure!(object["kind"] != "PodDisruptionBudget", "a budget for one replica");
        ensure!(
            object["spec"]["template"]["spec"]["topologySpreadConstraints"].is_null(),
            "a constraint for one replica"
        );
    }
    Ok(())
}

fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> Result<&'a Value> {
    let found = objects.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    found.with_context(|| format!("no {kind} {name}"))
}

fn holds(object: &Value, pointer: &str, value: &Value) -> Result<()> {
    let found = object.pointer(pointer).unwrap_or(&Value::Null);
    ensure!(found == value, "{}: {pointer} is {found}, not {value}", object["kind"]);
    Ok(())
}
