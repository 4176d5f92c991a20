//! The scripted course of a pod.

use std::time::Duration;

use serde_json::Value;

use super::pod_status::{
    has_init_container, set_disrupted, set_evicted, set_exited, set_held_up, set_initializing, set_node_lost,
    set_rejected, set_running, set_unschedulable,
};

/// The time from a pod's creation to its first report, unless the outcome sets another.
const STARTUP: Duration = Duration::from_secs(1);
/// The time from a pod's start to its end, unless the outcome sets another.
const RUNTIME: Duration = Duration::from_secs(10);

/// The course of a pod: its start, its running time and its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodOutcome {
    end: End,
    container: Option<String>,
    startup: Duration,
    queue: Option<Duration>,
    fetch: Option<Duration>,
    runtime: Duration,
    log: Log,
}

/// The lines that a container prints, each with the time since the pod's start.
pub(crate) type Log = Vec<(Duration, String)>;

/// The last state of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    Exit { exit_code: i32, reason: String, message: String },
    Evicted { message: String, is_disruption: bool },
    Preempted,
    NodeLost,
    Rejected { reason: String, message: String },
    HeldUp { reason: String, message: String },
    Unschedulable,
    RunForever,
}

/// A report in the course of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// No node fits the pod yet.
    Queued,
    /// Its last init container runs.
    Fetching,
    Started,
    Finished,
}

/// The kubelet's action after the last report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aftermath {
    /// It waits until the pod is deleted.
    Wait,
    /// The pod is deleted, and its containers are stopped.
    Delete,
    /// The pod is deleted, and no node reports its end.
    Abandon,
}

impl PodOutcome {
    /// All containers exit with code 0. `message` is the termination message of the last one.
    pub fn succeed(message: impl Into<String>) -> Self {
        Self::new(End::Exit { exit_code: 0, reason: "Completed".into(), message: message.into() })
    }

    /// The last container exits with `exit_code`, with `reason` (a reason of the kubelet, such as `Error` or `OOMKilled`)
    /// and with its termination `message`. The others exit with code 0.
    pub fn fail(exit_code: i32, reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(End::Exit { exit_code, reason: reason.into(), message: message.into() })
    }

    /// The pod runs until its node evicts it for want of memory.
    pub fn evicted() -> Self {
        let message = "The node was low on resource: memory. ".into();
        Self::new(End::Evicted { message, is_disruption: true })
    }

    /// The pod runs until it exceeds a disk limit, and is evicted with `message`. An example is
    /// `Usage of EmptyDir volume "scratch" exceeds the limit "1Gi". `.
    pub fn disk_full(message: impl Into<String>) -> Self {
        Self::new(End::Evicted { message: message.into(), is_disruption: false })
    }

    /// The pod runs until the scheduler deletes it for a pod of higher priority.
    pub fn preempted() -> Self {
        Self::new(End::Preempted)
    }

    /// The pod runs until its node stops reporting. It is then deleted, and exists until somebody deletes it without a grace
    /// period.
    pub fn node_lost() -> Self {
        Self::new(End::NodeLost)
    }

    /// The kubelet refuses the pod, with a reason such as `OutOfcpu` or `NodeAffinity`.
    pub fn rejected(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(End::Rejected { reason: reason.into(), message: message.into() })
    }

    /// An image cannot be pulled, and the pod waits until it is deleted. With [`in_container`](Self::in_container) only
    /// that container waits, and the others run.
    pub fn image_pull_back_off() -> Self {
        Self::held_up("ImagePullBackOff", "Back-off pulling image")
    }

    /// A container cannot start for `reason`, such as `CreateContainerConfigError`, and the pod waits until it is deleted.
    /// With [`in_container`](Self::in_container) only that container waits, and the others run.
    pub fn held_up(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(End::HeldUp { reason: reason.into(), message: message.into() })
    }

    /// No node fits the pod. It waits until it is deleted.
    pub fn unschedulable() -> Self {
        Self::new(End::Unschedulable)
    }

    /// The pod becomes ready and runs until it is deleted.
    pub fn run_forever() -> Self {
        Self::new(End::RunForever)
    }

    fn new(end: End) -> Self {
        Self {
            end,
            container: None,
            startup: STARTUP,
            queue: None,
            fetch: None,
            runtime: RUNTIME,
            log: Log::new(),
        }
    }

