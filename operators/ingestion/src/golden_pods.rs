//! The pods of a Dataset, as golden files.

use crate::{dataset::DatasetIntent, dataset_version::DatasetVersionRun};
use expect_test::expect_file;
use kube::ResourceExt;
use mlop_api::{Digest, dataset::ObjectStore, result::ResultDocument};
use mlop_core::testing::{IntentCase, NOW, RunCase, Situation, connected, golden, store, terminated};
use serde_json::json;
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

#[test]
fn pods_are_those_of_the_golden_files() {
    let scan = dataset().plan();
    expect_file!["golden/scan.yaml"].assert_eq(&golden(&scan.creates[0].object));
    let listing = ResultDocument { digest: Some(Digest::of_bytes(b"listing")), ..Default::default() };
    let scanned = dataset().reconciled().pods(|pod| pod.status = terminated(&listing, NOW));
    let mut version = scanned.run();
    version.metadata.name = Some("flights-1".into());
    let plan = RunCase::<DatasetVersionRun>::of(version).plan();
    expect_file!["golden/version.yaml"].assert_eq(&golden(&plan.creates[0].object));
}
