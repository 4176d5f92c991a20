//! The chart's dashboards, as data: their queries are asked of a Prometheus that has scraped a real run, and their panels
//! are drawn from the answers.

use super::prometheus::{Prometheus, Series};
use crate::stage::OPERATORS;
use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

const FILES: [&str; 4] = [
    include_str!("../../../charts/mlop-monitoring/files/dashboards/mlop-operators.json"),
    include_str!("../../../charts/mlop-monitoring/files/dashboards/mlop-pipelines.json"),
    include_str!("../../../charts/mlop-monitoring/files/dashboards/mlop-data-and-models.json"),
    include_str!("../../../charts/mlop-monitoring/files/dashboards/mlop-dependencies.json"),
];

/// Namespace of the run that fills the dashboards.
pub const NAMESPACE: &str = "flights";

/// Panels that may stay empty in a run in which nothing goes wrong, and why.
const MAY_BE_EMPTY: [(&str, &str, &str); 6] = [
    ("mlop / Operators", "Resources that cannot be listed", "every kind is served, and may be listed"),
    ("mlop / Operators", "Reconciles that fail", "no request of an operator fails"),
    ("mlop / Pipelines", "Runs with several attempts", "every run succeeds at once"),
    ("mlop / Pipelines", "Inputs that were given up", "no run fails"),
    ("mlop / Pipelines", "Pinned by users", "nobody sets spec.pin"),
    ("mlop / Dependencies", "Attempts lost to nodes and outages", "no attempt is lost"),
];

/// A dashboard of Grafana, with the fields that are used here.
#[derive(Deserialize)]
struct Dashboard {
    uid: String,
    title: String,
    panels: Vec<Panel>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Panel {
    title: String,
    #[serde(rename = "type")]
    view: String,
    grid_pos: Place,
    field_config: FieldConfig,
    targets: Vec<Target>,
}

#[derive(Clone, Copy, Deserialize, Serialize)]
struct Place {
    x: u32,
    y: u32,
    w: u32,
    h: u32,
}

#[derive(Deserialize)]
struct FieldConfig {
    defaults: Defaults,
}

#[derive(Deserialize)]
struct Defaults {
    unit: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Target {
    expr: String,
    legend_format: String,
}

/// A dashboard with the answers to its queries.
#[derive(Serialize)]
pub struct Picture {
    name: String,
    title: String,
    panels: Vec<Drawn>,
}

#[derive(Serialize)]
struct Drawn {
    title: String,
    view: String,
    place: Place,
    unit: String,
    series: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    legend: String,
    labels: BTreeMap<String, String>,
    samples: Vec<(f64, f64)>,
}

/// What became of the queries.
#[derive(Default)]
pub struct Report {
    pub queries: usize,
    pub with_data: usize,
    /// Queries without data, with the reason why that is as it should be.
    pub empty: Vec<String>,
    /// Queries that Prometheus refuses, or that have no data without a reason.
    pub failed: Vec<String>,
}

/// Asks every query of every dashboard for the last `past`.
///
/// # Errors
/// A dashboard cannot be read.
pub async fn ask(prometheus: &Prometheus, past: Duration) -> Result<(Report, Vec<Picture>)> {
    let (mut report, mut pictures) = (Report::default(), Vec::new());
    for dashboard in dashboards()? {
        let mut panels = Vec::new();
        for panel in &dashboard.panels {
            let series = ask_panel(prometheus, past, &dashboard.title, panel, &mut report).await;
            panels.push(Drawn {
                title: panel.title.clone(),
                view: panel.view.clone(),
                place: panel.grid_pos,
                unit: panel.field_config.defaults.unit.clone(),
                series,
            });
        }
        pictures.push(Picture { name: dashboard.uid, title: dashboard.title, panels });
    }
    Ok((report, pictures))
}

/// The lines of a panel. A table and a number show the newest values, and their queries must have had data at some time.
async fn ask_panel(
    prometheus: &Prometheus,
    past: Duration,
    dashboard: &str,
    panel: &Panel,
    report: &mut Report,
) -> Vec<Line> {
    let mut lines = Vec::new();
    for target in &panel.targets {
        report.queries += 1;
        let query = concrete(&target.expr);
        let place = format!("{dashboard}: {}: {query}", panel.title);
        let answer = prometheus.range(&query, past).await;
        let newest =
            if panel.view == "timeseries" { Ok(None) } else { prometheus.now(&query).await.map(Some) };
        match (answer, newest) {
            (Ok(range), Ok(newest)) => {
                report.judge(&place, why_empty(dashboard, &panel.title), !range.is_empty());
                let shown = newest.unwrap_or(range);
                lines.extend(shown.into_iter().map(|series| line(series, &target.legend_format)));
            }
            (Err(error), _) | (_, Err(error)) => report.failed.push(format!("{place}: {error:#}")),
        }
    }
    lines
}

impl Report {
    fn judge(&mut self, place: &str, may_be_empty: Option<&str>, has_data: bool) {
        match (has_data, may_be_empty) {
            (true, _) => self.with_data += 1,
            (false, Some(reason)) => self.empty.push(format!("{place}: {reason}")),
            (false, None) => self.failed.push(format!("{place}: no data")),
        }
    }

