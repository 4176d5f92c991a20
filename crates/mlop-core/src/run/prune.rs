//! Removal of the pods and Jobs of a run that has ended.

use super::{Run, plan::Draft};
use crate::plan::Plan;
use mlop_api::{Time, status::RunStatus};

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
            return Plan::idle().requeue_at(due);
        }
        let plan = observed.jobs.iter().fold(Plan::idle(), |plan, job| plan.delete(job.as_ref(), WHY));
        observed.loose_pods().fold(plan, |plan, pod| plan.delete(pod, WHY))
    }
}
