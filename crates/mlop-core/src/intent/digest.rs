//! The input digest: it names a run, so equal work has an equal name and cannot start twice.

use super::{Identity, Intent, Observed};
use crate::{inputs::ReadyInput, run::RunResource};
use mlop_api::Digest;
use serde_json::{Value, json};

/// The digest of a run of `identity` on `inputs`.
pub(super) fn input_digest<I: Intent>(identity: &Identity, inputs: &[ReadyInput], semantics: u32) -> Digest {
    let named = inputs.iter().map(|input| (input.input.record.name.clone(), input.artifact.digest.clone()));
    digest_of::<I>(identity, named.chain(identity.digests.iter().cloned()), semantics)
}

/// Whether `run` is the run of `identity` on the run's own inputs, and these are the inputs that the spec names.
pub(super) fn is_run_of<I: Intent>(observed: &Observed<I>, identity: &Identity, run: &I::Run) -> bool {
    let lineage = run.lineage();
    let mut named: Vec<_> = I::inputs(&observed.object)
        .into_iter()
        .map(|input| (input.name, input.from.api_group, input.from.kind, input.from.name))
        .collect();
    let records = lineage.inputs.iter().map(|input| input.record.clone());
    let mut used: Vec<_> =
        records.map(|record| (record.name, record.api_group, record.kind, record.object)).collect();
    named.sort();
    used.sort();
    if named != used {
        return false;
    }
    let inputs = lineage.inputs.iter().map(|input| (input.record.name.clone(), input.record.digest.clone()));
    let digest = digest_of::<I>(identity, inputs.chain(I::digests(run)), lineage.semantics_version);
    digest == lineage.input_digest
}

fn digest_of<I: Intent>(
    identity: &Identity,
    inputs: impl Iterator<Item = (String, Digest)>,
    semantics: u32,
) -> Digest {
    let mut digests: Vec<_> = inputs.collect();
    digests.sort();
    Digest::of(&json!({
        "kind": Observed::<I>::kind(),
        "semanticsVersion": semantics,
        "spec": identity.spec,
        "inputs": digests,
    }))
}

/// `value` without null, false, and empty strings, lists and objects. A field that is added later with such a default
/// leaves earlier digests unchanged.
pub fn significant(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.into_iter().map(|(key, value)| (key, significant(value)));
            Value::Object(kept.filter(|(_, value)| !is_default(value)).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(significant).collect()),
        other => other,
    }
}

fn is_default(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}
