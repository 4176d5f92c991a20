//! The order in which an intent's decision is made.

use super::{
    Intent, Observed, activation, decide::decide, late_result::find_late_result, status::Draft, step::Step,
};
use crate::plan::Plan;
use jiff::Timestamp;
use mlop_api::status::IntentStatus;

/// Decides the next step of an intent.
///
/// 1. `decide` derives the step from the inputs, the runs and the pods.
/// 2. `restore_published` may replace the step. It comes second because it applies to steps at rest only: an
///    activation that nobody wants any more must not stay active while the intent waits for something else.
/// 3. `find_late_result` needs the final step. A result that the step already publishes is not late.
/// 4. `render` writes the late result into the status before the step. Its revision is the lower one.
pub fn plan<I: Intent>(observed: &Observed<I>, now: Timestamp) -> Plan<IntentStatus> {
    if observed.is_being_deleted() {
        return Plan::idle();
    }
    let (decided, findings) = decide(observed, now);
    let step = restore_published(observed, &decided, now).unwrap_or(decided);
    let late = find_late_result(observed, &step, &findings);
    Draft::new(observed, now).render(step, late, findings)
}

/// Activates the published result again if a pod may have brought another one to the external system since, such as a
/// pin that was taken back on its way.
fn restore_published<I: Intent>(observed: &Observed<I>, step: &Step<I>, now: Timestamp) -> Option<Step<I>> {
    let rests = matches!(
        step,
        Step::Blocked { .. } | Step::Paused { .. } | Step::Dead { .. } | Step::Rejected { .. }
    );
    let artifact = observed.status()?.artifact.as_ref()?;
    if !rests || !activation::another_may_be_active(observed) {
        return None;
    }
    Some(super::decide::use_result(observed, observed.run_named(&artifact.run)?, now))
}
