//! Checks of the objects that a chart installs.
#![allow(clippy::indexing_slicing, reason = "a field that a JSON value does not have is null, not a panic")]
use anyhow::{Context as _, Result, ensure};
use mlop_api::operators::{self, Operator};
use serde_json::{Value, json};

/// Pods are restricted and permissions are narrow.
pub fn safe(objects: &[Value]) -> Result<()> {
    let pods: Vec<_> = objects.iter().filter_map(|object| Some((object, pod(object)?))).collect();
    ensure!(!pods.is_empty(), "there is no pod template to check");
    for (object, pod) in pods {
        restricted(pod).map_err(|e| e.context(name(object)))?;
    }
    let roles: Vec<_> = objects.iter().filter(|object| object["rules"].is_array()).collect();
    ensure!(!roles.is_empty(), "there is no role to check");
    for role in roles {
        list(&role["rules"]).iter().try_for_each(narrow).map_err(|e| e.context(name(role)))?;
    }
    Ok(())
}

/// Pod Security's level *restricted*, and a root filesystem that nobody writes.
fn restricted(pod: &Value) -> Result<()> {
    let context = &pod["securityContext"];
    ensure!(context["runAsNonRoot"] == true, "runAsNonRoot is not true");
    ensure!(
        context["runAsUser"].as_u64().is_some_and(|user| user > 0),
        "runAsUser is not a user other than root"
    );
    ensure!(
        context["seccompProfile"]["type"] == "RuntimeDefault",
        "the seccomp profile is not RuntimeDefault"
    );
    for field in ["hostNetwork", "hostPID", "hostIPC", "volumes"] {
        ensure!(pod[field].is_null(), "{field} is set");
    }
    for container in list(&pod["containers"]).iter().chain(list(&pod["initContainers"])) {
        let context = &container["securityContext"];
        ensure!(context["allowPrivilegeEscalation"] == false, "privileges can be escalated");
        ensure!(context["readOnlyRootFilesystem"] == true, "the root filesystem can be written");
        ensure!(context["capabilities"] == json!({"drop": ["ALL"]}), "capabilities are not all dropped");
        ensure!(context["privileged"].is_null(), "the container is privileged");
        let limits = &container["resources"];
        ensure!(
            !limits["limits"]["memory"].is_null() && !limits["requests"].is_null(),
            "memory has no limit"
        );
    }
    Ok(())
}

/// No wildcard, no Secret, and no permission that leads to others.
fn narrow(rule: &Value) -> Result<()> {
    let words = || ["apiGroups", "resources", "verbs"].into_iter().flat_map(|field| list(&rule[field]));
    ensure!(words().all(|word| word.as_str().is_some_and(|word| !word.contains('*'))), "a wildcard: {rule}");
    ensure!(rule["nonResourceURLs"].is_null(), "URLs: {rule}");
    let forbidden = [
        "secrets",
        "pods/exec",
        "pods/attach",
        "serviceaccounts",
        "serviceaccounts/token",
        "nodes",
        "escalate",
        "bind",
        "impersonate",
    ];
    for word in forbidden {
        ensure!(words().all(|found| found != word), "{word}: {rule}");
    }
    Ok(())
}

/// Resources without a namespace, which no RoleBinding can give.
const CLUSTER_SCOPED: [&str; 3] = ["namespaces", "trainingqueues", "trainingqueues/status"];

/// The operator's permissions are bound for the whole cluster.
pub fn cluster_wide(objects: &[Value]) -> Result<()> {
    let bound = of_kind(objects, "ClusterRoleBinding").filter(|binding| !is_hook(binding));
    ensure!(bound.count() == 1, "want one ClusterRoleBinding");
    Ok(())
}

