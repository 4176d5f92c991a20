//! Fields of children that the API server or a webhook sets against the plan.

use mlop_api::Digest;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

/// Differences that a write has left, by the child's uid: the API server or a webhook sets these fields. The same write
/// would leave them again. Only their digest is kept: a child's template is large.
#[derive(Default)]
pub(crate) struct Leftovers(Mutex<BTreeMap<String, Digest>>);

impl Leftovers {
    pub(crate) fn has(&self, uid: &str, changes: &[Value]) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(uid).is_some_and(|left| *left == digest(changes))
    }

    pub(crate) fn set(&self, uid: &str, changes: &[Value]) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if changes.is_empty() {
            known.remove(uid);
        } else {
            known.insert(uid.to_owned(), digest(changes));
        }
    }
}

fn digest(changes: &[Value]) -> Digest {
    Digest::of(&json!(changes))
}
