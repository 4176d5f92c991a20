//! The outcome of a pod, read from its status.

use crate::resource::PodView;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStateRunning, ContainerStateTerminated, ContainerStatus};
use mlop_api::{
    Reason, labels,
    progress::{Checkpoint, Report},
    result::{Failure, ResultDocument},
    text::clause,
};

mod containers;
mod trouble;

use containers::{condition, hold_up, init_containers, named, running, statuses, terminated, worker};
use trouble::crash_loop;
pub use trouble::trouble;

/// Time after the end of a deleted pod's grace period until it counts as lost.
const LOST_MARGIN: SignedDuration = SignedDuration::from_secs(60);
/// The reason of a pod that its `activeDeadlineSeconds` has ended.
const DEADLINE: &str = "DeadlineExceeded";

/// The outcome of an attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It has not started. The reason and message say what holds it up, if anything unusual does.
    Starting(Option<(Reason, String)>),
    Running,
    Succeeded(Box<ResultDocument>),
    Failed(Ended),
}

/// The end of a pod that has failed.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    pub failure: Failure,
    /// The platform removed the pod. It does not count against the budget of attempts.
    pub disrupted: bool,
    pub checkpoint: Option<Box<Checkpoint>>,
    /// The last progress of the work.
    pub progress: Option<Box<Report>>,
}

impl Ended {
    fn of(reason: Reason, message: impl Into<String>, retryable: bool) -> Self {
        Self::new(Failure { retryable, ..Failure::terminal(reason, message) })
    }

    /// The work has failed.
    pub(crate) fn new(failure: Failure) -> Self {
        Self { failure, disrupted: false, checkpoint: None, progress: None }
    }

    /// The platform has ended it.
    pub(crate) fn disrupted(reason: Reason, message: impl Into<String>) -> Self {
        Self { disrupted: true, ..Self::of(reason, message, true) }
    }
}

/// Reads the outcome of `pod` from its status.
///
/// The containers of mlop count, by their names. One that something else has injected, as a sidecar or as an init
/// container, can keep the others from starting, but not change what they do.
pub fn of(pod: &PodView) -> Outcome {
    match pod.status.phase.as_deref() {
        Some("Succeeded" | "Failed") => ended(pod),
        // The worker ends last: it reports the result of the whole pod.
        _ if worker(pod).and_then(terminated).is_some() => ended(pod),
        _ if has_started(pod) => Outcome::Running,
        _ => match hold_up(pod).or_else(|| crash_loop(pod)) {
            // The kubelet starts containers one after the other, and goes on after one that cannot start.
            Some(held_up) => Outcome::Starting(Some(held_up)),
            None if fetching(pod).is_some() => Outcome::Running,
            None => Outcome::Starting(None),
        },
    }
}

/// When the pod's last container ended, or the pod's creation if no container ever ran.
pub fn ended_at(pod: &PodView) -> Option<Timestamp> {
    let ends =
        statuses(pod).filter_map(terminated).filter_map(|state| state.finished_at.as_ref()).map(|t| t.0);
    ends.max().or_else(|| pod.metadata.creation_timestamp.as_ref().map(|t| t.0))
}

/// When the time began that the pod may take to start: when it had a node and its init containers had ended. Time in a
/// queue and time for fetching inputs do not count. None before it has a node.
pub fn start_clock(pod: &PodView) -> Option<Timestamp> {
    let scheduled = condition(pod, "PodScheduled").filter(|condition| condition.status == "True")?;
    let scheduled = scheduled.last_transition_time.as_ref().map(|time| time.0);
    let init = pod.status.init_container_statuses.iter().flatten();
    let ends = init.filter_map(terminated).filter_map(|state| state.finished_at.as_ref()).map(|time| time.0);
    let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    ends.chain(scheduled).chain(created).max()
}