/// Permissions are bound in `namespaces` and, for the lease, in the operator's own. Policies hold there only. The hooks have
/// rules of their own: [`hooks`].
pub fn only_in(objects: &[Value], own: &str, namespaces: &[&str]) -> Result<()> {
    for binding in of_kind(objects, "ClusterRoleBinding").filter(|binding| !is_hook(binding)) {
        let role = of_kind(objects, "ClusterRole")
            .find(|role| role["metadata"]["name"] == binding["roleRef"]["name"])
            .with_context(|| format!("{} has no role", name(binding)))?;
        let resources = list(&role["rules"]).iter().flat_map(|rule| list(&rule["resources"]));
        for resource in resources.filter_map(Value::as_str) {
            let is_cluster_scoped = CLUSTER_SCOPED.contains(&resource);
            ensure!(is_cluster_scoped, "permissions on {resource} are bound for the whole cluster");
        }
    }
    for job in of_kind(objects, "Job") {
        let listed = format!("--namespaces={}", namespaces.join(","));
        let args = list(&job["spec"]["template"]["spec"]["containers"][0]["args"]);
        ensure!(args.iter().any(|arg| *arg == json!(listed)), "{} works everywhere", name(job));
    }
    for namespace in namespaces {
        let bound =
            of_kind(objects, "RoleBinding").any(|binding| binding["metadata"]["namespace"] == *namespace);
        ensure!(bound, "no permissions in {namespace}");
    }
    for binding in of_kind(objects, "RoleBinding") {
        let place = binding["metadata"]["namespace"].as_str().unwrap_or(own);
        ensure!(
            place == own || namespaces.contains(&place),
            "{} gives permissions in {place}",
            name(binding)
        );
    }
    for binding in of_kind(objects, "ValidatingAdmissionPolicyBinding") {
        let selected =
            &binding["spec"]["matchResources"]["namespaceSelector"]["matchExpressions"][0]["values"];
        ensure!(*selected == json!(namespaces), "{} holds in {selected}", name(binding));
    }
    Ok(())
}

/// The hooks of an operator's chart may do what their purpose needs, and nothing of them stays: the test reads two objects, and
/// the finalizers of some kinds are taken off after an uninstall.
pub fn hooks(objects: &[Value], operator: &Operator) -> Result<()> {
    let read = |group, resource| json!({"apiGroups": [group], "resources": [resource], "resourceNames": [operator.name], "verbs": ["get"]});
    let test = json!([read("apps", "deployments"), read("coordination.k8s.io", "leases")]);
    hook(objects, "test", &["ServiceAccount", "Role", "RoleBinding", "Pod"], &test)?;
    let release = json!([{
        "apiGroups": [mlop_api::GROUP],
        "resources": operator.finalized_resources(),
        "verbs": ["get", "list", "patch"],
    }]);
    let kinds: &[_] = if operator.finalized.is_empty() {
        &[]
    } else {
        &["ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Job"]
    };
    hook(objects, "post-delete", kinds, &release)?;
    let events = ["test", "post-delete"];
    let other = objects.iter().find(|object| is_hook(object) && !events.contains(&event(object)));
    ensure!(other.is_none(), "another hook: {other:?}");
    Ok(())
}

/// The hooks of `event` are objects of these `kinds`, the last of which runs, and their role has these `rules`.
fn hook(objects: &[Value], of: &str, kinds: &[&str], rules: &Value) -> Result<()> {
    let hooks: Vec<_> = objects.iter().filter(|object| event(object) == of).collect();
    let found: Vec<_> = hooks.iter().filter_map(|hook| hook["kind"].as_str()).collect();
    ensure!(found == kinds, "the hooks of {of} are {found:?}, not {kinds:?}");
    for hook in &hooks {
        let annotation = |key: &str| hook["metadata"]["annotations"][key].as_str().unwrap_or_default();
        let policy = annotation("helm.sh/hook-delete-policy");
        ensure!(policy == "before-hook-creation,hook-succeeded", "{} stays", name(hook));
        let runs = pod(hook).is_some();
        let weight = if runs { "0" } else { "-1" };
        ensure!(annotation("helm.sh/hook-weight") == weight, "{} comes in another order", name(hook));
        ensure!(!runs || !hook["spec"]["activeDeadlineSeconds"].is_null(), "{} has no deadline", name(hook));
        ensure!(hook["rules"].is_null() || hook["rules"] == *rules, "{} may do more: {hook}", name(hook));
    }
    Ok(())
}

/// Every image, the workers' too, is from `registry`.
pub fn images_from(objects: &[Value], registry: &str) -> Result<()> {
    for pod in objects.iter().filter_map(pod) {
        let container = &pod["containers"][0];
        ensure!(container["image"].as_str().is_some_and(|image| image.starts_with(registry)), "{container}");
    }
    for object in of_kind(objects, "Deployment") {
        if operators::named(object["metadata"]["name"].as_str().unwrap_or_default())
            .is_some_and(|operator| operator.worker.is_none())
        {
            continue;
        }
        let container = &object["spec"]["template"]["spec"]["containers"][0];
        let worker = format!("--worker-image={registry}");
        let argument =
            list(&container["args"]).iter().filter_map(Value::as_str).any(|arg| arg.starts_with(&worker));
        ensure!(argument, "{container}");
    }
    Ok(())
}

