//! Lineage: where inputs come from, and whether they fit together.

use super::gate::ReadyInput;
use crate::resource::InputObject;
use jiff::Timestamp;
use mlop_api::{
    Digest,
    common::{Consistency, NamedInput, ObjectRef},
    contract::Ancestor,
};
use std::{collections::BTreeMap, sync::Arc};

/// Longest chain of references that the search for a cycle follows.
const DEPTH_MAX: usize = 32;
/// Ancestors that a status has room for.
const ANCESTORS_MAX: usize = 128;

/// The resources that an artifact made from these inputs descends from: the inputs and their ancestors, those without
/// inputs first.
pub fn ancestors(inputs: &[ReadyInput]) -> Vec<Ancestor> {
    let mut ancestors: Vec<Ancestor> = inputs.iter().flat_map(with_ancestors).collect();
    ancestors.sort_by(|a, b| b.root.cmp(&a.root).then_with(|| a.cmp(b)));
    ancestors.dedup();
    ancestors.truncate(ANCESTORS_MAX);
    ancestors
}

/// The input itself and its ancestors.
fn with_ancestors(input: &ReadyInput) -> Vec<Ancestor> {
    let record = &input.input.record;
    let mut ancestors = input.artifact.ancestors.clone();
    ancestors.push(Ancestor {
        api_group: record.api_group.clone(),
        kind: record.kind.clone(),
        name: record.object.clone(),
        digest: record.digest.clone(),
        root: ancestors.is_empty(),
    });
    ancestors
}

/// Checks that inputs which share an ancestor come from the same digest of it. An input is its own ancestor here, so
/// an input that another one was made from must be that very version.
///
/// # Errors
/// The first ancestor of which two digests are in use, in words.
pub fn converged(inputs: &[ReadyInput], consistency: Consistency) -> Result<(), String> {
    if consistency == Consistency::Any {
        return Ok(());
    }
    let mut seen: BTreeMap<(String, String, String), (Digest, &str)> = BTreeMap::new();
    for input in inputs {
        for Ancestor { api_group, kind, name, digest, .. } in with_ancestors(input) {
            match seen.get(&(api_group.clone(), kind.clone(), name.clone())) {
                Some((other, by)) if *other != digest => {
                    return Err(format!(
                        "inputs {by} and {} come from different versions of {kind} {name} ({} and {}); waiting until both have followed",
                        input.input.record.name,
                        other.short(12),
                        digest.short(12),
                    ));
                }
                Some(_) => {}
                None => {
                    seen.insert((api_group, kind, name), (digest, &input.input.record.name));
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
        for next in lookup(last).iter().flat_map(|object| &object.references) {
            let mut longer = path.clone();
            longer.push(next.clone());
            open.push(longer);
        }
    }
    None
}

/// When the newest of the inputs was published.
pub fn newest(inputs: &[ReadyInput]) -> Option<Timestamp> {
    inputs.iter().map(|input| input.artifact.produced_at.get()).max()
}

/// The references of `inputs`.
pub fn references(inputs: &[NamedInput]) -> Vec<ObjectRef> {
    inputs.iter().map(|input| input.from.clone()).collect()
}
