//! `spec.pin`: the earlier run that a user has chosen.

use super::{Intent, Observed, activation::output};
use crate::{
    Blocked, condition,
    run::{RunState, run_state},
};
use kube::{Resource, ResourceExt};
use mlop_api::{Reason, contract::condition_type};
use std::{cmp::Reverse, sync::Arc};

/// Runs that the message on a wrong pin names.
const NAMED_MAX: usize = 5;

/// The run that `pin` chooses: by its name, or as `version N` by its number in the registry.
///
/// Several runs may have had a number, since a version that is registered again gets another one. The run that this spec
/// has chosen before stays. Otherwise the present number of the run in use comes first, then the newest run.
pub(super) fn pinned_run<'a, I: Intent>(observed: &'a Observed<I>, pin: &str) -> Option<&'a Arc<I::Run>> {
    let numbered = || {
        let runs = newest_first(observed);
        let wanted = pin.strip_prefix("version ")?;
        let is_chosen = |run: &&Arc<I::Run>| is_in_use(observed, run.as_ref()) && has_chosen(observed);
        let is_present = |run: &&Arc<I::Run>| present_number(observed, run.as_ref()) == Some(wanted);
        let has_number = |run: &&Arc<I::Run>| numbers(observed, run.as_ref()).any(|number| number == wanted);
        let find = |choice: &dyn Fn(&&Arc<I::Run>) -> bool| runs.iter().copied().find(choice);
        find(&is_chosen).or_else(|| find(&is_present)).or_else(|| find(&has_number))
    };
    observed.run_named(pin).or_else(numbered)
}

/// Whether the pin of the present spec names the run in use, as the status has reported.
fn has_chosen<I: Intent>(observed: &Observed<I>) -> bool {
    let conditions = observed.status().map(|status| status.conditions.as_slice()).unwrap_or_default();
    condition::get(conditions, condition_type::UP_TO_DATE).is_some_and(|up_to_date| {
        let is_pinned = up_to_date.status == "True" && up_to_date.reason == Reason::Pinned.to_string();
        is_pinned && up_to_date.observed_generation == Some(observed.generation())
    })
}

/// Whether `pin` chooses `run`.
pub(super) fn is_pinned<I: Intent>(observed: &Observed<I>, run: &I::Run, pin: &str) -> bool {
    pinned_run(observed, pin).is_some_and(|pinned| pinned.name_any() == run.name_any())
}

/// The problem with a pin that chooses no run that has succeeded. The message lists those that have.
pub(super) fn not_found<I: Intent>(observed: &Observed<I>, pin: &str) -> Blocked {
    let succeeded = |run: &&Arc<I::Run>| run_state(run.as_ref()) == RunState::Succeeded;
    let runs: Vec<String> =
        newest_first(observed).into_iter().filter(succeeded).map(|run| described(observed, run)).collect();
    let more = match runs.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let there_are = match runs.get(..runs.len().min(NAMED_MAX)) {
        Some([_, ..]) => {
            let named: Vec<String> = runs.into_iter().take(NAMED_MAX).collect();
            format!("choose one of {}{more}", named.join(", "))
        }
        _ => "none has succeeded yet; remove the pin".to_owned(),
    };
    let message =
        format!("spec.pin: {} has no run {pin:?} that has succeeded: {there_are}", observed.label());
    Blocked::stalled(Reason::PinnedRunNotFound, message)
}

/// For example `delay-0123456789ab (version 3)`.
fn described<I: Intent>(observed: &Observed<I>, run: &Arc<I::Run>) -> String {
    let name = run.name_any();
    match numbers(observed, run.as_ref()).next() {
        Some(number) => format!("{name} (version {number})"),
        None => name,
    }
}

/// The numbers of a run in the registry: the present one of the run in use, which may have been registered again, and
/// the one under which it was registered first.
fn numbers<'a, I: Intent>(observed: &'a Observed<I>, run: &'a I::Run) -> impl Iterator<Item = &'a str> {
    let first = output(run).and_then(|output| output.registered.as_ref());
    present_number(observed, run).into_iter().chain(first.map(|registered| registered.version.as_str()))
}

/// The present number of the run in use. None for another run.
fn present_number<'a, I: Intent>(observed: &'a Observed<I>, run: &I::Run) -> Option<&'a str> {
    let status = observed.status().filter(|_| is_in_use(observed, run))?;
    status.registered.as_ref().map(|registered| registered.version.as_str())
}

fn is_in_use<I: Intent>(observed: &Observed<I>, run: &I::Run) -> bool {
    let artifact = observed.status().and_then(|status| status.artifact.as_ref());
    artifact.is_some_and(|artifact| artifact.run == run.name_any())
}

fn newest_first<I: Intent>(observed: &Observed<I>) -> Vec<&Arc<I::Run>> {
    let mut runs: Vec<_> = observed.runs.iter().collect();
    runs.sort_by_key(|run| Reverse((run.meta().creation_timestamp.clone(), run.name_any())));
    runs
}
