//! The list of all kinds, for whoever generates from it.

use crate::contract::condition_type::{READY, SUCCEEDED};
use crate::{dataset, deployment, features, registry, training};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;
use serde_json::json;

/// The custom resource definitions of all kinds as they are installed: the derived ones, completed.
pub fn all() -> Vec<CustomResourceDefinition> {
    let intents = [
        dataset::ObjectStore::crd(),
        dataset::Dataset::crd(),
        features::FeatureStore::crd(),
        features::FeatureView::crd(),
        training::TrainingJob::crd(),
        registry::TrackingServer::crd(),
        registry::Model::crd(),
        deployment::ModelDeployment::crd(),
    ];
    let runs = [
        dataset::DatasetVersion::crd(),
        features::FeatureSnapshot::crd(),
        training::TrainingRun::crd(),
        registry::ModelVersion::crd(),
    ];
    let intents = intents.into_iter().map(|crd| completed(crd, READY));
    intents.chain(runs.into_iter().map(|crd| completed(crd, SUCCEEDED))).collect()
}

/// Adds what the derived definition of a kind, whose main condition is `condition`, lacks.
fn completed(mut crd: CustomResourceDefinition, condition: &str) -> CustomResourceDefinition {
    let schemas = crd
        .spec
        .versions
        .iter_mut()
        .filter_map(|version| version.schema.as_mut()?.open_api_v3_schema.as_mut());
    for schema in schemas {
        each(schema, &drop_nullable);
        each(schema, &drop_unsigned_format);
        if let Some(status) = schema.properties.as_mut().and_then(|properties| properties.get_mut("status")) {
            status.default = Some(unseen(condition));
            bound_conditions(status);
        }
    }
    crd
}

/// A status whose `condition` is Unknown, so that nothing looks done before a controller has seen it.
fn unseen(condition: &str) -> JSON {
    JSON(json!({"conditions": [{
        "type": condition,
        "status": "Unknown",
        "reason": "Pending",
        "message": "Waiting for the controller",
        "lastTransitionTime": "1970-01-01T00:00:00Z",
    }]}))
}

/// The API server drops a null in a field that is not nullable before it looks at defaults and rules. So a null
/// means the same as no field, and `has()` in a rule tells the truth.
fn drop_nullable(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
}

/// The API server warns about formats that it does not know; the bounds of the field say the same.
fn drop_unsigned_format(schema: &mut JSONSchemaProps) {
    if schema.format.as_ref().is_some_and(|format| format.starts_with("uint")) {
        schema.format = None;
    }
}

/// The bounds of Kubernetes' own conditions, which its Rust type does not carry.
fn bound_conditions(status: &mut JSONSchemaProps) {
    let conditions = status.properties.as_mut().and_then(|properties| properties.get_mut("conditions"));
    let Some(JSONSchemaPropsOrArray::Schema(item)) = conditions.and_then(|list| list.items.as_mut()) else {
        return;
    };
    for (name, field) in item.properties.iter_mut().flatten() {
        match name.as_str() {
            "type" => field.max_length = Some(316),
            "status" => {
                field.enum_ = Some(["True", "False", "Unknown"].map(|status| JSON(json!(status))).into())
            }
            "reason" => {
                field.min_length = Some(1);
                field.max_length = Some(1_024);
                field.pattern = Some("^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$".to_owned());
            }
            "message" => field.max_length = Some(32_768),
            _ => {}
        }
    }
}

/// Calls `change` for `schema` and every schema in it.
fn each(schema: &mut JSONSchemaProps, change: &impl Fn(&mut JSONSchemaProps)) {
    change(schema);
    for field in schema.properties.iter_mut().flat_map(|properties| properties.values_mut()) {
        each(field, change);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        each(items, change);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        each(values, change);
    }
}
