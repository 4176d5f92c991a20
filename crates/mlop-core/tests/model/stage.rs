//! The stages of the model: FeatureViews that decide with the real `intent::plan`, below one Dataset.

use crate::shared::Shared;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::ResourceExt;
use mlop_api::{
    Digest,
    common::{Consistency, Flow, NamedInput},
    dataset::Dataset,
    features::{FeatureContent, FeatureSnapshot, FeatureSnapshotSpec, FeatureView},
    run::{Execution, Lineage},
    status::Verdict,
};
use mlop_core::{
    Blocked,
    children::profile::Profile,
    inputs::{InputState, ReadyInput},
    intent::{Activation, Identity, Intent, Observed},
    resource::{ApiKind, InputObject},
};
use serde_json::{Value, json};
use std::sync::Arc;

/// The stages in the order of the chain.
pub const STAGES: [&str; 4] = ["a", "b", "c", "d"];
pub const SOURCE: &str = "s";

/// The inputs of the stages. The first two feed the third, which feeds the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Both inputs come from the source.
    Diamond,
    /// The second input is made from the first.
    Nested,
}

impl Shape {
    /// Names of the inputs of a stage.
    pub fn inputs(self, stage: usize) -> &'static [&'static str] {
        match (stage, self) {
            (0, _) | (1, Self::Diamond) => &[SOURCE],
            (1, Self::Nested) => &["a"],
            (2, _) => &["a", "b"],
            _ => &["c"],
        }
    }

    /// The stages that consume `name`, with the position of the input.
    pub fn consumers(self, name: &str) -> impl Iterator<Item = (usize, usize)> {
        (0..STAGES.len()).filter_map(move |stage| {
            self.inputs(stage).iter().position(|input| *input == name).map(|input| (stage, input))
        })
    }
}

/// The time of every reconcile: late enough after every creation for progress to be reported.
pub fn now() -> Timestamp {
    Timestamp::from_second(1_000_000).expect("a valid time")
}

/// When a revision was published: long before any reconcile, and in order.
pub fn published_at(revision: i64) -> Timestamp {
    Timestamp::from_second(2 * revision).expect("a valid time")
}

/// When a run ended while that revision was published.
pub fn ended_at(revision: i64) -> Timestamp {
    Timestamp::from_second(2 * revision + 1).expect("a valid time")
}

fn created() -> Option<Time> {
    Some(Time(Timestamp::UNIX_EPOCH))
}

/// The intent under test. Listings, gates and activation are left out of the search; the annotations below stand for them.
pub struct Stage;

/// A stage with this annotation waits for its activation.
pub const WAITS: &str = "waits";
/// The ObjectStore of all snapshots.
const STORE: &str = "files";
/// A stage with this annotation rejects every result.
pub const REJECTS: &str = "rejects";

impl Intent for Stage {
    type Resource = FeatureView;
    type Run = FeatureSnapshot;
    type Related = ();

    fn observe(&self, _: &FeatureView, _: &[Arc<FeatureSnapshot>]) {}

    fn flow(object: &FeatureView) -> &dyn Flow {
        &object.spec
    }

    fn inputs(object: &FeatureView) -> Vec<NamedInput> {
        object.spec.inputs.clone()
    }

    fn consistency(object: &FeatureView) -> Consistency {
        object.spec.consistency
    }

    fn identity(observed: &Observed<Self>) -> Result<Identity<FeatureContent>, Blocked> {
        let content = FeatureContent::from(&observed.object.spec);
        Ok(Identity { content, store: Some(STORE.to_owned()), digests: Vec::new(), since: None })
    }

    fn execution(_: &FeatureView) -> Execution {
        Execution::default()
    }

    fn run(
        _: &Observed<Self>,
        meta: ObjectMeta,
        identity: &Identity<FeatureContent>,
        lineage: Lineage,
        execution: Execution,
        _: &[ReadyInput],
    ) -> FeatureSnapshot {
        let (content, store) = (identity.content.clone(), STORE.to_owned());
        let spec = FeatureSnapshotSpec { content, lineage, store, execution };
        FeatureSnapshot { metadata: meta, spec, status: None }
    }

    fn judge(object: &FeatureView, run: &FeatureSnapshot) -> Option<Verdict> {
        object.annotations().contains_key(REJECTS).then(|| Verdict {
            run: run.name_any(),
            gates_digest: Digest::of_bytes(b"gates"),
            passed: false,
            message: "never good enough".to_owned(),
        })
    }

