//! The containers of a pod, and the reason that they do not start.

use crate::resource::PodView;
use k8s_openapi::api::core::v1::{
    ContainerStateRunning, ContainerStateTerminated, ContainerStatus, PodCondition,
};
use mlop_api::{Reason, labels, text::clause};

/// The statuses of all containers, init containers first.
pub(super) fn statuses(pod: &PodView) -> impl Iterator<Item = &ContainerStatus> {
    let init = pod.status.init_container_statuses.iter().flatten();
    init.chain(pod.status.container_statuses.iter().flatten())
}

pub(super) fn named<'a>(pod: &'a PodView, name: &str) -> Option<&'a ContainerStatus> {
    statuses(pod).find(|status| status.name == name)
}

/// Our init containers.
pub(super) fn init_containers(pod: &PodView) -> impl Iterator<Item = &ContainerStatus> {
    [labels::COPY_CONTAINER, labels::FETCH_CONTAINER].into_iter().filter_map(|name| named(pod, name))
}

pub(super) fn worker(pod: &PodView) -> Option<&ContainerStatus> {
    named(pod, labels::WORKER_CONTAINER)
}

pub(super) fn condition<'a>(pod: &'a PodView, kind: &str) -> Option<&'a PodCondition> {
    pod.status.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

pub(super) fn terminated(status: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    status.state.as_ref().and_then(|state| state.terminated.as_ref())
}

pub(super) fn running(status: &ContainerStatus) -> Option<&ContainerStateRunning> {
    status.state.as_ref().and_then(|state| state.running.as_ref())
}

/// The error itself. The kubelet alternates between it and a backoff message that quotes it.
pub(super) fn pull_error(message: &str) -> &str {
    message.split_once("ErrImagePull: ").map_or(message, |(_, error)| error)
}

/// The problem that keeps the pod from starting.
pub(super) fn hold_up(pod: &PodView) -> Option<(Reason, String)> {
    let unscheduled = condition(pod, "PodScheduled").filter(|condition| condition.status == "False");
    match unscheduled.and_then(|condition| condition.reason.as_deref()) {
        Some("Unschedulable") => {
            let message = unscheduled.and_then(|condition| condition.message.as_deref()).unwrap_or_default();
            return Some((Reason::Unschedulable, clause(message).to_owned()));
        }
        Some("SchedulingGated") => {
            let message = "the pod has a scheduling gate: a queue has not admitted it yet".to_owned();
            return Some((Reason::Unschedulable, message));
        }
        _ => {}
    }
    statuses(pod).find_map(|status| {
        let waiting = status.state.as_ref()?.waiting.as_ref()?;
        let message = clause(waiting.message.as_deref().unwrap_or_default());
        match waiting.reason.as_deref()? {
            "ErrImagePull"
            | "ImagePullBackOff"
            | "InvalidImageName"
            | "ErrImageNeverPull"
            | "ImageInspectError"
            | "RegistryUnavailable" => Some((
                Reason::ImagePull,
                format!("image {} of container {}: {}", status.image, status.name, pull_error(message)),
            )),
            "CreateContainerConfigError" | "CreateContainerError" => {
                // A user that is root, or a runtime that does not answer, is no missing Secret.
                let names_key =
                    ["secret", "configmap"].iter().any(|kind| message.to_lowercase().contains(kind));
                let reason = if names_key { Reason::SecretMissing } else { Reason::PodRefused };
                Some((reason, format!("container {} cannot be created: {message}", status.name)))
            }
            _ => None,
        }
    })
}
