//! Removal of the pods and Jobs of a run that has ended.

use super::{Run, outcome::is_running, plan::Draft};
use crate::plan::Plan;
use jiff::{SignedDuration, Timestamp};
use mlop_api::{Time, status::RunStatus};

/// Time in which the pods of a run that has ended end by themselves.
const LINGER: SignedDuration = SignedDuration::from_secs(60);
/// The reason for the log.
const WHY: &str = "the time to live of its logs is over";

impl<R: Run> Draft<'_, R> {
    /// Keeps the last attempt's pod for its logs, then deletes all pods and Jobs. A Job takes its pod along.
    pub(super) fn prune(self) -> Plan<RunStatus> {
        let observed = self.observed;
        let Some(ended) = self.status.finished_at.map(Time::get) else { return Plan::idle() };
        if observed.pods.is_empty() && observed.jobs.is_empty() {
            return Plan::idle();
        }
        let due = self.prune_due(ended);
        if self.now < due {
            return self.end_stragglers(ended).requeue_at(due);
        }
        let plan = observed.jobs.iter().fold(Plan::idle(), |plan, job| plan.delete(job.as_ref(), WHY));
        observed.loose_pods().fold(plan, |plan, pod| plan.delete(pod, WHY))
    }

    /// Ends the pods that still run a while after the run ended at `ended`: a worker whose leader has published, or one
    /// that an operator was to end which has ended itself.
    fn end_stragglers(&self, ended: Timestamp) -> Plan<RunStatus> {
        let pods = self.observed.pods.iter().map(AsRef::as_ref);
        let mut stragglers = pods.filter(|pod| is_running(pod, self.now)).peekable();
        let due = ended.checked_add(LINGER).unwrap_or(ended);
        if stragglers.peek().is_some() && self.now < due {
            return Plan::idle().requeue_at(due);
        }
        stragglers.fold(Plan::idle(), |plan, pod| plan.delete(pod, "its run has ended"))
    }
}
