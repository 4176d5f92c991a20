//! The scripted outcome of a pod.

use std::time::Duration;

use serde_json::Value;

use super::pod_status::{End, set_ended, set_image_pull_back_off, set_running, set_unschedulable};

/// The time from a pod's creation to its start, unless the outcome sets another.
const STARTUP: Duration = Duration::from_secs(1);
/// The time from a pod's start to its end, unless the outcome sets another.
const RUNTIME: Duration = Duration::from_secs(10);

/// The course of a pod: its start, its running time and its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodOutcome {
    end: End,
    container: Option<String>,
    pub(super) startup: Duration,
    pub(super) runtime: Duration,
}

impl PodOutcome {
    /// All containers exit with code 0. `message` is the termination message of the last one.
    pub fn succeed(message: impl Into<String>) -> Self {
        Self::new(End::Succeed { message: message.into() })
    }

    /// The last container exits with `exit_code`, with `reason` (a reason of the kubelet, such as `Error` or `OOMKilled`)
    /// and with its termination `message`. The others exit with code 0.
    pub fn fail(exit_code: i32, reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(End::Fail { exit_code, reason: reason.into(), message: message.into() })
    }

    /// The pod runs until its node evicts it.
    pub fn evicted() -> Self {
        Self::new(End::Evicted)
    }

    /// The pod is scheduled, but its images cannot be pulled. It waits until it is deleted.
    pub fn image_pull_back_off() -> Self {
        Self::new(End::ImagePullBackOff)
    }

    /// No node fits the pod. It waits until it is deleted.
    pub fn unschedulable() -> Self {
        Self::new(End::Unschedulable)
    }

    /// The pod becomes ready and runs until it is deleted.
    pub fn run_forever() -> Self {
        Self::new(End::Never)
    }

    fn new(end: End) -> Self {
        Self { end, container: None, startup: STARTUP, runtime: RUNTIME }
    }

    /// Sets the container of the message or the failure, instead of the last one.
    #[must_use]
    pub fn in_container(mut self, name: impl Into<String>) -> Self {
        self.container = Some(name.into());
        self
    }

    /// Sets the time from the pod's creation to its start.
    #[must_use]
    pub fn starting_after(mut self, startup: Duration) -> Self {
        self.startup = startup;
        self
    }

    /// Sets the time from the pod's start to its end.
    #[must_use]
    pub fn running_for(mut self, runtime: Duration) -> Self {
        self.runtime = runtime;
        self
    }

    /// Sets the status that a kubelet reports for a pod started at `now` (RFC 3339).
    pub fn start(&self, pod: &mut Value, now: &str) {
        match self.end {
            End::Unschedulable => set_unschedulable(pod, now),
            End::ImagePullBackOff => set_image_pull_back_off(pod, now),
            _ => set_running(pod, now),
        }
    }

    /// Whether the pod keeps the status of its start until it is deleted.
    pub fn lasts(&self) -> bool {
        matches!(self.end, End::Unschedulable | End::ImagePullBackOff | End::Never)
    }

    /// Sets the status that a kubelet reports for a pod that ended by itself at `now` (RFC 3339).
    pub fn finish(&self, pod: &mut Value, now: &str) {
        set_ended(pod, now, &self.end, self.container.as_deref());
    }
}
