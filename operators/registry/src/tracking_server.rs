//! `TrackingServer`: an MLflow that mlop runs, or the address of one that exists.

use crate::mlflow;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{api::apps::v1::Deployment, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::Resource;
use mlop_api::{
    Digest,
    common::Resources,
    labels,
    registry::{ManagedMlflow, TrackingServer, TrackingServerSpec},
    status::ConnectionStatus,
    task::Work,
};
use mlop_core::{
    Cache, Context, Error, Index, Key, Plan, Reconciler,
    children::{
        connection::{self, Server},
        container, meta,
        owned::{Child, ChildCaches},
        pod,
        profile::Profile,
        profiles::Profiles,
    },
    errand::{Errand, report_connection},
    resource::{ChildObject, PodView},
};
use serde_json::json;
use std::sync::Arc;

/// A request may take a minute.
const DEADLINE: SignedDuration = SignedDuration::from_mins(2);
const READY: &str = "MLflow answers";

pub struct TrackingServerReconciler {
    pub deployments: Arc<Cache<ChildObject>>,
    pub children: ChildCaches,
    /// By the name of the TrackingServer.
    pub pods: Index<PodView>,
    pub profiles: Profiles,
}

pub struct Observed {
    pub object: Arc<TrackingServer>,
    pub deployment: Option<Arc<ChildObject>>,
    pub children: Vec<Child>,
    /// Pods that probe, and those of the server.
    pub pods: Vec<Arc<PodView>>,
    pub profile: Profile,
    pub operator: String,
    pub worker_image: String,
}

impl Reconciler for TrackingServerReconciler {
    type Resource = TrackingServer;
    type Status = ConnectionStatus;
    type Observed = Observed;

    async fn observe(&self, cx: &Context, object: Arc<TrackingServer>) -> Result<Observed, Error> {
        let key = Key::of(&object.metadata);
        let deployment = self.deployments.get(&Key::new(&key.namespace, mlflow::name(&key.name)));
        Ok(Observed {
            deployment,
            children: self.children.of(&object.metadata),
            pods: self.pods.get(&key.namespace, &key.name),
            profile: self.profiles.of(&key.namespace, object.spec.profile.as_deref()),
            operator: cx.settings.operator.clone(),
            worker_image: cx.settings.worker_image.clone(),
            object,
        })
    }

    fn plan(observed: &Observed, now: Timestamp) -> Plan<ConnectionStatus> {
        let object = observed.object.as_ref();
        if object.metadata.deletion_timestamp.is_some() {
            return Plan::idle();
        }
        if let Err(blocked) = observed.profile.check() {
            return connection::report_blocked(&object.metadata, object.status.as_ref(), &blocked, now);
        }
        let key = Key::of(&object.metadata);
        match (&object.spec.managed, &object.spec.existing) {
            (Some(managed), _) => {
                let why = "the server is wanted";
                let deployment = observed.mlflow(managed);
                let plan = Plan::idle()
                    .apply(&mlflow::claim(observed.meta(), managed), why)
                    .apply(&mlflow::service(observed.meta()), why)
                    .apply(&mlflow::policy(observed.meta()), why)
                    .apply(&deployment, why);
                let address = mlflow::address(&key.name, &key.namespace);
                let child = observed.deployment.as_deref();
                let template = deployment.spec.map(|spec| spec.template);
                let servers = [Server { name: "MLflow", child, template, pods: &observed.pods }];
                let plan = connection::report(
                    plan,
                    &object.metadata,
                    object.status.as_ref(),
                    address,
                    &servers,
                    now,
                );
                connection::prune(plan, &observed.children)
            }
            (None, Some(existing)) => observed.probe(existing.address(&key.namespace), now),
            (None, None) => Plan::idle(),
        }
    }
}

impl Observed {
    /// Asks an existing server a question, and reports its answer.
    fn probe(&self, address: String, now: Timestamp) -> Plan<ConnectionStatus> {
        let server = self.object.as_ref();
        let secret = server.secret_name();
        // An edit of the profile is no reason to probe again.
        let question = Digest::of(&json!(TrackingServerSpec { profile: None, ..server.spec.clone() }));
        let errand = Errand::probe(server, &self.operator, &self.pods, question, DEADLINE, &self.profile);
        let work = Work::ProbeTracking { tracking: address.clone(), credentials: secret.is_some() };
        let equip = |builder: pod::Builder| {
            let resources = Resources::small(64);
            let mut worker = container::worker(&self.worker_image, &[], &[], &resources);
            worker.volume_mounts.get_or_insert_default().extend(container::tracking_mount(secret));
            builder.tracking(secret).scratch("tmp", Some("64Mi"), false).container(worker)
        };
        let decision = errand.decide(work, equip, now).naming_secret(secret);
        let plan = report_connection(server, server.status.as_ref(), address, &decision, READY, now);
        decision.carry_out(connection::prune(plan, &self.children))
    }

    fn mlflow(&self, managed: &ManagedMlflow) -> Deployment {
        let labels = meta::child_labels(self.object.as_ref(), &self.operator, labels::SERVING);
        let labels = labels.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        mlflow::deployment(self.meta(), self.deployment.as_deref(), &labels, managed, &self.profile)
    }

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
