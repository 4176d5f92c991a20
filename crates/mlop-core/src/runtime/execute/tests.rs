//! Tables of the executor's comparisons and refusals.

use super::{
    create::check_owner,
    write::{is_another, refusal},
};
use crate::{Error, resource::ApiKind};
use kube::core::{DynamicObject, Status};
use mlop_api::{Reason, labels};
use serde_json::json;
use std::collections::BTreeMap;

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

/// Refusals of a real API server, with the reason and a part of the message.
const REFUSALS: &[(&str, Reason, &str)] = &[
    ("quota-exceeded", Reason::QuotaExceeded, "exceeded quota: none, requested: pods=1"),
    ("quota-without-limit", Reason::QuotaExceeded, "must specify limits.cpu for: worker"),
    ("limit-range-maximum", Reason::PodRefused, "maximum memory usage per Container is 64Mi"),
    ("limit-range-ratio", Reason::PodRefused, "memory max limit to request ratio per Container is 2"),
    ("pod-security", Reason::PodRefused, "violates PodSecurity \"restricted:latest\""),
    ("admission-policy", Reason::PodRefused, "pods need the label team"),
    ("webhook-denies", Reason::PodRefused, "images must come from registry.example.com"),
    ("webhook-denies-without-words", Reason::PodRefused, "\"pods.example.com\" denied the request"),
    ("webhook-denies-with-404", Reason::PodRefused, "no policy for this team"),
    ("webhook-denies-with-409", Reason::PodRefused, "the team's budget is spent"),
    ("webhook-denies-with-429", Reason::PodRefused, "too many pods a minute"),
    ("webhook-denies-with-500", Reason::PodRefused, "policy engine is broken"),
    ("webhook-times-out", Reason::PodRefused, "failed calling webhook \"pods.example.com\""),
    ("webhook-without-endpoints", Reason::PodRefused, "connect: connection refused"),
    ("webhook-without-service", Reason::PodRefused, "service \"absent\" not found"),
    ("webhook-does-not-listen", Reason::PodRefused, "connect: connection refused"),
    ("webhook-fails", Reason::PodRefused, "an error on the server (\"oops\")"),
];

#[test]
fn every_recorded_refusal_is_reported_in_its_words() {
    let text = include_str!("../../../tests/recorded/refusals.yaml");
    let recorded: BTreeMap<String, Status> = serde_saphyr::from_str(text).unwrap();
    let kind: ApiKind = "Job.v1.batch".parse().unwrap();
    for (name, reason, words) in REFUSALS {
        let status = recorded.get(*name).unwrap_or_else(|| panic!("no recording of {name}"));
        let error = refusal(&kind, "a", status).unwrap_or_else(|| panic!("{name} is no refusal"));
        assert_eq!(error.report(), Some((*reason, false)), "{name}");
        let message = error.to_string();
        assert!(message.starts_with("Job a was refused: ") && message.contains(words), "{name}: {message}");
        assert!(!message.contains("Internal error"), "{name}: {message}");
        assert!(!is_another(status), "{name}: the object is still the same");
    }
    let untested: Vec<_> =
        recorded.keys().filter(|name| !REFUSALS.iter().any(|(case, ..)| case == name)).collect();
    assert!(untested.is_empty(), "recordings without a case: {untested:?}");
}

fn status(code: u16, message: &str) -> Status {
    Status { code, message: message.to_owned(), ..Status::default() }
}

#[test]
fn refusal_names_the_reason_of_admission() {
    let kind: ApiKind = "Job.v1.batch".parse().unwrap();
    let set: ApiKind = "StatefulSet.v1.apps".parse().unwrap();
    let rows = [
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
