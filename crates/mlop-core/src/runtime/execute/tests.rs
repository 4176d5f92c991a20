//! Tables of the executor's comparisons and refusals.

use super::{create::check_owner, write::refusal};
use crate::{Error, resource::ApiKind};
use kube::core::{DynamicObject, Status};
use mlop_api::{Reason, labels};
use serde_json::json;

/// A run of the intent with this uid and digest.
fn run(intent: &str, uid: &str, digest: &str) -> DynamicObject {
    let owner = json!({"apiVersion": "mlop.dev/v1alpha1", "kind": "Dataset", "name": intent, "uid": uid,
        "controller": true});
    serde_json::from_value(json!({
        "metadata": {"name": "flights-1", "ownerReferences": [owner], "labels": {labels::DIGEST: digest}},
        "spec": {"lineage": {"inputDigest": digest}},
    }))
    .unwrap()
}

#[test]
fn existing_object_is_adopted_only_with_owner_and_digest() {
    let kind: ApiKind = "DatasetVersion.v1alpha1.mlop.dev".parse().unwrap();
    let wanted = run("flights", "new", "d1");
    let mut deleted = wanted.clone();
    deleted.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH));
    let mut orphan = wanted.clone();
    orphan.metadata.owner_references = None;
    let mut unlabelled = wanted.clone();
    unlabelled.metadata.labels = None;
    let mut mislabelled = run("flights", "new", "d2");
    mislabelled.metadata.labels = wanted.metadata.labels.clone();
    let rows = [
        ("the same", wanted.clone(), None),
        ("the same without labels", unlabelled, None),
        ("of another digest with its labels", mislabelled, Some((Reason::NameConflict, true))),
        ("being deleted", deleted, Some((Reason::WaitingForDeletion, false))),
        (
            "of an earlier uid of the owner",
            run("flights", "old", "d1"),
            Some((Reason::WaitingForDeletion, false)),
        ),
        ("of another digest", run("flights", "new", "d2"), Some((Reason::NameConflict, true))),
        ("of another owner", run("weather", "new", "d1"), Some((Reason::NameConflict, true))),
        ("of no owner", orphan, Some((Reason::NameConflict, true))),
    ];
    for (existing, object, want) in rows {
        let got = check_owner(&kind, &wanted, &object).err().and_then(|error| error.report());
        assert_eq!(got, want, "{existing}");
    }
}

fn status(code: u16, message: &str) -> Status {
    Status { code, message: message.to_owned(), ..Status::default() }
}

#[test]
fn refusal_names_the_reason_of_admission() {
    let kind: ApiKind = "Job.v1.batch".parse().unwrap();
    let set: ApiKind = "StatefulSet.v1.apps".parse().unwrap();
    let rows = [
        (status(403, "pods \"a\" is forbidden: exceeded quota: q"), Some(Reason::QuotaExceeded)),
        (status(403, "violates PodSecurity \"restricted\""), Some(Reason::PodRefused)),
        (status(403, "admission webhook \"w\" denied the request"), Some(Reason::PodRefused)),
        (status(422, "Invalid value"), Some(Reason::PodRefused)),
        (status(403, "User cannot create resource"), None),
        (status(500, "internal error"), None),
    ];
    for (status, want) in rows {
        let got = refusal(&kind, "a", &status).and_then(|error| error.report()).map(|(reason, _)| reason);
        assert_eq!(got, want, "{}", status.message);
    }
    for code in [403, 422] {
        let refused = refusal(&set, "a", &status(code, "forbidden")).and_then(|error| error.report());
        assert_eq!(refused, Some((Reason::ChildRefused, false)), "{code} of another kind than pods");
    }
    let ending = status(403, "namespace ns is being terminated");
    assert!(matches!(refusal(&kind, "a", &ending), Some(Error::Gone(_))));
}
