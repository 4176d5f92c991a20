//! What goes wrong, and when: data that a person can read, write and keep.
//!
//! ```yaml
//! scenario: newData
//! faults:
//! - at: {write: {by: mlop-training, verb: create, kind: jobs, name: delay-*-1, nth: 1}}
//!   fault: crashAfter
//! ```
//!
//! A write is known by what it does, not by when it comes, so that a plan outlives changes of the code around it:
//! parts of names that are digests or numbers of slots are written as `*`.

use crate::{scenario::Scenario, users::Deed};
use serde::{Deserialize, Serialize};
use std::fmt;

/// One run of the chain: what users do, and what goes wrong meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Plan {
    pub scenario: Scenario,
    /// What users do meanwhile, in [`Scenario::Restless`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<Deed>,
    pub faults: Vec<Injection>,
}

/// One thing that goes wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Injection {
    pub at: Point,
    pub fault: Fault,
}

/// When it goes wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Point {
    Write(WriteId),
    Notification(NotificationId),
    /// A pod does its work.
    Work(WorkId),
    /// Virtual milliseconds after the start.
    Millisecond(u64),
}

/// A write request of an operator.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WriteId {
    pub by: String,
    /// `create`, `apply`, `patch`, `update` or `delete`.
    pub verb: String,
    /// Plural name of the kind.
    pub kind: String,
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subresource: String,
    /// Counts writes of which everything else is equal, from 1.
    pub nth: u32,
}

/// An event of a watch that an operator receives.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NotificationId {
    pub to: String,
    /// Plural name of the kind that is watched.
    pub kind: String,
    /// `ADDED`, `MODIFIED` or `DELETED`.
    pub event: String,
    pub name: String,
    pub nth: u32,
}

/// A pod's work outside of the API server: in the object store, Redis or MLflow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkId {
    /// `scan`, `version`, `snapshot`, `activate`, `train`, `register`, `alias`, ...
    pub kind: String,
    pub nth: u32,
}

