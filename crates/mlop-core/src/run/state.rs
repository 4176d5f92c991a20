//! The state of a run as its intent reads it.

use super::RunResource;
use crate::condition;
use mlop_api::{Reason, contract::condition_type, status::AttemptFailure};

/// State of a run.
#[derive(Clone, Debug, PartialEq)]
pub enum RunState {
    /// It has not ended. The reason and message say what holds it up, if anything does.
    Active(Option<(Reason, String)>),
    Succeeded,
    /// Its budget of attempts is used up.
    Dead(Reason, String),
}

/// What an active run repeats, for its intent: the attempt that is under way, and the failure of the one before it. None for
/// a first attempt.
///
/// It changes with the attempts only, so it costs no write of its own.
pub fn repetition<R: RunResource>(run: &R) -> Option<String> {
    let status = run.status()?;
    // The failure of an earlier spec is forgotten by the next reconcile of the run.
    condition::get(&status.conditions, condition_type::SUCCEEDED).filter(|it| it.status == "Unknown")?;
    let failed = failed_attempt(status.failure.as_ref()?);
    let attempt = status.attempts.saturating_add(1);
    let last = status.budget_start.saturating_add(run.execution().retry.limit).max(attempt);
    Some(format!("attempt {attempt} of {last} is under way; {failed}"))
}

/// A failed attempt in words.
pub(super) fn failed_attempt(failure: &AttemptFailure) -> String {
    let AttemptFailure { attempt, reason, message, .. } = failure;
    format!("attempt {attempt} failed: {reason}: {message}")
}

/// Reads a run's conditions. A failure of an earlier spec does not count.
pub fn run_state<R: RunResource>(run: &R) -> RunState {
    let conditions = run.status().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let Some(succeeded) = condition::get(conditions, condition_type::SUCCEEDED) else {
        return RunState::Active(None);
    };
    let reason = succeeded.reason.parse().unwrap_or(Reason::WorkerFailed);
    match succeeded.status.as_str() {
        "True" => RunState::Succeeded,
        "False" if succeeded.observed_generation == run.meta().generation => {
            RunState::Dead(reason, succeeded.message.clone())
        }
        "Unknown" if !matches!(reason, Reason::Pending | Reason::Running) => {
            RunState::Active(Some((reason, succeeded.message.clone())))
        }
        _ => RunState::Active(None),
    }
}
