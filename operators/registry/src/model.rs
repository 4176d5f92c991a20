//! `Model`: registers the output of a training, judges it by its gates, and moves the alias to it.

use crate::{
    alias::{self, AliasPod},
    check, gates,
    model_intent::{ModelIntent, Related},
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use mlop_api::{
    common::{Flow, NamedInput, Resources},
    registry::{Model, ModelContent, ModelVersion, ModelVersionSpec},
    run::{Execution, Lineage},
    status::{IntentStatus, Verdict},
    task::Subject,
};
use mlop_core::{
    Blocked, Key, Plan,
    children::connection,
    inputs::ReadyInput,
    intent::{Activation, Identity, Intent, Observed, Revision},
};
use std::sync::Arc;

impl Intent for ModelIntent {
    type Resource = Model;
    type Run = ModelVersion;
    type Related = Related;
    const ACTIVATES: bool = true;

    fn observe(&self, object: &Model, runs: &[Arc<ModelVersion>]) -> Related {
        let namespace = object.namespace().unwrap_or_default();
        let stores = runs.iter().filter_map(|run| Some(run.spec.lineage.inputs.first()?.store.as_str()));
        Related {
            server: self.servers.get(&Key::new(&namespace, &object.spec.tracking_server)),
            stores: self.stores.named(&namespace, stores),
            holder: alias::holder(&self.by_place, object).map(|holder| holder.name_any()),
        }
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
        let resources = Resources::small(64);
        Execution::of(&resources, &object.spec.retry, None)
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
        gates::judge(object, run)
    }

    fn activation(observed: &Observed<Self>, run: &ModelVersion) -> Activation {
        if let Some(holder) = &observed.related.holder {
            return Activation::Blocked(alias::taken(&observed.object, holder));
        }
        let pod = match AliasPod::of(observed, run) {
            Ok(pod) => pod,
            Err(missing) => return Activation::waiting(missing),
        };
        let waits_for = connection::ready(&*pod.server).err();
        let parameters = pod.work.alias.activation.parameters.clone();
        let build =
            move |meta, subject: Subject, revision: Revision| pod.build(meta, subject, revision.get());
        Activation::Pod { parameters, build: Box::new(build), waits_for }
    }

    fn amend(observed: &Observed<Self>, plan: Plan<IntentStatus>, now: Timestamp) -> Plan<IntentStatus> {
        check::amend(observed, plan, now)
    }
}

/// The TrackingServer that `model` is registered in.
pub fn servers_of(model: &Model) -> Vec<String> {
    vec![model.spec.tracking_server.clone()]
}
