//! Containers and their parts.

use k8s_openapi::{
    api::core::v1::{
        Container, ContainerPort, EnvVar, HTTPGetAction, Probe, ResourceRequirements, VolumeMount,
    },
    apimachinery::pkg::{api::resource::Quantity, util::intstr::IntOrString},
};
use mlop_api::{common::Resources, dataset::ObjectStore, labels};
use std::collections::BTreeMap;

/// The container of a worker: it mounts the task, the keys of `stores`, and a writable `/tmp`.
pub fn worker(image: &str, args: &[&str], stores: &[&ObjectStore], resources: &Resources) -> Container {
    let mounts = [mount("task", labels::TASK_DIR), VolumeMount { read_only: None, ..mount("tmp", "/tmp") }];
    let keys = stores.iter().filter(|store| store.spec.secret_name.is_some()).filter_map(|store| {
        let name = store.metadata.name.as_deref()?;
        Some(mount(&format!("store-{name}"), &format!("{}/{name}", labels::STORES_DIR)))
    });
    let mut seen = Vec::new();
    let unique = mounts.into_iter().chain(keys).filter(|m| {
        let new = !seen.contains(&m.mount_path);
        seen.push(m.mount_path.clone());
        new
    });
    Container {
        name: labels::WORKER_CONTAINER.to_owned(),
        image: Some(image.to_owned()),
        args: (!args.is_empty()).then(|| args.iter().map(|arg| literal(arg)).collect()),
        volume_mounts: Some(unique.collect()),
        resources: Some(requirements(resources)),
        termination_message_policy: Some("File".to_owned()),
        ..Default::default()
    }
}

/// Volume with the keys of a tracking server.
pub(super) const TRACKING: &str = "tracking";

/// The mount of a tracking server's keys, if it has a Secret.
pub fn tracking_mount(secret: Option<&str>) -> Option<VolumeMount> {
    secret.map(|_| mount(TRACKING, labels::TRACKING_DIR))
}

/// A read-only mount of the volume `name`.
pub fn mount(name: &str, path: &str) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: Some(true),
        ..Default::default()
    }
}

/// A writable mount of the volume `name`.
pub fn writable(name: &str, path: &str) -> VolumeMount {
    VolumeMount { read_only: None, ..mount(name, path) }
}

/// Requests and limits. Memory is limited to its request. CPU is not limited, so that idle cores are used.
pub fn requirements(resources: &Resources) -> ResourceRequirements {
    let mut requests = BTreeMap::from([
        ("cpu".to_owned(), Quantity(resources.cpu.to_string())),
        ("memory".to_owned(), Quantity(resources.memory.to_string())),
    ]);
    let mut limits = BTreeMap::from([("memory".to_owned(), Quantity(resources.memory.to_string()))]);
    if resources.gpu > 0 {
        let gpus = Quantity(resources.gpu.to_string());
        requests.insert("nvidia.com/gpu".to_owned(), gpus.clone());
        limits.insert("nvidia.com/gpu".to_owned(), gpus);
    }
    ResourceRequirements { requests: Some(requests), limits: Some(limits), claims: None }
}

/// `text` escaped for a command, an argument or a variable: Kubernetes must not expand `$(NAME)` in it.
pub fn literal(text: &str) -> String {
    text.replace('$', "$$")
}

/// A named container port.
pub fn port(name: &str, port: i32) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: port,
        protocol: Some("TCP".to_owned()),
        ..Default::default()
    }
}

/// A probe of `path` on the named port every `period_seconds`.
pub fn probe(path: &str, port: &str, period_seconds: i32, failures: i32) -> Probe {
    let get = HTTPGetAction {
        path: Some(path.to_owned()),
        port: IntOrString::String(port.to_owned()),
        ..Default::default()
    };
    Probe {
        http_get: Some(get),
        period_seconds: Some(period_seconds),
        failure_threshold: Some(failures),
        timeout_seconds: Some(5),
        ..Default::default()
    }
}

/// An environment variable with a literal value.
pub fn variable(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(literal(value)), value_from: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literal_escapes_dollars() {
        assert_eq!(literal("$(PATH) $x"), "$$(PATH) $$x");
    }
}
