//! The input digest: it names a run, so equal work has an equal name and cannot start twice (rule R3).

use super::{Identity, Intent, Observed};
use crate::{
    inputs::ReadyInput,
    run::{Content, RunResource},
};
use kube::core::object::HasSpec;
use mlop_api::{Digest, run::RunSpec};
use serde::Serialize;
use serde_json::{Value, json};

/// The digest of a run of `identity` on `inputs`.
pub(super) fn input_digest<I: Intent>(
    identity: &Identity<Content<I::Run>>,
    inputs: &[ReadyInput],
    semantics: u32,
) -> Digest {
    let named = inputs.iter().map(|input| (input.input.record.name.clone(), input.artifact.digest.clone()));
    identity.digest(&Observed::<I>::kind(), named.chain(identity.digests.iter().cloned()), semantics)
}

/// Whether `run` is the run of `identity` on the run's own inputs, and these are the inputs that the spec names.
pub(super) fn is_run_of<I: Intent>(
    observed: &Observed<I>,
    identity: &Identity<Content<I::Run>>,
    run: &I::Run,
) -> bool {
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
    let inputs = inputs.chain(run.spec().digests());
    identity.digest(&Observed::<I>::kind(), inputs, lineage.semantics_version) == lineage.input_digest
}

/// Largest integer up to which every integer has a floating-point number of its own. Canonical JSON writes all numbers
/// as such.
const EXACT_MAX: u64 = 1 << 53;

impl<C: Serialize> Identity<C> {
    /// The input digest of a run for an intent of `kind` on inputs of these names and digests. It is the SHA-256 of
    /// a canonical JSON document (RFC 8785), so neither the order of fields nor that of inputs matters.
    pub fn digest(
        &self,
        kind: &str,
        inputs: impl Iterator<Item = (String, Digest)>,
        semantics: u32,
    ) -> Digest {
        let mut inputs: Vec<_> = inputs.collect();
        inputs.sort();
        let mut document = json!({
            "kind": kind,
            "semanticsVersion": semantics,
            "spec": self.content,
            "inputs": inputs,
        });
        if let (Some(store), Value::Object(fields)) = (&self.store, &mut document) {
            fields.insert("store".to_owned(), store.as_str().into());
        }
        Digest::of(&exact(document))
    }
}

/// `value` with integers beyond [`EXACT_MAX`] as texts: otherwise some of them would have the same canonical form.
fn exact(value: Value) -> Value {
    match value {
        Value::Number(number) => {
            let magnitude = number.as_i64().map(i64::unsigned_abs).or_else(|| number.as_u64());
            match magnitude {
                Some(magnitude) if magnitude > EXACT_MAX => number.to_string().into(),
                _ => number.into(),
            }
        }
        Value::Array(items) => items.into_iter().map(exact).collect(),
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, exact(value))).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(content: Value, store: Option<&str>, inputs: &[(&str, &str)]) -> Digest {
        let identity = Identity { content, store: store.map(Into::into), digests: Vec::new(), since: None };
        let inputs = inputs.iter().map(|(name, text)| ((*name).into(), Digest::of_bytes(text.as_bytes())));
        identity.digest("Stage", inputs, 1)
    }

    #[test]
    fn digest_differs_by_every_determinant() {
        let rows = [
            digest(json!({"a": 1}), None, &[]),
            digest(json!({"a": 2}), None, &[]),
            digest(json!({"a": 1, "b": ""}), None, &[]),
            digest(json!({"a": 1}), Some("files"), &[]),
            digest(json!({"a": 1}), Some("models"), &[]),
            digest(json!({"a": 1}), None, &[("x", "one")]),
            digest(json!({"a": 1}), None, &[("x", "two")]),
            digest(json!({"a": 1}), None, &[("y", "one")]),
        ];
        for (index, row) in rows.iter().enumerate() {
            assert!(!rows[..index].contains(row), "row {index}");
        }
    }

    #[test]
    fn digest_ignores_the_order_of_fields_and_inputs() {
        let (one, two) = ([("x", "1"), ("y", "2")], [("y", "2"), ("x", "1")]);
        let (left, right) = (json!({"a": 1, "b": 2}), json!({"b": 2, "a": 1}));
        assert_eq!(digest(left, None, &one), digest(right, None, &two));
    }

    #[test]
    fn digest_is_exact_for_every_integer() {
        let seeds = [i64::MIN, -(1 << 53) - 1, -(1 << 53), (1 << 53), (1 << 53) + 1, i64::MAX - 1, i64::MAX];
        let digests: Vec<_> = seeds.iter().map(|seed| digest(json!({"seed": seed}), None, &[])).collect();
        for (index, seed) in seeds.iter().enumerate() {
            assert!(!digests[..index].contains(&digests[index]), "{seed}");
        }
    }
}