    fn activation(observed: &Observed<Self>, _: &FeatureSnapshot) -> Activation {
        let waits = observed.object.annotations().contains_key(WAITS);
        if waits { Activation::waiting("not there yet") } else { Activation::None }
    }
}

/// The observed state of a stage.
pub fn observed(
    object: &Shared<FeatureView>,
    inputs: &[Option<Shared<InputObject>>],
    runs: &[Shared<FeatureSnapshot>],
) -> Observed<Stage> {
    let states = Stage::inputs(object).into_iter().zip(inputs).map(|(input, object)| InputState {
        kind: Some(kind_of(&input.from.name)),
        name: input.name,
        from: input.from,
        object: object.as_ref().map(Shared::arc),
        unavailable: None,
        holds: Vec::new(),
    });
    Observed {
        inputs: states.collect(),
        object: object.arc(),
        runs: runs.iter().map(Shared::arc).collect::<Vec<Arc<_>>>(),
        pods: Vec::new(),
        cycle: None,
        profile: Profile::default(),
        operator: "mlop-model".to_owned(),
        worker_image: "worker".to_owned(),
        related: (),
    }
}

fn kind_of(name: &str) -> ApiKind {
    if name == SOURCE { ApiKind::of::<Dataset>() } else { ApiKind::of::<FeatureView>() }
}

/// A stage as the user creates it. `born` counts the objects that had its name before, from 1.
pub fn view(shape: Shape, stage: usize, born: u8) -> Value {
    let name = STAGES[stage];
    let inputs = shape.inputs(stage).iter().map(|input| {
        json!({"name": input, "from": {"kind": if *input == SOURCE { "Dataset" } else { "FeatureView" }, "name": input}})
    });
    json!({
        "apiVersion": "mlop.dev/v1alpha1",
        "kind": "FeatureView",
        "metadata": {"name": name, "namespace": "default", "uid": format!("{name}-{born}"), "generation": 1,
            "creationTimestamp": created()},
        "spec": {"inputs": inputs.collect::<Vec<_>>(), "sql": "1", "entities": ["e"], "timestamp": "t",
            "featureStore": "features", "historyLimit": 1},
    })
}

/// The source: always ready, at a version of its data, perhaps unable to read newer data.
pub fn source(version: u8, revision: u8, failing: bool) -> Value {
    let digest = source_digest(version);
    let at = created();
    let condition = |kind: &str, is: bool| {
        json!({"type": kind, "status": if is { "True" } else { "False" }, "reason": "Ready",
            "message": "m", "observedGeneration": 1, "lastTransitionTime": at})
    };
    let cause = failing
        .then(|| json!({"kind": "Dataset", "name": SOURCE, "reason": "SchemaMismatch", "message": "no"}));
    json!({
        "metadata": {"name": SOURCE, "namespace": "default", "uid": "s-1", "generation": 1},
        "status": {
            "observedGeneration": 1,
            "artifact": {"digest": digest, "store": "files", "uri": "s3://files", "mediaType": "table",
                "revision": revision, "generation": 1, "inputDigest": digest, "run": "s-run", "inputs": [],
                "ancestors": [], "producedAt": "2026-01-01T00:00:00.000000Z"},
            "cause": cause,
            "conditions": [condition("Ready", true), condition("UpToDate", !failing)],
        },
    })
}

pub fn source_digest(version: u8) -> Digest {
    Digest::of_bytes(format!("source {version}").as_bytes())
}

/// The true output of a stage, against which statuses are checked.
///
/// Two stages drop information, so that equal outputs occur: the first does not distinguish versions 2 and 3 of the
/// source, and the third has the same output for both of its SQL texts.
pub fn output<'a>(stage: usize, sql: &str, inputs: impl Iterator<Item = &'a Digest>) -> Digest {
    let coarse = |digest: &Digest| {
        let digest = digest.clone();
        if stage == 0 && digest == source_digest(3) { source_digest(2) } else { digest }
    };
    let inputs: Vec<_> = inputs.map(coarse).collect();
    let sql = if stage == 2 { "any" } else { sql };
    Digest::of_bytes(format!("{stage} {sql} {inputs:?}").as_bytes())
}
