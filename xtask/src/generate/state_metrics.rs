//! The configuration of kube-state-metrics for mlop's kinds: a series per object, from its spec and status.
//!
//! A metric is configured for every kind that has its fields.
use anyhow::{Context as _, Result, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use mlop_api::kinds::{self, Class};
use serde_json::{Map, Value, json};

use super::files::{Files, yaml};

const FILE: &str = "charts/mlop-monitoring/files/custom-resource-state.yaml";
/// Begins the name of each metric.
const PREFIX: &str = "mlop_resource";
/// Fields of an object's metadata have no schema in a definition.
const METADATA: &str = "metadata";

type Path = &'static [&'static str];

struct Metric {
    name: &'static str,
    help: &'static str,
    /// A value, or a list that gives a series for each of its items.
    path: Path,
    /// Name and path of each label, from the value or item.
    labels: &'static [(&'static str, Path)],
    value: Sample,
}

/// The value of a series.
enum Sample {
    /// 1. The labels say it all.
    One,
    /// The number, time or boolean at a path from the value or item.
    At(Path),
}

const METRICS: [Metric; 16] = [
    Metric {
        name: "created_time_seconds",
        help: "Time when the object was created",
        path: &[METADATA, "creationTimestamp"],
        labels: &[],
        value: Sample::At(&[]),
    },
    Metric {
        name: "condition_info",
        help: "The conditions of the object",
        path: &["status", "conditions"],
        labels: &[("type", &["type"]), ("status", &["status"]), ("reason", &["reason"])],
        value: Sample::One,
    },
    Metric {
        name: "condition_transition_time_seconds",
        help: "Time when the condition has changed its status last",
        path: &["status", "conditions"],
        labels: &[("type", &["type"])],
        value: Sample::At(&["lastTransitionTime"]),
    },
    Metric {
        name: "headline_info",
        help: "The reason that kubectl get shows",
        path: &["status", "headline"],
        labels: &[("reason", &["reason"])],
        value: Sample::One,
    },
    Metric {
        name: "cause_info",
        help: "The object where the problem began",
        path: &["status", "cause"],
        labels: &[("cause_kind", &["kind"]), ("cause_name", &["name"]), ("reason", &["reason"])],
        value: Sample::One,
    },
    Metric {
        name: "suspended",
        help: "1 if spec.suspend is true",
        path: &["spec", "suspend"],
        labels: &[],
        value: Sample::At(&[]),
    },
    Metric {
        name: "pin_info",
        help: "The run that spec.pin names",
        path: &["spec", "pin"],
        labels: &[("pin", &[])],
        value: Sample::One,
    },
    Metric {
        name: "artifact_revision",
        help: "Revision of the published artifact",
        path: &["status", "artifact", "revision"],
        labels: &[],
        value: Sample::At(&[]),
    },
    Metric {
        name: "artifact_produced_time_seconds",
        help: "Time when the published artifact was made",
        path: &["status", "artifact", "producedAt"],
        labels: &[],
        value: Sample::At(&[]),
    },
    Metric {
        name: "artifact_metric",
        help: "Metrics of the artifact, such as rows and auc",
        path: &["status", "metrics"],
        labels: &[("metric", &["name"])],
        value: Sample::At(&["value"]),
    },
    Metric {
        name: "dead_letter_attempts",
        help: "Attempts with inputs that were given up",
        path: &["status", "deadLetters"],
        labels: &[("run", &["run"]), ("reason", &["reason"])],
        value: Sample::At(&["attempts"]),
    },
    Metric {
        name: "run_attempts",
        help: "Attempts of the run that have ended",
        path: &["status", "attempts"],
        labels: &[],
        value: Sample::At(&[]),
    },
    Metric {
        name: "run_disruptions",
        help: "Attempts in a row that the run lost without its fault",
        path: &["status", "disruptions"],
        labels: &[],
        value: Sample::At(&[]),
    },
    Metric {
        name: "run_finished_time_seconds",
        help: "Time when the run ended",
        path: &["status", "finishedAt"],
        labels: &[],
        value: Sample::At(&[]),
    },
    Metric {
        name: "serving_replicas",
        help: "Pods of the ModelDeployment",
        path: &["status", "replicas"],
        labels: &[],
        value: Sample::At(&[]),
    },
    Metric {
        name: "serving_ready_replicas",
        help: "Pods that serve a version of the model",
        path: &["status", "serving"],
        labels: &[("version", &["version"]), ("model_version", &["modelVersion"])],
        value: Sample::At(&["readyReplicas"]),
    },
];

