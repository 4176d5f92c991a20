//! Input digests: golden values, and which field of each spec enters them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failing test may panic"
)]

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;
use mlop_api::{
    Digest,
    dataset::{Dataset, DatasetContent, LISTING},
    features::{FeatureContent, FeatureView},
    registry::{Model, ModelContent},
    training::{TrainingContent, TrainingJob},
};
use mlop_core::intent::Identity;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const DATASET: &str = include_str!("../../mlop-api/tests/accepted/dataset.yaml");
const FEATURE_VIEW: &str = include_str!("../../mlop-api/tests/accepted/featureview.yaml");
const TRAINING_JOB: &str = include_str!("../../mlop-api/tests/accepted/trainingjob.yaml");
const MODEL: &str = include_str!("../../mlop-api/tests/accepted/model.yaml");

fn object<K: DeserializeOwned>(text: &str) -> K {
    serde_saphyr::from_str(text).unwrap()
}

fn digest<C: Serialize>(kind: &str, content: C, store: Option<&str>, inputs: &[&str]) -> String {
    let identity = Identity { content, store: store.map(Into::into), digests: Vec::new(), since: None };
    let inputs = inputs.iter().map(|name| ((*name).to_owned(), Digest::of_bytes(b"input")));
    identity.digest(kind, inputs, 1).to_string()
}

/// A changed digest starts every run of the kind again after an upgrade: it needs a decision record. The objects in
/// `golden/` keep the fields that they had when the digest was recorded.
#[test]
fn digest_of_a_golden_object_stays_the_same() {
    let dataset: Dataset = object(include_str!("golden/dataset.yaml"));
    let view: FeatureView = object(include_str!("golden/featureview.yaml"));
    let job: TrainingJob = object(include_str!("golden/trainingjob.yaml"));
    let model: Model = object(include_str!("golden/model.yaml"));
    let found = [
        digest("Dataset", DatasetContent::from(&dataset.spec), Some(&dataset.spec.store), &[LISTING]),
        digest("FeatureView", FeatureContent::from(&view.spec), Some("datasets"), &["flights", "weather"]),
        digest("TrainingJob", TrainingContent::from(&job.spec), Some(&job.spec.store), &["features"]),
        digest("Model", ModelContent::from(&model), None, &["model"]),
    ];
    assert_eq!(
        found,
        [
            "sha256:ddead2e145655ef9322f284f6ad9ad86cdf412b71463711f7ae1a2070166766d",
            "sha256:613a1c05aedbda9ddb29528d8a2c045f24cc3d71235b92533a26ecdfe0b90e1b",
            "sha256:37b4b08f728b7ab138fa4fd85402ab14bfafdc272d6267c4f0ecbbdd55529599",
            "sha256:e7675995490f5576c9bb1df76753cf459501ef409be3853f0e466d16659da37e",
        ]
    );
}

/// A field with a default that is not left out of the content would change the digests of all objects without it.
#[test]
fn content_leaves_out_fields_at_their_default() {
    let dataset: Dataset = object(
        "{metadata: {name: d}, spec: {source: {objects: {store: raw}, format: {csv: {}}}, columns: [{name: a, type: bool}], store: s}}",
    );
    let job: TrainingJob = object("{metadata: {name: j}, spec: {image: i, command: [c], store: s}}");
    assert_eq!(
        json!(DatasetContent::from(&dataset.spec)),
        json!({
            "format": {"csv": {"delimiter": ",", "nullTokens": [""]}},
            "columns": [{"name": "a", "type": "bool"}],
            "quarantine": {"maxRatio": "0"},
        })
    );
    assert_eq!(json!(TrainingContent::from(&job.spec)), json!({"image": "i", "command": ["c"], "seed": 0}));
}

/// Why a field of a spec is not part of the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beside {
    /// It enters the digest beside the content: an input or the output store.
    Digest,
    /// It decides when a run starts and which result is used.
    Policy,
    /// It decides how the work is carried out.
    Execution,
}

/// Fields that are not part of a content, by kind.
fn beside(kind: &str) -> BTreeMap<&'static str, Beside> {
    use Beside::{Digest, Execution, Policy};
    let common = [
        ("trigger", Policy),
        ("pin", Policy),
        ("suspend", Policy),
        ("historyLimit", Policy),
        ("retry", Execution),
        ("profile", Execution),
    ];
    let own: &[(&'static str, Beside)] = match kind {
        "Dataset" => &[
            ("source.objects", Digest),
            ("store", Digest),
            ("refresh", Policy),
            ("resources", Execution),
            ("deadline", Execution),
        ],
        "FeatureView" => &[
            ("inputs", Digest),
            ("featureStore", Digest),
            ("store", Digest),
            ("consistency", Policy),
            // How a snapshot is served: it enters the digest of the activation.
            ("ttl", Policy),
            ("resources", Execution),
            ("deadline", Execution),
        ],
        "TrainingJob" => &[
            ("inputs", Digest),
            ("store", Digest),
            ("consistency", Policy),
            ("workers", Execution),
            ("framework.pytorch.processesPerWorker", Execution),
            ("env", Execution),
            ("resources", Execution),
            ("scratch", Execution),
            ("sharedMemory", Execution),
            ("gracePeriod", Execution),
            ("nodeSelector", Execution),
            ("tolerations", Execution),
            ("pullSecrets", Execution),
            ("deadline", Execution),
            ("startTimeout", Execution),
            ("ttlAfterFinished", Execution),
            ("queue", Policy),
            ("priority", Policy),
        ],
        "Model" => &[("from", Digest), ("gates", Policy), ("alias", Policy)],
        _ => panic!("no table for {kind}"),
    };
    common.into_iter().chain(own.iter().copied()).collect()
}

