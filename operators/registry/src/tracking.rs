//! `TrackingServer`: an MLflow that mlop runs, or the address of one that exists.

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{
            Container, PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeClaimVolumeSource,
            Service, Volume, VolumeResourceRequirements,
        },
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta},
};
use mlop_api::{
    labels,
    registry::{ManagedMlflow, Reclaim, TrackingServer},
    status::ConnectionStatus,
};
use mlop_core::{
    Cache, Context, Error, Key, Plan, Reconciler,
    children::{
        connection::{self, Server},
        container::{self, probe, variable, writable},
        deployment, meta, pod, rollout, service,
    },
    resource::ChildObject,
};
use std::{collections::BTreeMap, sync::Arc};

const PORT: i32 = 5000;

pub struct Tracking {
    pub deployments: Arc<Cache<ChildObject>>,
}

pub struct Observed {
    object: Arc<TrackingServer>,
    deployment: Option<Arc<ChildObject>>,
    operator: String,
}

impl Reconciler for Tracking {
    type Resource = TrackingServer;
    type Status = ConnectionStatus;
    type Observed = Observed;

    async fn observe(&self, cx: &Context, object: Arc<TrackingServer>) -> Result<Observed, Error> {
        let key = Key::of(&object.metadata);
        let deployment = self.deployments.get(&Key::new(key.namespace, child(&key.name)));
        Ok(Observed { object, deployment, operator: cx.settings.operator.clone() })
    }

    fn plan(observed: &Observed, now: Timestamp) -> Plan<ConnectionStatus> {
        let object = observed.object.as_ref();
        if object.metadata.deletion_timestamp.is_some() {
            return Plan::idle();
        }
        let key = Key::of(&object.metadata);
        let report = |plan, address, servers: &[Server<'_>]| {
            connection::report(plan, &object.metadata, object.status.as_ref(), address, servers, now)
        };
        match (&object.spec.managed, &object.spec.existing) {
            (Some(managed), _) => {
                let why = "the server is wanted";
                let plan = Plan::idle()
                    .apply(&observed.claim(managed), why)
                    .apply(&observed.service(), why)
                    .apply(&observed.deployment(managed), why);
                let rollout = observed.deployment.as_deref().map(rollout::rollout);
                let address = format!("http://{}.{}.svc:{PORT}", child(&key.name), key.namespace);
                report(plan, address, &[Server { name: "MLflow", rollout }])
            }
            (None, Some(existing)) => {
                let namespace = existing.namespace.as_deref().unwrap_or(&key.namespace);
                report(
                    Plan::idle(),
                    format!("http://{}.{namespace}.svc:{}", existing.service, existing.port),
                    &[],
                )
            }
            (None, None) => Plan::idle(),
        }
    }
}

fn child(name: &str) -> String {
    format!("{name}-mlflow")
}

impl Observed {
    fn meta(&self) -> ObjectMeta {
        let name = self.object.metadata.name.clone().unwrap_or_default();
        meta::child_meta(
            self.object.as_ref(),
            child(&name),
            [
                (labels::OPERATOR, self.operator.clone()),
                (labels::INTENT, name),
                (labels::INTENT_KIND, "TrackingServer".to_owned()),
            ],
        )
    }

    fn claim(&self, managed: &ManagedMlflow) -> PersistentVolumeClaim {
        let requests = BTreeMap::from([("storage".to_owned(), Quantity(managed.volume.clone()))]);
        let spec = PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            resources: Some(VolumeResourceRequirements { requests: Some(requests), limits: None }),
            ..Default::default()
        };
        let mut metadata = self.meta();
        if managed.reclaim == Reclaim::Retain {
            // The history of all models outlives a TrackingServer that is deleted, or deleted and applied again.
            metadata.owner_references = None;
        }
        PersistentVolumeClaim { metadata, spec: Some(spec), status: None }
    }

    fn service(&self) -> Service {
        service::service(self.meta(), &[("http", PORT)])
    }

    /// One worker (several make every kept connection wait for delayed acknowledgements), no background jobs, and
    /// the host names that its Service has: MLflow refuses all others, and the port is part of the name.
    fn deployment(&self, managed: &ManagedMlflow) -> Deployment {
        let key = Key::of(&self.object.metadata);
        let (name, namespace) = (child(&key.name), key.namespace);
        let hosts = [
            name.clone(),
            format!("{name}.{namespace}"),
            format!("{name}.{namespace}.svc"),
            format!("{name}.{namespace}.svc.cluster.local"),
            // People open it through `kubectl port-forward`.
            "localhost".to_owned(),
            "127.0.0.1".to_owned(),
        ];
        let allowed =
            hosts.iter().flat_map(|host| [host.clone(), format!("{host}:*")]).collect::<Vec<_>>().join(",");
        let command = [
            "mlflow",
            "server",
            "--host",
            "0.0.0.0",
            "--port",
            "5000",
            "--workers",
            "1",
            "--backend-store-uri",
            "sqlite:////data/mlflow.db",
            "--artifacts-destination",
            "/data/artifacts",
            "--allowed-hosts",
            &allowed,
        ];
        let container = Container {
            name: "mlflow".to_owned(),
            image: Some(managed.image.clone()),
            command: Some(command.map(str::to_owned).to_vec()),
            env: Some(vec![
                variable("HOME", "/tmp"),
                variable("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false"),
                variable("MLFLOW_DISABLE_TELEMETRY", "true"),
            ]),
            ports: Some(vec![container::port("http", PORT)]),
            volume_mounts: Some(vec![writable("data", "/data"), writable("tmp", "/tmp")]),
            resources: Some(container::requirements(&managed.resources)),
            readiness_probe: Some(probe("/health", "http", 1, 3)),
            liveness_probe: Some(probe("/health", "http", 10, 12)),
            ..Default::default()
        };
        let claim = PersistentVolumeClaimVolumeSource { claim_name: name, read_only: None };
        let template = pod::Builder::service(ObjectMeta::default())
            .volume(Volume {
                name: "data".to_owned(),
                persistent_volume_claim: Some(claim),
                ..Default::default()
            })
            .scratch("tmp", Some("1Gi"), false)
            .container(container)
            .build();
        // SQLite has one writer: the old pod goes before the new one starts.
        deployment::deployment(self.meta(), 1, template, 600, true)
    }
}
