//! The list of all kinds, for whoever generates from it.

use crate::{dataset, deployment, features, registry, training};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

/// The custom resource definitions of all kinds, with the status default that [`with_status_default`] adds.
pub fn all() -> Vec<CustomResourceDefinition> {
    use crate::contract::condition::{READY, SUCCEEDED};
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
    let intents = intents.into_iter().map(|crd| with_status_default(crd, READY));
    intents.chain(runs.into_iter().map(|crd| with_status_default(crd, SUCCEEDED))).collect()
}

/// Gives `status` a default in which the condition `kind` is Unknown, so that nothing looks done before a
/// controller has seen it.
fn with_status_default(mut crd: CustomResourceDefinition, kind: &str) -> CustomResourceDefinition {
    let default = serde_json::json!({"conditions": [{
        "type": kind,
        "status": "Unknown",
        "reason": "Pending",
        "message": "Waiting for the controller",
        "lastTransitionTime": "1970-01-01T00:00:00Z",
    }]});
    for version in &mut crd.spec.versions {
        let status = version
            .schema
            .as_mut()
            .and_then(|schema| schema.open_api_v3_schema.as_mut())
            .and_then(|schema| schema.properties.as_mut())
            .and_then(|properties| properties.get_mut("status"));
        if let Some(status) = status {
            status.default = Some(k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSON(
                default.clone(),
            ));
        }
    }
    crd
}
