//! The graph of references between objects, followed upstream.

use crate::resource::InputObject;
use mlop_api::common::{NamedInput, ObjectRef};
use std::sync::Arc;

/// Longest chain of references that the search for a cycle follows.
const DEPTH_MAX: usize = 32;
/// Objects that the search for holds visits at most.
const OBJECTS_MAX: usize = 128;

/// An object that a user holds at an earlier artifact.
#[derive(Clone, Debug, PartialEq)]
pub struct Hold {
    pub object: ObjectRef,
    /// The field that holds it, such as `spec.pin`.
    pub field: &'static str,
}

/// The references of `inputs`.
pub fn references(inputs: &[NamedInput]) -> Vec<ObjectRef> {
    inputs.iter().map(|input| input.from.clone()).collect()
}

/// The objects from `start` upstream that a user holds. `lookup` reads the caches.
pub(super) fn holds(start: &ObjectRef, lookup: impl Fn(&ObjectRef) -> Option<Arc<InputObject>>) -> Vec<Hold> {
    let mut open = vec![start.clone()];
    let mut seen: Vec<ObjectRef> = Vec::new();
    let mut holds = Vec::new();
    while let Some(object) = open.pop() {
        if seen.len() >= OBJECTS_MAX || seen.contains(&object) {
            continue;
        }
        if let Some(found) = lookup(&object) {
            open.extend(found.references.iter().cloned());
            holds.extend(found.held_by.map(|field| Hold { object: object.clone(), field }));
        }
        seen.push(object);
    }
    holds
}

/// Searches for a path from `start` back to itself along references. `lookup` reads the caches.
pub fn cycle(
    start: &ObjectRef,
    references: &[ObjectRef],
    lookup: impl Fn(&ObjectRef) -> Option<Arc<InputObject>>,
) -> Option<String> {
    let mut open: Vec<Vec<ObjectRef>> = references.iter().map(|r| vec![r.clone()]).collect();
    let mut seen: Vec<ObjectRef> = Vec::new();
    while let Some(path) = open.pop() {
        let Some(last) = path.last() else { continue };
        if last == start {
            let names =
                path.iter().map(|r| format!("{} {}", r.kind, r.name)).collect::<Vec<_>>().join(" <- ");
            return Some(format!("{} {} depends on itself: it uses {names}", start.kind, start.name));
        }
        if path.len() >= DEPTH_MAX || seen.contains(last) {
            continue;
        }
        seen.push(last.clone());
        for next in lookup(last).iter().flat_map(|object| &object.references) {
            let mut longer = path.clone();
            longer.push(next.clone());
            open.push(longer);
        }
    }
    None
}
