//! `Model`: registers the output of a training, judges it by its gates, and moves the alias to it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{ResourceExt, core::object::HasStatus};
use mlop_api::{
    Digest,
    common::{Flow, Metric, NamedInput, Resources},
    registry::{Gate, Model, ModelContent, ModelVersion, ModelVersionSpec, TrackingServer},
    result::Activated,
    run::{Execution, Lineage},
    status::Verdict,
    task::{Alias, AliasWork, Subject, Task, Work},
};
use mlop_core::{
    Blocked, Cache, Key,
    children::{connection, container, pod},
    condition,
    inputs::ReadyInput,
    intent::{Activation, Identity, Intent, Observed, Revision},
};
use serde_json::json;
use std::sync::Arc;

pub struct ModelIntent {
    pub servers: Arc<Cache<TrackingServer>>,
}

impl Intent for ModelIntent {
    type Resource = Model;
    type Run = ModelVersion;
    type Related = Option<Arc<TrackingServer>>;
    const ACTIVATES: bool = true;

    fn observe(&self, object: &Model, _: &[Arc<ModelVersion>]) -> Self::Related {
        self.servers.get(&Key::new(object.namespace().unwrap_or_default(), &object.spec.tracking_server))
    }

    fn flow(object: &Model) -> &dyn Flow {
        &object.spec
    }

    fn inputs(object: &Model) -> Vec<NamedInput> {
        vec![NamedInput { name: "model".to_owned(), from: object.spec.from.clone() }]
    }

    fn identity(observed: &Observed<Self>) -> Result<Identity<ModelContent>, Blocked> {
        let content = ModelContent::from(observed.object.as_ref());
        Ok(Identity { content, store: None, digests: Vec::new(), since: None })
    }

    fn execution(object: &Model) -> Execution {
        let resources = Resources { cpu: "50m".to_owned(), memory: "64Mi".to_owned(), gpu: 0 };
        Execution { resources, retry: object.spec.retry.clone(), ..Execution::default() }
    }

    fn run(
        _: &Observed<Self>,
        meta: ObjectMeta,
        identity: &Identity<ModelContent>,
        lineage: Lineage,
        execution: Execution,
        inputs: &[ReadyInput],
    ) -> ModelVersion {
        let spec = ModelVersionSpec {
            content: identity.content.clone(),
            lineage,
            metrics: inputs.first().map(|input| input.metrics.clone()).unwrap_or_default(),
            execution,
        };
        ModelVersion { metadata: meta, spec, status: None }
    }

    fn judge(object: &Model, run: &ModelVersion) -> Option<Verdict> {
        if object.spec.gates.is_empty() {
            return None;
        }
        let metrics = measured(run);
        let judged: Vec<(bool, String)> =
            object.spec.gates.iter().map(|gate| judge(gate, &metrics)).collect();
        Some(Verdict {
            run: run.name_any(),
            gates_digest: Digest::of_json(&object.spec.gates).unwrap_or_else(|_| Digest::of_bytes(b"")),
            passed: judged.iter().all(|(passed, _)| *passed),
            message: told(judged),
        })
    }

    fn activation(observed: &Observed<Self>, run: &ModelVersion) -> Activation {
        let Some(registered) = run.status().and_then(|status| status.output.as_ref()?.registered.clone())
        else {
            return Activation::Waiting(format!("{} does not say how it is registered", run.name_any()));
        };
        let server = observed.related.as_deref();
        let address = |server: &TrackingServer| server.status.as_ref()?.address.clone();
        let Some((server, tracking)) = server.and_then(|server| Some((server, address(server)?))) else {
            return Activation::Waiting(format!(
                "TrackingServer {} has no address yet",
                observed.object.spec.tracking_server
            ));
        };
        let label = format!("TrackingServer {}", server.name_any());
        let waits_for = connection::waits_for(&label, server.status.as_ref());
        let alias = alias(&observed.object, server, &tracking, 0);
        let parameters = alias.activation.parameters.clone();
        let secret = server.secret_name().map(str::to_owned);
        let image = observed.worker_image.clone();
        let build = move |meta, subject: Subject, revision: Revision| {
            let mut alias = alias.clone();
            alias.activation.revision = revision.get();
            let work = Work::Alias(AliasWork {
                tracking: tracking.clone(),
                credentials: secret.is_some(),
                registered_model: registered.name.clone(),
                version: registered.version.clone(),
                alias,
            });
            let resources = Resources { cpu: "50m".to_owned(), memory: "64Mi".to_owned(), gpu: 0 };
            let mut worker = container::worker(&image, &[], &[], &resources);
            worker.volume_mounts.get_or_insert_default().extend(container::tracking_mount(secret.as_deref()));
            pod::Builder::once(meta)
                .task(&Task { subject, work })
                .tracking(secret.as_deref())
                .scratch("tmp", Some("64Mi"), false)
                .container(worker)
                .build()
        };
        Activation::Pod { parameters, build: Box::new(build), waits_for }
    }
}

