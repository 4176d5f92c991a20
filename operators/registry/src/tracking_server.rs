//! `TrackingServer`: an MLflow that mlop runs, or the address of one that exists.

use crate::mlflow;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use mlop_api::{labels, registry::TrackingServer, status::ConnectionStatus};
use mlop_core::{
    Cache, Context, Error, Key, Plan, Reconciler,
    children::{
        connection::{self, Server},
        meta,
        owned::{Child, ChildCaches},
        rollout,
    },
    resource::ChildObject,
};
use std::sync::Arc;

pub struct TrackingServerReconciler {
    pub deployments: Arc<Cache<ChildObject>>,
    pub children: ChildCaches,
}

pub struct Observed {
    object: Arc<TrackingServer>,
    deployment: Option<Arc<ChildObject>>,
    children: Vec<Child>,
    operator: String,
}

impl Reconciler for TrackingServerReconciler {
    type Resource = TrackingServer;
    type Status = ConnectionStatus;
    type Observed = Observed;

    async fn observe(&self, cx: &Context, object: Arc<TrackingServer>) -> Result<Observed, Error> {
        let key = Key::of(&object.metadata);
        let deployment = self.deployments.get(&Key::new(key.namespace, mlflow::name(&key.name)));
        let children = self.children.of(&object.metadata);
        Ok(Observed { object, deployment, children, operator: cx.settings.operator.clone() })
    }

    fn plan(observed: &Observed, now: Timestamp) -> Plan<ConnectionStatus> {
        let object = observed.object.as_ref();
        if object.metadata.deletion_timestamp.is_some() {
            return Plan::idle();
        }
        let key = Key::of(&object.metadata);
        let report = |plan, address, servers: &[Server<'_>]| {
            let plan =
                connection::report(plan, &object.metadata, object.status.as_ref(), address, servers, now);
            connection::prune(plan, &observed.children)
        };
        match (&object.spec.managed, &object.spec.existing) {
            (Some(managed), _) => {
                let why = "the server is wanted";
                let plan = Plan::idle()
                    .apply(&mlflow::claim(observed.meta(), managed), why)
                    .apply(&mlflow::service(observed.meta()), why)
                    .apply(&mlflow::policy(observed.meta()), why)
                    .apply(&mlflow::deployment(observed.meta(), managed), why);
                let rollout = observed.deployment.as_deref().map(rollout::rollout);
                let address = mlflow::address(&key.name, &key.namespace);
                report(plan, address, &[Server { name: "MLflow", rollout }])
            }
            (None, Some(existing)) => report(Plan::idle(), existing.address(&key.namespace), &[]),
            (None, None) => Plan::idle(),
        }
    }
}

impl Observed {
    /// Metadata of every child of the server.
    fn meta(&self) -> ObjectMeta {
        let name = self.object.metadata.name.clone().unwrap_or_default();
        meta::child_meta(
            self.object.as_ref(),
            mlflow::name(&name),
            [
                (labels::OPERATOR, self.operator.clone()),
                (labels::INTENT, name),
                (labels::INTENT_KIND, TrackingServer::kind(&()).into_owned()),
            ],
        )
    }
}
