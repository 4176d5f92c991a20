//! The chain: which inputs may be used, where a problem began, and who depends on whom.
//!
//! Everything is decided from the contract's part of a status, never from the producer's own type.

mod caches;

use crate::{
    condition::{self, MESSAGE_BYTES_MAX},
    resource::{ApiKind, InputObject},
};
use kube::Resource;
use mlop_api::{
    Artifact, Reason,
    common::{Consistency, NamedInput, ObjectRef},
    contract::{Cause, InputRecord, Root, condition_type},
    run::RunInput,
};
use std::{collections::BTreeMap, sync::Arc};

pub use caches::Inputs;

/// Longest chain of references that is followed when looking for a cycle.
const DEPTH_MAX: usize = 32;

/// An input as the cache knows it.
#[derive(Clone, Debug)]
pub struct InputState {
    pub name: String,
    pub from: ObjectRef,
    /// How to address the kind; none when the operator does not watch it.
    pub kind: Option<ApiKind>,
    pub object: Option<Arc<InputObject>>,
}

/// An input that may be used.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadyInput {
    pub kind: ApiKind,
    pub input: RunInput,
    pub artifact: Artifact,
    pub metrics: Vec<mlop_api::common::Metric>,
    pub registered: Option<mlop_api::result::Registered>,
    /// A problem upstream that does not make this version unusable: newer data failed.
    pub upstream: Option<UpstreamFailure>,
}

/// Where a problem began, and the path from here to there.
#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamFailure {
    pub cause: Cause,
    /// `FeatureView v <- Dataset d: SchemaMismatch: ...`, from the input on.
    pub path: String,
}

/// Why an input may not be used (yet).
#[derive(Clone, Debug, PartialEq)]
pub struct BlockedInput {
    pub reason: Reason,
    pub message: String,
    pub upstream: Option<UpstreamFailure>,
}

/// May this input be used? It must not be on its way out, and be Ready with an artifact for exactly the spec it has
/// now. Whatever is missing means "not yet".
///
/// # Errors
/// What is missing, in words, with the cause if the input knows one.
#[expect(clippy::result_large_err, reason = "both sides are taken apart at once by the one caller per pass")]
pub fn gate(state: &InputState) -> Result<ReadyInput, BlockedInput> {
    let label = format!("{} {}", state.from.kind, state.from.name);
    let waiting =
        |message: String| BlockedInput { reason: Reason::WaitingForInputs, message, upstream: None };
    let Some(kind) = &state.kind else {
        let message = format!(
            "this operator does not watch the kind {}.{}; add it to --input-kinds",
            state.from.kind, state.from.api_group
        );
        return Err(BlockedInput { reason: Reason::InputKindUnknown, message, upstream: None });
    };
    let Some(object) = &state.object else {
        return Err(waiting(format!("{label} does not exist yet")));
    };
    let upstream = upstream(&state.from, object);
    if object.metadata.deletion_timestamp.is_some() {
        return Err(waiting(format!("{label} is being deleted")));
    }
    let generation = object.metadata.generation.unwrap_or_default();
    let ready = condition::get(&object.status.conditions, condition_type::READY);
    let ready_now = object.status.observed_generation == Some(generation)
        && ready.is_some_and(|c| c.status == "True" && c.observed_generation == Some(generation));
    let artifact = object.status.artifact.as_ref().filter(|a| a.generation == generation);
    match artifact {
        Some(artifact) if ready_now => Ok(usable(state, kind, object, artifact, upstream)),
        _ => Err(match upstream {
            Some(upstream) => BlockedInput {
                reason: Reason::UpstreamFailed,
                message: upstream.path.clone(),
                upstream: Some(upstream),
            },
            // Why it is not ready is its own to say: repeating it would rewrite every status downstream.
            None => waiting(format!("{label} is not ready yet")),
        }),
    }
}

fn usable(
    state: &InputState,
    kind: &ApiKind,
    object: &InputObject,
    artifact: &Artifact,
    upstream: Option<UpstreamFailure>,
) -> ReadyInput {
    let record = InputRecord {
        name: state.name.clone(),
        api_group: state.from.api_group.clone(),
        kind: state.from.kind.clone(),
        object: state.from.name.clone(),
        uid: object.metadata.uid.clone().unwrap_or_default(),
        generation: object.metadata.generation.unwrap_or_default(),
        digest: artifact.digest.clone(),
    };
    ReadyInput {
        kind: kind.clone(),
        input: RunInput { record, store: artifact.store.clone(), media_type: artifact.media_type.clone() },
        artifact: artifact.clone(),
        metrics: object.status.metrics.clone(),
        registered: object.status.registered.clone(),
        upstream,
    }
}

/// The problem that `object` reports, with the path that leads to it.
fn upstream(from: &ObjectRef, object: &InputObject) -> Option<UpstreamFailure> {
    let cause = object.status.cause.clone()?;
    let here = format!("{} {}", from.kind, from.name);
    let reported = [condition_type::UP_TO_DATE, condition_type::INPUTS_READY]
        .into_iter()
        .filter_map(|kind| condition::get(&object.status.conditions, kind))
        .find(|c| c.status != "True" && c.message.starts_with(&here))
        .map(|c| c.message.clone());
    let path = reported.unwrap_or_else(|| path(&here, &cause, None));
    Some(UpstreamFailure { cause, path })
}

/// `here`, and how the problem got here: directly, or through `upstream`.
pub fn path(here: &str, cause: &Cause, upstream: Option<&UpstreamFailure>) -> String {
    let text = match upstream {
        Some(upstream) => format!("{here} <- {}", upstream.path),
        None if here == format!("{} {}", cause.kind, cause.name) => {
            format!("{here}: {}: {}", cause.reason, cause.message)
        }
        None => format!("{here} <- {} {}: {}: {}", cause.kind, cause.name, cause.reason, cause.message),
    };
    condition::truncated(&text, MESSAGE_BYTES_MAX)
}

/// Roots that a status has room for.
const ROOTS_MAX: usize = 32;

/// Where these inputs come from in the end. An input without roots is a root itself.
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

/// Inputs that share a root must come from the same digest of it.
///
/// # Errors
/// The first root of which two digests are in use, in words.
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
                        "inputs {by} and {} come from different versions of {} {} ({} and {}); waiting until both have followed",
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

/// Looks for a way from `start` back to itself along references. `lookup` reads the caches.
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

/// What dependents react to in an input. Everything else in its status changes without waking them.
#[derive(PartialEq)]
pub struct Signal<'a> {
    uid: Option<&'a str>,
    deleting: bool,
    generation: Option<i64>,
    observed: Option<i64>,
    artifact: Option<&'a Artifact>,
    conditions: Vec<(&'a str, &'a str, &'a str)>,
    cause: Option<&'a Cause>,
}

pub fn signal(object: &InputObject) -> Signal<'_> {
    let watched = [condition_type::READY, condition_type::UP_TO_DATE, condition_type::STALLED];
    let conditions = object.status.conditions.iter().filter(|c| watched.contains(&c.type_.as_str()));
    Signal {
        uid: object.meta().uid.as_deref(),
        deleting: object.meta().deletion_timestamp.is_some(),
        generation: object.meta().generation,
        observed: object.status.observed_generation,
        artifact: object.status.artifact.as_ref(),
        conditions: conditions.map(|c| (c.type_.as_str(), c.status.as_str(), c.reason.as_str())).collect(),
        cause: object.status.cause.as_ref(),
    }
}

/// The references of `inputs`.
pub fn references(inputs: &[NamedInput]) -> Vec<ObjectRef> {
    inputs.iter().map(|input| input.from.clone()).collect()
}
