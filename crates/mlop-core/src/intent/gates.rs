//! Gates: whether the result of a successful run may be used.

use super::{Intent, Observed};
use kube::core::object::HasStatus;
use mlop_api::status::Verdict;

/// The verdict on `run`; none if the intent has no gates. A recorded verdict of the same gates is final.
pub(super) fn judge<I: Intent>(observed: &Observed<I>, run: &I::Run) -> Option<Verdict> {
    let fresh = I::judge(&observed.object, run)?;
    let recorded = observed.object.status().map(|status| status.verdicts.as_slice()).unwrap_or_default();
    let same = |verdict: &&Verdict| verdict.run == fresh.run && verdict.gates_digest == fresh.gates_digest;
    Some(recorded.iter().find(same).cloned().unwrap_or(fresh))
}

/// Whether no gate refuses a result.
pub(super) fn is_accepted(verdict: Option<&Verdict>) -> bool {
    verdict.is_none_or(|verdict| verdict.passed)
}
