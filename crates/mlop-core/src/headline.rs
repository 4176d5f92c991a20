//! What `kubectl get` and `kubectl describe` show of a status.
//!
//! Decisions write the whole reason and message into each condition that they concern. Before a status is written,
//! [`present`] gives it its headline, and leaves a long message in one condition only.

use crate::condition::{self, truncated, whole_second};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use mlop_api::{Reason, contract::condition_type, headline::Headline, status::Conditioned};

/// Longest message of a headline in bytes: about two lines of a terminal.
const MESSAGE_BYTES_MAX: usize = 200;
/// Longest message of a condition that repeats another one, in bytes.
const REPEATED_BYTES_MAX: usize = 100;

/// Types of conditions in the order in which the headline looks at them, and whether they should be True. Those that
/// should not are present only while something is to be told.
const LOOKED_AT: [(&str, bool); 7] = [
    (condition_type::READY, true),
    (condition_type::SUCCEEDED, true),
    (condition_type::STALLED, false),
    (condition_type::UP_TO_DATE, true),
    (condition_type::ACCEPTED, true),
    (condition_type::INPUTS_READY, true),
    (condition_type::RECONCILING, false),
];

/// The headline of `label`, such as `Dataset flights`; none without conditions.
pub(crate) fn headline(label: &str, conditions: &[Condition], notes: &[String]) -> Option<Headline> {
    let present = |(kind, wanted)| Some((condition::get(conditions, kind)?, wanted));
    let odd = LOOKED_AT.into_iter().filter_map(present).find(|(c, wanted)| (c.status == "True") != *wanted);
    if let Some((condition, _)) = odd {
        // The default status of a new object has no message either.
        let is_seen = condition.reason != Reason::Pending.as_str();
        let message = line(label, &condition.reason, whole_message(conditions, condition));
        let message = Some(message).filter(|text| is_seen && !text.is_empty());
        return Some(Headline { reason: condition.reason.clone(), message });
    }
    let (main, _) = LOOKED_AT.into_iter().find_map(present)?;
    // Nothing is wrong with a pin, but who looks for a newer version should see it.
    let pinned = conditions.iter().find(|condition| condition.reason == Reason::Pinned.as_str());
    let note = notes.first().or(pinned.map(|condition| &condition.message));
    let message = note.map(|note| truncated(note, MESSAGE_BYTES_MAX));
    Some(Headline { reason: main.reason.clone(), message })
}

/// The message of `condition`, which [`present`] may have left in another one.
fn whole_message<'a>(conditions: &'a [Condition], condition: &'a Condition) -> &'a str {
    let is_whole = |other: &&Condition| {
        other.message.len() > condition.message.len()
            && truncated(&other.message, REPEATED_BYTES_MAX) == condition.message
    };
    conditions.iter().find(is_whole).map_or(&condition.message, |other| &other.message)
}

/// `message` without the words of the other columns of its row.
fn line(label: &str, reason: &str, message: &str) -> String {
    let after_label = message
        .strip_prefix(label)
        .and_then(|rest| rest.strip_prefix(" <- ").or_else(|| rest.strip_prefix(": ")))
        .unwrap_or(message);
    let after_reason =
        after_label.strip_prefix(reason).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(after_label);
    truncated(after_reason, MESSAGE_BYTES_MAX)
}

/// Completes a status for its readers: its headline, and each long message once.
pub(crate) fn present<S: Conditioned>(label: &str, status: &mut S) {
    let list = status.conditions_mut();
    for index in 1..list.len() {
        let (before, rest) = list.split_at_mut(index);
        let Some(condition) = rest.first_mut() else { continue };
        if before.iter().any(|earlier| earlier.message == condition.message) {
            condition.message = truncated(&condition.message, REPEATED_BYTES_MAX);
        }
    }
    if let Some(headline) = headline(label, status.conditions(), status.notes()) {
        *status.headline_mut() = Some(headline);
    }
}

/// Gives conditions that no controller has written yet the time of the first write.
pub(crate) fn date(conditions: &mut [Condition], now: Timestamp) {
    for condition in conditions.iter_mut().filter(|condition| !condition::has_time(condition)) {
        condition.last_transition_time = Time(whole_second(now));
    }
}

#[cfg(test)]
mod tests;
