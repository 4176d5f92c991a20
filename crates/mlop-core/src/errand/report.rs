//! The words of an errand for a status, and the status of a connection that is probed.

use super::{Decision, State};
use crate::{
    Blocked,
    children::connection,
    condition::{self, ConditionStatus, Conditions},
    plan::Plan,
};
use jiff::Timestamp;
use kube::Resource;
use mlop_api::{Reason, contract::condition_type, labels, result::Failure, status::ConnectionStatus};

/// The reason that an errand gives no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The problem alone, without attempts and times. It stays the same while the errand is repeated.
    pub blocked: Blocked,
    /// The problem with the attempt and the time of the next one.
    pub message: String,
    /// The work itself was tried and has failed, at this attempt or the one before.
    pub failed: bool,
}

impl Decision {
    /// The reason that there is no new answer, if anything unusual prevents one.
    pub fn trouble(&self) -> Option<Trouble> {
        let trouble = |blocked, message, failed| Some(Trouble { blocked, message, failed });
        match &self.state {
            State::Answered | State::Active { held_up: None, last: None, .. } => None,
            State::Blocked(blocked) => trouble(blocked.clone(), blocked.message.clone(), false),
            State::Active { held_up: Some((reason, message)), last, .. } => {
                trouble(Blocked::waiting(*reason, message), message.clone(), last.is_some())
            }
            State::Active { attempt, held_up: None, last: Some(failure) } => {
                let blocked = Blocked { stalled: false, ..failed(attempt.saturating_sub(1), failure) };
                let message =
                    format!("the attempt before failed: {}; attempt {attempt} is running", failure.message);
                trouble(blocked, message, true)
            }
            State::Failed { attempt, failure, disrupted, next } => {
                let (problem, next) = (&failure.message, condition::whole_second(*next));
                let message = if failure.retryable {
                    format!("attempt {attempt} failed: {problem}; the next one starts at {next}")
                } else {
                    let annotation = labels::RETRY_REQUESTED_AT;
                    format!("{problem}; it is retried at {next}, or at once by the annotation {annotation}")
                };
                trouble(failed(*attempt, failure), message, !disrupted)
            }
        }
    }
}

/// The state after `attempts` attempts, the last of which ended with `failure`.
fn failed(attempts: u32, failure: &Failure) -> Blocked {
    match failure.retryable {
        true => Blocked::repeated(attempts, failure.reason, &failure.message),
        false => Blocked::stalled(failure.reason, &failure.message),
    }
}

/// The status of a connection that is probed by `decision`'s errand. `ready` is the message after a successful probe.
///
/// `Ready` stays True while the connection is probed again, and while the platform keeps the probe from running. It is
/// False once a probe has failed. Its message is the problem alone, since everything that waits for the connection
/// repeats it: attempts and times are in `Reconciling` and `Stalled`.
pub fn report_connection<K: Resource>(
    owner: &K,
    before: Option<&ConnectionStatus>,
    address: String,
    decision: &Decision,
    ready: &str,
    now: Timestamp,
) -> Plan<ConnectionStatus> {
    let generation = owner.meta().generation.unwrap_or_default();
    let mut status = before.cloned().unwrap_or_default();
    let was_ready = connection::was_ready(owner.meta(), before);
    status.observed_generation = Some(generation);
    status.address = Some(address);
    let trouble = decision.trouble();
    let mut conditions = Conditions::new(&mut status.conditions, generation, now);
    match &trouble {
        Some(trouble) if trouble.failed => {
            conditions.set(
                condition_type::READY,
                ConditionStatus::False,
                trouble.blocked.reason,
                &trouble.blocked.message,
            );
        }
        _ if decision.answer.is_some() || was_ready => {
            conditions.set(condition_type::READY, ConditionStatus::True, Reason::Ready, ready);
        }
        Some(trouble) => {
            conditions.set(
                condition_type::READY,
                ConditionStatus::Unknown,
                trouble.blocked.reason,
                &trouble.blocked.message,
            );
        }
        None => {
            let message = "the connection is being probed";
            conditions.set(condition_type::READY, ConditionStatus::Unknown, Reason::Probing, message);
        }
    }
    let is_ready = decision.answer.is_some() || was_ready;
    match trouble {
        Some(trouble) if trouble.blocked.stalled => {
            conditions.stalled(trouble.blocked.reason, &trouble.message)
        }
        Some(trouble) => conditions.reconciling(trouble.blocked.reason, &trouble.message),
        None if is_ready => conditions.settled(),
        None => conditions.reconciling(Reason::Probing, "the connection is being probed"),
    }
    Plan::report(status)
}
