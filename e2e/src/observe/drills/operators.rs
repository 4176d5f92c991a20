//! Faults of the operators themselves.

use super::{Drill, Lab, Look, nothing};
use crate::{server::bound, stage::OPERATORS, state::Kind as _};
use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::api::PostParams;
use mlop_api::{Reason, contract::condition_type::STALLED, dataset::Dataset, training::TrainingJob};
use serde_json::json;
use std::{env, process::Stdio};
use tokio::process::Command;

/// The time limit for words in a status, in seconds.
const TOLD: u64 = 60;
/// Requests under way while many objects are created.
const CREATED_AT_ONCE: usize = 32;
/// How many operators there are.
pub(super) const NUMBER: usize = mlop_api::operators::ALL.len();

const STORES: &str = include_str!("../../../tests/pipelines/stores.yaml");
/// More than the 1,000 objects that may wait.
const BACKLOG: usize = 3000;
/// Each fails once at once, and then with a growing delay.
const FORBIDDEN: usize = 60;

pub(super) fn drills() -> Vec<Drill> {
    vec![down(), errors(), panic(), unavailable(), backlog(), spans(), events()]
}

fn down() -> Drill {
    Drill {
        alert: "MlopOperatorDown",
        fault: "the Deployment of mlop-training scaled to 0",
        prepare: nothing,
        make: |lab| Box::pin(scale(lab, "0")),
        again: nothing,
        mend: |lab| Box::pin(scale(lab, "1")),
        look: Look::Kubectl(&["-n", OPERATORS, "get", "deployments"], "mlop-training"),
        object: "",
        ends: true,
    }
}

async fn scale(lab: &Lab<'_>, replicas: &str) -> Result<()> {
    lab.operators(&["scale", "deployment/mlop-training", &format!("--replicas={replicas}")]).await?;
    lab.rolled_out("mlop-training").await
}

fn errors() -> Drill {
    Drill {
        alert: "MlopReconcileErrors",
        fault: "the permission to patch datasets/status taken from mlop-ingestion, and 60 new Datasets",
        prepare: nothing,
        make: |lab| {
            Box::pin(async {
                lab.forbid("mlop-ingestion", "datasets/status", "patch").await?;
                create_datasets(lab, "forbidden", FORBIDDEN).await
            })
        },
        again: nothing,
        mend: |lab| {
            Box::pin(async {
                lab.restore_roles().await?;
                delete_datasets(lab, "forbidden").await
            })
        },
        look: Look::Kubectl(&["-n", OPERATORS, "logs", "deploy/mlop-ingestion", "--tail=1"], ""),
        object: "",
        ends: false,
    }
}

/// Datasets of a store that does not exist: each has a status, and no pods.
async fn create_datasets(lab: &Lab<'_>, set: &str, number: usize) -> Result<()> {
    let api = lab.ns.api::<Dataset>();
    let dataset = |index| -> Result<Dataset> {
        Ok(serde_json::from_value(json!({
            "metadata": {"name": format!("{set}-{index}"), "labels": {"set": set}},
            "spec": {
                "source": {"objects": {"store": "none", "prefix": "a/"}, "format": {"csv": {}}},
                "columns": [{"name": "id", "type": "int64"}],
                "store": "none",
            },
        }))?)
    };
    let created = stream::iter((0..number).map(dataset)).map(|dataset| {
        let api = api.clone();
        async move { anyhow::Ok(api.create(&PostParams::default(), &dataset?).await.map(drop)?) }
    });
    created.buffer_unordered(CREATED_AT_ONCE).try_collect().await
}

async fn delete_datasets(lab: &Lab<'_>, set: &str) -> Result<()> {
    let selector = format!("set={set}");
    lab.ns.kubectl(&["delete", "datasets", "--selector", &selector, "--wait=false"], "").await.map(drop)
}

fn panic() -> Drill {
    Drill {
        alert: "MlopReconcilePanic",
        fault: "mlop-training replaced by a program whose every reconcile of a TrainingJob panics, and a TrainingJob",
        prepare: |lab| Box::pin(lab_stores(lab)),
        make: |lab| {
            Box::pin(async {
                scale(lab, "0").await?;
                start_panicking(lab).await?;
                let job = super::resources::script("panic", "print('never')", "");
                lab.ns.apply(&[&job]).await?;
                let says = |job: &TrainingJob| job.has_reason(STALLED, Reason::Panicked);
                lab.ns.until("panic", "reported as panicked", TOLD, says).await.map(drop)
            })
        },
        again: nothing,
        mend: |lab| {
            Box::pin(async {
                if let Some(mut process) = lab.process.lock().await.take() {
                    process.kill().await?;
                }
                lab.observatory.scrape_also(&[])?;
                lab.ns.kubectl(&["delete", "tjob", "panic", "--wait=false"], "").await?;
                scale(lab, "1").await
            })
        },
        look: Look::Kubectl(&["-n", "@NAMESPACE@", "get", "tjob", "panic"], ""),
        object: "",
        ends: false,
    }
}

