//! Late results: successes of runs whose inputs are no longer the newest.

use super::{
    Intent, Observed,
    activation::{activated_revision, activation_digest, output},
    digest::is_run_of,
    gates::{is_accepted, judge},
    revision::Revision,
    step::{Findings, Publication, Step},
};
use crate::run::{RunState, run_state};
use jiff::Timestamp;
use kube::{ResourceExt, core::object::HasStatus};
use mlop_api::{Time, status::ActivationRecord};
use std::sync::Arc;

/// A result that is newer than the artifact, but not of the newest inputs.
pub(super) struct LateResult<I: Intent> {
    pub publication: Publication<I>,
    /// Whether the present spec makes it of its inputs.
    pub of_this_spec: bool,
}

/// The newest result that no earlier reconcile decided on, because newer inputs came while it was made.
///
/// Without it, inputs that change faster than runs end would never yield an artifact. A result that a run's pod has
/// activated is published in any case: the published and the active result must be the same.
pub(super) fn find_late_result<I: Intent>(
    observed: &Observed<I>,
    step: &Step<I>,
    findings: &Findings,
) -> Option<LateResult<I>> {
    let decided = matches!(step, Step::Publish(_) | Step::Current | Step::Activating(_));
    if decided || I::flow(&observed.object).pin().is_some() {
        return None;
    }
    let artifact = observed.status().and_then(|status| status.artifact.as_ref());
    let published_at = artifact.map(|artifact| artifact.produced_at.get());
    let (ended_at, run) = newest_success(observed, published_at)?;
    let made = output(run.as_ref())?;
    if artifact.is_some_and(|artifact| artifact.digest == made.digest) {
        return None;
    }
    let verdict = judge(observed, run);
    let identity = I::identity(observed).ok();
    let of_this_spec = is_accepted(verdict.as_ref())
        && identity.as_ref().is_some_and(|identity| is_run_of(observed, identity, run));
    let above = observed.highest_other_revision(run).max(observed.published_revision());
    let activated = activated_revision(run.as_ref()).filter(|(revision, _)| Some(*revision) > above);
    let activation = activated.map(|(revision, parameters)| ActivationRecord {
        digest: activation_digest(&made.digest, made.registered.as_ref(), parameters),
        revision: revision.get(),
    });
    // A result that ended before the newest inputs came was decided on then, for inputs that have come back.
    let newest = findings.newest.max(identity.and_then(|identity| identity.since));
    let newer_came_meanwhile = newest.is_some_and(|newest| newest < ended_at);
    let usable = if I::ACTIVATES { activation.is_some() } else { of_this_spec && newer_came_meanwhile };
    let revision = activation.as_ref().and_then(|active| Revision::new(active.revision));
    let publication = Publication { run: Arc::clone(run), verdict, revision, activation, registered: None };
    usable.then_some(LateResult { publication, of_this_spec })
}

/// The run that succeeded last, and when, if that was after `published_at`.
fn newest_success<I: Intent>(
    observed: &Observed<I>,
    published_at: Option<Timestamp>,
) -> Option<(Timestamp, &Arc<I::Run>)> {
    let ended = |run: &I::Run| run.status()?.finished_at.map(Time::get);
    let succeeded = observed.runs.iter().filter(|run| run_state(run.as_ref()) == RunState::Succeeded);
    succeeded
        .filter_map(|run| Some((ended(run)?, run)))
        .filter(|(at, _)| published_at.is_none_or(|published| *at > published))
        .max_by_key(|(at, run)| (*at, run.name_any()))
}
