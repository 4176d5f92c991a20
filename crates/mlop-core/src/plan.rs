//! What a pass has decided, as data: comparable in tests, printable, with the reason of every decision.

use crate::resource::{ApiKind, object_value};
use jiff::Timestamp;
use kube::Resource;
use mlop_api::{Digest, Reason};
use serde::Serialize;
use serde_json::Value;

/// Everything one pass wants to change, and when to look again if nothing happens.
///
/// The executor works it off in a fixed order: children, status, deletions, events.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[must_use]
pub struct Plan<S> {
    pub creates: Vec<Create>,
    pub applies: Vec<Apply>,
    pub deletes: Vec<Delete>,
    /// The whole status, or none to leave it.
    pub status: Option<S>,
    pub events: Vec<Note>,
    pub next: Next,
}

/// A child that is created and never changed afterwards by this verb.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Create {
    pub kind: ApiKind,
    pub object: Value,
    /// Read fresh from the API server just before; the pass is abandoned when one differs.
    pub requires: Vec<Precondition>,
    pub why: String,
}

/// Fields of an existing or new object that this controller owns (server-side apply).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Apply {
    pub kind: ApiKind,
    pub object: Value,
    pub why: String,
}

/// An object that goes, only if it still has this uid.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Delete {
    pub kind: ApiKind,
    pub name: String,
    pub uid: String,
    pub why: String,
}

/// What an input must still be when work on it starts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Precondition {
    pub kind: ApiKind,
    pub name: String,
    pub uid: String,
    pub generation: i64,
    pub digest: Digest,
}

/// Something worth telling people, once per change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    pub warning: bool,
    pub reason: Reason,
    pub message: String,
}

/// When to look again. A change of anything observed wakes the object in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Next {
    Change,
    At(Timestamp),
}

impl Next {
    /// The earlier of two.
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::At(a), Self::At(b)) => Self::At(a.min(b)),
            (Self::At(a), Self::Change) | (Self::Change, Self::At(a)) => Self::At(a),
            (Self::Change, Self::Change) => Self::Change,
        }
    }
}

impl<S> Plan<S> {
    /// Nothing to do until something changes.
    pub fn idle() -> Self {
        Self {
            creates: Vec::new(),
            applies: Vec::new(),
            deletes: Vec::new(),
            status: None,
            events: Vec::new(),
            next: Next::Change,
        }
    }

    /// Only a status to report.
    pub fn report(status: S) -> Self {
        Self { status: Some(status), ..Self::idle() }
    }

    pub fn create<K>(mut self, object: &K, why: impl Into<String>) -> Self
    where
        K: Resource<DynamicType = ()> + Serialize,
    {
        self.creates.push(Create::of(object, why));
        self
    }

    pub fn apply<K>(mut self, object: &K, why: impl Into<String>) -> Self
    where
        K: Resource<DynamicType = ()> + Serialize,
    {
        self.applies.push(Apply { kind: ApiKind::of::<K>(), object: object_value(object), why: why.into() });
        self
    }

    /// Deletes `object`, unless that is under way already.
    pub fn delete<K>(mut self, object: &K, why: impl Into<String>) -> Self
    where
        K: Resource<DynamicType = ()>,
    {
        let meta = object.meta();
        if meta.deletion_timestamp.is_some() {
            return self;
        }
        if let (Some(name), Some(uid)) = (meta.name.clone(), meta.uid.clone()) {
            self.deletes.push(Delete { kind: ApiKind::of::<K>(), name, uid, why: why.into() });
        }
        self
    }

    pub fn event(mut self, warning: bool, reason: Reason, message: impl Into<String>) -> Self {
        self.events.push(Note { warning, reason, message: message.into() });
        self
    }

    pub fn next(mut self, next: Next) -> Self {
        self.next = self.next.or(next);
        self
    }

    /// Whether the pass changes nothing, Events aside.
    pub fn is_quiet(&self) -> bool {
        self.creates.is_empty() && self.applies.is_empty() && self.deletes.is_empty() && self.status.is_none()
    }
}

impl Create {
    pub fn of<K>(object: &K, why: impl Into<String>) -> Self
    where
        K: Resource<DynamicType = ()> + Serialize,
    {
        Self { kind: ApiKind::of::<K>(), object: object_value(object), requires: Vec::new(), why: why.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earlier_look_wins() {
        let (a, b) = (Timestamp::from_second(1).unwrap(), Timestamp::from_second(2).unwrap());
        assert_eq!(Next::At(b).or(Next::At(a)), Next::At(a));
        assert_eq!(Next::Change.or(Next::At(b)), Next::At(b));
        assert_eq!(Next::Change.or(Next::Change), Next::Change);
    }
}
