//! `spec.pin`: the earlier run that a user has chosen.

use super::{Intent, Observed, activation::output};
use crate::{
    Blocked,
    run::{RunState, run_state},
};
use kube::{Resource, ResourceExt};
use mlop_api::Reason;
use std::{cmp::Reverse, sync::Arc};

/// Runs that the message on a wrong pin names.
const NAMED_MAX: usize = 5;

/// The run that `pin` chooses: by its name, or as `version N` by its number in the registry. Of several runs with a
/// number, which different registries gave, it is the newest.
pub(super) fn pinned_run<'a, I: Intent>(observed: &'a Observed<I>, pin: &str) -> Option<&'a Arc<I::Run>> {
    let numbered = || newest_first(observed).into_iter().find(|run| has_number(observed, run.as_ref(), pin));
    observed.run_named(pin).or_else(numbered)
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

fn has_number<I: Intent>(observed: &Observed<I>, run: &I::Run, pin: &str) -> bool {
    pin.strip_prefix("version ").is_some_and(|wanted| numbers(observed, run).any(|number| number == wanted))
}

/// The numbers of a run in the registry: the present one of the run in use, which may have been registered again, and
/// the one under which it was registered first.
fn numbers<'a, I: Intent>(observed: &'a Observed<I>, run: &'a I::Run) -> impl Iterator<Item = &'a str> {
    let status = observed.status();
    let is_in_use =
        status.and_then(|status| status.artifact.as_ref()).is_some_and(|it| it.run == run.name_any());
    let present = status.filter(|_| is_in_use).and_then(|status| status.registered.as_ref());
    let first = output(run).and_then(|output| output.registered.as_ref());
    present.into_iter().chain(first).map(|registered| registered.version.as_str())
}

fn newest_first<I: Intent>(observed: &Observed<I>) -> Vec<&Arc<I::Run>> {
    let mut runs: Vec<_> = observed.runs.iter().collect();
    runs.sort_by_key(|run| Reverse((run.meta().creation_timestamp.clone(), run.name_any())));
    runs
}