/// Edits each field of `K`'s spec in turn: the content must differ, or the field must be in the table.
fn classify<K>(text: &str, content: impl Fn(&K) -> Value)
where
    K: CustomResourceExt + Serialize + DeserializeOwned + kube::Resource<DynamicType = ()>,
{
    let kind = K::kind(&()).into_owned();
    let table = beside(&kind);
    let before = serde_json::to_value(object::<K>(text)).unwrap();
    let known = content(&object::<K>(text));
    let mut used = BTreeSet::new();
    let mut edits: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for (path, spec) in edited(&spec_schema(&K::crd()), &before["spec"], "") {
        edits.entry(path).or_default().push(spec);
    }
    assert!(edits.len() > 10, "{kind}: {edits:?}");
    for (path, specs) in edits {
        let read = |spec: Value| {
            let mut object = before.clone();
            object["spec"] = spec;
            serde_json::from_value::<K>(object).ok()
        };
        let changed = specs.into_iter().find_map(read);
        let changed = changed.unwrap_or_else(|| panic!("{kind}: no edit of {path} is valid"));
        let entry = table.iter().find(|(name, _)| path == **name || path.starts_with(&format!("{name}.")));
        used.extend(entry.map(|(name, _)| *name));
        let differs = content(&changed) != known;
        assert_eq!(
            differs,
            entry.is_none(),
            "{kind}: {path} must either change the content or be in the table: {entry:?}"
        );
    }
    let unused: Vec<_> = table.keys().filter(|name| !used.contains(*name)).collect();
    assert!(unused.is_empty(), "{kind} has no field {unused:?}");
}

#[test]
fn field_changes_the_content_or_is_classified() {
    classify::<Dataset>(DATASET, |object| json!(DatasetContent::from(&object.spec)));
    classify::<FeatureView>(FEATURE_VIEW, |object| json!(FeatureContent::from(&object.spec)));
    classify::<TrainingJob>(TRAINING_JOB, |object| json!(TrainingContent::from(&object.spec)));
    classify::<Model>(MODEL, |object| json!(ModelContent::from(object)));
}

fn spec_schema(crd: &CustomResourceDefinition) -> JSONSchemaProps {
    let schema = crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
    schema.properties.as_ref().unwrap()["spec"].clone()
}

/// `value` with one field below `path` changed, for each such field and in several ways.
fn edited(schema: &JSONSchemaProps, value: &Value, path: &str) -> Vec<(String, Value)> {
    let base = if value.is_null() { filled(schema) } else { value.clone() };
    if let Some(fields) = &schema.properties {
        let mut edits = Vec::new();
        for (name, field) in fields {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            for (path, value) in edited(field, &base[name], &path) {
                let mut object = base.clone();
                object[name] = value;
                edits.push((path, object));
            }
        }
        return edits;
    }
    if let Some(JSONSchemaPropsOrArray::Schema(item)) = &schema.items {
        let mut longer = base.clone();
        longer.as_array_mut().unwrap().push(filled(item));
        let mut edits = vec![(path.to_owned(), longer)];
        if let Some(first) = base.as_array().and_then(|items| items.first()) {
            edits.extend(edited(item, first, path).into_iter().map(|(path, value)| {
                let mut base = base.clone();
                base[0] = value;
                (path, base)
            }));
        }
        return edits;
    }
    if let Some(JSONSchemaPropsOrBool::Schema(_)) = &schema.additional_properties {
        let mut larger = base;
        larger["new"] = "".into();
        return vec![(path.to_owned(), larger)];
    }
    leaves(schema).into_iter().filter(|leaf| leaf != value).map(|leaf| (path.to_owned(), leaf)).collect()
}

/// The least value that a schema accepts.
fn filled(schema: &JSONSchemaProps) -> Value {
    match schema.type_.as_deref() {
        Some("object") => {
            let fields = schema.properties.as_ref();
            let required = schema.required.iter().flatten();
            required.filter_map(|name| Some((name.clone(), filled(fields?.get(name)?)))).collect()
        }
        Some("array") => json!([]),
        _ => leaves(schema).remove(0),
    }
}

/// Values of a field without fields of its own; each type of text finds one that it can read among them.
fn leaves(schema: &JSONSchemaProps) -> Vec<Value> {
    match (schema.type_.as_deref(), &schema.enum_) {
        (_, Some(values)) => values.iter().map(|value| value.0.clone()).collect(),
        (Some("integer"), _) => vec![json!(7), json!(8)],
        (Some("boolean"), _) => vec![json!(true), json!(false)],
        _ => vec![json!("7m"), json!("8m"), json!("7")],
    }
}
