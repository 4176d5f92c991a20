//! The problems of everything that an object reads or uses.

use super::model::Problem;
use crate::{
    references,
    snapshot::{Object, ObjectId, Snapshot},
    state::{State, is_queued},
    status,
};
use mlop_api::{contract::Cause, kinds::Class};

/// The causes at the object itself and at its upstream objects. Those that need a person come first.
///
/// Causes that an object has copied from another one are left out: they may be older than those of their origin.
pub(super) fn upstream(snapshot: &Snapshot, object: &Object) -> Vec<Cause> {
    let mut objects = vec![object];
    let mut next = 0;
    while let Some(object) = objects.get(next).copied() {
        next += 1;
        for reference in references::of(&object.spec) {
            let Some(found) = snapshot.get(&reference.to) else { continue };
            if !objects.iter().any(|known| known.id == found.id) {
                objects.push(found);
            }
        }
    }
    let mut causes: Vec<Cause> = objects.into_iter().filter_map(own).collect();
    causes.sort_by_key(|cause| is_queued(&cause.reason));
    causes
}

/// The problem that began at `object`.
fn own(object: &Object) -> Option<Cause> {
    let is_own = |cause: &&Cause| id(cause) == object.id;
    if let Some(cause) = object.status.cause.as_ref().filter(is_own) {
        return Some(cause.clone());
    }
    // A connection has no cause in its status.
    let is_problem = object.class == Class::Connection && State::of(object).is_problem();
    let (reason, message) = status::reason(object);
    let ObjectId { kind, name } = object.id.clone();
    is_problem.then(|| Cause { kind, name, reason, message: message.unwrap_or_default() })
}

pub(super) fn id(cause: &Cause) -> ObjectId {
    ObjectId::new(&cause.kind, &cause.name)
}

impl From<&Cause> for Problem {
    fn from(cause: &Cause) -> Self {
        Self { object: id(cause), reason: cause.reason.clone() }
    }
}
