//! Lineage: where inputs come from, and whether they fit together.

use super::{gate::ReadyInput, graph::Hold};
use jiff::Timestamp;
use mlop_api::{
    Digest, Time,
    common::{Consistency, ObjectRef},
    contract::{Ancestor, InputRecord},
};
use std::collections::BTreeMap;

/// Ancestors that a status has room for.
const ANCESTORS_MAX: usize = 128;

/// The resources that an artifact made from these inputs descends from: the inputs and their ancestors, those without
/// inputs first.
pub fn ancestors(inputs: &[ReadyInput]) -> Vec<Ancestor> {
    let mut ancestors: Vec<Ancestor> = inputs.iter().flat_map(with_ancestors).collect();
    ancestors.sort_by(|a, b| {
        let newest_first = || (b.produced_at, &b.input_digest).cmp(&(a.produced_at, &a.input_digest));
        b.root.cmp(&a.root).then_with(|| identity(a).cmp(&identity(b))).then_with(newest_first)
    });
    ancestors.dedup_by(|next, kept| identity(next) == identity(kept));
    ancestors.truncate(ANCESTORS_MAX);
    ancestors
}

/// The ancestors of an artifact on `inputs` whose ancestors are `known`. They stay as they are while they are the same
/// artifacts: a parent that was made again with equal content changes no status downstream.
pub fn renewed_ancestors(known: &[Ancestor], inputs: &[ReadyInput]) -> Vec<Ancestor> {
    let present = ancestors(inputs);
    if known.iter().map(identity).eq(present.iter().map(identity)) { known.to_vec() } else { present }
}

fn identity(ancestor: &Ancestor) -> (&str, &str, &str, &Digest, bool) {
    let Ancestor { api_group, kind, name, digest, root, .. } = ancestor;
    (api_group, kind, name, digest, *root)
}

/// The input itself and its ancestors.
fn with_ancestors(input: &ReadyInput) -> Vec<Ancestor> {
    let record = &input.input.record;
    let mut ancestors = input.artifact.ancestors.clone();
    let root = ancestors.is_empty();
    ancestors.push(Ancestor {
        api_group: record.api_group.clone(),
        kind: record.kind.clone(),
        name: record.object.clone(),
        digest: record.digest.clone(),
        root,
        input_digest: root.then(|| input.artifact.input_digest.clone()),
        produced_at: Some(input.artifact.produced_at),
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
    let mut seen: BTreeMap<ObjectRef, (Digest, &ReadyInput)> = BTreeMap::new();
    for input in inputs {
        for Ancestor { api_group, kind, name, digest, .. } in with_ancestors(input) {
            let shared = ObjectRef { api_group, kind, name };
            match seen.get(&shared) {
                Some((other, by)) if *other != digest => {
                    return Err(diverged(&shared, (by, other), (input, &digest)));
                }
                Some(_) => {}
                None => {
                    seen.insert(shared, (digest, input));
                }
            }
        }
    }
    Ok(())
}

/// Says that two inputs come from two digests of `shared`, and who keeps them apart.
fn diverged(shared: &ObjectRef, a: (&ReadyInput, &Digest), b: (&ReadyInput, &Digest)) -> String {
    // Both inputs follow a hold of the shared ancestor itself.
    let hold = a.0.holds.iter().chain(&b.0.holds).find(|hold| hold.object != *shared);
    let wait = match hold {
        None => "waiting until both have followed".to_owned(),
        Some(Hold { object: ObjectRef { kind, name, .. }, field }) => {
            format!(
                "{field} of {kind} {name} holds it back: remove it, or hold the others at the same version"
            )
        }
    };
    format!(
        "inputs {} and {} come from different versions of {} {} ({} and {}); {wait}",
        a.0.input.record.name,
        b.0.input.record.name,
        shared.kind,
        shared.name,
        a.1.short(12),
        b.1.short(12),
    )
}

/// When the last of `inputs` was published, as far as their `ancestors` tell.
pub fn last_published<'a>(
    inputs: impl Iterator<Item = &'a InputRecord>,
    ancestors: &[Ancestor],
) -> Option<Time> {
    let published = inputs.filter_map(|input| {
        let is_input = |ancestor: &&Ancestor| {
            (&ancestor.kind, &ancestor.name, &ancestor.digest) == (&input.kind, &input.object, &input.digest)
        };
        ancestors.iter().find(is_input)?.produced_at
    });
    published.max()
}

/// When the newest of the inputs was published.
pub fn newest(inputs: &[ReadyInput]) -> Option<Timestamp> {
    inputs.iter().map(|input| input.artifact.produced_at.get()).max()
}
