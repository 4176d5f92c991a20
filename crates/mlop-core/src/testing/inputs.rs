//! Inputs in the states that matter.

use super::{NOW, NS, time};
use crate::{
    inputs::InputState,
    resource::{ApiKind, InputObject},
};
use mlop_api::{Digest, MEDIA_TABLE, Reason, common::ObjectRef};
use serde_json::{Value, json};
use std::sync::Arc;

/// The input `name` of the Dataset `name`, whose object is `object`.
pub fn input(name: &str, object: Option<Value>) -> InputState {
    let from = ObjectRef { api_group: "mlop.dev".into(), kind: "Dataset".into(), name: name.to_owned() };
    let kind = ApiKind {
        group: "mlop.dev".into(),
        version: "v1alpha1".into(),
        kind: "Dataset".into(),
        plural: "datasets".into(),
    };
    let object: Option<InputObject> = object.map(|object| serde_json::from_value(object).unwrap());
    InputState {
        name: name.to_owned(),
        from,
        kind: Some(kind),
        object: object.map(Arc::new),
        unavailable: None,
        holds: Vec::new(),
    }
}

/// `state` as an input of this kind of mlop.
pub fn of_kind(mut state: InputState, kind: &str) -> InputState {
    kind.clone_into(&mut state.from.kind);
    state.kind = Some(format!("{kind}.v1alpha1.mlop.dev").parse().unwrap());
    state
}

/// An input that does not exist.
pub fn missing(name: &str) -> InputState {
    input(name, None)
}

/// The first version of an input, published 100 s before [`NOW`].
pub fn ready(name: &str) -> InputState {
    version(name, 1, -100)
}

/// Version `number` of an input, published `seconds` after [`NOW`].
pub fn version(name: &str, number: u32, seconds: i64) -> InputState {
    input(name, Some(dataset(name, number, seconds, json!([]), Value::Null)))
}

/// A ready input that descends from version `root` of the Dataset `root`.
pub fn descendant(name: &str, root: u32) -> InputState {
    let digest = Digest::of_bytes(&root.to_be_bytes());
    let ancestors = json!([
        {"apiGroup": "mlop.dev", "kind": "Dataset", "name": "root", "digest": digest, "root": true},
    ]);
    input(name, Some(dataset(name, root, -100, ancestors, Value::Null)))
}

/// A ready input whose newer data has failed.
pub fn outdated(name: &str) -> InputState {
    input(name, Some(dataset(name, 1, -100, json!([]), cause(name))))
}

/// An input that has failed and has nothing to offer.
pub fn failed(name: &str) -> InputState {
    let mut object = dataset(name, 1, -100, json!([]), cause(name));
    object["status"]["artifact"] = Value::Null;
    object["status"]["conditions"][0]["status"] = json!("False");
    input(name, Some(object))
}

/// The input `state` with this reason of its problem.
pub fn because(mut state: InputState, reason: Reason) -> InputState {
    let object = state.object.as_mut().map(Arc::make_mut);
    if let Some(cause) = object.and_then(|object| object.status.cause.as_mut()) {
        cause.reason = reason.to_string();
    }
    state
}

fn cause(name: &str) -> Value {
    json!({"kind": "Dataset", "name": name, "reason": "SchemaMismatch", "message": "no column x"})
}

/// A Dataset with version `version` as its artifact, published `seconds` after [`NOW`].
pub fn dataset(name: &str, version: u32, seconds: i64, ancestors: Value, cause: Value) -> Value {
    let digest = Digest::of_bytes(format!("{name} {version}").as_bytes());
    let at = super::at(NOW + seconds);
    json!({
        "metadata": {"name": name, "namespace": NS, "uid": format!("{name}-uid"), "generation": 1},
        "status": {
            "observedGeneration": 1,
            "artifact": {"digest": digest, "store": "files", "uri": "s3://files", "mediaType": MEDIA_TABLE,
                "revision": version, "generation": 1, "inputDigest": digest, "run": "r", "inputs": [],
                "ancestors": ancestors, "producedAt": format!("{at:.6}")},
            "cause": cause,
            "conditions": [{"type": "Ready", "status": "True", "reason": "Ready", "message": "",
                "observedGeneration": 1, "lastTransitionTime": time(NOW)}],
        },
    })
}
