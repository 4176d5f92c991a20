//! The state of one pod of an errand, and the limits of its time.

use crate::{
    children::pod_outcome::{self, Outcome},
    plan::Action,
    resource::PodView,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use mlop_api::{
    Reason,
    result::{Failure, ResultDocument},
};

/// Time a pod may take to start once it has a node.
pub const START_TIMEOUT: SignedDuration = SignedDuration::from_mins(10);
/// Time after the deadline in which the kubelet should have ended the pod.
const MARGIN: SignedDuration = SignedDuration::from_secs(60);

/// The limits of a pod, and the fields of the owner that set them.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest time from the start of the pod's program to its end.
    pub deadline: SignedDuration,
    /// Path of the field that sets the deadline, for messages.
    pub deadline_field: Option<&'static str>,
    /// Path of the field that sets the memory limit, for messages.
    pub memory_field: Option<&'static str>,
}

/// The state of one pod.
#[derive(Clone, Debug, PartialEq)]
pub enum PodState {
    /// It has not started. The reason and message say what holds it up, if anything unusual does.
    Starting(Option<(Reason, String)>),
    Running,
    Succeeded(Box<ResultDocument>),
    /// It has failed, or its time is over. `disrupted`: the platform removed it.
    Failed {
        failure: Failure,
        disrupted: bool,
        at: Timestamp,
    },
}

impl Limits {
    /// The state of `pod`, and when time alone changes it.
    pub fn state(&self, pod: &PodView, now: Timestamp) -> (PodState, Action) {
        if let Some(at) = pod_outcome::lost_at(pod).filter(|at| *at <= now) {
            let failure = pod_outcome::lost().failure;
            return (PodState::Failed { failure, disrupted: true, at }, Action::AwaitChange);
        }
        let (state, limit) = match pod_outcome::of(pod) {
            Outcome::Succeeded(result) => return (PodState::Succeeded(result), Action::AwaitChange),
            Outcome::Failed(ended) => {
                let at = pod_outcome::ended_at(pod).unwrap_or(now);
                let failure = self.explain(ended.failure);
                let failed = PodState::Failed { failure, disrupted: ended.disrupted, at };
                return (failed, Action::AwaitChange);
            }
            Outcome::Starting(held_up) => {
                let limit =
                    pod_outcome::start_clock(pod).and_then(|begin| begin.checked_add(START_TIMEOUT).ok());
                if let Some(at) = limit.filter(|limit| *limit <= now) {
                    let failure = not_started(pod, held_up);
                    return (PodState::Failed { failure, disrupted: false, at }, Action::AwaitChange);
                }
                (PodState::Starting(held_up), limit)
            }
            Outcome::Running => {
                let allowed = self.deadline.saturating_add(MARGIN);
                let limit = started_at(pod).and_then(|begin| begin.checked_add(allowed).ok());
                if let Some(at) = limit.filter(|limit| *limit <= now) {
                    let failure = Failure::transient(Reason::DeadlineExceeded, self.too_slow());
                    return (PodState::Failed { failure, disrupted: false, at }, Action::AwaitChange);
                }
                (PodState::Running, limit)
            }
        };
        let lost = pod_outcome::lost_at(pod).map_or(Action::AwaitChange, Action::RequeueAt);
        (state, limit.map_or(Action::AwaitChange, Action::RequeueAt).or(lost))
    }

    /// Gives a new pod the deadline after which its kubelet ends it.
    pub(crate) fn bound(&self, mut pod: Pod) -> Pod {
        if let Some(spec) = &mut pod.spec {
            spec.active_deadline_seconds = Some(START_TIMEOUT.saturating_add(self.deadline).as_secs());
        }
        pod
    }

    /// The failure in the words of an errand: its limits are other fields than those of a run.
    fn explain(&self, failure: Failure) -> Failure {
        match failure.reason {
            Reason::DeadlineExceeded => Failure::transient(Reason::DeadlineExceeded, self.too_slow()),
            Reason::OutOfMemory => {
                let remedy = self.memory_field.map_or_else(
                    || "its limit is fixed: please report this".to_owned(),
                    |field| format!("raise {field}"),
                );
                let message = format!("the pod used more memory than its limit; {remedy}");
                Failure { message, ..failure }
            }
            _ => failure,
        }
    }

    fn too_slow(&self) -> String {
        let remedy = self.deadline_field.map(|field| format!("; raise {field}")).unwrap_or_default();
        format!("the pod did not end within {} s{remedy}", self.deadline.as_secs())
    }
}

fn not_started(pod: &PodView, held_up: Option<(Reason, String)>) -> Failure {
    let (reason, why) = pod_outcome::delay(pod, held_up);
    let minutes = START_TIMEOUT.as_mins();
    Failure::transient(reason, format!("the pod did not start within {minutes}m: {why}"))
}

/// When the pod's program started, or the pod's creation.
fn started_at(pod: &PodView) -> Option<Timestamp> {
    let states = pod.status.container_statuses.iter().flatten().filter_map(|status| status.state.as_ref());
    let starts = states.filter_map(|state| state.running.as_ref()?.started_at.as_ref()).map(|time| time.0);
    starts.max().or_else(|| pod.metadata.creation_timestamp.as_ref().map(|time| time.0))
}
