//! How a pod of ours stands: from its status to one word.

use crate::resource::PodView;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus};
use mlop_api::{
    Reason, labels,
    result::{Failure, ResultDocument},
};

/// How an attempt stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It has not started; with what holds it up, if anything unusual does.
    Starting(Option<(Reason, String)>),
    Running,
    Succeeded(ResultDocument),
    Failed(Ended),
}

/// A failed attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    pub failure: Failure,
    /// The platform took the pod away: costs no attempt of the user's budget.
    pub disrupted: bool,
    pub checkpoint: Option<u64>,
}

impl Ended {
    fn of(reason: Reason, message: impl Into<String>, retryable: bool) -> Self {
        Self {
            failure: Failure { retryable, ..Failure::terminal(reason, message) },
            disrupted: false,
            checkpoint: None,
        }
    }

    fn disrupted(reason: Reason, message: impl Into<String>) -> Self {
        Self { disrupted: true, ..Self::of(reason, message, true) }
    }
}

/// Reads how `pod` stands.
pub fn of(pod: &PodView) -> Outcome {
    match pod.status.phase.as_deref() {
        Some("Succeeded" | "Failed") => ended(pod),
        // The user's and our container end at different times; the result is there when ours has ended.
        _ => match worker(pod).and_then(terminated) {
            Some(state) if state.exit_code == 0 => ended(pod),
            _ if is_running(pod) => Outcome::Running,
            _ => Outcome::Starting(hold_up(pod)),
        },
    }
}

/// When the pod's last container ended; the pod's creation when no container ever ran.
pub fn ended_at(pod: &PodView) -> Option<Timestamp> {
    let ends =
        statuses(pod).filter_map(terminated).filter_map(|state| state.finished_at.as_ref()).map(|t| t.0);
    ends.max().or_else(|| pod.metadata.creation_timestamp.as_ref().map(|t| t.0))
}

fn statuses(pod: &PodView) -> impl Iterator<Item = &ContainerStatus> {
    let init = pod.status.init_container_statuses.iter().flatten();
    init.chain(pod.status.container_statuses.iter().flatten())
}

fn named<'a>(pod: &'a PodView, name: &str) -> Option<&'a ContainerStatus> {
    statuses(pod).find(|status| status.name == name)
}

fn worker(pod: &PodView) -> Option<&ContainerStatus> {
    named(pod, labels::WORKER_CONTAINER)
}

fn terminated(status: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    status.state.as_ref().and_then(|state| state.terminated.as_ref())
}

fn is_running(pod: &PodView) -> bool {
    pod.status.phase.as_deref() == Some("Running")
        || statuses(pod).any(|s| s.state.as_ref().is_some_and(|state| state.running.is_some()))
}

fn ended(pod: &PodView) -> Outcome {
    if let Some(ended) = memory(pod) {
        return Outcome::Failed(ended);
    }
    if let Some(ended) = disruption(pod) {
        return Outcome::Failed(ended);
    }
    if pod.status.reason.as_deref() == Some("DeadlineExceeded") {
        return Outcome::Failed(Ended::of(
            Reason::DeadlineExceeded,
            "the attempt took longer than its deadline; raise spec.deadline or make it faster",
            false,
        ));
    }
    match reported(pod) {
        Some(Ok(result)) => match result.error {
            Some(failure) => {
                Outcome::Failed(Ended { failure, disrupted: false, checkpoint: result.checkpoint })
            }
            None => Outcome::Succeeded(result),
        },
        Some(Err(problem)) => {
            Outcome::Failed(Ended::of(Reason::ResultMissing, format!("{problem}{}", last_state(pod)), true))
        }
        None => Outcome::Failed(Ended::of(
            Reason::ResultMissing,
            format!("the pod ended without a result{}", last_state(pod)),
            true,
        )),
    }
}

