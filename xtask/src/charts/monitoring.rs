//! Checks of the chart for Prometheus and Grafana: alerts, their tests and runbooks, and queries.
#![allow(clippy::indexing_slicing, reason = "a field that a JSON value does not have is null, not a panic")]
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use mlop_api::reason::Reason;
use regex::Regex;
use serde_json::{Value, json};

use super::checks::list;
use crate::cluster::local;
use crate::progress::Outcome;
use crate::{generate, paths, process};

const RULES: &str = "charts/mlop-monitoring/files/rules.yaml";
const TESTS: &str = "charts/mlop-monitoring/tests/rules.yaml";
const RUNBOOKS: &str = "docs/operations/runbooks.md";
const METRICS: &str = "docs/operations/metrics.md";
/// Where metrics are registered.
const SOURCES: [&str; 4] = [
    "crates/mlop-core/src/runtime/metrics.rs",
    "crates/mlop-core/src/runtime/metrics/queue.rs",
    "crates/mlop-features/src/serve/metrics.rs",
    "crates/mlop-router/src/metrics.rs",
];

pub fn check() -> Result<Outcome> {
    local::provide("promtool", "prometheus", "it tests the alerts")?;
    promtool(&["test", "rules"], &paths::repository().join(TESTS))?;
    let rules = yaml(RULES)?;
    let alerts = alerts(&rules);
    ensure!(!alerts.is_empty(), "{RULES} has no alert");
    tested(&alerts, &yaml(TESTS)?)?;
    documented(&alerts, &read(RUNBOOKS)?)?;
    let mut queries = generate::queries()?;
    queries.extend(alerts.iter().map(|(name, rule)| ((*name).to_owned(), text(&rule["expr"]).to_owned())));
    let names = exported()?;
    for (place, query) in &queries {
        known(&names, query).with_context(|| format!("{place}: {query}"))?;
    }
    parsed(&queries)?;
    Ok(Outcome::Done)
}

/// The alerts by name.
fn alerts(rules: &Value) -> BTreeMap<&str, &Value> {
    let rules = list(&rules["groups"]).iter().flat_map(|group| list(&group["rules"]));
    rules.map(|rule| (text(&rule["alert"]), rule)).collect()
}

/// Each alert has a test in which it fires, and one in which it does not.
fn tested(alerts: &BTreeMap<&str, &Value>, tests: &Value) -> Result<()> {
    let tests: Vec<_> =
        list(&tests["tests"]).iter().flat_map(|test| list(&test["alert_rule_test"])).collect();
    for alert in alerts.keys() {
        for fires in [true, false] {
            let of_alert = |test: &&&Value| text(&test["alertname"]) == *alert;
            let found =
                tests.iter().filter(of_alert).any(|test| list(&test["exp_alerts"]).is_empty() != fires);
            let how = if fires { "fires" } else { "does not fire" };
            ensure!(found, "{TESTS} has no test in which {alert} {how}");
        }
    }
    Ok(())
}

/// Each alert has a section of the runbooks, and names it.
fn documented(alerts: &BTreeMap<&str, &Value>, page: &str) -> Result<()> {
    let sections: BTreeSet<&str> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let names: BTreeSet<&str> = alerts.keys().copied().collect();
    ensure!(sections == names, "{RUNBOOKS} has the sections {sections:?}, and the alerts are {names:?}");
    for (alert, rule) in alerts {
        let url = format!("{RUNBOOKS}#{}", alert.to_lowercase());
        ensure!(rule["annotations"]["runbook_url"] == url, "{alert}: runbook_url is not {url}");
        let severity = text(&rule["labels"]["severity"]);
        ensure!(["critical", "warning"].contains(&severity), "{alert}: severity is {severity:?}");
    }
    Ok(())
}

/// Names of the series that mlop exports. The page of metrics has exactly the metrics that the code has.
fn exported() -> Result<BTreeSet<String>> {
    let documented = documented_metrics(&read(METRICS)?)?;
    let mut registered: BTreeSet<String> = generate::state_metrics().collect();
    for source in SOURCES {
        registered.extend(registered_metrics(&read(source)?)?);
    }
    let bases = documented.iter().map(|(name, kind)| match kind.as_str() {
        "counter" => name.trim_end_matches("_total").to_owned(),
        _ => name.clone(),
    });
    let bases: BTreeSet<String> = bases.collect();
    ensure!(
        bases == registered,
        "{METRICS} and the code differ: {:?}",
        bases.symmetric_difference(&registered)
    );
    let series = documented.iter().flat_map(|(name, kind)| match kind.as_str() {
        "histogram" => ["_bucket", "_sum", "_count"].map(|end| format!("{name}{end}")).to_vec(),
        _ => vec![name.clone()],
    });
    Ok(series.collect())
}

/// Names and types in the tables of the page.
fn documented_metrics(page: &str) -> Result<BTreeMap<String, String>> {
    let row = Regex::new(r"(?m)^\| `(mlop_[a-z_]+)` \| (counter|gauge|histogram) \|")?;
    let rows = row.captures_iter(page).map(|found| (found[1].to_owned(), found[2].to_owned()));
    Ok(rows.collect())
}

