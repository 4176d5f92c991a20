//! The pod statuses that a scheduler and a kubelet report, with the phases, conditions and reasons of the real ones.

use std::cmp::Ordering;

use serde_json::{Value, json};

use crate::object::{array, text};

/// The state of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Container {
    Waiting { reason: String, message: String },
    Running,
    Terminated { exit_code: i32, reason: String, message: String },
}

impl Container {
    fn waiting(reason: &str, message: &str) -> Self {
        Self::Waiting { reason: reason.into(), message: message.into() }
    }

    fn terminated(exit_code: i32, reason: &str, message: &str) -> Self {
        Self::Terminated { exit_code, reason: reason.into(), message: message.into() }
    }

    fn completed() -> Self {
        Self::terminated(0, "Completed", "")
    }
}

/// A pod that no node fits.
pub(super) fn set_unschedulable(pod: &mut Value, now: &str) {
    let message = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.";
    set_condition(pod, "PodScheduled", false, "Unschedulable", message, now);
}

/// A pod whose init container `container`, or its last one, runs.
pub(super) fn set_initializing(pod: &mut Value, now: &str, container: Option<&str>) {
    set_scheduled(pod, now);
    let last = names(pod, "initContainers").last().cloned();
    let current = container.map(str::to_string).or(last).unwrap_or_default();
    set_init_containers(pod, now, &current, &Container::Running);
    set_containers(pod, "containers", now, |_| Container::waiting("PodInitializing", ""));
    set_condition(pod, "PodReadyToStartContainers", true, "", "", now);
    set_not_ready(pod, now);
}

/// A pod whose init containers have ended and whose containers are ready.
pub(super) fn set_running(pod: &mut Value, now: &str) {
    set_initialized(pod, now);
    set_containers(pod, "containers", now, |_| Container::Running);
    set_condition(pod, "PodReadyToStartContainers", true, "", "", now);
    set_condition(pod, "Ready", true, "", "", now);
    set_condition(pod, "ContainersReady", true, "", "", now);
    pod["status"]["phase"] = json!("Running");
}

/// A pod of which `container` cannot start, or with `None` no container can. The other containers run.
pub(super) fn set_held_up(pod: &mut Value, now: &str, container: Option<&str>, reason: &str, message: &str) {
    set_initialized(pod, now);
    let is_held_up = |name: &str| container.is_none_or(|held_up| held_up == name);
    set_containers(pod, "containers", now, |name| match is_held_up(name) {
        true => Container::waiting(reason, message),
        false => Container::Running,
    });
    // The kubelet mounts volumes before it creates the sandbox.
    let has_sandbox = reason != "ContainerCreating";
    set_condition(pod, "PodReadyToStartContainers", has_sandbox, "", "", now);
    set_not_ready(pod, now);
}

/// A pod that the kubelet refuses to run.
pub(super) fn set_rejected(pod: &mut Value, now: &str, reason: &str, message: &str) {
    pod["spec"]["nodeName"] = json!(NODE);
    let message = format!("Pod was rejected: {message}");
    pod["status"] = json!({"phase": "Failed", "reason": reason, "message": message, "startTime": now});
}

/// A pod in which `container`, or the last one, has ended with this exit code, reason and message. The other containers
/// have ended with exit code 0, or never started if it is an init container.
pub(super) fn set_exited(
    pod: &mut Value,
    now: &str,
    container: Option<&str>,
    exit_code: i32,
    reason: &str,
    message: &str,
) {
    let last = names(pod, "containers").last().cloned();
    let named = container.map(str::to_string).or(last).unwrap_or_default();
    let state = |name: &str| match name == named {
        true => Container::terminated(exit_code, reason, message),
        false => Container::completed(),
    };
    if has_init_container(pod, &named) {
        set_init_containers(pod, now, &named, &state(&named));
        set_containers(pod, "containers", now, |_| Container::waiting("PodInitializing", ""));
    } else {
        set_containers(pod, "containers", now, state);
    }
    set_ended(pod, now, exit_code == 0);
}

/// A pod that the kubelet has evicted. It loses the exit code of the last container.
pub(super) fn set_evicted(pod: &mut Value, now: &str, message: &str) {
    let last = names(pod, "containers").last().cloned().unwrap_or_default();
    let lost = "The container could not be located when the pod was terminated";
    set_containers(pod, "containers", now, |name| match name == last {
        true => Container::terminated(137, "ContainerStatusUnknown", lost),
        false => Container::terminated(137, "Error", ""),
    });
    set_ended(pod, now, false);
    pod["status"]["reason"] = json!("Evicted");
    pod["status"]["message"] = json!(message);
}

/// Marks a pod as the target of a disruption: an eviction, a preemption, or the loss of its node.
pub(super) fn set_disrupted(pod: &mut Value, now: &str, reason: &str, message: &str) {
    set_condition(pod, "DisruptionTarget", true, reason, message, now);
}

/// A pod whose node no longer reports. Its containers keep their last states.
pub(super) fn set_node_lost(pod: &mut Value, now: &str) {
    set_condition(pod, "Ready", false, "NodeNotReady", "", now);
    let message = "Taint manager: deleting due to NoExecute taint";
    set_disrupted(pod, now, "DeletionByTaintManager", message);
}

/// Whether the pod has an init container of this name.
pub(super) fn has_init_container(pod: &Value, name: &str) -> bool {
    names(pod, "initContainers").iter().any(|init| init == name)
}

/// The name of the only node.
const NODE: &str = "node-0";