macro_rules! faults {
    ($($group:ident: $($(#[doc = $doc:literal])+ $fault:ident),+;)+) => {
        /// What goes wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase")]
        pub enum Fault {
            $($($(#[doc = $doc])+ $fault,)+)+
        }

        impl Fault {
            $(pub const $group: &[Self] = &[$(Self::$fault),+];)+
        }
    };
}

faults! {
    AT_WRITES:
        /// The operator dies before the request is sent, and starts again a second later.
        CrashBefore,
        /// The operator dies after the request took effect, before it sees the answer.
        CrashAfter,
        /// The request takes effect, the connection breaks before the answer.
        AnswerLost,
        /// 409: the object was written by somebody else meanwhile.
        Conflict,
        /// Somebody else has just created an object of that name.
        NameTaken,
        /// 429 with `Retry-After: 1`.
        TooManyRequests,
        /// 500.
        InternalError,
        /// 503.
        Unavailable,
        /// 504, and nothing was written.
        Timeout,
        /// 504, but it was written.
        TimeoutAfterCommit,
        /// The request is never answered and never takes effect.
        NoAnswer,
        /// 403 for every write of this kind by this operator, for 20 s.
        Forbidden,
        /// 403 `exceeded quota` for every creation of this kind, for 20 s.
        QuotaExceeded,
        /// The object was deleted just before.
        Deleted,
        /// 422.
        Invalid,
        /// A second instance of the operator believes that it leads, for a minute.
        TwoLeaders,
        /// The object that was written is deleted by somebody as soon as its author has seen the answer.
        ChildDeleted,
        /// The object that was created is deleted by somebody, and its author sees that before the answer.
        AnswerOvertaken,
        /// The object that was written is labelled by somebody right after.
        ChildEdited,
        /// The operator reaches the API server no more, for 20 s.
        Partition,
        /// The API server answers 503 to everybody, for 20 s.
        ServerDown;
    AT_NOTIFICATIONS:
        /// This event and all after it on the same watch arrive 5 s late.
        Delayed,
        /// The event is not seen if another of the same object comes within 5 s; all others wait for that long.
        Skipped,
        /// The event comes twice.
        Duplicated,
        /// The connection breaks instead of the event.
        Reset,
        /// 410: the watch has to start afresh.
        Gone,
        /// Nothing comes any more until the server ends the watch.
        Silent,
        /// Nothing comes any more, not even an end.
        Dead,
        /// The watch starts afresh from a server that is behind, and catches up after 5 s.
        TimeTravel,
        /// The watch starts afresh, and the list holds an object that cannot be decoded.
        Undecodable;
    AT_WORK:
        /// The pod is killed before it did anything.
        KilledBefore,
        /// The pod is killed after its work was done, before it said so.
        KilledAfter,
        /// What the work needs is not reachable.
        StoreUnreachable;
    OF_THE_WORLD:
        /// Every operator dies and starts again.
        AllCrash,
        /// The operator is told to stop, gives its lease back, and starts again.
        Terminated,
        /// Somebody else takes the operator's lease, and is never heard of again.
        LeaseTaken,
        /// The operator's clock is a minute ahead, for 20 s.
        ClockAhead,
        /// The operator's clock is a minute behind, for 20 s.
        ClockBehind,
        /// The API server goes back to what it was 20 s before.
        Restored,
        /// The CRD of the kind is removed with all its objects; 20 s later it is back, and so are those of users.
        TypeRemoved,
        /// The namespace is deleted: nothing may stay.
        NamespaceEnds,
        /// The Dataset is deleted, and created anew by its user 5 s later.
        InputRecreated,
        /// The source changes to something else and back within 20 s.
        UpstreamFlaps;
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = serde_json::to_string(self).unwrap_or_default();
        f.write_str(text.trim_matches('"'))
    }
}

impl Fault {
    /// Whether the object that is written goes with it.
    pub fn deletes(self) -> bool {
        matches!(self, Self::Deleted | Self::ChildDeleted | Self::AnswerOvertaken | Self::TypeRemoved)
    }

    /// Whether a write may take effect without its author knowing: then it is made again, and changes nothing.
    pub fn loses_answers(self) -> bool {
        use Fault::*;
        matches!(
            self,
            CrashAfter
                | AnswerLost
                | TimeoutAfterCommit
                | NoAnswer
                | TwoLeaders
                | Partition
                | ServerDown
                | AllCrash
        )
    }

    /// Whether something that users or others own is changed by it. Then pods may run twice and numbers differ, though
    /// the result must be the same.
    pub fn changes_objects(self) -> bool {
        use Fault::*;
        matches!(
            self,
            NameTaken
                | Deleted
                | ChildDeleted
                | AnswerOvertaken
                | ChildEdited
                | KilledBefore
                | KilledAfter
                | StoreUnreachable
                | Restored
                | TypeRemoved
                | NamespaceEnds
                | ClockAhead
                | ClockBehind
                | InputRecreated
                | UpstreamFlaps
        )
    }
}

impl Plan {
    /// Whether one of the faults is among `faults`.
    pub fn has(&self, faults: &[Fault]) -> bool {
        self.faults.iter().any(|injection| faults.contains(&injection.fault))
    }

    /// The plan as YAML.
    pub fn to_yaml(&self) -> String {
        serde_saphyr::to_string(self).unwrap_or_default()
    }

    /// # Errors
    /// Where the text is no plan.
    pub fn from_yaml(text: &str) -> anyhow::Result<Self> {
        serde_saphyr::from_str(text).map_err(|error| anyhow::anyhow!("no fault plan: {error}"))
    }
}

/// `name` with `*` for every part that is a digest or a long number.
pub fn stable(name: &str) -> String {
    let is_volatile = |part: &str| {
        part.len() >= 7
            && part.bytes().all(|b| b.is_ascii_hexdigit())
            && part.bytes().any(|b| b.is_ascii_digit())
    };
    let part = |part| if is_volatile(part) { "*" } else { part };
    // An Event's name is an object's, a dot, and a digest.
    let names = name.split('.').map(|name| name.split('-').map(part).collect::<Vec<_>>().join("-"));
    names.collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::users::{Act, Stage};

    #[test]
    fn names_are_stable() {
        assert_eq!(stable("delay-0123456789ab-1"), "delay-*-1");
        assert_eq!(stable("flights-scan-29456789"), "flights-scan-*");
        assert_eq!(stable("delay-0123456789ab.00112233445566aa"), "delay-*.*");
        assert_eq!(stable("feedback"), "feedback");
    }

    #[test]
    fn a_plan_is_the_same_after_yaml() {
        let write = WriteId {
            by: "mlop-training".into(),
            verb: "create".into(),
            kind: "jobs".into(),
            name: "delay-*-1".into(),
            subresource: String::new(),
            nth: 1,
        };
        let plan = Plan {
            scenario: Scenario::Restless,
            users: vec![Deed { at: 7, does: Act::Edit(Stage::Model) }],
            faults: vec![
                Injection { at: Point::Write(write), fault: Fault::CrashAfter },
                Injection { at: Point::Millisecond(5), fault: Fault::AllCrash },
            ],
        };
        assert_eq!(Plan::from_yaml(&plan.to_yaml()).unwrap(), plan);
        assert!(Plan::from_yaml("scenario: no\nfaults: []").is_err());
    }
}