/// Names without the ends that their types add.
fn registered_metrics(source: &str) -> Result<Vec<String>> {
    let prefix = Regex::new(r#"with_prefix\("([a-z_]+)"\)"#)?;
    let prefix = prefix.captures(source).map_or(String::new(), |found| format!("{}_", &found[1]));
    let register = Regex::new(r#"(?:\.register\(|\b(?:registered|seconds)\(\s*all,)\s*"([a-z_]+)""#)?;
    Ok(register.captures_iter(source).map(|found| format!("{prefix}{}", &found[1])).collect())
}

/// The query is about series of mlop, and about reasons that there are.
fn known(series: &BTreeSet<String>, query: &str) -> Result<()> {
    let selected = Regex::new(r"\b([a-z_:]+)[{\[]|\b(mlop_[a-z_]+)\b")?;
    for found in selected.captures_iter(query) {
        let name = found.get(1).or_else(|| found.get(2)).map_or("", |name| name.as_str());
        // A label of the pods of a FeatureStore.
        ensure!(series.contains(name) || name == "mlop_dev_intent", "mlop has no metric {name}");
    }
    let reasons = Regex::new(r#"reason(?:=|!=|=~|!~)"([^"]*)""#)?;
    for reason in reasons
        .captures_iter(query)
        .flat_map(|found| found[1].split('|').map(str::to_owned).collect::<Vec<_>>())
    {
        ensure!(Reason::ALL.iter().any(|(known, _)| known.as_str() == reason), "there is no reason {reason}");
    }
    Ok(())
}

/// Prometheus can parse the queries, with values for Grafana's variables.
fn parsed(queries: &[(String, String)]) -> Result<()> {
    let rules = queries.iter().map(|(_, query)| {
        let query =
            query.replace("$__rate_interval", "5m").replace("$namespace", ".*").replace("$metric", ".*");
        json!({"record": "query", "expr": query})
    });
    let file = json!({"groups": [{"name": "queries", "rules": rules.collect::<Vec<_>>()}]});
    let path = paths::cache()?.join("queries.json");
    fs::write(&path, file.to_string()).with_context(|| format!("cannot write {}", path.display()))?;
    promtool(&["check", "rules", "--lint=none"], &path)
}

fn promtool(args: &[&str], file: &Path) -> Result<()> {
    process::run(Command::new("promtool").args(args).arg(file))
}

fn yaml(path: &str) -> Result<Value> {
    serde_saphyr::from_str(&read(path)?).with_context(|| format!("cannot parse {path}"))
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(paths::repository().join(path)).with_context(|| format!("cannot read {path}"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_about_unknown_metrics_or_reasons_are_refused() {
        let series = BTreeSet::from(["mlop_leading".to_owned(), "mlop_reconcile_total".to_owned()]);
        for query in [
            "sum by (job) (mlop_leading) > 0",
            r#"rate(mlop_reconcile_total{reason=~"Ready|StoreDenied"}[5m])"#,
            "count by (mlop_dev_intent) (mlop_leading)",
        ] {
            known(&series, query).unwrap();
        }
        for (query, message) in [
            ("mlop_leadin == 1", "mlop has no metric mlop_leadin"),
            ("rate(mlop_reconcile[5m])", "mlop has no metric mlop_reconcile"),
            (r#"kube_pod_info{namespace="a"}"#, "mlop has no metric kube_pod_info"),
            (r#"mlop_leading{reason!~"Finished"}"#, "there is no reason Finished"),
        ] {
            assert_eq!(known(&series, query).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn alert_without_a_firing_test_or_a_runbook_is_refused() {
        let rule = json!({"labels": {"severity": "warning"}, "annotations": {"runbook_url": format!("{RUNBOOKS}#down")}});
        let alerts = BTreeMap::from([("Down", &rule)]);
        let tests = |alerts: &[Value]| {
            let tests: Vec<_> =
                alerts.iter().map(|it| json!({"alertname": "Down", "exp_alerts": it})).collect();
            json!({"tests": [{"alert_rule_test": tests}]})
        };
        tested(&alerts, &tests(&[json!([]), json!([{}])])).unwrap();
        assert!(tested(&alerts, &tests(&[json!([])])).unwrap_err().to_string().contains("Down fires"));
        assert!(tested(&alerts, &tests(&[json!([{}])])).unwrap_err().to_string().contains("does not fire"));
        documented(&alerts, "# Runbooks\n\n## Down\n").unwrap();
        assert!(documented(&alerts, "# Runbooks\n").is_err());
        assert!(documented(&alerts, "## Down\n## Up\n").is_err());
    }

    #[test]
    fn registered_names_are_found_with_their_prefix() {
        let source = "Registry::with_prefix(\"mlop_x\");\nregistry.register(\"a\", \"A\", a);\nregistry.register(\n    \"b_seconds\",";
        assert_eq!(registered_metrics(source).unwrap(), ["mlop_x_a", "mlop_x_b_seconds"]);
        let source = "registered(all, \"mlop_a\", \"A\"), seconds(\n    all,\n    \"mlop_b_seconds\",";
        assert_eq!(registered_metrics(source).unwrap(), ["mlop_a", "mlop_b_seconds"]);
    }
}
