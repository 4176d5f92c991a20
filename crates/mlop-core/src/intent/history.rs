//! The record of earlier runs in a status: the last runs, verdicts and dead letters.

use crate::{condition, run::RunResource};
use jiff::Timestamp;
use kube::ResourceExt;
use mlop_api::{
    Reason, Time,
    status::{DeadLetter, HistoryEntry, IntentStatus, Verdict},
};

const HISTORY_MAX: usize = 5;
const DEAD_LETTERS_MAX: usize = 5;
const VERDICTS_MAX: usize = 10;
/// Longest message of a dead letter in bytes. The status of its run has the whole message.
const DEAD_LETTER_BYTES_MAX: usize = 256;

/// Adds `run` to the history.
pub(super) fn remember<R: RunResource>(status: &mut IntentStatus, run: &R, outcome: Reason) {
    let reported = run.status();
    let created = run.creation_timestamp().map(|at| at.0);
    let ended = reported.and_then(|status| status.finished_at).map(Time::get);
    let duration = created.zip(ended).map_or(0, |(from, to)| to.duration_since(from).as_secs().max(0));
    let entry = HistoryEntry {
        run: run.name_any(),
        input_digest: run.lineage().input_digest.clone(),
        digest: reported.and_then(|status| status.output.as_ref()).map(|output| output.digest.clone()),
        outcome: outcome.to_string(),
        attempts: reported.map_or(0, |status| status.attempts),
        duration_seconds: duration,
    };
    status.history.retain(|known| known.run != entry.run || known.outcome != entry.outcome);
    status.history.insert(0, entry);
    status.history.truncate(HISTORY_MAX);
}

/// Records a verdict as the first one on its run: the run reports that. Returns whether it is new.
pub(super) fn record_verdict(status: &mut IntentStatus, verdict: Verdict) -> bool {
    if status.verdicts.iter().find(|known| known.run == verdict.run) == Some(&verdict) {
        return false;
    }
    let recorded = status.verdicts.len();
    // Gates can be edited back to what they were.
    status.verdicts.retain(|known| *known != verdict);
    let is_new = status.verdicts.len() == recorded;
    status.verdicts.insert(0, verdict);
    status.verdicts.truncate(VERDICTS_MAX);
    is_new
}

/// Records that `run` has used up its attempts. Returns whether that is new.
pub(super) fn add_dead_letter<R: RunResource>(
    status: &mut IntentStatus,
    run: &R,
    reason: Reason,
    message: &str,
    now: Timestamp,
) -> bool {
    let input_digest = run.lineage().input_digest.clone();
    let attempts = run.status().map_or(0, |status| status.attempts);
    let is_known = |dead: &DeadLetter| dead.input_digest == input_digest && dead.attempts == attempts;
    if status.dead_letters.iter().any(is_known) {
        return false;
    }
    let failure = run.status().and_then(|status| status.failure.as_ref());
    status.dead_letters.retain(|dead| dead.input_digest != input_digest);
    let letter = DeadLetter {
        run: run.name_any(),
        input_digest,
        reason: reason.to_string(),
        message: condition::truncated(message, DEAD_LETTER_BYTES_MAX),
        attempts,
        at: failure.map_or_else(|| now.into(), |failure| failure.at),
    };
    status.dead_letters.insert(0, letter);
    status.dead_letters.truncate(DEAD_LETTERS_MAX);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use mlop_api::Digest;

    fn verdict(run: &str, gates: &str, passed: bool) -> Verdict {
        let (run, gates_digest) = (run.to_owned(), Digest::of_bytes(gates.as_bytes()));
        Verdict { run, gates_digest, passed, message: gates.to_owned() }
    }

    #[test]
    fn gates_that_are_edited_back_give_the_first_verdict() {
        let mut status = IntentStatus::default();
        let mut record = |verdict: Verdict| {
            let is_new = record_verdict(&mut status, verdict);
            (is_new, status.verdicts.iter().map(|it| format!("{} {}", it.run, it.message)).collect())
        };
        let recorded = |is_new: bool, verdicts: &[&str]| {
            (is_new, verdicts.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(record(verdict("a", "0.5", true)), recorded(true, &["a 0.5"]));
        assert_eq!(record(verdict("a", "0.9", false)), recorded(true, &["a 0.9", "a 0.5"]));
        assert_eq!(record(verdict("b", "0.9", true)), recorded(true, &["b 0.9", "a 0.9", "a 0.5"]));
        assert_eq!(record(verdict("a", "0.9", false)), recorded(false, &["b 0.9", "a 0.9", "a 0.5"]));
        assert_eq!(record(verdict("a", "0.5", true)), recorded(false, &["a 0.5", "b 0.9", "a 0.9"]));
    }
}
