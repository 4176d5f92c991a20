//! The decision of one reconcile as data: comparable in tests, printable, and with a reason for every write.

use crate::{
    resource::{ApiKind, object_value},
    runtime::error::Error,
};
use jiff::Timestamp;
use kube::Resource;
use mlop_api::{Digest, Reason, status::Conditioned};
use serde::Serialize;
use serde_json::Value;

/// Everything that one reconcile changes, and when to reconcile again if nothing happens.
///
/// The executor carries it out in a fixed order: children, status, deletions, Events.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[must_use]
pub struct Plan<S> {
    pub creates: Vec<Create>,
    pub applies: Vec<Apply>,
    pub deletes: Vec<Delete>,
    /// The whole status; none leaves it as it is.
    pub status: Option<S>,
    pub events: Vec<Event>,
    pub action: Action,
}

/// A child that is created once and not changed by later creates.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Create {
    pub kind: ApiKind,
    pub object: Value,
    /// Read from the API server just before the create. If one differs, the reconcile is abandoned.
    pub requires: Vec<Precondition>,
    /// The publication that the child follows; none if something else is the reason.
    pub handover: Option<Handover>,
    /// Whether the API server only judges it. A refusal is reported as that of a real one.
    pub dry_run: bool,
    /// The reason, for the log.
    pub why: String,
}

/// The newest input of a run, which a stage has published since the run before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Handover {
    /// Kind of the input.
    pub from: String,
    pub produced_at: Timestamp,
}

/// Fields of a new or existing object that this controller owns (server-side apply).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Apply {
    pub kind: ApiKind,
    pub object: Value,
    /// The reason, for the log.
    pub why: String,
}

/// An object to delete, only while it has this uid.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Delete {
    pub kind: ApiKind,
    pub name: String,
    pub uid: String,
    /// The reason, for the log.
    pub why: String,
}

/// The state that an input must still have when work on it starts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Precondition {
    pub kind: ApiKind,
    pub name: String,
    pub uid: String,
    pub generation: i64,
    pub digest: Digest,
}

/// A Kubernetes Event to publish, once per change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    pub warning: bool,
    pub reason: Reason,
    pub message: String,
}

/// When to reconcile the object again. A change of anything observed enqueues it in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Action {
    AwaitChange,
    RequeueAt(Timestamp),
}

impl Action {
    /// The earlier of two.
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::RequeueAt(a), Self::RequeueAt(b)) => Self::RequeueAt(a.min(b)),
            (Self::RequeueAt(a), Self::AwaitChange) | (Self::AwaitChange, Self::RequeueAt(a)) => {
                Self::RequeueAt(a)
            }
            (Self::AwaitChange, Self::AwaitChange) => Self::AwaitChange,
        }
    }
}

impl<S> Plan<S> {
    /// Changes nothing until something observed changes.
    pub fn idle() -> Self {
        Self {
            creates: Vec::new(),
            applies: Vec::new(),
            deletes: Vec::new(),
            status: None,
            events: Vec::new(),
            action: Action::AwaitChange,
        }
    }

    /// Only reports `status`.
    pub fn report(status: S) -> Self {
        Self { status: Some(status), ..Self::idle() }
    }

    /// Adds a child to create.
    pub fn create<K>(mut self, object: &K, why: impl Into<String>) -> Self
    where
        K: Resource<DynamicType = ()> + Serialize,
    {
        self.creates.push(Create::of(object, why));
        self
    }

    /// Adds a child to apply.
    pub fn apply<K>(mut self, object: &K, why: impl Into<String>) -> Self
    where
        K: Resource<DynamicType = ()> + Serialize,
    {
        self.applies.push(Apply { kind: ApiKind::of::<K>(), object: object_value(object), why: why.into() });
        self
    }

    /// Adds `object` to delete, unless it is being deleted already.
    pub fn delete<K>(mut self, object: &K, why: impl Into<String>) -> Self
    where
        K: Resource<DynamicType = ()>,
    {
        self.deletes.extend(Delete::of(object, why));
        self
    }

    /// Adds an Event to publish.
    pub fn event(mut self, warning: bool, reason: Reason, message: impl Into<String>) -> Self {
        self.events.push(Event { warning, reason, message: message.into() });
        self
    }

    /// Reconciles at `at` at the latest.
    pub fn requeue_at(self, at: Timestamp) -> Self {
        self.with_action(Action::RequeueAt(at))
    }

    /// Reconciles when the earlier of `action` and the present one says.
    pub fn with_action(mut self, action: Action) -> Self {
        self.action = self.action.or(action);
        self
    }

    /// Whether the plan writes nothing, Events aside.
    pub fn is_quiet(&self) -> bool {
        self.creates.is_empty() && self.applies.is_empty() && self.deletes.is_empty() && self.status.is_none()
    }
}

impl<S: Conditioned + PartialEq> Plan<S> {
    /// Reports `status` if it differs from the one `before`. A status that says what a failed reconcile would say is
    /// confirmed also if it is equal: the controller would take it for the report of a failure that is over.
    pub fn with_status(self, status: S, before: Option<&S>) -> Self {
        let is_news = Some(&status) != before || Error::is_shown_in(status.conditions());
        Self { status: is_news.then_some(status), ..self }
    }
}

impl Create {
    /// The creation of `object`.
    pub fn of<K>(object: &K, why: impl Into<String>) -> Self
    where
        K: Resource<DynamicType = ()> + Serialize,
    {
        Self {
            kind: ApiKind::of::<K>(),
            object: object_value(object),
            requires: Vec::new(),
            handover: None,
            dry_run: false,
            why: why.into(),
        }
    }
}

impl Delete {
    /// The deletion of `object`; none if it is being deleted already.
    pub fn of<K>(object: &K, why: impl Into<String>) -> Option<Self>
    where
        K: Resource<DynamicType = ()>,
    {
        let meta = object.meta();
        if meta.deletion_timestamp.is_some() {
            return None;
        }
        let (name, uid) = (meta.name.clone()?, meta.uid.clone()?);
        Some(Self { kind: ApiKind::of::<K>(), name, uid, why: why.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn action_or_takes_the_earlier_time() {
        let (a, b) = (Timestamp::from_second(1).unwrap(), Timestamp::from_second(2).unwrap());
        assert_eq!(Action::RequeueAt(b).or(Action::RequeueAt(a)), Action::RequeueAt(a));
        assert_eq!(Action::AwaitChange.or(Action::RequeueAt(b)), Action::RequeueAt(b));
        assert_eq!(Action::AwaitChange.or(Action::AwaitChange), Action::AwaitChange);
    }
}
