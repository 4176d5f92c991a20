//! The pod statuses that a kubelet and a scheduler write.

use serde_json::{Value, json};

use crate::object::{array, text};

/// The way in which a pod ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    Succeed { message: String },
    Fail { exit_code: i32, reason: String, message: String },
    Evicted,
    ImagePullBackOff,
    Unschedulable,
    Never,
}

fn set_condition(pod: &mut Value, condition_type: &str, status: bool, reason: &str, now: &str) {
    let mut condition = json!({"type": condition_type, "status": if status { "True" } else { "False" },
        "lastTransitionTime": now});
    if !reason.is_empty() {
        condition["reason"] = json!(reason);
    }
    let mut conditions = array(&pod["status"]["conditions"]).to_vec();
    conditions.retain(|other| other["type"] != condition_type);
    conditions.push(condition);
    pod["status"]["conditions"] = json!(conditions);
}

/// Sets the status of every container in `spec.<list>` to that of `status`.
fn set_container_statuses(pod: &mut Value, list: &str, field: &str, status: impl Fn(&str) -> Value) {
    let containers = array(&pod["spec"][list]).to_vec();
    if containers.is_empty() {
        return;
    }
    let statuses: Vec<Value> = containers
        .iter()
        .map(|container| {
            let mut status = status(text(&container["name"]));
            status["name"] = container["name"].clone();
            status["image"] = container.get("image").cloned().unwrap_or_else(|| json!(""));
            status["imageID"] = json!("");
            status["restartCount"] = json!(0);
            status
        })
        .collect();
    pod["status"][field] = json!(statuses);
}

pub(super) fn set_unschedulable(pod: &mut Value, now: &str) {
    set_condition(pod, "PodScheduled", false, "Unschedulable", now);
}

fn set_scheduled(pod: &mut Value, now: &str) {
    pod["spec"]["nodeName"] = json!("node-0");
    pod["status"]["startTime"] = json!(now);
    set_condition(pod, "PodScheduled", true, "", now);
}

/// A pod that cannot pull its images.
pub(super) fn set_image_pull_back_off(pod: &mut Value, now: &str) {
    set_scheduled(pod, now);
    let status = |_: &str| {
        json!({"ready": false, "started": false, "state": {"waiting": {"reason": "ImagePullBackOff",
            "message": "Back-off pulling image"}}})
    };
    set_container_statuses(pod, "containers", "containerStatuses", status);
    set_condition(pod, "Ready", false, "ContainersNotReady", now);
}

/// A pod whose init containers have ended and whose containers are ready.
pub(super) fn set_running(pod: &mut Value, now: &str) {
    set_scheduled(pod, now);
    pod["status"]["phase"] = json!("Running");
    let done = json!({"exitCode": 0, "reason": "Completed", "startedAt": now, "finishedAt": now});
    set_container_statuses(
        pod,
        "initContainers",
        "initContainerStatuses",
        |_| json!({"ready": true, "started": false, "state": {"terminated": done}}),
    );
    set_container_statuses(
        pod,
        "containers",
        "containerStatuses",
        |_| json!({"ready": true, "started": true, "state": {"running": {"startedAt": now}}}),
    );
    set_condition(pod, "Initialized", true, "", now);
    set_condition(pod, "ContainersReady", true, "", now);
    set_condition(pod, "Ready", true, "", now);
}

/// A pod that has ended by itself. The message and the failure belong to `container`, or to the last one.
pub(super) fn set_ended(pod: &mut Value, now: &str, end: &End, container: Option<&str>) {
    let started = pod["status"]["startTime"].clone();
    let last = array(&pod["spec"]["containers"]).last().map(|last| text(&last["name"]).to_string());
    let named = container.map(str::to_string).or(last).unwrap_or_default();
    let (exit_code, reason, message) = match end {
        End::Succeed { message } => (0, "Completed", message.as_str()),
        End::Fail { exit_code, reason, message } => (*exit_code, reason.as_str(), message.as_str()),
        End::Evicted => (137, "Error", ""),
        End::ImagePullBackOff | End::Unschedulable | End::Never => return,
    };
    let terminated = |name: &str| {
        let own = name == named;
        let mut state = json!({"exitCode": if own { exit_code } else { 0 },
            "reason": if own { reason } else { "Completed" }, "startedAt": started, "finishedAt": now});
        if own && !message.is_empty() {
            state["message"] = json!(message);
        }
        json!({"ready": false, "started": false, "state": {"terminated": state}})
    };
    let in_init = array(&pod["spec"]["initContainers"]).iter().any(|init| text(&init["name"]) == named);
    if in_init {
        set_container_statuses(pod, "initContainers", "initContainerStatuses", terminated);
        let waiting =
            json!({"ready": false, "started": false, "state": {"waiting": {"reason": "PodInitializing"}}});
        set_container_statuses(pod, "containers", "containerStatuses", |_| waiting.clone());
    } else {
        set_container_statuses(pod, "containers", "containerStatuses", terminated);
    }
    pod["status"]["phase"] = json!(if exit_code == 0 { "Succeeded" } else { "Failed" });
    if *end == End::Evicted {
        pod["status"]["reason"] = json!("Evicted");
        pod["status"]["message"] = json!("The node was low on resource: memory.");
        set_condition(pod, "DisruptionTarget", true, "TerminationByKubelet", now);
    }
    let why = if exit_code == 0 { "PodCompleted" } else { "PodFailed" };
    set_condition(pod, "Ready", false, why, now);
    set_condition(pod, "ContainersReady", false, why, now);
}
