//! The dashboards for Grafana, from the list in `dashboards.yaml`.
use anyhow::Result;
use serde::Deserialize;
use serde_json::{Value, json};

use super::files::Files;

const LIST: &str = include_str!("dashboards.yaml");
/// Columns of a row.
const COLUMNS: u32 = 24;
/// Rows that a panel has.
const HEIGHT: u32 = 8;
/// Grafana's version of the format.
const SCHEMA_VERSION: u32 = 39;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Dashboard {
    name: String,
    title: String,
    variables: Vec<Variable>,
    panels: Vec<Panel>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Variable {
    name: String,
    query: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Panel {
    title: String,
    #[serde(default)]
    description: String,
    #[serde(default, rename = "type")]
    view: View,
    #[serde(default = "half")]
    width: u32,
    #[serde(default = "number")]
    unit: String,
    queries: Vec<Query>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
enum View {
    #[default]
    TimeSeries,
    Stat,
    Table,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Query {
    expr: String,
    #[serde(default)]
    legend: String,
}

fn half() -> u32 {
    COLUMNS / 2
}

fn number() -> String {
    "short".to_owned()
}

pub fn files() -> Result<Files> {
    let list: Vec<Dashboard> = serde_saphyr::from_str(LIST)?;
    let file = |dashboard: &Dashboard| {
        let path = format!("charts/mlop-monitoring/files/dashboards/{}.json", dashboard.name);
        Ok((path.into(), format!("{}\n", dashboard.json())))
    };
    list.iter().map(file).collect()
}

/// Where a query is, and its PromQL. Variables of Grafana are not replaced.
pub fn queries() -> Result<Vec<(String, String)>> {
    let list: Vec<Dashboard> = serde_saphyr::from_str(LIST)?;
    let queries = list.iter().flat_map(|dashboard| {
        dashboard.panels.iter().flat_map(move |panel| {
            let place = format!("{}: {}", dashboard.title, panel.title);
            panel.queries.iter().map(move |query| (place.clone(), query.expr.clone()))
        })
    });
    Ok(queries.collect())
}

impl Dashboard {
    fn json(&self) -> Value {
        let source = json!({
            "name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus",
        });
        let variables: Vec<_> =
            [source].into_iter().chain(self.variables.iter().map(Variable::json)).collect();
        let (mut x, mut y) = (0, 0);
        let mut panels = Vec::new();
        for (id, panel) in (1..).zip(&self.panels) {
            if x + panel.width > COLUMNS {
                (x, y) = (0, y + HEIGHT);
            }
            panels.push(panel.json(id, x, y));
            x += panel.width;
        }
        json!({
            "uid": self.name,
            "title": self.title,
            "tags": ["mlop"],
            "schemaVersion": SCHEMA_VERSION,
            "editable": true,
            "refresh": "30s",
            "time": {"from": "now-3h", "to": "now"},
            "templating": {"list": variables},
            "panels": panels,
        })
    }
}

impl Variable {
    fn json(&self) -> Value {
        json!({
            "name": self.name,
            "type": "query",
            "datasource": source(),
            "query": {"query": self.query, "refId": self.name},
            // When the time range changes.
            "refresh": 2,
            "sort": 1,
            "multi": true,
            "includeAll": true,
            "allValue": ".*",
            "current": {"text": "All", "value": "$__all"},
        })
    }
}

impl Panel {
    fn json(&self, id: u32, x: u32, y: u32) -> Value {
        let newest = self.view != View::TimeSeries;
        let targets = ('A'..).zip(&self.queries).map(|(letter, query)| {
            let format = if self.view == View::Table { "table" } else { "time_series" };
            json!({
                "refId": letter, "datasource": source(), "expr": query.expr, "legendFormat": query.legend,
                "instant": newest, "range": !newest, "format": format,
            })
        });
        let mut panel = json!({
            "id": id,
            "type": self.view,
            "title": self.title,
            "description": self.description,
            "datasource": source(),
            "gridPos": {"x": x, "y": y, "w": self.width, "h": HEIGHT},
            "fieldConfig": {"defaults": {"unit": self.unit}, "overrides": []},
            "targets": targets.collect::<Vec<_>>(),
        });
        if let (View::Table, Some(fields)) = (self.view, panel.as_object_mut()) {
            let hidden = json!([{"id": "organize", "options": {"excludeByName": {"Time": true}}}]);
            fields.insert("transformations".to_owned(), hidden);
        }
        panel
    }
}

fn source() -> Value {
    json!({"type": "prometheus", "uid": "${datasource}"})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_do_not_overlap_or_leave_the_grid() {
        for (path, text) in files().unwrap() {
            let dashboard: Value = serde_json::from_str(&text).unwrap();
            let panels = dashboard["panels"].as_array().unwrap();
            let mut taken = std::collections::BTreeSet::new();
            for panel in panels {
                let place = &panel["gridPos"];
                let number = |field: &str| place[field].as_u64().unwrap();
                for column in number("x")..number("x") + number("w") {
                    assert!(column < u64::from(COLUMNS), "{}: {panel}", path.display());
                    assert!(taken.insert((column, number("y"))), "{}: {panel}", path.display());
                }
            }
        }
    }
}