/// The TrackingServer that `model` is registered in.
pub fn servers_of(model: &Model) -> Vec<String> {
    vec![model.spec.tracking_server.clone()]
}

/// Whether `model` still describes a version of `content`.
pub fn is_for(content: &ModelContent, model: &Model) -> bool {
    *content == ModelContent::from(model)
}

/// The alias of `model` under `revision` in `server`, whose address is `tracking`.
///
/// Its parameters hold the uid of the server: one that was created again has no aliases.
pub fn alias(model: &Model, server: &TrackingServer, tracking: &str, revision: i64) -> Alias {
    let name = model.spec.alias.clone();
    let parameters = json!({"alias": name, "server": server.uid(), "tracking": tracking});
    Alias {
        name,
        owner: model.uid().unwrap_or_default(),
        activation: Activated { revision, parameters: Digest::of_bytes(parameters.to_string().as_bytes()) },
    }
}

/// The message on all gates, the failed ones first: a status may have no room for all.
fn told(mut judged: Vec<(bool, String)>) -> String {
    judged.sort_by_key(|(passed, _)| *passed);
    let texts: Vec<_> = judged.into_iter().map(|(_, text)| text).collect();
    condition::truncated(&texts.join("; "), condition::MESSAGE_BYTES_MAX)
}

/// The metrics of a version: those that its worker has read from the manifest, gates' own first, and those that its
/// producer published. A status has room for some of them only.
fn measured(run: &ModelVersion) -> Vec<Metric> {
    let output = run.status.as_ref().and_then(|status| status.output.as_ref());
    let read = output.map(|output| output.metrics.as_slice()).unwrap_or_default();
    read.iter().chain(&run.spec.metrics).cloned().collect()
}

/// A metric that is missing or not a number fails its gate.
fn judge(gate: &Gate, metrics: &[Metric]) -> (bool, String) {
    let bound = |text: &Option<String>| text.as_deref().and_then(|text| text.parse::<f64>().ok());
    let Some(metric) = metrics.iter().find(|metric| metric.name == gate.metric) else {
        return (false, format!("gate {}: there is no metric {}", gate.name, gate.metric));
    };
    let value = metric.number();
    let wanted = match (&gate.min, &gate.max) {
        (Some(min), Some(max)) => format!("want {min} to {max}"),
        (Some(min), None) => format!("want at least {min}"),
        (None, Some(max)) => format!("want at most {max}"),
        (None, None) => String::new(),
    };
    let passed = !value.is_nan()
        && bound(&gate.min).is_none_or(|min| value >= min)
        && bound(&gate.max).is_none_or(|max| value <= max);
    (passed, format!("gate {}: {} is {}, {wanted}", gate.name, gate.metric, metric.value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(min: Option<&str>, max: Option<&str>) -> Gate {
        Gate {
            name: "quality".into(),
            metric: "auc".into(),
            min: min.map(Into::into),
            max: max.map(Into::into),
        }
    }

    #[test]
    fn gates_are_inclusive_bounds_and_fail_without_a_number() {
        let rows: [(Gate, f64, bool); 7] = [
            (gate(Some("0.7"), None), 0.7, true),
            (gate(Some("0.7"), None), 0.699, false),
            (gate(None, Some("0.7")), 0.7, true),
            (gate(None, Some("0.7")), 0.701, false),
            (gate(Some("0.5"), Some("0.7")), 0.6, true),
            (gate(Some("0.5"), None), f64::NAN, false),
            (gate(Some("0.5"), None), f64::INFINITY, true),
        ];
        for (gate, value, passes) in rows {
            assert_eq!(judge(&gate, &[Metric::new("auc", value)]).0, passes, "{gate:?} {value}");
        }
        let (passed, message) = judge(&gate(Some("0.5"), None), &[Metric::new("f1", 1.0)]);
        assert!(!passed && message.contains("no metric auc"), "{message}");
    }

    #[test]
    fn verdict_fits_and_names_the_failed_gates() {
        let mut judged = vec![(true, "x".repeat(200)); 15];
        judged.push((false, "gate last: auc is 0.1, want at least 0.7".to_owned()));
        let message = told(judged);
        assert!(
            message.len() <= condition::MESSAGE_BYTES_MAX && message.starts_with("gate last"),
            "{message}"
        );
    }
}
