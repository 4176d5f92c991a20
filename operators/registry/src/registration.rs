//! The registration of a version: the work of the registrar.

use mlop_api::{
    registry::{Model, ModelVersion, TrackingServer},
    task::{Input, RegisterWork, Store},
};

/// The registration of a version.
pub struct Registration<'a> {
    pub version: &'a ModelVersion,
    pub server: &'a TrackingServer,
    /// Address of the server.
    pub tracking: &'a str,
    /// Metrics that gates ask for.
    pub gates: Vec<String>,
}

impl Registration<'_> {
    /// The work of the registrar on an artifact that lies in `store`; none for a version without input.
    pub fn work(self, store: Store) -> Option<RegisterWork> {
        let spec = &self.version.spec;
        let input = spec.lineage.inputs.first()?;
        Some(RegisterWork {
            registry: spec.content.tracking_server.clone(),
            tracking: self.tracking.to_owned(),
            source_uri: store.uri(&format!("trees/{}", input.record.digest.hex())),
            registered_model: spec.content.registered_model.clone(),
            experiment: spec.content.registered_model.clone(),
            metrics: spec.metrics.clone(),
            gates: self.gates,
            credentials: self.server.secret_name().is_some(),
            input_digest: spec.lineage.input_digest.clone(),
            alias: None,
            model: Input {
                name: input.record.name.clone(),
                digest: input.record.digest.clone(),
                media_type: input.media_type.clone(),
                store,
            },
        })
    }
}

/// The metrics that the gates of `model` ask for.
pub fn gated_metrics(model: &Model) -> Vec<String> {
    model.spec.gates.iter().map(|gate| gate.metric.clone()).collect()
}
