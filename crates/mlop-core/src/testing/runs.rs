//! States of runs.

use super::{NOW, at};
use crate::{
    Blocked,
    condition::{ConditionStatus, Conditions},
    run::RunResource,
};
use mlop_api::{
    Digest, Reason,
    contract::condition_type,
    status::{AttemptFailure, Output, RunStatus},
};

/// The run has no status yet.
pub fn active<R>(_: &mut R) {}

/// The run has succeeded at the second `at` with this summary. Equal inputs give equal results.
pub fn finish<R: RunResource>(run: &mut R, summary: &str, second: i64) {
    let digest = Digest::of_bytes(run.lineage().input_digest.as_str().as_bytes());
    let status = run.status_mut().get_or_insert_default();
    status.attempts = 1;
    status.finished_at = Some(at(second).into());
    status.output = Some(Output {
        uri: format!("s3://files/{}", digest.short(12)),
        digest,
        store: "files".into(),
        media_type: "table".into(),
        schema_digest: None,
        metrics: Vec::new(),
        summary: Some(summary.to_owned()),
        notes: Vec::new(),
        registered: None,
        activated: None,
    });
    set(run, ConditionStatus::True, Reason::Succeeded, "done");
}

/// The run has succeeded at [`NOW`].
pub fn succeeded<R: RunResource>(run: &mut R) {
    finish(run, "5", NOW);
}

/// The image of the run's pod cannot be pulled.
pub fn without_image<R: RunResource>(run: &mut R) {
    set(run, ConditionStatus::Unknown, Reason::ImagePull, "no such image");
}

/// The API server has refused the run's pod for `reason`.
pub fn refused<R: RunResource>(reason: Reason) -> impl Fn(&mut R) {
    move |run| set(run, ConditionStatus::Unknown, reason, "refused")
}

/// An attempt of the run has failed, and the next one comes.
pub fn retrying<R: RunResource>(run: &mut R) {
    run.status_mut().get_or_insert_default().attempts = 1;
    set(run, ConditionStatus::Unknown, Reason::Retrying, "attempt 1 of 3 failed");
}

/// The first attempt of the run has failed, and the second one is under way.
pub fn repeated<R: RunResource>(run: &mut R) {
    let status = run.status_mut().get_or_insert_default();
    status.attempts = 1;
    status.failure = Some(failure(1));
    set(run, ConditionStatus::Unknown, Reason::Running, "attempt 2 is under way");
}

/// The attempts of the run are used up.
pub fn dead<R: RunResource>(run: &mut R) {
    let status: &mut RunStatus = run.status_mut().get_or_insert_default();
    status.attempts = 3;
    status.finished_at = Some(at(NOW).into());
    status.failure = Some(failure(3));
    set(run, ConditionStatus::False, Reason::UserError, "exit code 1");
}

fn failure(attempt: u32) -> AttemptFailure {
    AttemptFailure {
        attempt,
        reason: "UserError".into(),
        message: "exit code 1".into(),
        retryable: true,
        at: at(NOW).into(),
        since: None,
    }
}

fn set<R: RunResource>(run: &mut R, status: ConditionStatus, reason: Reason, message: &str) {
    let generation = run.meta().generation.unwrap();
    let cause = Blocked::waiting(reason, message).cause_at(&*run);
    let reported = run.status_mut().get_or_insert_default();
    reported.cause = cause;
    Conditions::new(&mut reported.conditions, generation, at(NOW)).set(
        condition_type::SUCCEEDED,
        status,
        reason,
        message,
    );
}
