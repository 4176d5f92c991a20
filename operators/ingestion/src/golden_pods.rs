//! The pods of a Dataset, as golden files.

use crate::{
    dataset::DatasetIntent,
    dataset_version::DatasetVersionRun,
    object_store::{ObjectStoreReconciler, Observed},
};
use expect_test::expect_file;
use kube::ResourceExt;
use mlop_api::{Digest, dataset::ObjectStore, profile::PodProfile, result::ResultDocument};
use mlop_core::{
    Reconciler,
    children::profile::Profile,
    testing::{IntentCase, NOW, RunCase, Situation, at, check, connected, golden, object, store, terminated},
};
use serde_json::{Value, json};
use std::sync::Arc;

/// A Dataset that reads and writes the ObjectStore `files`, which is ready.
fn dataset() -> IntentCase<DatasetIntent> {
    let spec = json!({
        "source": {"objects": {"store": "files", "prefix": "flights/"}, "format": {"csv": {}}},
        "columns": [{"name": "carrier", "type": "string"}],
        "store": "files",
    });
    let files: ObjectStore = connected(store("files"), "http://s3");
    IntentCase::new("flights", &spec, [(files.name_any(), Arc::new(files))].into())
}

/// A namespace with a quota on CPU limits whose pods reach the store through a proxy with its own authority.
fn profile() -> PodProfile {
    let workers = json!({
        "metadata": {"labels": {"cost-centre": "ml"}},
        "serviceAccountName": "mlop-workers",
        "nodeSelector": {"pool": "cpu"},
        "tolerations": [{"key": "spot", "operator": "Exists"}],
        "volumes": [{"name": "ca", "configMap": {"name": "authorities"}}],
        "container": {
            "env": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
            "volumeMounts": [{"name": "ca", "mountPath": "/etc/authorities", "readOnly": true}],
            "resources": {"limits": {"cpu": "2"}, "requests": {"ephemeral-storage": "1Gi"}},
        },
    });
    object("default", &json!({"workers": workers, "user": {"serviceAccountName": "nobody"}}))
}

#[test]
fn scan_with_a_profile_is_that_of_the_golden_file() {
    let scan = dataset().profiled(profile()).plan();
    expect_file!["golden/scan-with-profile.yaml"].assert_eq(&golden(&scan.creates[0].object));
}

#[test]
fn dataset_reports_a_profile_that_is_missing() {
    let named = || dataset().with(|spec| spec.profile = Some("gpu".into()));
    check(vec![
        (
            "the profile that it names is missing",
            named().profiled(profile()),
            "Ready=Unknown/ProfileNotFound UpToDate=Unknown/ProfileNotFound Reconciling",
        ),
        (
            "the missing profile appears",
            named().reconciled().profiled(object("gpu", &json!({}))),
            "Ready=Unknown/Scanning UpToDate=Unknown/Scanning create scan",
        ),
    ]);
}

/// The pod that probes the ObjectStore `files`.
fn probe() -> Value {
    let observed = Observed {
        object: Arc::new(store("files")),
        pods: Vec::new(),
        profile: Profile::default(),
        operator: "mlop-test".into(),
        worker_image: "worker".into(),
    };
    ObjectStoreReconciler::plan(&observed, at(NOW)).creates.remove(0).object
}

#[test]
fn pods_are_those_of_the_golden_files() {
    let scan = dataset().plan();
    expect_file!["golden/probe.yaml"].assert_eq(&golden(&probe()));
    expect_file!["golden/scan.yaml"].assert_eq(&golden(&scan.creates[0].object));
    let listing = ResultDocument { digest: Some(Digest::of_bytes(b"listing")), ..Default::default() };
    let scanned = dataset().reconciled().pods(|pod| pod.status = terminated(&listing, NOW));
    let mut version = scanned.run();
    version.metadata.name = Some("flights-1".into());
    let plan = RunCase::<DatasetVersionRun>::of(version).plan();
    expect_file!["golden/version.yaml"].assert_eq(&golden(&plan.creates[0].object));
}
