//! Conditions: the one way to write them.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use mlop_api::{
    Reason,
    contract::condition_type,
    text::{printable, single_line},
};

/// Longest message of a condition in bytes.
pub const MESSAGE_BYTES_MAX: usize = 1024;

/// Order in which conditions are written, so that equal statuses are equal documents.
const ORDER: [&str; 7] = [
    condition_type::READY,
    condition_type::SUCCEEDED,
    condition_type::INPUTS_READY,
    condition_type::UP_TO_DATE,
    condition_type::ACCEPTED,
    condition_type::RECONCILING,
    condition_type::STALLED,
];

/// Status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionStatus {
    True,
    False,
    Unknown,
}

impl ConditionStatus {
    const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// The conditions of one object at one generation and time.
pub struct Conditions<'a> {
    list: &'a mut Vec<Condition>,
    generation: i64,
    now: Timestamp,
}

impl<'a> Conditions<'a> {
    pub fn new(list: &'a mut Vec<Condition>, generation: i64, now: Timestamp) -> Self {
        Self { list, generation, now }
    }

    /// Sets the condition of type `kind`. Its transition time moves only when its status changes.
    pub fn set(&mut self, kind: &str, status: ConditionStatus, reason: Reason, message: &str) {
        let before = self.list.iter().find(|c| c.type_ == kind);
        let since = match before {
            Some(c) if c.status == status.as_str() && has_time(c) => c.last_transition_time.clone(),
            _ => Time(whole_second(self.now)),
        };
        let condition = Condition {
            type_: kind.to_owned(),
            status: status.as_str().to_owned(),
            reason: reason.as_str().to_owned(),
            message: truncated(message, MESSAGE_BYTES_MAX),
            observed_generation: Some(self.generation),
            last_transition_time: since,
        };
        self.list.retain(|c| c.type_ != kind);
        self.list.push(condition);
        self.list.sort_by_key(|c| ORDER.iter().position(|k| *k == c.type_).unwrap_or(ORDER.len()));
    }

    /// Removes the condition of type `kind`.
    pub fn remove(&mut self, kind: &str) {
        self.list.retain(|c| c.type_ != kind);
    }

    /// Work goes on: `Reconciling` is present, `Stalled` is absent.
    pub fn reconciling(&mut self, reason: Reason, message: &str) {
        self.remove(condition_type::STALLED);
        self.set(condition_type::RECONCILING, ConditionStatus::True, reason, message);
    }

    /// Only a change by a user helps: `Stalled` is present, `Reconciling` is absent.
    pub fn stalled(&mut self, reason: Reason, message: &str) {
        self.remove(condition_type::RECONCILING);
        self.set(condition_type::STALLED, ConditionStatus::True, reason, message);
    }

    /// No work goes on: both are absent.
    pub fn settled(&mut self) {
        self.remove(condition_type::RECONCILING);
        self.remove(condition_type::STALLED);
    }
}

/// The condition of type `kind`.
pub fn get<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == kind)
}

/// Whether the condition of type `kind` is True.
pub fn is_true(conditions: &[Condition], kind: &str) -> bool {
    get(conditions, kind).is_some_and(|c| c.status == "True")
}

/// Whether the condition of type `kind` is False.
pub fn is_false(conditions: &[Condition], kind: &str) -> bool {
    get(conditions, kind).is_some_and(|c| c.status == "False")
}

/// Whether a controller has written `condition`: the default status of a new object cannot know the time.
pub fn has_time(condition: &Condition) -> bool {
    condition.last_transition_time.0 != Timestamp::UNIX_EPOCH
}

/// `text` in one line of characters that a status can hold, cut to at most `bytes_max` bytes, with an ellipsis if it was longer.
pub fn truncated(text: &str, bytes_max: usize) -> String {
    let line = single_line(text);
    let text = printable(&line);
    if text.len() <= bytes_max {
        return text.into_owned();
    }
    let mut end = bytes_max.saturating_sub('…'.len_utf8());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", text.get(..end).unwrap_or_default())
}

/// `at` in whole seconds, the precision of Kubernetes' `metav1.Time`.
pub fn whole_second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn transition_time_moves_only_with_the_status() {
        let mut list = Vec::new();
        Conditions::new(&mut list, 1, at(10)).set(
            condition_type::READY,
            ConditionStatus::Unknown,
            Reason::Running,
            "a",
        );
        Conditions::new(&mut list, 2, at(20)).set(
            condition_type::READY,
            ConditionStatus::Unknown,
            Reason::Retrying,
            "b",
        );
        assert_eq!(list[0].last_transition_time.0, at(10));
        assert_eq!((list[0].reason.as_str(), list[0].observed_generation), ("Retrying", Some(2)));
        Conditions::new(&mut list, 2, at(30)).set(
            condition_type::READY,
            ConditionStatus::True,
            Reason::Ready,
            "c",
        );
        assert_eq!(list[0].last_transition_time.0, at(30));
    }

    #[test]
    fn time_is_set_when_no_controller_has_written_the_condition() {
        let mut list = vec![Condition {
            type_: condition_type::READY.to_owned(),
            status: "Unknown".to_owned(),
            reason: "Pending".to_owned(),
            message: String::new(),
            observed_generation: None,
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
        }];
        let mut conditions = Conditions::new(&mut list, 1, at(7));
        conditions.set(condition_type::READY, ConditionStatus::Unknown, Reason::Running, "");
        assert_eq!(list[0].last_transition_time.0, at(7));
    }

    #[test]
    fn reconciling_and_stalled_are_exclusive() {
        let mut list = Vec::new();
        let mut conditions = Conditions::new(&mut list, 1, at(1));
        conditions.stalled(Reason::InvalidSpec, "x");
        conditions.reconciling(Reason::Running, "y");
        conditions.set(condition_type::READY, ConditionStatus::Unknown, Reason::Running, "y");
        let kinds: Vec<_> = list.iter().map(|c| c.type_.as_str()).collect();
        assert_eq!(kinds, [condition_type::READY, condition_type::RECONCILING]);
    }

    #[test]
    fn truncated_cuts_at_a_character() {
        assert_eq!(truncated("äöü", 6), "äöü");
        assert_eq!(truncated("äöüx", 6), "ä…");
        assert_eq!(truncated("a:\n  b\n", 99), "a: | b");
        assert_eq!(truncated("del\u{7f}", 99), "del\\u{7f}");
    }
}