pub fn files(kinds: &[CustomResourceDefinition]) -> Result<Files> {
    let resources = kinds.iter().map(resource).collect::<Result<Vec<_>>>()?;
    let document = json!({"kind": "CustomResourceStateMetrics", "spec": {"resources": resources}});
    Ok([(FILE.into(), yaml(&document)?)].into())
}

/// Full names of the metrics.
pub fn names() -> impl Iterator<Item = String> {
    METRICS.iter().map(|metric| format!("{PREFIX}_{}", metric.name))
}

/// The class of a kind, as a label.
fn class(kind: &str) -> Result<&'static str> {
    let found = kinds::names().into_iter().find(|(name, _)| name == kind);
    Ok(match found.with_context(|| format!("{kind} is not among the kinds"))?.1 {
        Class::Policy => "policy",
        Class::Connection => "connection",
        Class::Intent => "intent",
        Class::Run => "run",
    })
}

/// The metrics of one kind.
fn resource(definition: &CustomResourceDefinition) -> Result<Value> {
    let version = definition.spec.versions.first().context("a definition has a version")?;
    let schema = serde_json::to_value(version.schema.as_ref().and_then(|it| it.open_api_v3_schema.as_ref()))?;
    let kind = &definition.spec.names.kind;
    let metrics = METRICS.iter().filter_map(|metric| metric.of(&schema).transpose());
    Ok(json!({
        "groupVersionKind": {"group": definition.spec.group, "version": version.name, "kind": kind},
        "metricNamePrefix": PREFIX,
        // An object need not have every field: that is not an error.
        "errorLogV": 10,
        "commonLabels": {"kind": kind, "class": class(kind)?},
        "labelsFromPath": {"namespace": [METADATA, "namespace"], "name": [METADATA, "name"]},
        "metrics": metrics.collect::<Result<Vec<_>>>().with_context(|| kind.clone())?,
    }))
}

impl Metric {
    /// The configuration for a kind with this schema, if it has the field.
    fn of(&self, schema: &Value) -> Result<Option<Value>> {
        let Some(found) = at(schema, self.path) else { return Ok(None) };
        let item = found.get("items").unwrap_or(found);
        let (kind, field, value): (_, _, Path) = match self.value {
            Sample::One => ("Info", "info", &[]),
            Sample::At(path) => ("Gauge", "gauge", path),
        };
        let paths = self.labels.iter().map(|(_, path)| *path).chain([value]);
        for path in paths {
            ensure!(
                at(item, path).is_some(),
                "{}: no field {} in {}",
                self.name,
                path.join("."),
                self.path.join(".")
            );
        }
        let mut each: Map<_, _> = [("path".to_owned(), json!(self.path))].into_iter().collect();
        if !self.labels.is_empty() {
            let labels = self.labels.iter().map(|(name, path)| ((*name).to_owned(), json!(path)));
            each.insert("labelsFromPath".to_owned(), labels.collect::<Map<_, _>>().into());
        }
        if !value.is_empty() {
            each.insert("valueFrom".to_owned(), json!(value));
        }
        Ok(Some(json!({"name": self.name, "help": self.help, "each": {"type": kind, field: each}})))
    }
}

/// The schema of the field at `path`.
fn at<'a>(schema: &'a Value, path: &[&str]) -> Option<&'a Value> {
    if path.first() == Some(&METADATA) {
        return Some(schema);
    }
    path.iter().try_fold(schema, |schema, field| schema.get("properties")?.get(field))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_belong_to_the_kinds_with_their_fields() {
        let kinds = mlop_api::kinds::all();
        let resources: Vec<_> = kinds.iter().map(|kind| resource(kind).unwrap()).collect();
        let of = |kind: &str, name: &str| {
            let resource = resources.iter().find(|it| it["groupVersionKind"]["kind"] == kind).unwrap();
            resource["metrics"].as_array().unwrap().iter().any(|metric| metric["name"] == name)
        };
        assert!(of("Dataset", "artifact_metric") && !of("ObjectStore", "artifact_metric"));
        assert!(of("TrainingRun", "run_attempts") && !of("TrainingJob", "run_attempts"));
        assert!(kinds.iter().all(|kind| of(&kind.spec.names.kind, "condition_info")));
        for metric in &METRICS {
            assert!(kinds.iter().any(|kind| of(&kind.spec.names.kind, metric.name)), "{}", metric.name);
        }
    }

    #[test]
    fn label_of_an_unknown_field_is_an_error() {
        let schema =
            json!({"properties": {"status": {"properties": {"conditions": {"items": {"properties": {}}}}}}});
        let metric = METRICS.iter().find(|metric| metric.name == "condition_info").unwrap();
        assert!(metric.of(&schema).unwrap_err().to_string().contains("no field type"));
        assert!(metric.of(&json!({})).unwrap().is_none());
    }
}
