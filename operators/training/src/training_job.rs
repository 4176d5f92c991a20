//! `TrainingJob`: the content of its digest, and its run.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use mlop_api::{
    common::{Consistency, Flow, NamedInput},
    distributed::Size,
    queue::RunQueue,
    run::{Execution, Lineage},
    training::{TrainingContainer, TrainingContent, TrainingJob, TrainingRun, TrainingRunSpec},
};
use mlop_core::{
    Blocked,
    inputs::ReadyInput,
    intent::{Identity, Intent, Observed},
};
use serde_json::{Value, json};
use std::sync::Arc;

pub struct TrainingJobIntent;

impl Intent for TrainingJobIntent {
    type Resource = TrainingJob;
    type Run = TrainingRun;
    type Related = ();

    fn observe(&self, _: &TrainingJob, _: &[Arc<TrainingRun>]) {}

    fn flow(object: &TrainingJob) -> &dyn Flow {
        &object.spec
    }

    fn inputs(object: &TrainingJob) -> Vec<NamedInput> {
        object.spec.inputs.clone()
    }

    fn consistency(object: &TrainingJob) -> Consistency {
        object.spec.consistency
    }

    fn identity(observed: &Observed<Self>) -> Result<Identity<TrainingContent>, Blocked> {
        let spec = &observed.object.spec;
        Ok(Identity {
            content: TrainingContent::from(spec),
            store: Some(spec.store.clone()),
            digests: Vec::new(),
            since: None,
        })
    }

    fn execution(object: &TrainingJob) -> Execution {
        let spec = &object.spec;
        Execution {
            start_timeout: Some(spec.start_timeout),
            ttl_after_finished: Some(spec.ttl_after_finished),
            node_selector: spec.node_selector.clone(),
            tolerations: spec.tolerations.clone(),
            pull_secrets: spec.pull_secrets.clone(),
            ..Execution::of(&spec.resources, &spec.retry, Some(spec.deadline))
        }
    }

    fn run(
        observed: &Observed<Self>,
        meta: ObjectMeta,
        identity: &Identity<TrainingContent>,
        lineage: Lineage,
        execution: Execution,
        _: &[ReadyInput],
    ) -> TrainingRun {
        let spec = TrainingRunSpec {
            content: identity.content.clone(),
            lineage,
            store: observed.object.spec.store.clone(),
            execution,
            container: container(&observed.object),
            size: size(&observed.object),
            queue: queue(&observed.object),
        };
        TrainingRun { metadata: meta, spec, status: None }
    }

    fn execution_patch(execution: &Execution, object: &TrainingJob) -> Value {
        json!({
            "execution": execution,
            "container": container(object),
            "size": size(object),
            "queue": queue(object),
        })
    }

    fn is_mirrored(run: &TrainingRun, execution: &Execution, object: &TrainingJob) -> bool {
        run.spec.execution == *execution
            && run.spec.container == container(object)
            && run.spec.size == size(object)
            && run.spec.queue == queue(object)
    }
}

fn container(object: &TrainingJob) -> TrainingContainer {
    let spec = &object.spec;
    TrainingContainer {
        env: spec.env.clone(),
        scratch: Some(spec.scratch.clone()),
        shared_memory: spec.shared_memory.clone(),
        grace_period: spec.grace_period,
    }
}

fn queue(object: &TrainingJob) -> Option<RunQueue> {
    let spec = &object.spec;
    let name = spec.queue.clone()?;
    Some(RunQueue { name, priority: spec.priority, suspended: spec.suspend })
}

fn size(object: &TrainingJob) -> Option<Size> {
    let spec = &object.spec;
    Size::of(spec.workers.as_ref(), spec.framework.as_ref(), &spec.resources)
}
