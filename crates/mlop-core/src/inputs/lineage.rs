//! Lineage: where inputs come from, and whether they fit together.

use super::gate::ReadyInput;
use crate::resource::InputObject;
use jiff::Timestamp;
use mlop_api::{
    common::{Consistency, NamedInput, ObjectRef},
    contract::Root,
};
use std::{collections::BTreeMap, sync::Arc};

/// Longest chain of references that the search for a cycle follows.
const DEPTH_MAX: usize = 32;
/// Roots that a status has room for.
const ROOTS_MAX: usize = 32;

/// The roots of `inputs`, sorted. An input without roots is a root itself.
pub fn roots(inputs: &[ReadyInput]) -> Vec<Root> {
    let mut roots: Vec<Root> = inputs.iter().flat_map(roots_of).collect();
    roots.sort();
    roots.dedup();
    roots.truncate(ROOTS_MAX);
    roots
}

fn roots_of(input: &ReadyInput) -> Vec<Root> {
    if input.artifact.roots.is_empty() {
        let record = &input.input.record;
        return vec![Root {
            kind: record.kind.clone(),
            name: record.object.clone(),
            digest: record.digest.clone(),
        }];
    }
    input.artifact.roots.clone()
}

/// Checks that inputs that share a root come from the same digest of it.
///
/// # Errors
/// The first root of which two digests are in use, as a message.
pub fn converged(inputs: &[ReadyInput], consistency: Consistency) -> Result<(), String> {
    if consistency == Consistency::Any {
        return Ok(());
    }
    let mut seen: BTreeMap<(String, String), (Root, &str)> = BTreeMap::new();
    for input in inputs {
        for root in roots_of(input) {
            let key = (root.kind.clone(), root.name.clone());
            match seen.get(&key) {
                Some((other, by)) if other.digest != root.digest => {
                    return Err(format!(
                        "inputs {by} and {} come from different versions of {} {} ({} and {}); waiting until both \
                         have followed",
                        input.input.record.name,
                        root.kind,
                        root.name,
                        other.digest.short(12),
                        root.digest.short(12),
                    ));
                }
                Some(_) => {}
                None => {
                    seen.insert(key, (root, &input.input.record.name));
                }
            }
        }
    }
    Ok(())
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
        for next in lookup(last).iter().flat_map(|object| object.references()) {
            let mut longer = path.clone();
            longer.push(next.clone());
            open.push(longer);
        }
    }
    None
}

/// When the newest of the inputs was published.
pub fn newest(inputs: &[ReadyInput]) -> Option<Timestamp> {
    inputs.iter().filter_map(|input| input.artifact.produced_at.parse().ok()).max()
}

/// The references of `inputs`.
pub fn references(inputs: &[NamedInput]) -> Vec<ObjectRef> {
    inputs.iter().map(|input| input.from.clone()).collect()
}
