//! Everything that can go wrong.

use super::operation::Course;
use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! faults {
    ($($group:ident: $($(#[doc = $doc:literal])+ $fault:ident),+;)+) => {
        /// A fault.
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
        /// 409: another client has written the object meanwhile.
        Conflict,
        /// Another client has just created an object of that name.
        NameTaken,
        /// 429 with `Retry-After: 1`.
        TooManyRequests,
        /// 500.
        InternalError,
        /// 503.
        Unavailable,
        /// 504, and the request did not take effect.
        Timeout,
        /// 504, but the request took effect.
        TimeoutAfterCommit,
        /// The request is never answered and never takes effect.
        NoAnswer,
        /// 403 for every write of this kind by this operator, for 20 s.
        Forbidden,
        /// 403 `exceeded quota` for every creation of this kind, for 20 s.
        QuotaExceeded,
        /// Another client deletes the object just before.
        Deleted,
        /// 422.
        Invalid,
        /// A second instance of the operator believes that it leads, for a minute.
        TwoLeaders,
        /// Another client deletes the written object as soon as its author has seen the answer.
        ChildDeleted,
        /// Another client deletes the created object, and its author sees the deletion before the answer.
        AnswerOvertaken,
        /// Another client labels the written object right after.
        ChildEdited,
        /// The operator cannot reach the API server for 20 s.
        Partition,
        /// The API server answers 503 to all requests for 20 s.
        ServerDown;
    AT_NOTIFICATIONS:
        /// This event and all after it on the same watch arrive 5 s late.
        Delayed,
        /// The event is dropped if another of the same object comes within 5 s. All others wait that long.
        Skipped,
        /// The event arrives twice.
        Duplicated,
        /// The connection breaks before the event arrives.
        Reset,
        /// 410: the watch has to start over.
        Gone,
        /// No event arrives until the server ends the watch.
        Silent,
        /// No event arrives, nor the end of the watch.
        Dead,
        /// The watch starts over at a server that is behind, and catches up after 5 s.
        TimeTravel,
        /// The watch starts over, and the list holds an object that cannot be decoded.
        Undecodable;
    AT_WORK:
        /// The pod is killed before it starts its work.
        KilledBefore,
        /// The pod is killed after its work, before it reports the result.
        KilledAfter,
        /// An external system that the work needs is unreachable.
        StoreUnreachable,
        /// The pod is not fit for the work where it is.
        Unfit;
    AT_PODS:
        /// The image of the pod cannot be pulled.
        ImagePull,
        /// No node has room for the pod for ten minutes.
        Queued,
        /// The work takes ten minutes longer.
        Slow,
        /// The pod is deleted for one of higher priority.
        Preempted,
        /// The node of the pod is short of memory.
        Evicted,
        /// The node of the pod dies.
        NodeLost;
    OF_THE_CLUSTER:
        /// Every operator dies and starts again.
        AllCrash,
        /// The operator receives SIGTERM, releases its lease, and starts again.
        Terminated,
        /// Another holder takes the operator's lease and never renews it.
        LeaseTaken,
        /// The operator's clock is a minute ahead for 20 s.
        ClockAhead,
        /// The operator's clock is a minute behind for 20 s.
        ClockBehind,
        /// The API server is restored from a backup of 20 s before.
        Restored,
        /// The CRD of the kind is removed with all its objects. 20 s later the CRD and the users' objects are back.
        TypeRemoved,
        /// The namespace is deleted: no object may remain.
        NamespaceEnds,
        /// The Dataset is deleted, and recreated by its user 5 s later.
        InputRecreated,
        /// The source changes and changes back within 20 s.
        UpstreamFlaps;
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = serde_json::to_string(self).unwrap_or_default();
        f.write_str(text.trim_matches('"'))
    }
}

impl Fault {
    /// Faults at the creation of an Event. No decision depends on one, so that only a refusal or a missing answer could hold
    /// something up.
    const AT_EVENTS: &[Self] = &[
        Self::CrashAfter,
        Self::AnswerLost,
        Self::NameTaken,
        Self::TooManyRequests,
        Self::InternalError,
        Self::NoAnswer,
        Self::Forbidden,
        Self::QuotaExceeded,
        Self::Invalid,
    ];

    /// Faults that need backups of the API server.
    pub const WITH_BACKUPS: &[Self] = &[Self::Restored];
    /// Faults that concern elections. Without them operators lead from the start.
    pub const WITH_LEASES: &[Self] =
        &[Self::Restored, Self::Terminated, Self::LeaseTaken, Self::ClockAhead, Self::ClockBehind];

    /// Whether the fault has a meaning at a write of this verb and kind.
    pub fn fits(self, verb: &str, kind: &str) -> bool {
        if kind == "events" {
            return Self::AT_EVENTS.contains(&self);
        }
        match self {
            Self::NameTaken | Self::QuotaExceeded => verb == "create",
            Self::Deleted => verb != "create",
            Self::AnswerOvertaken => verb == "create",
            Self::ChildDeleted | Self::ChildEdited => verb != "delete",
            _ => true,
        }
    }

    /// Whether the fault deletes the written object.
    pub fn deletes_object(self) -> bool {
        matches!(self, Self::Deleted | Self::ChildDeleted | Self::AnswerOvertaken | Self::TypeRemoved)
    }

    /// The course of a pod that the fault strikes.
    pub fn course(self) -> Option<Course> {
        Some(match self {
            Self::ImagePull => Course::ImagePull,
            Self::Queued => Course::Queued,
            Self::Slow => Course::Slow,
            Self::Preempted => Course::Preempted,
            Self::Evicted => Course::Evicted,
            Self::NodeLost => Course::NodeLost,
            _ => return None,
        })
    }

    /// Whether a write may take effect without its author knowing. Its repetition then changes nothing.
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

    /// Whether the fault changes what operators have written, or keeps a leader ignorant of it, so that a status may be
    /// wrong until they notice.
    pub fn is_foreign(self) -> bool {
        use Fault::*;
        matches!(
            self,
            NameTaken
                | Deleted
                | ChildDeleted
                | AnswerOvertaken
                | ChildEdited
                | TwoLeaders
                | TimeTravel
                | LeaseTaken
                | ClockAhead
                | ClockBehind
                | Restored
                | TypeRemoved
                | NamespaceEnds
                | InputRecreated
        )
    }

    /// Whether the fault changes objects or the work of pods. Pods may then run twice and numbers may differ, but the
    /// published result must be the same.
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
                | Unfit
                | ImagePull
                | Queued
                | Slow
                | Preempted
                | Evicted
                | NodeLost
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
