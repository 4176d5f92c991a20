//! The queue of a run: no attempt starts before it has admitted what the attempt asks for.
//!
//! The run asks in its status, and the queue answers in a field that only the queue operator writes. The request stays until
//! the run has ended and its last pod too, so the queue counts what nodes really hold.

use super::{Observed, Run, attempt, follow::ended, plan::Draft};
use crate::{
    Blocked,
    children::pod_outcome,
    condition,
    plan::{Action, Plan},
    resource::PodView,
};
use jiff::Timestamp;
use kube::{ResourceExt, core::object::HasStatus};
use mlop_api::{
    Reason,
    contract::condition_type,
    queue::{QueueRequest, ResourceAmount, RunQueue, TrainingQueue, WAITING_MAX},
    status::RunStatus,
};

/// Positions up to this one are exact in messages. Later ones are rounded up, so that a move costs no write.
const EXACT: usize = 10;
/// Steps of the positions after them.
const STEPS: [usize; 2] = [20, WAITING_MAX];

/// The queue that a run is for.
#[derive(Clone, Copy)]
pub struct Queue<'a> {
    /// What the intent wants.
    pub wanted: &'a RunQueue,
    /// The queue, if it exists.
    pub found: Option<&'a TrainingQueue>,
}

impl<R: Run> Draft<'_, R> {
    /// Lets the next attempt start, or says what its queue must do first. A run that asks for another amount keeps its place,
    /// and is admitted again.
    pub(super) fn queue_up(&mut self) -> Result<(), Blocked> {
        let Some(Queue { wanted, found }) = R::queue(self.observed) else {
            self.status.queued = None;
            return Ok(());
        };
        if wanted.suspended && self.status.attempts == 0 {
            self.status.queued = None;
            return Err(Blocked::waiting(
                Reason::Suspended,
                format!("it is not in TrainingQueue {} because spec.suspend is true", wanted.name),
            ));
        }
        let resources = attempt::requests(self.observed, self.next_attempt(), self.avoiding())?;
        let admission = self.status.admission.as_ref();
        let since = match &self.status.queued {
            Some(before) if before.queue == wanted.name => before.since,
            _ => self.now.into(),
        };
        let request = QueueRequest { queue: wanted.name.clone(), since, resources };
        let answer = admission.filter(|admission| admission.answers(&request)).cloned();
        let words = found.map(|queue| self.position(queue, &request.resources));
        self.status.queued = Some(request);
        match (answer.map(|answer| answer.refused), words) {
            (Some(None), _) => Ok(()),
            (Some(Some(refused)), _) => Err(Blocked::stalled(Reason::QueueRefused, refused)),
            (None, Some(words)) => Err(Blocked::waiting(Reason::Queued, words)),
            (None, None) => Err(Blocked::stalled(Reason::QueueNotFound, not_found(&wanted.name))),
        }
    }

    /// Where the run waits, and for what.
    fn position(&self, queue: &TrainingQueue, resources: &[ResourceAmount]) -> String {
        let name = queue.name_any();
        let Some(status) = queue.status.as_ref().filter(|status| status.observed_generation.is_some()) else {
            return format!(
                "TrainingQueue {name} admits nothing yet: the operator mlop-queue has not seen it; is its chart installed?"
            );
        };
        let run = self.observed.object.as_ref();
        let (own, namespace) = (run.name_any(), run.namespace().unwrap_or_default());
        let mut waiting = status.waiting.iter();
        let found = waiting.position(|waiting| waiting.run == own && waiting.namespace == namespace);
        let place = match found.map(|index| index + 1) {
            Some(place @ ..=EXACT) => format!("at position {place}"),
            Some(place) => {
                let step = STEPS.into_iter().find(|step| place <= *step).unwrap_or(WAITING_MAX);
                format!("among the first {step}")
            }
            None if status.waiting.len() < WAITING_MAX => "not yet counted".to_owned(),
            None => format!("after the first {WAITING_MAX}"),
        };
        let limited = queue.spec.resources.iter().filter_map(|shared| {
            let asked = resources.iter().find(|amount| amount.name == shared.name)?;
            Some(format!("{} of {} {}", asked.quantity, shared.quota, shared.name))
        });
        let limited = limited.collect::<Vec<_>>().join(", ");
        let needs = if limited.is_empty() { String::new() } else { format!("; it needs {limited}") };
        format!("waits in TrainingQueue {name} {place}{needs}")
    }
}

fn not_found(queue: &str) -> String {
    format!(
        "TrainingQueue {queue} does not exist: name another one in spec.queue, or ask the platform team to create it"
    )
}

/// Adds to `plan` that a run which has ended, and of which no pod runs, asks its queue for nothing more.
pub(super) fn released<R: Run>(
    observed: &Observed<R>,
    plan: Plan<RunStatus>,
    now: Timestamp,
) -> Plan<RunStatus> {
    let Some(status) = plan.status.as_ref().or(observed.object.status()) else { return plan };
    let has_ended = condition::get(&status.conditions, condition_type::SUCCEEDED)
        .is_some_and(|succeeded| succeeded.status != "Unknown");
    if status.queued.is_none() || !has_ended {
        return plan;
    }
    // A Job without a pod may be about to create it.
    let is_starting = observed.pods.is_empty() && observed.jobs.iter().any(|job| ended(job).is_none());
    let present = observed.pods.iter().filter(|pod| is_present(pod, now));
    let next_loss = present.clone().filter_map(|pod| pod_outcome::lost_at(pod)).min();
    if is_starting || present.count() > 0 {
        return plan.with_action(next_loss.map_or(Action::AwaitChange, Action::RequeueAt));
    }
    let status = RunStatus { queued: None, ..status.clone() };
    Plan { status: Some(status), ..plan }
}

/// Whether a node may still have room set aside for the pod.
fn is_present(pod: &PodView, now: Timestamp) -> bool {
    let has_ended = matches!(pod.status.phase.as_deref(), Some("Succeeded" | "Failed"));
    !has_ended && pod_outcome::lost_at(pod).is_none_or(|at| now < at)
}
