//! MLflow as a TrackingServer runs it: its volume, its Service and its Deployment.

use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{
            Container, PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeClaimVolumeSource,
            Service, Volume, VolumeResourceRequirements,
        },
        networking::v1::NetworkPolicy,
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta},
};
use mlop_api::{
    labels,
    registry::{ManagedMlflow, Reclaim},
};
use mlop_core::{
    children::{
        container::{self, probe, variable, writable},
        deployment, network, pod,
        profile::Profile,
        service,
        template::{self, Edition},
    },
    resource::ChildObject,
};
use std::collections::BTreeMap;

const PORT: i32 = 5000;

/// Name of the children of the TrackingServer `server`.
pub fn name(server: &str) -> String {
    format!("{server}-mlflow")
}

/// The address of the TrackingServer `server`.
pub fn address(server: &str, namespace: &str) -> String {
    format!("http://{}.{namespace}.svc:{PORT}", name(server))
}

/// The volume of the database and the artifacts.
pub fn claim(mut metadata: ObjectMeta, managed: &ManagedMlflow) -> PersistentVolumeClaim {
    let requests = BTreeMap::from([("storage".to_owned(), Quantity(managed.volume.clone()))]);
    let spec = PersistentVolumeClaimSpec {
        access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
        resources: Some(VolumeResourceRequirements { requests: Some(requests), limits: None }),
        ..Default::default()
    };
    if managed.reclaim == Reclaim::Retain {
        // The history of all models outlives a TrackingServer that is deleted or recreated.
        metadata.owner_references = None;
    }
    PersistentVolumeClaim { metadata, spec: Some(spec), status: None }
}

pub fn service(meta: ObjectMeta) -> Service {
    service::service(meta, &[("http", PORT)])
}

/// Admits to MLflow, which has no authentication, the pods that record versions for any namespace, and the pods of this
/// namespace that their owner has labelled. User code of trainings stays outside.
pub fn policy(meta: ObjectMeta) -> NetworkPolicy {
    let clients = network::pods_with(labels::TRACKING_CLIENT, "true");
    let registrars = ["Model", "TrackingServer"];
    let registrars = registrars.map(|kind| network::pods_anywhere_with(labels::INTENT_KIND, kind));
    network::policy(meta, PORT, registrars.into_iter().chain([clients]).collect())
}

/// The Deployment of MLflow with the metadata of a child of the server. `live` is the present one, and `labels` are those
/// by which the state of its pods is watched.
pub fn deployment(
    meta: ObjectMeta,
    live: Option<&ChildObject>,
    labels: &BTreeMap<String, String>,
    managed: &ManagedMlflow,
    profile: &Profile,
) -> Deployment {
    let name = meta.name.clone().unwrap_or_default();
    let build = |edition: Edition, _: &str| {
        let labels = (edition != Edition::First).then(|| labels.clone());
        let claim = PersistentVolumeClaimVolumeSource { claim_name: name.clone(), read_only: None };
        let pod = pod::Builder::service(ObjectMeta { labels, ..Default::default() })
            .volume(Volume {
                name: "data".to_owned(),
                persistent_volume_claim: Some(claim),
                ..Default::default()
            })
            .scratch("tmp", Some("1Gi"), false)
            .container(mlflow_container(edition, &meta, managed))
            .build();
        profile.complete(pod)
    };
    let template = template::template(&name, live, None, build);
    // SQLite has one writer: the old pod ends before the new one starts.
    deployment::deployment(meta.clone(), 1, template, 600, true)
}

/// One worker: several make every kept connection wait for delayed acknowledgements. The allowed hosts are the names of
/// the Service: MLflow refuses all others, and the port is part of the name.
fn mlflow_container(edition: Edition, meta: &ObjectMeta, managed: &ManagedMlflow) -> Container {
    let name = meta.name.clone().unwrap_or_default();
    let namespace = meta.namespace.clone().unwrap_or_default();
    let hosts = [
        name.clone(),
        format!("{name}.{namespace}"),
        format!("{name}.{namespace}.svc"),
        format!("{name}.{namespace}.svc.cluster.local"),
        // For people who use `kubectl port-forward`.
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
    ];
    let allowed =
        hosts.iter().flat_map(|host| [host.clone(), format!("{host}:*")]).collect::<Vec<_>>().join(",");
    let port = PORT.to_string();
    let command = [
        "mlflow",
        "server",
        "--host",
        "0.0.0.0",
        "--port",
        &port,
        "--workers",
        "1",
        "--backend-store-uri",
        "sqlite:////data/mlflow.db",
        "--artifacts-destination",
        "/data/artifacts",
        "--allowed-hosts",
        &allowed,
    ];
    Container {
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
        // A busy node, or a migration of the database, may take half an hour. The other probes begin after that.
        startup_probe: (edition != Edition::First).then(|| probe("/health", "http", 1, 1_800)),
        readiness_probe: Some(probe("/health", "http", 1, 3)),
        liveness_probe: Some(probe("/health", "http", 10, 12)),
        ..Default::default()
    }
}
