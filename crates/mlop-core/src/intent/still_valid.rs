//! Whether the published artifact survives an edit of the spec.

use super::{
    Activation, Intent, Observed,
    activation::{activation_digest, output},
    digest::is_run_of,
    gates::{is_accepted, judge},
    pin::is_pinned,
};

/// Whether the published artifact still matches the spec: same input digest, gates passed, same activation target.
/// Other edits do not affect it.
pub(super) fn is_still_valid<I: Intent>(observed: &Observed<I>) -> bool {
    let valid = || {
        let status = observed.status()?;
        let run = observed.run_named(&status.artifact.as_ref()?.run)?;
        let pinned = I::flow(&observed.object).pin().is_none_or(|pin| is_pinned(observed, run, pin));
        let active = match I::activation(observed, run) {
            Activation::None => true,
            Activation::Blocked(_) => false,
            Activation::Pod { parameters, .. } => {
                let output = output(run.as_ref())?;
                let target = activation_digest(&output.digest, output.registered.as_ref(), &parameters);
                status.activation.as_ref()?.digest == target
            }
        };
        let accepted = is_accepted(judge(observed, run).as_ref());
        Some(pinned && active && accepted && is_run_of(observed, &I::identity(observed).ok()?, run))
    };
    valid().unwrap_or(false)
}
