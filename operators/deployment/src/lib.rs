//! Deployment: a ModelDeployment serves the newest version of its model that may be used.

mod plan;
mod server;
#[cfg(test)]
mod tests;

use jiff::Timestamp;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Service};
use kube::ResourceExt;
use mlop_api::{
    common::NamedInput, dataset::ObjectStore, deployment::ModelDeployment, labels, status::DeploymentStatus,
};
use mlop_core::{
    Cache, Context, Error, Key, Plan, Reconciler, Setup,
    inputs::Inputs,
    resource::{ChildObject, PodView},
};
use std::sync::Arc;

/// Name of the operator.
pub const NAME: &str = "mlop-deployment";

/// Sets the operator up: its watches, controllers and triggers.
pub fn install(setup: &mut Setup) {
    let objects = setup.watch::<ModelDeployment>();
    let stores = setup.watch::<ObjectStore>();
    let pods = setup.watch_own::<PodView>();
    let deployments = setup.watch_children::<Deployment>();
    let services = setup.watch_children::<Service>();
    let inputs = Inputs::watch(setup);

    let reconciler = ModelDeployments {
        inputs: inputs.clone(),
        stores: Arc::clone(&stores),
        pods: Arc::clone(&pods),
        deployments: Arc::clone(&deployments),
    };
    let controls = setup
        .control(reconciler, &objects)
        .owns(&pods)
        .owns(&deployments)
        .owns(&services)
        .enqueue_on(&stores, |_, _| true);
    inputs.enqueue_dependents(&controls, |object| vec![object.spec.from.clone()]);
}

struct ModelDeployments {
    inputs: Inputs,
    stores: Arc<Cache<ObjectStore>>,
    pods: Arc<Cache<PodView>>,
    deployments: Arc<Cache<ChildObject>>,
}

impl Reconciler for ModelDeployments {
    type Resource = ModelDeployment;
    type Status = DeploymentStatus;
    type Observed = plan::Observed;

    async fn observe(&self, cx: &Context, object: Arc<ModelDeployment>) -> Result<plan::Observed, Error> {
        let key = Key::of(&object.metadata);
        let input = NamedInput { name: "model".to_owned(), from: object.spec.from.clone() };
        let serves = |pod: &PodView| {
            pod.labels().get(labels::INTENT) == Some(&key.name)
                && pod.labels().get(labels::ROLE).is_some_and(|role| role == "serving")
        };
        Ok(plan::Observed {
            input: self.inputs.state(&key.namespace, &input),
            stores: self.stores.select(&key.namespace, |_| true),
            pods: self.pods.select(&key.namespace, serves),
            deployment: self.deployments.get(&Key::new(&key.namespace, server::name(&key.name))),
            operator: cx.settings.operator.clone(),
            launcher_image: cx.settings.worker_image.clone(),
            object,
        })
    }

    fn plan(observed: &plan::Observed, now: Timestamp) -> Plan<DeploymentStatus> {
        plan::plan(observed, now)
    }
}