    /// Sets the container of the message, the failure or the hold-up.
    #[must_use]
    pub fn in_container(mut self, name: impl Into<String>) -> Self {
        self.container = Some(name.into());
        self
    }

    /// Sets the time from the pod's creation to its first report.
    #[must_use]
    pub fn starting_after(mut self, startup: Duration) -> Self {
        self.startup = startup;
        self
    }

    /// Makes the pod unschedulable for some time, before a node fits.
    #[must_use]
    pub fn queued_for(mut self, queue: Duration) -> Self {
        self.queue = Some(queue);
        self
    }

    /// Makes the last init container run for some time, before the containers start.
    #[must_use]
    pub fn fetching_for(mut self, fetch: Duration) -> Self {
        self.fetch = Some(fetch);
        self
    }

    /// Sets the time from the pod's start to its end.
    #[must_use]
    pub fn running_for(mut self, runtime: Duration) -> Self {
        self.runtime = runtime;
        self
    }

    /// Sets what the containers print, each line with the time since the pod's start. All have the same log.
    #[must_use]
    pub fn printing(mut self, log: Vec<(Duration, String)>) -> Self {
        self.log = log;
        self
    }

    /// What the containers print.
    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// Sets the status that a kubelet reports for a pod started at `now` (RFC 3339).
    pub fn start(&self, pod: &mut Value, now: &str) {
        match &self.end {
            End::Unschedulable => set_unschedulable(pod, now),
            End::HeldUp { reason, message } => {
                set_held_up(pod, now, self.container.as_deref(), reason, message);
            }
            End::Rejected { reason, message } => set_rejected(pod, now, reason, message),
            _ => match self.container.as_deref().filter(|name| has_init_container(pod, name)) {
                Some(init) => set_initializing(pod, now, Some(init)),
                None => set_running(pod, now),
            },
        }
    }

    /// Whether the pod keeps the status of its start until it is deleted.
    pub fn lasts(&self) -> bool {
        matches!(self.end, End::Unschedulable | End::HeldUp { .. } | End::Rejected { .. } | End::RunForever)
    }

    /// Whether the pod's containers end by themselves.
    pub fn exits(&self) -> bool {
        matches!(self.end, End::Exit { .. })
    }

    /// Sets the status that is reported for a pod at the end of its running time, at `now` (RFC 3339).
    pub fn finish(&self, pod: &mut Value, now: &str) {
        match &self.end {
            End::Exit { exit_code, reason, message } => {
                set_exited(pod, now, self.container.as_deref(), *exit_code, reason, message);
            }
            End::Evicted { message, is_disruption } => {
                set_evicted(pod, now, message);
                if *is_disruption {
                    set_disrupted(pod, now, "TerminationByKubelet", message);
                }
            }
            End::Preempted => {
                let message = "default-scheduler: preempting to accommodate a higher priority pod";
                set_disrupted(pod, now, "PreemptionByScheduler", message);
            }
            End::NodeLost => set_node_lost(pod, now),
            End::Rejected { .. } | End::HeldUp { .. } | End::Unschedulable | End::RunForever => {}
        }
    }

    /// The reports in their order, each with the time since the one before.
    pub(super) fn stages(&self) -> Vec<(Duration, Stage)> {
        let mut stages = Vec::new();
        let mut delay = self.startup;
        for (stage, duration) in [(Stage::Queued, self.queue), (Stage::Fetching, self.fetch)] {
            if let Some(duration) = duration {
                stages.push((delay, stage));
                delay = duration;
            }
        }
        stages.push((delay, Stage::Started));
        if !self.lasts() {
            stages.push((self.runtime, Stage::Finished));
        }
        stages
    }

    /// Sets the status of one report.
    pub(super) fn report(&self, stage: Stage, pod: &mut Value, now: &str) {
        match stage {
            Stage::Queued => set_unschedulable(pod, now),
            Stage::Fetching => set_initializing(pod, now, None),
            Stage::Started => self.start(pod, now),
            Stage::Finished => self.finish(pod, now),
        }
    }

    pub(super) fn aftermath(&self) -> Aftermath {
        match self.end {
            End::Preempted => Aftermath::Delete,
            End::NodeLost => Aftermath::Abandon,
            _ => Aftermath::Wait,
        }
    }
}