/// What a running pod does, as the predicate of a sentence, and since when if its status says so.
pub fn activity(pod: &PodView) -> (&'static str, Option<Timestamp>) {
    if let Some(fetching) = fetching(pod) {
        return ("fetches its inputs", fetching.started_at.as_ref().map(|at| at.0));
    }
    match ended_well(pod) {
        Some(ended) => ("publishes its output", ended.finished_at.as_ref().map(|at| at.0)),
        None => ("is under way", start_clock(pod)),
    }
}

/// Whether the user's command has ended well, and the worker of `pod` still works.
pub(crate) fn publishes(pod: &PodView) -> bool {
    ended_well(pod).is_some() && matches!(of(pod), Outcome::Running)
}

/// The end of the user's command, if it ended with 0.
fn ended_well(pod: &PodView) -> Option<&ContainerStateTerminated> {
    named(pod, labels::USER_CONTAINER).and_then(terminated).filter(|state| state.exit_code == 0)
}

/// The end that a pod is going to have which was asked to go. None if it has ended.
pub(crate) fn going(pod: &PodView) -> Option<Ended> {
    matches!(of(pod), Outcome::Starting(_) | Outcome::Running).then(|| disruption(pod))?
}

/// When the trouble of a pod that has failed or is asked to go began: at the request to go, or with its first container
/// that failed. Such times are whole seconds.
pub(crate) fn trouble_began(pod: &PodView) -> Option<Timestamp> {
    let meta = &pod.metadata;
    let grace = SignedDuration::from_secs(meta.deletion_grace_period_seconds.unwrap_or_default());
    let deleted = meta.deletion_timestamp.as_ref().and_then(|end| end.0.checked_sub(grace).ok());
    let disrupted = condition(pod, "DisruptionTarget").and_then(|it| it.last_transition_time.as_ref());
    let failed = statuses(pod).filter_map(terminated).filter(|state| state.exit_code != 0);
    let failed = failed.filter_map(|state| state.finished_at.as_ref()).map(|at| at.0);
    failed.chain(deleted).chain(disrupted.map(|at| at.0)).min().or_else(|| ended_at(pod))
}

/// The newest checkpoint that the worker of an ended pod has saved, whatever ended it.
pub fn checkpoint(pod: &PodView) -> Option<Checkpoint> {
    reported(pod)?.ok()?.checkpoint
}

/// The last progress that the worker of an ended pod has reported, whatever ended it.
pub fn progress(pod: &PodView) -> Option<Report> {
    reported(pod)?.ok()?.progress
}

/// The init container that the containers of mlop wait for, if something else has added it, such as a sidecar.
pub fn awaited(pod: &PodView) -> Option<&str> {
    let incomplete = condition(pod, "Initialized").filter(|condition| condition.status == "False")?;
    // The kubelet names them in the order in which it starts them.
    let (_, names) = incomplete.message.as_deref()?.split_once("incomplete status: [")?;
    let first = names.split([' ', ']']).next()?;
    (![labels::COPY_CONTAINER, labels::FETCH_CONTAINER].contains(&first)).then_some(first)
}

/// Why a pod did not start in time, when `held_up` is what holds it up.
pub fn delay(pod: &PodView, held_up: Option<(Reason, String)>) -> (Reason, String) {
    held_up.unwrap_or_else(|| {
        let why = match awaited(pod) {
            Some(name) => format!("its containers wait for the init container {name}"),
            None => "its containers are still being created; `kubectl describe` the pod".to_owned(),
        };
        (Reason::StartTimeout, why)
    })
}

/// When a deleted pod counts as lost, because its node should have reported its end long before. None for a pod that
/// is not deleted or has ended.
pub fn lost_at(pod: &PodView) -> Option<Timestamp> {
    let has_ended = matches!(of(pod), Outcome::Succeeded(_) | Outcome::Failed(_));
    let due = pod.metadata.deletion_timestamp.as_ref().filter(|_| !has_ended)?;
    // The API server sets the time at which the grace period ends.
    due.0.checked_add(LOST_MARGIN).ok()
}

