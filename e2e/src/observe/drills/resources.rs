//! Faults of the objects of users, and of their connections.

use super::{Drill, Lab, Look, nothing};
use crate::state::Kind as _;
use anyhow::Result;
use mlop_api::dataset::ObjectStore;
use serde_json::json;

const STORES: &str = include_str!("../../../tests/pipelines/stores.yaml");
const SCRIPT: &str = include_str!("../../../tests/pipelines/script.yaml");
/// Code of a training that leaves a file.
pub(super) const SAVE: &str =
    "import os, pathlib\npathlib.Path(os.environ[\"MLOP_OUTPUT\"], \"model.txt\").write_text(\"42\")";
/// Its keys do not exist in the store.
const DENIED: &str = "\
apiVersion: v1
kind: Secret
metadata: {name: wrong-keys}
stringData: {AWS_ACCESS_KEY_ID: nobody, AWS_SECRET_ACCESS_KEY: not-the-key-of-anybody}
---
apiVersion: mlop.dev/v1alpha1
kind: ObjectStore
metadata: {name: denied}
spec: {endpoint: \"http://minio.storage.svc:9000\", bucket: raw, prefix: \"@NAMESPACE@/\", secretName: wrong-keys}
";

pub(super) fn drills() -> Vec<Drill> {
    vec![connection(), stalled(), failing(), outdated()]
}

/// The time limit for a connection, in seconds.
const READY: u64 = 180;

/// A TrainingJob with this code and these lines of the spec, in place of the script's own.
pub(super) fn script(name: &str, code: &str, lines: &str) -> String {
    let manifest = SCRIPT
        .replace("name: script", &format!("name: {name}"))
        .replace("\"raise SystemExit('the test replaces this')\"", &json!(code).to_string());
    let fields: Vec<&str> = lines.lines().filter_map(|line| line.split(':').next()).collect();
    let kept = manifest.lines().filter(|line| {
        let field = line.trim_start().split(':').next().unwrap_or_default();
        !line.starts_with("  ") || !fields.contains(&field)
    });
    let mut text: String = kept.flat_map(|line| [line, "\n"]).collect();
    for line in lines.lines() {
        text.push_str("  ");
        text.push_str(line);
        text.push('\n');
    }
    text
}

async fn stores_are_ready(lab: &Lab<'_>) -> Result<()> {
    lab.ns.apply(&[STORES]).await?;
    for store in ["raw", "mlop"] {
        lab.ns.until(store, "ready", READY, ObjectStore::is_ready).await?;
    }
    Ok(())
}

async fn delete(lab: &Lab<'_>, name: &str) -> Result<()> {
    lab.ns.kubectl(&["delete", name, "--wait=false"], "").await.map(drop)
}

fn connection() -> Drill {
    Drill {
        alert: "MlopConnectionNotReady",
        fault: "an ObjectStore whose Secret has keys that MinIO does not know",
        prepare: nothing,
        make: |lab| Box::pin(async { lab.ns.apply(&[DENIED]).await }),
        again: nothing,
        mend: |lab| Box::pin(delete(lab, "ostore/denied")),
        look: Look::Why("ObjectStore", "denied"),
        object: "denied",
        ends: true,
    }
}

fn stalled() -> Drill {
    Drill {
        alert: "MlopResourceStalled",
        fault: "a TrainingJob whose command ends with 3, with `retry.limit: 1`",
        prepare: |lab| Box::pin(stores_are_ready(lab)),
        make: |lab| {
            Box::pin(async {
                let lines = "retry: {limit: 1, initial: 1s, factor: \"1\", max: 1s}";
                lab.ns.apply(&[&script("stalled", "raise SystemExit(3)", lines)]).await
            })
        },
        again: nothing,
        mend: |lab| Box::pin(async { lab.ns.apply(&[&script("stalled", SAVE, "")]).await }),
        look: Look::Why("TrainingJob", "stalled"),
        object: "stalled",
        ends: true,
    }
}

fn failing() -> Drill {
    Drill {
        alert: "MlopRunFailing",
        fault: "a TrainingJob whose command ends with 3, tried again every 20 seconds",
        prepare: |lab| Box::pin(stores_are_ready(lab)),
        make: |lab| {
            Box::pin(async {
                let lines = "retry: {limit: 10, initial: 20s, factor: \"1\", max: 20s}";
                lab.ns.apply(&[&script("failing", "raise SystemExit(3)", lines)]).await
            })
        },
        again: nothing,
        mend: |lab| Box::pin(async { lab.ns.apply(&[&script("failing", SAVE, "")]).await }),
        look: Look::Why("TrainingJob", "failing"),
        object: "failing",
        ends: true,
    }
}

fn outdated() -> Drill {
    Drill {
        alert: "MlopArtifactOutdated",
        fault: "a TrainingJob that asks for 900 GiB of memory, which no node has",
        prepare: |lab| Box::pin(stores_are_ready(lab)),
        make: |lab| {
            Box::pin(async {
                let lines = "resources: {cpu: 50m, memory: 900Gi}";
                lab.ns.apply(&[&script("outdated", SAVE, lines)]).await
            })
        },
        again: nothing,
        mend: |lab| Box::pin(async { lab.ns.apply(&[&script("outdated", SAVE, "")]).await }),
        look: Look::Why("TrainingJob", "outdated"),
        object: "outdated",
        ends: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mlop_api::training::TrainingJob;

    #[test]
    fn script_has_the_code_and_the_fields_that_are_given() {
        let text = script("a", "print(1)", "resources: {cpu: 50m, memory: 900Gi}");
        let job: TrainingJob = serde_saphyr::from_str(&text).unwrap();
        let spec = serde_json::to_value(&job.spec).unwrap();
        assert_eq!(job.metadata.name.as_deref(), Some("a"));
        assert_eq!(
            (&spec["code"]["main.py"], &spec["resources"]["memory"]),
            (&json!("print(1)"), &json!("900Gi"))
        );
        assert_eq!(spec["store"], "mlop");
    }
}
