//! `cargo xtask charts`: packs the charts and checks the objects that they install.
mod checks;
mod configured;
mod health;
mod monitoring;
mod scan;
mod schemas;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::slice;

use anyhow::{Context as _, Result, ensure};
use mlop_api::operators;
use serde_json::{Value, json};

use crate::progress::{Outcome, Steps};
use crate::tools::{self, HELM};
use crate::{cache, paths, process};
use schemas::Schemas;

/// The chart of all operators.
const ALL: &str = "mlop";
const CRDS: &str = "mlop-crds";
/// Below the repository.
const PIPELINES: &str = "e2e/pipelines";
/// The chart for Prometheus and Grafana. It is installed where these are.
const MONITORING: &str = "mlop-monitoring";
/// `helm template` asks no cluster: this is the version of Kubernetes that charts see.
const KUBERNETES: &str = "1.36.0";
const NAMESPACE: &str = "mlop-system";
/// It has all that an operator's chart can have. The schema and the defaults are the same in all, by `cargo xtask generate`.
const LARGEST: &str = operators::FEATURE_STORE.name;
/// The second release of a cluster.
const WITHOUT_CRDS: &str = "mlop-crds.enabled=false";
const WATCHED: &str = "watchNamespaces={team-a,team-b}";

#[derive(clap::Args)]
pub struct Args {
    /// Only scan the objects for what makes an installation unsafe, with checkov.
    #[arg(long)]
    scan: bool,
}

pub fn run(args: &Args) -> Result<()> {
    if args.scan {
        let mut steps = Steps::new(2);
        steps.run("pack", pack)?;
        return steps.run("scan", scan::run);
    }
    let mut steps = Steps::new(9);
    steps.run("pack", pack)?;
    steps.run("lint", lint)?;
    steps.run("objects", installed)?;
    steps.run("all values", configured)?;
    steps.run("schemas", conform)?;
    steps.run("alerts and dashboards", monitoring::check)?;
    steps.run("health for Flux and Argo CD", health::check)?;
    steps.run("wrong values", refused)?;
    steps.run("absent values", without_a_value)
}

/// Packs into each chart those that it depends on: the library into the operators', these into the one of all.
pub fn pack() -> Result<Outcome> {
    tools::provide(&[&HELM])?;
    for chart in operator_charts().chain([ALL]) {
        process::run(helm("dependency")?.arg("update").arg(directory(chart)).arg("--skip-refresh"))?;
    }
    Ok(Outcome::Done)
}

fn lint() -> Result<Outcome> {
    let charts = operator_charts().chain([ALL, CRDS, MONITORING]).map(directory);
    process::run(helm("lint")?.args(["--strict", "--kube-version", KUBERNETES]).args(charts))?;
    let mut all_values = helm("lint")?;
    all_values.args(["--strict", "--kube-version", KUBERNETES, "--values"]);
    process::run(all_values.arg(paths::repository().join(configured::VALUES)).arg(directory(ALL)))?;
    Ok(Outcome::Done)
}

fn installed() -> Result<Outcome> {
    for operator in operators::ALL {
        let chart = operator.name;
        let everywhere = template(chart, &[])?;
        checks::safe(&everywhere).with_context(|| chart.to_owned())?;
        checks::cluster_wide(&everywhere).with_context(|| chart.to_owned())?;
        checks::hooks(&everywhere, operator).with_context(|| chart.to_owned())?;
        configured::single_replica(&everywhere).with_context(|| chart.to_owned())?;
        let listed = template(chart, &[WATCHED])?;
        checks::safe(&listed).with_context(|| chart.to_owned())?;
        checks::only_in(&listed, NAMESPACE, &["team-a", "team-b"]).with_context(|| chart.to_owned())?;
        checks::hooks(&listed, operator).with_context(|| chart.to_owned())?;
    }
    let all = template(ALL, &[&format!("global.{WATCHED}"), "global.image.registry=registry.example"])?;
    checks::safe(&all).context(ALL)?;
    checks::only_in(&all, NAMESPACE, &["team-a", "team-b"]).context(ALL)?;
    checks::images_from(&all, "registry.example/").context(ALL)?;
    checks::definitions_stay(&all).context(ALL)?;
    checks::no_definitions(&template(ALL, &[WITHOUT_CRDS])?).context(WITHOUT_CRDS)?;
    Ok(Outcome::Done)
}

/// Every value that a platform team can set arrives.
fn configured() -> Result<Outcome> {
    let objects = with_all_values()?;
    checks::safe(&objects)?;
    checks::only_in(&objects, NAMESPACE, &["team-a", "team-b"])?;
    configured::check(&objects)?;
    let labelled = template(MONITORING, &["prometheusRule.runbooks=https://example.com/runbooks"])?;
    ensure!(
        format!("{labelled:?}").contains("https://example.com/runbooks#mlopoperatordown"),
        "no address of a runbook"
    );
    Ok(Outcome::Done)
}

fn with_all_values() -> Result<Vec<Value>> {
    let file = paths::repository().join(configured::VALUES).display().to_string();
    template_with(ALL, &["--values", &file])
}

