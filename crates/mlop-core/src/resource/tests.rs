//! Objects of any shape, and names of kinds.

use super::*;

#[test]
fn input_of_another_shape_is_read_as_far_as_the_contract_goes() {
    let artifact = json!({"digest": format!("sha256:{}", "a".repeat(64)), "store": "files", "uri": "s3://files",
        "mediaType": "table", "revision": 1, "inputDigest": format!("sha256:{}", "b".repeat(64)), "run": "r",
        "producedAt": "2026-01-01T00:00:00Z"});
    let without = |field: &str| {
        let mut artifact = artifact.clone();
        artifact.as_object_mut().unwrap().remove(field);
        artifact
    };
    let from = json!({"kind": "Dataset", "name": "d"});
    let artifact_at = |time: &str| {
        let mut artifact = artifact.clone();
        artifact["producedAt"] = json!(time);
        artifact
    };
    let rows = [
        ("empty", json!({}), json!({}), "0 references"),
        ("no status", json!({"from": from}), Value::Null, "1 references"),
        (
            "a stage",
            json!({"inputs": [{"from": from}]}),
            json!({"artifact": artifact}),
            "1 references, artifact",
        ),
        (
            "inputs that are a map",
            json!({"inputs": {"a": 1}}),
            json!({"artifact": artifact}),
            "0 references, artifact",
        ),
        ("inputs of another shape", json!({"inputs": ["a", {"from": 1}, 2]}), json!({}), "0 references"),
        (
            "from that is a text",
            json!({"from": "2024-01-01"}),
            json!({"artifact": artifact}),
            "0 references, artifact",
        ),
        ("a spec that is a list", json!([1]), json!({}), "0 references"),
        ("a pin", json!({"pin": "d-0"}), json!({}), "0 references, held by spec.pin"),
        ("a pin of another shape", json!({"pin": {}}), json!({}), "0 references"),
        ("suspended", json!({"suspend": true}), json!({}), "0 references, held by spec.suspend"),
        ("not suspended", json!({"suspend": false}), json!({}), "0 references"),
        (
            "an artifact without run",
            json!({}),
            json!({"artifact": without("run")}),
            "status.artifact: missing field `run`",
        ),
        (
            "an artifact that is a text",
            json!({}),
            json!({"artifact": "s3://files"}),
            "status.artifact: invalid type: string",
        ),
        (
            "a digest of another form",
            json!({}),
            json!({"artifact": {"digest": 7}}),
            "status.artifact.digest: invalid type",
        ),
        (
            "a time of another form",
            json!({}),
            json!({"artifact": artifact_at("yesterday")}),
            "status.artifact.producedAt: ",
        ),
        (
            "conditions that are a map",
            json!({}),
            json!({"conditions": {}}),
            "status.conditions: invalid type: map",
        ),
        (
            "a generation that is a text",
            json!({}),
            json!({"observedGeneration": "1"}),
            "status.observedGeneration: invalid type",
        ),
        ("a status that is a text", json!({}), json!("done"), "status: invalid type: string"),
        ("further fields", json!({"x": 1}), json!({"phase": "Running"}), "0 references"),
    ];
    for (situation, spec, status, want) in rows {
        let object = json!({"metadata": {"name": "w", "uid": "u"}, "spec": spec, "status": status});
        let object: InputObject = serde_json::from_value(object).unwrap();
        let artifact = if object.status.artifact.is_some() { ", artifact" } else { "" };
        let held = object.held_by.map(|field| format!(", held by {field}")).unwrap_or_default();
        let read = format!("{} references{artifact}{held}", object.references.len());
        let got = object.unreadable.unwrap_or(read);
        let is_as_wanted = if got.contains("references") { got == want } else { got.starts_with(want) };
        assert!(is_as_wanted, "{situation}: {got}");
        assert_eq!(object.metadata.uid.as_deref(), Some("u"), "{situation}");
    }
}

#[test]
fn kind_parses_as_kubectl_writes_it() {
    let kind: ApiKind = "FeatureView.v1alpha1.mlop.dev".parse().unwrap();
    assert_eq!(kind, ApiKind::of::<mlop_api::features::FeatureView>());
    assert_eq!("Equus.v1.example.com/equi".parse::<ApiKind>().unwrap().plural, "equi");
    for bad in ["", "Dataset", "Dataset.mlop.dev", "Dataset.v1", ".v1.x", "A.v1.x/"] {
        assert!(bad.parse::<ApiKind>().is_err(), "{bad}");
    }
}