async fn lab_stores(lab: &Lab<'_>) -> Result<()> {
    lab.ns.apply(&[STORES]).await
}

/// The operator as a process of this machine, with the identity of the real one, for one namespace.
async fn start_panicking(lab: &Lab<'_>) -> Result<()> {
    const ADDRESS: &str = "127.0.0.1:9182";
    let program = env::current_exe()?.with_file_name("panicking");
    let mut command = Command::new(&program);
    command.args(["--namespaces", &lab.ns.name, "--health-address", ADDRESS, "--leader-elect", "false"]);
    command.env("KUBECONFIG", lab.kubeconfig_as("mlop-training").await?);
    let started = bound(&command).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let started = started.with_context(|| format!("cannot start {}", program.display()))?;
    *lab.process.lock().await = Some(started);
    lab.observatory.scrape_also(&[("mlop-training", OPERATORS, ADDRESS)])
}

fn unavailable() -> Drill {
    Drill {
        alert: "MlopWatchUnavailable",
        fault: "the permission to list trackingservers taken from mlop-registry, whose pod is restarted",
        prepare: nothing,
        make: |lab| {
            Box::pin(async {
                lab.forbid("mlop-registry", "trackingservers", "list").await?;
                restart(lab, "mlop-registry").await
            })
        },
        again: nothing,
        mend: |lab| Box::pin(lab.restore_roles()),
        look: Look::Kubectl(
            &["-n", OPERATORS, "logs", "deploy/mlop-registry", "--tail=100"],
            "trackingservers",
        ),
        object: "",
        ends: true,
    }
}

async fn restart(lab: &Lab<'_>, operator: &str) -> Result<()> {
    lab.operators(&["delete", "pod", "--selector", &format!("app.kubernetes.io/name={operator}")])
        .await
        .map(drop)
}

fn backlog() -> Drill {
    Drill {
        alert: "MlopWorkqueueBacklog",
        fault: "3,000 new Datasets at once, on a busy machine",
        prepare: nothing,
        make: |lab| Box::pin(create_datasets(lab, "backlog", BACKLOG)),
        again: nothing,
        mend: |lab| Box::pin(delete_datasets(lab, "backlog")),
        look: Look::Kubectl(&["-n", OPERATORS, "get", "deployments", "-o", "wide"], "mlop-ingestion"),
        object: "",
        ends: true,
    }
}

fn spans() -> Drill {
    Drill {
        alert: "MlopSpansDropped",
        fault: "Jaeger stopped, while trainings end",
        prepare: |lab| Box::pin(lab_stores(lab)),
        make: |lab| {
            Box::pin(async {
                lab.observatory.stop_jaeger().await;
                train_again(lab).await
            })
        },
        again: |lab| Box::pin(train_again(lab)),
        mend: |lab| {
            Box::pin(async {
                lab.ns.kubectl(&["delete", "tjob", "spans", "--wait=false"], "").await?;
                lab.observatory.start_jaeger().await
            })
        },
        look: Look::Kubectl(
            &["-n", OPERATORS, "logs", "deploy/mlop-training", "--tail=200"],
            "cannot export spans",
        ),
        object: "",
        ends: false,
    }
}

/// Another run of a short training.
async fn train_again(lab: &Lab<'_>) -> Result<()> {
    let (code, now) = (super::resources::SAVE, lab.time());
    let job = super::resources::script("spans", &format!("{code}\n# {now}"), "");
    lab.ns.apply(&[&job]).await
}

fn events() -> Drill {
    Drill {
        alert: "MlopEventsLost",
        fault: "the permission to create events taken from mlop-training, while trainings fail",
        prepare: |lab| Box::pin(lab_stores(lab)),
        make: |lab| {
            Box::pin(async {
                lab.forbid("mlop-training", "events", "create").await?;
                fail_again(lab).await
            })
        },
        again: |lab| Box::pin(fail_again(lab)),
        mend: |lab| {
            Box::pin(async {
                lab.restore_roles().await?;
                lab.ns.kubectl(&["delete", "tjob", "events", "--wait=false"], "").await.map(drop)
            })
        },
        look: Look::Kubectl(
            &["-n", OPERATORS, "logs", "deploy/mlop-training", "--tail=200"],
            "cannot publish an Event",
        ),
        object: "",
        ends: false,
    }
}

async fn fail_again(lab: &Lab<'_>) -> Result<()> {
    let code = format!("raise SystemExit({})", lab.time() % 200 + 1);
    lab.ns.apply(&[&super::resources::script("events", &code, "")]).await
}