/// Objects of the charts, and those that users start from, have the fields that an API server knows.
fn conform() -> Result<Outcome> {
    let schemas = Schemas::write()?;
    for wrong in [
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "dat": {}}),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}, "spec": {}}),
        json!({"apiVersion": "mlop.dev/v1alpha1", "kind": "Model", "metadata": {"name": "a"}, "spec": {"pins": ""}}),
        json!({"apiVersion": "mlop.dev/v1", "kind": "Model", "metadata": {"name": "a"}}),
    ] {
        ensure!(schemas.check(slice::from_ref(&wrong)).is_err(), "the schemas admit {wrong}");
    }
    // In one run: the schemas are large.
    let mut all = template(ALL, &[])?;
    all.extend(template(MONITORING, &[])?);
    all.extend(with_all_values()?);
    for path in cache::files(&paths::repository().join(PIPELINES))? {
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        all.extend(objects(&text)?);
    }
    schemas.check(&all)?;
    Ok(Outcome::Done)
}

/// Values that are wrong are refused by the schemas, not rendered.
fn refused() -> Result<Outcome> {
    for wrong in [
        "replica=2",
        "replicas=two",
        "watchNamespaces={Team_A}",
        "inputKinds[0].kind=dataset",
        "image.tag=a b",
        "image.digest=sha256:1",
        "imagePullSecrets={registry}",
        "podLabels.team=a b",
        "extraArgs=--verbose",
        "networkPolicy.enable=true",
        "prometheus.podMonitor.interval=often",
        "tolerations[0].effects=NoSchedule",
        "global.replicas=many",
        "global.flowControl.shares=3",
    ] {
        ensure!(template(LARGEST, &[wrong]).is_err(), "{LARGEST} accepts the value {wrong}");
    }
    ensure!(template(ALL, &["mlop-trainig.replicas=2"]).is_err(), "{ALL} accepts a misspelt operator");
    for wrong in ["dashboard.enabled=true", "dashboards.labels.a=b c", "prometheusRule.enabled=1"] {
        ensure!(template(MONITORING, &[wrong]).is_err(), "{MONITORING} accepts the value {wrong}");
    }
    Ok(Outcome::Done)
}

/// A value that the values of an earlier release lack counts as its default, or the error names it.
fn without_a_value() -> Result<Outcome> {
    let default = template(ALL, &[])?;
    for value in [
        "",
        ".image",
        ".image.registry",
        ".image.tag",
        ".watchNamespaces",
        ".restorers",
        ".logLevel",
        ".logFormat",
        ".replicas",
    ] {
        let absent = format!("global{value}=null");
        ensure!(
            template(ALL, &[&absent]).context(absent.clone())? == default,
            "{absent} changes the objects"
        );
    }
    let default = template(MONITORING, &[])?;
    for value in [
        "commonLabels",
        "prometheusRule.runbooks",
        "featureServers.interval",
        "routers.interval",
        "dashboards.annotations",
    ] {
        let absent = format!("{value}=null");
        ensure!(template(MONITORING, &[&absent])? == default, "{absent} changes the objects");
    }
    let default = template(LARGEST, &[])?;
    for value in values(LARGEST)? {
        let absent = format!("{value}=null");
        match template(LARGEST, &[&absent]) {
            Ok(objects) => ensure!(objects == default, "{absent} changes the objects"),
            Err(error) => {
                let words = format!("{error:#}");
                ensure!(words.contains(&format!("missing property '{value}'")), "{absent}: {words}");
            }
        }
    }
    Ok(Outcome::Done)
}

/// The names of the values of `chart`.
fn values(chart: &str) -> Result<Vec<String>> {
    let text = fs::read_to_string(directory(chart).join("values.yaml"))?;
    let values: BTreeMap<String, Value> = serde_saphyr::from_str(&text)?;
    ensure!(!values.is_empty(), "{chart} has no values");
    Ok(values.into_keys().collect())
}

/// The objects of `chart` with the given values.
fn template(chart: &str, values: &[&str]) -> Result<Vec<Value>> {
    template_with(chart, &values.iter().flat_map(|value| ["--set", value]).collect::<Vec<_>>())
}

fn template_with(chart: &str, args: &[&str]) -> Result<Vec<Value>> {
    let mut command = helm("template")?;
    command.arg("release").arg(directory(chart)).args([
        "--namespace",
        NAMESPACE,
        "--kube-version",
        KUBERNETES,
    ]);
    objects(&process::output(command.args(args))?)
}

/// The objects of a YAML file.
fn objects(text: &str) -> Result<Vec<Value>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text)?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

fn operator_charts() -> impl Iterator<Item = &'static str> {
    operators::ALL.into_iter().map(|operator| operator.name)
}

fn directory(chart: &str) -> PathBuf {
    paths::repository().join("charts").join(chart)
}

/// helm with its caches in ours, so that the user's repositories are not used.
pub fn helm(verb: &str) -> Result<Command> {
    let home = paths::cache()?.join("helm");
    fs::create_dir_all(&home).with_context(|| format!("cannot make {}", home.display()))?;
    let mut command = Command::new(paths::bin()?.join("helm"));
    command.arg(verb).env("HELM_CACHE_HOME", home.join("cache")).env("HELM_CONFIG_HOME", home.join("config"));
    Ok(command)
}
