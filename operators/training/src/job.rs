//! `TrainingJob`: what enters a training's digest, and what its run looks like.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use mlop_api::{
    common::{Consistency, Flow, NamedInput},
    run::{Execution, Lineage},
    training::{TrainingContainer, TrainingJob, TrainingRun, TrainingRunIdentity, TrainingRunSpec},
};
use mlop_core::{
    Blocked,
    inputs::ReadyInput,
    intent::{Identity, Intent, Observed, significant},
};
use serde_json::{Value, json};

pub struct TrainingIntent;

impl Intent for TrainingIntent {
    type Resource = TrainingJob;
    type Run = TrainingRun;
    type Related = ();

    fn observe(&self, _: &TrainingJob) {}

    fn flow(object: &TrainingJob) -> &dyn Flow {
        &object.spec
    }

    fn inputs(object: &TrainingJob) -> Vec<NamedInput> {
        object.spec.inputs.clone()
    }

    fn consistency(object: &TrainingJob) -> Consistency {
        object.spec.consistency
    }

    fn identity(observed: &Observed<Self>) -> Result<Identity, Blocked> {
        let spec = &observed.object.spec;
        let content = json!({
            "image": spec.image,
            "command": spec.command,
            "code": spec.code,
            "hyperparameters": spec.hyperparameters,
            "seed": spec.seed,
        });
        Ok(Identity { spec: significant(content), digests: Vec::new(), since: None })
    }

    fn execution(object: &TrainingJob) -> Execution {
        let spec = &object.spec;
        Execution {
            resources: spec.resources.clone(),
            retry: spec.retry.clone(),
            deadline: Some(spec.deadline),
            start_timeout: Some(spec.start_timeout),
            keep_pods: Some(spec.keep_pods),
            node_selector: spec.node_selector.clone(),
            tolerations: spec.tolerations.clone(),
            pull_secrets: spec.pull_secrets.clone(),
            retry_requested_at: None,
        }
    }

    fn run(
        observed: &Observed<Self>,
        meta: ObjectMeta,
        lineage: Lineage,
        execution: Execution,
        _: &[ReadyInput],
    ) -> TrainingRun {
        let spec = &observed.object.spec;
        let identity = TrainingRunIdentity {
            lineage,
            image: spec.image.clone(),
            command: spec.command.clone(),
            code: spec.code.clone(),
            hyperparameters: spec.hyperparameters.clone(),
            seed: spec.seed,
            store: spec.store.clone(),
        };
        let spec = TrainingRunSpec { identity, execution, container: container(&observed.object) };
        TrainingRun { metadata: meta, spec, status: None }
    }

    fn execution_patch(execution: &Execution, object: &TrainingJob) -> Value {
        json!({"execution": execution, "container": container(object)})
    }

    fn is_mirrored(run: &TrainingRun, execution: &Execution, object: &TrainingJob) -> bool {
        run.spec.execution == *execution && run.spec.container == container(object)
    }
}

fn container(object: &TrainingJob) -> TrainingContainer {
    let spec = &object.spec;
    TrainingContainer {
        env: spec.env.clone(),
        scratch: Some(spec.scratch.clone()),
        shared_memory: spec.shared_memory.clone(),
    }
}
