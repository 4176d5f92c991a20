//! A scan of the charts' objects by checkov. Findings that stay are in `checkov.yaml`, with their reasons.
use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use super::checks::list;
use crate::progress::Outcome;
use crate::{cache, paths, python};

const CHECKOV: (&str, &str) = ("checkov", "3.3.30");
const EXCEPTIONS: &str = include_str!("checkov.yaml");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Exception {
    check: String,
    kinds: Vec<String>,
    reason: String,
}

/// A check that an object fails.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    check: String,
    kind: String,
    words: String,
}

pub(super) fn run() -> Result<Outcome> {
    let directory = paths::repository().join("target/scan");
    cache::remove(&directory)?;
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let charts = [
        ("defaults", super::template(super::ALL, &[])?),
        ("all-values", super::with_all_values()?),
        ("monitoring", super::template(super::MONITORING, &[])?),
    ];
    for (name, objects) in charts {
        let documents: Vec<String> = objects.into_iter().map(in_namespace).collect();
        let file = directory.join(name).with_extension("yaml");
        fs::write(&file, documents.join("\n---\n"))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    let script = python::program(CHECKOV.0, CHECKOV.1)?;
    // The first line of the script names the directory in which it was installed, before that got its present name.
    let mut checkov = Command::new(script.with_file_name("python3"));
    checkov.arg(script).args([
        "--framework",
        "kubernetes",
        "--skip-download",
        "--output",
        "json",
        "--directory",
    ]);
    // It fails when it finds something.
    let output = checkov.arg(&directory).output().context("cannot start checkov")?;
    let report = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("checkov: {}", String::from_utf8_lossy(&output.stderr)))?;
    let exceptions: Vec<Exception> = serde_saphyr::from_str(EXCEPTIONS)?;
    compare(&findings(&report)?, &exceptions)?;
    Ok(Outcome::Done)
}

/// Helm installs into the release's namespace, which the templates need not name.
fn in_namespace(mut object: Value) -> String {
    if let Some(metadata) = object.pointer_mut("/metadata").and_then(Value::as_object_mut) {
        metadata.entry("namespace").or_insert_with(|| json!(super::NAMESPACE));
    }
    object.to_string()
}

fn findings(report: &Value) -> Result<Vec<Finding>> {
    let number = |pointer| report.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
    ensure!(number("/summary/passed") > 0, "checkov has checked nothing: {report}");
    ensure!(number("/summary/parsing_errors") == 0, "checkov cannot parse the objects");
    let failed = report.pointer("/results/failed_checks").map(list).unwrap_or_default();
    let text = |value: &Value, key| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let finding = |value: &Value| {
        let resource = text(value, "resource");
        let kind = resource.split('.').next().unwrap_or_default().to_owned();
        let words = format!("{resource}: {}", text(value, "check_name"));
        Finding { check: text(value, "check_id"), kind, words }
    };
    Ok(failed.iter().map(finding).collect())
}

/// Every finding is an exception, and every exception is found.
fn compare(findings: &[Finding], exceptions: &[Exception]) -> Result<()> {
    let mut unused = BTreeSet::new();
    for exception in exceptions {
        ensure!(!exception.reason.is_empty(), "{}: no reason", exception.check);
        unused.extend(exception.kinds.iter().map(|kind| (exception.check.as_str(), kind.as_str())));
    }
    let excepted = unused.clone();
    let mut new = Vec::new();
    for finding in findings {
        let key = (finding.check.as_str(), finding.kind.as_str());
        if !excepted.contains(&key) {
            new.push(format!("{}: {}", finding.check, finding.words));
        }
        unused.remove(&key);
    }
    if !new.is_empty() {
        bail!("checkov finds:\n{}", new.join("\n"));
    }
    ensure!(unused.is_empty(), "checkov finds these no more, take them out of checkov.yaml: {unused:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_and_exceptions_must_be_equal() {
        let exceptions: Vec<Exception> =
            serde_saphyr::from_str("[{check: A, kinds: [Pod, Job], reason: because}]").unwrap();
        let finding =
            |check: &str, kind: &str| Finding { check: check.into(), kind: kind.into(), words: "w".into() };
        let both = [finding("A", "Pod"), finding("A", "Job"), finding("A", "Job")];
        compare(&both, &exceptions).unwrap();
        let more = [both.as_slice(), &[finding("A", "Deployment")]].concat();
        assert_eq!(compare(&more, &exceptions).unwrap_err().to_string(), "checkov finds:\nA: w");
        assert!(compare(&both[..1], &exceptions).unwrap_err().to_string().contains("Job"));
    }
}