fn set_scheduled(pod: &mut Value, now: &str) {
    pod["spec"]["nodeName"] = json!(NODE);
    if pod["status"]["startTime"].is_null() {
        pod["status"]["startTime"] = json!(now);
    }
    set_condition(pod, "PodScheduled", true, "", "", now);
}

fn set_initialized(pod: &mut Value, now: &str) {
    set_scheduled(pod, now);
    set_containers(pod, "initContainers", now, |_| Container::completed());
    set_condition(pod, "Initialized", true, "", "", now);
}

/// Sets the state of the init container `current`. Those before it have completed, and those after it wait.
fn set_init_containers(pod: &mut Value, now: &str, current: &str, state: &Container) {
    let names = names(pod, "initContainers");
    let position = |name: &str| names.iter().position(|other| other == name);
    set_containers(pod, "initContainers", now, |name| match position(name).cmp(&position(current)) {
        Ordering::Less => Container::completed(),
        Ordering::Equal => state.clone(),
        Ordering::Greater => Container::waiting("PodInitializing", ""),
    });
    let incomplete: Vec<&str> =
        names.iter().map(String::as_str).skip_while(|name| *name != current).collect();
    let message = format!("containers with incomplete status: [{}]", incomplete.join(" "));
    set_condition(pod, "Initialized", false, "ContainersNotInitialized", &message, now);
}

/// Sets the conditions of a pod whose containers are not all ready.
fn set_not_ready(pod: &mut Value, now: &str) {
    let statuses = array(&pod["status"]["containerStatuses"]).iter();
    let unready: Vec<&str> =
        statuses.filter(|status| status["ready"] == false).map(|s| text(&s["name"])).collect();
    let message = format!("containers with unready status: [{}]", unready.join(" "));
    set_condition(pod, "Ready", false, "ContainersNotReady", &message, now);
    set_condition(pod, "ContainersReady", false, "ContainersNotReady", &message, now);
}

fn set_ended(pod: &mut Value, now: &str, succeeded: bool) {
    let (phase, reason) = if succeeded { ("Succeeded", "PodCompleted") } else { ("Failed", "PodFailed") };
    pod["status"]["phase"] = json!(phase);
    set_condition(pod, "PodReadyToStartContainers", false, "", "", now);
    if succeeded {
        set_condition(pod, "Initialized", true, reason, "", now);
    }
    set_condition(pod, "Ready", false, reason, "", now);
    set_condition(pod, "ContainersReady", false, reason, "", now);
}

/// Sets a condition. Its transition time changes only with its status.
fn set_condition(
    pod: &mut Value,
    condition_type: &str,
    status: bool,
    reason: &str,
    message: &str,
    now: &str,
) {
    let status = if status { "True" } else { "False" };
    let mut conditions = array(&pod["status"]["conditions"]).to_vec();
    let before = conditions.iter().position(|other| other["type"] == condition_type);
    let before = before.map(|at| conditions.remove(at)).filter(|before| before["status"] == status);
    let since = before.map_or(json!(now), |before| before["lastTransitionTime"].clone());
    let mut condition = json!({"type": condition_type, "status": status, "lastTransitionTime": since});
    for (field, value) in [("reason", reason), ("message", message)] {
        if !value.is_empty() {
            condition[field] = json!(value);
        }
    }
    conditions.push(condition);
    pod["status"]["conditions"] = json!(conditions);
}

fn names(pod: &Value, list: &str) -> Vec<String> {
    array(&pod["spec"][list]).iter().map(|container| text(&container["name"]).to_string()).collect()
}

/// Sets the status of every container in `spec.<list>`.
fn set_containers(pod: &mut Value, list: &str, now: &str, state: impl Fn(&str) -> Container) {
    let field = if list == "containers" { "containerStatuses" } else { "initContainerStatuses" };
    let containers = array(&pod["spec"][list]).to_vec();
    if containers.is_empty() {
        return;
    }
    let before = array(&pod["status"][field]).to_vec();
    let statuses: Vec<Value> = containers
        .iter()
        .map(|container| {
            let name = &container["name"];
            let before = before.iter().find(|status| status["name"] == *name).map(|status| &status["state"]);
            let state = state(text(name));
            let is_running = state == Container::Running;
            let is_ready = is_running || (list != "containers" && state == Container::completed());
            json!({
                "name": name, "image": container.get("image").cloned().unwrap_or_else(|| json!("")), "imageID": "",
                "restartCount": 0, "ready": is_ready, "started": is_running,
                "state": container_state(state, before, &pod["status"]["startTime"], now),
            })
        })
        .collect();
    pod["status"][field] = json!(statuses);
}

/// The `state` of a container status. Times of the earlier state are kept.
fn container_state(state: Container, before: Option<&Value>, pod_started: &Value, now: &str) -> Value {
    let before = before.unwrap_or(&Value::Null);
    let started = match &before["running"]["startedAt"] {
        Value::Null => pod_started,
        started => started,
    };
    match state {
        Container::Waiting { reason, message } if message.is_empty() => {
            json!({"waiting": {"reason": reason}})
        }
        Container::Waiting { reason, message } => json!({"waiting": {"reason": reason, "message": message}}),
        Container::Running if before["running"].is_object() => before.clone(),
        Container::Running => json!({"running": {"startedAt": now}}),
        Container::Terminated { .. } if before["terminated"].is_object() => before.clone(),
        Container::Terminated { exit_code, reason, message } => {
            let mut terminated =
                json!({"exitCode": exit_code, "reason": reason, "startedAt": started, "finishedAt": now});
            if !message.is_empty() {
                terminated["message"] = json!(message);
            }
            json!({"terminated": terminated})
        }
    }
}