    /// # Errors
    /// A query failed, or lacks data without a reason.
    pub fn check(&self) -> Result<()> {
        let mut text = String::new();
        for line in &self.failed {
            writeln!(text, "  {line}").ok();
        }
        ensure!(self.failed.is_empty(), "queries of dashboards that do not show what they should:\n{text}");
        Ok(())
    }
}

fn dashboards() -> Result<Vec<Dashboard>> {
    FILES.iter().map(|file| serde_json::from_str(file).context("cannot read a dashboard")).collect()
}

fn why_empty(dashboard: &str, panel: &str) -> Option<&'static str> {
    let found = MAY_BE_EMPTY.iter().find(|(of, title, _)| (*of, *title) == (dashboard, panel));
    found.map(|(_, _, reason)| *reason)
}

/// The query with values for Grafana's variables: the namespaces of the run and of the operators.
fn concrete(query: &str) -> String {
    let namespaces = format!("{NAMESPACE}|{OPERATORS}");
    query.replace("$__rate_interval", "1m").replace("$namespace", &namespaces).replace("$metric", ".*")
}

/// As in Grafana, a label that the series does not have is an empty word.
fn line(series: Series, legend: &str) -> Line {
    let mut words = legend.split("{{");
    let mut text = words.next().unwrap_or_default().to_owned();
    for word in words {
        let (name, rest) = word.split_once("}}").unwrap_or((word, ""));
        text += series.labels.get(name).map_or("", String::as_str);
        text += rest;
    }
    Line { legend: text, labels: series.labels, samples: series.samples }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_that_may_be_empty_exist() {
        let dashboards = dashboards().unwrap();
        for (title, panel, reason) in MAY_BE_EMPTY {
            let dashboard = dashboards.iter().find(|dashboard| dashboard.title == title).unwrap();
            assert!(dashboard.panels.iter().any(|found| found.title == panel), "{title}: {panel}");
            assert!(!reason.is_empty());
        }
    }

    #[test]
    fn no_variable_of_grafana_remains() {
        for target in dashboards().unwrap().iter().flat_map(|it| &it.panels).flat_map(|panel| &panel.targets)
        {
            assert!(!concrete(&target.expr).contains('$'), "{}", target.expr);
        }
    }

    #[test]
    fn query_without_data_needs_a_reason() {
        let mut report = Report::default();
        report.judge("a", None, true);
        report.judge("b", Some("why"), false);
        report.check().unwrap();
        report.judge("c", None, false);
        assert_eq!((report.with_data, report.empty.as_slice()), (1, &["b: why".to_owned()][..]));
        assert!(report.check().unwrap_err().to_string().contains("c: no data"));
    }

    #[test]
    fn legend_has_the_values_of_its_labels() {
        let labels = BTreeMap::from([("job".to_owned(), "x".to_owned())]);
        assert_eq!(line(Series { labels, samples: Vec::new() }, "{{job}} of {{gone}}").legend, "x of ");
    }
}