/// The end of a pod that counts as lost.
pub fn lost() -> Ended {
    Ended::disrupted(Reason::PodLost, "the pod was deleted, and its node does not report that it has ended")
}

/// The state of the init container that fetches the inputs, while it runs.
fn fetching(pod: &PodView) -> Option<&ContainerStateRunning> {
    named(pod, labels::FETCH_CONTAINER).and_then(running)
}

/// Whether the user's container and the worker have both started once.
fn has_started(pod: &PodView) -> bool {
    let started = |status: &ContainerStatus| running(status).is_some() || terminated(status).is_some();
    worker(pod).is_some_and(started) && named(pod, labels::USER_CONTAINER).is_none_or(started)
}

fn ended(pod: &PodView) -> Outcome {
    let report = reported(pod);
    // A success stands: what ends a pod later, such as one that an injected sidecar keeps running, undoes no work.
    let has_succeeded = matches!(&report, Some(Ok(result)) if result.error.is_none());
    let other_end =
        || out_of_disk(pod).or_else(|| disruption(pod)).or_else(|| rejection(pod)).or_else(|| deadline(pod));
    let known = out_of_memory(pod).or_else(|| if has_succeeded { None } else { other_end() });
    if let Some(ended) = known {
        return Outcome::Failed(Ended {
            checkpoint: checkpoint(pod).map(Box::new),
            progress: progress(pod).map(Box::new),
            ..ended
        });
    }
    match report {
        Some(Ok(result)) => match result.error {
            Some(failure) => {
                let failure = placed(pod, failure);
                let (checkpoint, progress) = (result.checkpoint.map(Box::new), result.progress.map(Box::new));
                Outcome::Failed(Ended { failure, disrupted: false, checkpoint, progress })
            }
            None => Outcome::Succeeded(Box::new(result)),
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

/// A failure of the pod where it is, with the name of its node.
fn placed(pod: &PodView, failure: Failure) -> Failure {
    match &pod.spec.node_name {
        Some(node) if failure.reason == Reason::PreflightFailed => {
            Failure { message: format!("node {node}: {}", failure.message), ..failure }
        }
        _ => failure,
    }
}

/// The result of the worker, or of one of our own init containers that failed before it.
fn reported(pod: &PodView) -> Option<Result<ResultDocument, String>> {
    let failed_init =
        init_containers(pod).find(|status| terminated(status).is_some_and(|state| state.exit_code != 0));
    let state = failed_init.or_else(|| worker(pod)).and_then(terminated)?;
    if never_started(state) {
        return None;
    }
    let message = state.message.as_deref().filter(|text| !text.is_empty())?;
    Some(ResultDocument::from_message(message))
}

fn out_of_memory(pod: &PodView) -> Option<Ended> {
    let ours = [worker(pod), named(pod, labels::USER_CONTAINER)].into_iter().flatten();
    let mut ours = ours.chain(init_containers(pod));
    let killed = ours.find(|s| terminated(s).and_then(|t| t.reason.as_deref()) == Some("OOMKilled"))?;
    // Beside a user's container the others have limits that no field sets.
    let has_user = named(pod, labels::USER_CONTAINER).is_some();
    let remedy = if has_user && killed.name != labels::USER_CONTAINER {
        "its limit is fixed: please report this"
    } else {
        "raise spec.resources.memory"
    };
    let message = format!("container {} used more memory than its limit; {remedy}", killed.name);
    // The same work needs the same memory: a retry with the same limit cannot help.
    Some(Ended::of(Reason::OutOfMemory, message, false))
}

/// The kubelet evicts a pod that fills a volume, or exceeds the limit of ephemeral storage of the pod or of a container.
/// The same work would do so again. A node that is short of disk evicts with other words: that is a disruption.
fn out_of_disk(pod: &PodView) -> Option<Ended> {
    let message = clause(pod.status.message.as_deref().unwrap_or_default());
    let has_user = named(pod, labels::USER_CONTAINER).is_some();
    let remedy = if message.contains("EmptyDir volume") {
        if has_user { "; raise spec.scratch" } else { "" }
    } else if message.contains("ephemeral local storage") || message.contains("local ephemeral storage") {
        "; raise limits.ephemeral-storage in its PodProfile or in the LimitRange of the namespace"
    } else {
        return None;
    };
    if pod.status.reason.as_deref() != Some("Evicted") {
        return None;
    }
    let message = format!("the pod wrote more than its disk limit: {message}{remedy}");
    Some(Ended::of(Reason::OutOfDisk, message, false))
}

/// The kubelet refuses a pod that its node has no room for after all, for example after a restart of the node.
fn rejection(pod: &PodView) -> Option<Ended> {
    let reason = pod.status.reason.as_deref()?;
    let never_ran = statuses(pod).all(|status| terminated(status).is_none());
    let message = clause(pod.status.message.as_deref().unwrap_or_default());
    let refused = never_ran && pod.status.phase.as_deref() == Some("Failed") && reason != DEADLINE;
    refused.then(|| {
        Ended::disrupted(Reason::PodRefused, format!("the node refused the pod: {reason}: {message}"))
    })
}

fn deadline(pod: &PodView) -> Option<Ended> {
    let message = "the attempt took longer than its deadline; raise spec.deadline or make it faster";
    // The user's command may have saved a checkpoint that the next attempt goes on from.
    let retryable = named(pod, labels::USER_CONTAINER).is_some();
    (pod.status.reason.as_deref() == Some(DEADLINE))
        .then(|| Ended::of(Reason::DeadlineExceeded, message, retryable))
}

fn disruption(pod: &PodView) -> Option<Ended> {
    let target = condition(pod, "DisruptionTarget").filter(|condition| condition.status == "True");
    if let Some(condition) = target {
        let why = condition.message.clone().or_else(|| condition.reason.clone()).unwrap_or_default();
        let message = format!("the pod was taken off its node: {}", clause(&why));
        return Some(Ended::disrupted(Reason::Evicted, message));
    }
    match pod.status.reason.as_deref() {
        Some("Evicted" | "Preempting") => Some(Ended::disrupted(
            Reason::Evicted,
            format!("the pod was evicted: {}", clause(pod.status.message.as_deref().unwrap_or_default())),
        )),
        Some(reason @ ("NodeLost" | "Terminated" | "NodeShutdown")) => {
            Some(Ended::disrupted(Reason::PodLost, format!("the pod's node went away ({reason})")))
        }
        _ => {
            // A deletion ends the user's command by a signal, which looks like an error of the user.
            let is_final = |result: ResultDocument| result.error.is_none_or(|failure| !failure.retryable);
            let finished = reported(pod).is_some_and(|report| report.is_ok_and(is_final));
            let deleted = pod.metadata.deletion_timestamp.is_some() && !finished;
            deleted.then(|| Ended::disrupted(Reason::PodLost, "the pod was deleted before it had finished"))
        }
    }
}

/// Whether the container runtime could not start the program. The message is then the runtime's, not the program's.
fn never_started(state: &ContainerStateTerminated) -> bool {
    matches!(state.reason.as_deref(), Some("StartError" | "ContainerCannotRun"))
}

fn last_state(pod: &PodView) -> String {
    let ends = statuses(pod).filter_map(|s| terminated(s).map(|t| (s, t))).filter(|(_, t)| t.exit_code != 0);
    let texts = ends.map(|(status, state)| {
        let reason = state.reason.as_deref().unwrap_or("no reason");
        let words = state.message.as_deref().filter(|_| never_started(state));
        let words = words.map(|words| format!(": {words}")).unwrap_or_default();
        format!("container {} ended with exit code {} ({reason}){words}", status.name, state.exit_code)
    });
    let all = texts.collect::<Vec<_>>().join(", ");
    if all.is_empty() { String::new() } else { format!(": {all}") }
}

#[cfg(test)]
mod recorded;
#[cfg(test)]
mod tests;