/// The result of the worker, or of an init container of ours that failed before it.
fn reported(pod: &PodView) -> Option<Result<ResultDocument, String>> {
    let failed_init = pod
        .status
        .init_container_statuses
        .iter()
        .flatten()
        .find(|status| terminated(status).is_some_and(|state| state.exit_code != 0));
    let status = failed_init.or_else(|| worker(pod))?;
    let message = terminated(status)?.message.as_deref().filter(|text| !text.is_empty())?;
    Some(ResultDocument::from_message(message))
}

fn memory(pod: &PodView) -> Option<Ended> {
    let killed =
        statuses(pod).find(|s| terminated(s).and_then(|t| t.reason.as_deref()) == Some("OOMKilled"))?;
    let message =
        format!("container {} used more memory than its limit; raise spec.resources.memory", killed.name);
    // The same work needs the same memory: trying again with the same limit is of no use.
    Some(Ended::of(Reason::OutOfMemory, message, false))
}

fn disruption(pod: &PodView) -> Option<Ended> {
    let target =
        pod.status.conditions.iter().flatten().find(|c| c.type_ == "DisruptionTarget" && c.status == "True");
    if let Some(condition) = target {
        let why = condition.message.clone().or_else(|| condition.reason.clone()).unwrap_or_default();
        return Some(Ended::disrupted(Reason::Evicted, format!("the pod was taken off its node: {why}")));
    }
    match pod.status.reason.as_deref() {
        Some("Evicted" | "Preempting") => Some(Ended::disrupted(
            Reason::Evicted,
            format!("the pod was evicted: {}", pod.status.message.as_deref().unwrap_or_default()),
        )),
        Some(reason @ ("NodeLost" | "Terminated" | "NodeShutdown")) => {
            Some(Ended::disrupted(Reason::PodLost, format!("the pod's node went away ({reason})")))
        }
        _ => {
            // A deletion ends the user's command by a signal: that is no error of the user's.
            let stands = |result: ResultDocument| result.error.is_none_or(|failure| !failure.retryable);
            let finished = reported(pod).is_some_and(|report| report.is_ok_and(stands));
            let deleted = pod.metadata.deletion_timestamp.is_some() && !finished;
            deleted.then(|| Ended::disrupted(Reason::PodLost, "the pod was deleted before it had finished"))
        }
    }
}

fn last_state(pod: &PodView) -> String {
    let ends = statuses(pod).filter_map(|s| terminated(s).map(|t| (s, t))).filter(|(_, t)| t.exit_code != 0);
    let texts = ends.map(|(s, t)| {
        format!(
            "container {} ended with exit code {} ({})",
            s.name,
            t.exit_code,
            t.reason.as_deref().unwrap_or("no reason")
        )
    });
    let all = texts.collect::<Vec<_>>().join(", ");
    if all.is_empty() { String::new() } else { format!(": {all}") }
}

/// The kubelet alternates between the error and the announcement of a pause that quotes it: the error alone stays.
fn pull_error(message: &str) -> &str {
    message.split_once("ErrImagePull: ").map_or(message, |(_, error)| error)
}

/// What keeps a pod from starting, if it is more than the usual second.
fn hold_up(pod: &PodView) -> Option<(Reason, String)> {
    let unscheduled = pod.status.conditions.iter().flatten().find(|c| {
        c.type_ == "PodScheduled" && c.status == "False" && c.reason.as_deref() == Some("Unschedulable")
    });
    if let Some(condition) = unscheduled {
        return Some((Reason::Unschedulable, condition.message.clone().unwrap_or_default()));
    }
    statuses(pod).find_map(|status| {
        let waiting = status.state.as_ref()?.waiting.as_ref()?;
        let message = waiting.message.as_deref().unwrap_or_default();
        match waiting.reason.as_deref()? {
            "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" => Some((
                Reason::ImagePull,
                format!("image {} of container {}: {}", status.image, status.name, pull_error(message)),
            )),
            "CreateContainerConfigError" | "CreateContainerError" => {
                Some((Reason::SecretMissing, format!("container {} cannot be made: {message}", status.name)))
            }
            _ => None,
        }
    })
}
