//! The health of objects as Flux and Argo CD see it: kstatus' own code and a Lua script, run on a table of statuses.
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::progress::Outcome;
use crate::tools::{self, HEALTH};
use crate::{paths, process};

/// Below the repository.
const SCRIPT: &str = "docs/operations/argo-cd/health.lua";
/// Objects of a chain at rest, as an API server has shown them.
const RECORDED: &str = "crates/kubectl-mlop/src/tests/cases/flights.yaml";
const ROWS: &str = include_str!("health.yaml");
const GENERATION: i64 = 2;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    situation: String,
    #[serde(default = "newest")]
    observed: i64,
    #[serde(default)]
    suspend: bool,
    conditions: Vec<String>,
    flux: String,
    argo: String,
}

const fn newest() -> i64 {
    GENERATION
}

pub(super) fn check() -> Result<Outcome> {
    tools::provide(&[&HEALTH])?;
    let rows: Vec<Row> = serde_saphyr::from_str(ROWS)?;
    let objects = rows.iter().map(Row::object).collect::<Result<Vec<_>>>()?;
    for (row, (flux, argo)) in rows.iter().zip(judged(&objects)?) {
        let Row { situation, flux: wanted, argo: and_wanted, .. } = row;
        ensure!(
            (&flux, &argo) == (wanted, and_wanted),
            "{situation}: Flux says {flux} and Argo CD {argo}, not {wanted} and {and_wanted}"
        );
    }
    let recorded = fs::read_to_string(paths::repository().join(RECORDED)).context(RECORDED)?;
    // Runs may have been refused.
    let is_run = |object: &Value| object.pointer("/spec/lineage").is_some();
    let at_rest: Vec<_> = super::objects(&recorded)?.into_iter().filter(|object| !is_run(object)).collect();
    for (object, judged) in at_rest.iter().zip(judged(&at_rest)?) {
        ensure!(judged == ("Current".to_owned(), "Healthy".to_owned()), "{judged:?}: {object}");
    }
    Ok(Outcome::Done)
}

impl Row {
    fn object(&self) -> Result<Value> {
        let conditions = self.conditions.iter().map(|condition| {
            let (kind, status) =
                condition.split_once('=').with_context(|| format!("not a condition: {condition}"))?;
            Ok(json!({"type": kind, "status": status, "reason": "Reason", "message": ""}))
        });
        Ok(json!({
            "apiVersion": "mlop.dev/v1alpha1",
            "kind": "Dataset",
            "metadata": {"name": "a", "namespace": "b", "generation": GENERATION},
            "spec": {"suspend": self.suspend},
            "status": {
                "observedGeneration": self.observed,
                "conditions": conditions.collect::<Result<Vec<_>>>()?,
            },
        }))
    }
}

/// The status of each object for Flux, and for Argo CD.
fn judged(objects: &[Value]) -> Result<Vec<(String, String)>> {
    ensure!(!objects.is_empty(), "there is no object to judge");
    let directory = paths::repository().join("target");
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let file = directory.join("health.jsonl");
    let lines: Vec<String> = objects.iter().map(Value::to_string).collect();
    fs::write(&file, lines.join("\n")).with_context(|| format!("cannot write {}", file.display()))?;
    let mut command = Command::new(paths::bin()?.join(HEALTH.name));
    let judged = process::output(command.arg(paths::repository().join(SCRIPT)).arg(&file))?;
    let judged: Vec<_> = judged
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .collect();
    ensure!(judged.len() == objects.len(), "{} of {} objects were judged", judged.len(), objects.len());
    Ok(judged)
}
