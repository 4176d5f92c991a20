//! The state of a run as its intent reads it.

use super::RunResource;
use crate::condition;
use mlop_api::{Reason, contract::condition_type};

/// State of a run.
#[derive(Clone, Debug, PartialEq)]
pub enum RunState {
    /// It has not ended. The reason and message say what holds it up, if anything does.
    Active(Option<(Reason, String)>),
    Succeeded,
    /// Its budget of attempts is used up.
    Dead(Reason, String),
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