/// The kinds are all there, as generated, and outlive the release.
pub fn definitions_stay(objects: &[Value]) -> Result<()> {
    let kinds = mlop_api::kinds::all();
    ensure!(
        of_kind(objects, "CustomResourceDefinition").count() == kinds.len(),
        "want {} definitions",
        kinds.len()
    );
    for definition in of_kind(objects, "CustomResourceDefinition") {
        let policy = &definition["metadata"]["annotations"]["helm.sh/resource-policy"];
        ensure!(policy == "keep", "{} goes with the release", name(definition));
        let found = kinds
            .iter()
            .any(|kind| serde_json::to_value(&kind.spec).is_ok_and(|spec| spec == definition["spec"]));
        ensure!(found, "{} is not as generated: cargo xtask generate", name(definition));
    }
    Ok(())
}

/// The kinds and the users' roles are another release's.
pub fn no_definitions(objects: &[Value]) -> Result<()> {
    let kinds = of_kind(objects, "CustomResourceDefinition").map(name);
    let roles = of_kind(objects, "ClusterRole").map(name).filter(|name| name.contains("mlop-view"));
    let found: Vec<String> = kinds.chain(roles).collect();
    ensure!(found.is_empty(), "these belong to the release that installs the kinds: {}", found.join(", "));
    Ok(())
}

fn of_kind<'a>(objects: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    objects.iter().filter(move |object| object["kind"] == kind)
}

/// The spec of the pods of `object`, or of the pod that it is.
fn pod(object: &Value) -> Option<&Value> {
    let template = &object["spec"]["template"]["spec"];
    let pod = if object["kind"] == "Pod" { &object["spec"] } else { template };
    (!pod.is_null()).then_some(pod)
}

/// The point of the release's life at which Helm creates `object`; empty if it comes with the release.
fn event(object: &Value) -> &str {
    object["metadata"]["annotations"]["helm.sh/hook"].as_str().unwrap_or_default()
}

/// Whether Helm creates `object` at a point of the release's life, and not with the release.
fn is_hook(object: &Value) -> bool {
    !event(object).is_empty()
}

/// The items of a list; none if it is not one.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn name(object: &Value) -> String {
    format!("{} {}", object["kind"], object["metadata"]["name"])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(group: &str, resource: &str, verb: &str) -> Value {
        json!({"apiGroups": [group], "resources": [resource], "verbs": [verb]})
    }

    #[test]
    fn wide_permissions_are_refused() {
        assert!(narrow(&rule("apps", "deployments", "get")).is_ok());
        for (group, resource, verb) in [
            ("*", "deployments", "get"),
            ("apps", "*", "get"),
            ("apps", "*/status", "get"),
            ("apps", "deployments", "*"),
            ("", "secrets", "get"),
            ("", "pods/exec", "create"),
            ("rbac.authorization.k8s.io", "roles", "escalate"),
        ] {
            assert!(narrow(&rule(group, resource, verb)).is_err(), "{group} {resource} {verb}");
        }
    }

    #[test]
    fn unrestricted_pods_are_refused() {
        let good = json!({
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "securityContext": {
                    "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
                },
                "resources": {"requests": {"cpu": "10m"}, "limits": {"memory": "64Mi"}},
            }],
        });
        assert!(restricted(&good).is_ok());
        for (path, value) in [
            ("/securityContext/runAsUser", json!(0)),
            ("/securityContext/runAsNonRoot", json!(false)),
            ("/securityContext/seccompProfile/type", json!("Unconfined")),
            ("/containers/0/securityContext/readOnlyRootFilesystem", json!(false)),
            ("/containers/0/securityContext/allowPrivilegeEscalation", json!(true)),
            ("/containers/0/securityContext/capabilities", json!({"drop": ["NET_RAW"]})),
            ("/containers/0/resources/limits", json!({})),
        ] {
            let mut bad = good.clone();
            *bad.pointer_mut(path).unwrap() = value;
            assert!(restricted(&bad).is_err(), "{path}");
        }
        let mut bad = good;
        bad["hostNetwork"] = json!(true);
        assert!(restricted(&bad).is_err());
    }
}
