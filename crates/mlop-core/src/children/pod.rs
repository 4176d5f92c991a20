//! Pods, built safely: every pod that mlop makes passes Pod Security *restricted*.
//!
//! What a user can influence goes in as values; the fields that make a pod safe are set last, here.

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment},
        core::v1::{
            Capabilities, Container, ContainerPort, DownwardAPIVolumeFile, DownwardAPIVolumeSource,
            EmptyDirVolumeSource, EnvVar, HTTPGetAction, KeyToPath, LocalObjectReference,
            ObjectFieldSelector, Pod, PodSecurityContext, PodSpec, PodTemplateSpec, Probe,
            ResourceRequirements, SeccompProfile, SecretVolumeSource, SecurityContext, Service, ServicePort,
            ServiceSpec, Toleration, Volume, VolumeMount,
        },
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference},
        util::intstr::IntOrString,
    },
};
use kube::Resource;
use mlop_api::{
    common::{self, Resources},
    dataset::ObjectStore,
    labels,
    run::Execution,
    task::{Store, Task},
};
use std::collections::BTreeMap;

/// User and group of every container.
pub const USER: i64 = 65532;

/// The owner reference by which `owner` owns a child: it is deleted with its owner, and never blocks its deletion.
pub fn owner<K: Resource<DynamicType = ()>>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: owner.meta().name.clone().unwrap_or_default(),
        uid: owner.meta().uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}

/// Metadata of a child of `parent`.
pub fn child_meta<K: Resource<DynamicType = ()>>(
    parent: &K,
    name: String,
    labels: impl IntoIterator<Item = (&'static str, String)>,
) -> ObjectMeta {
    let labels = labels.into_iter().map(|(key, value)| (key.to_owned(), value));
    let common = [("app.kubernetes.io/managed-by".to_owned(), "mlop".to_owned())];
    ObjectMeta {
        name: Some(name),
        namespace: parent.meta().namespace.clone(),
        labels: Some(labels.chain(common).collect()),
        owner_references: Some(vec![owner(parent)]),
        ..Default::default()
    }
}

/// Labels that a server's Service and Deployment select its pods by.
pub fn selector(name: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("app.kubernetes.io/instance".to_owned(), name.to_owned())])
}

/// A Service of `parent` in front of the pods that [`selector`] selects by the Service's name.
pub fn service(meta: ObjectMeta, ports: &[(&str, i32)]) -> Service {
    let name = meta.name.clone().unwrap_or_default();
    let ports = ports.iter().map(|(name, port)| ServicePort {
        name: Some((*name).to_owned()),
        port: *port,
        target_port: Some(IntOrString::String((*name).to_owned())),
        ..Default::default()
    });
    let spec =
        ServiceSpec { selector: Some(selector(&name)), ports: Some(ports.collect()), ..Default::default() };
    Service { metadata: meta, spec: Some(spec), status: None }
}

/// A Deployment around a pod built with [`Builder::service`]; a new pod is ready before an
/// old one goes; with `recreate` the old one goes first.
pub fn deployment(
    meta: ObjectMeta,
    replicas: i32,
    pod: Pod,
    progress_deadline_seconds: i32,
    recreate: bool,
) -> Deployment {
    let name = meta.name.clone().unwrap_or_default();
    let mut template = pod.metadata;
    template.labels.get_or_insert_default().extend(selector(&name));
    let rolling = RollingUpdateDeployment {
        max_surge: Some(IntOrString::Int(1)),
        max_unavailable: Some(IntOrString::Int(0)),
    };
    let strategy = if recreate {
        DeploymentStrategy { type_: Some("Recreate".to_owned()), rolling_update: None }
    } else {
        DeploymentStrategy { type_: Some("RollingUpdate".to_owned()), rolling_update: Some(rolling) }
    };
    let spec = DeploymentSpec {
        replicas: Some(replicas),
        selector: LabelSelector { match_labels: Some(selector(&name)), match_expressions: None },
        strategy: Some(strategy),
        progress_deadline_seconds: Some(progress_deadline_seconds),
        revision_history_limit: Some(2),
        template: PodTemplateSpec { metadata: Some(template), spec: pod.spec },
        ..Default::default()
    };
    Deployment { metadata: meta, spec: Some(spec), status: None }
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

/// Asks `path` on the port `port` every `period_seconds`.
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

/// A variable with a value that is taken as it is.
pub fn variable(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(literal(value)), value_from: None }
}

/// An ObjectStore as a pod reaches it.
pub fn store(object: &ObjectStore) -> Store {
    Store {
        name: object.metadata.name.clone().unwrap_or_default(),
        endpoint: object.spec.endpoint.trim_end_matches('/').to_owned(),
        region: object.spec.region.clone(),
        bucket: object.spec.bucket.clone(),
        prefix: object.spec.prefix.clone(),
        credentials: object.spec.secret_name.is_some(),
        ..Store::default()
    }
}

/// A pod of mlop's under construction.
pub struct Builder {
    meta: ObjectMeta,
    spec: PodSpec,
    volumes: BTreeMap<String, Volume>,
}

impl Builder {
    /// A pod that runs once.
    pub fn once(meta: ObjectMeta) -> Self {
        let spec = PodSpec { restart_policy: Some("Never".to_owned()), ..Default::default() };
        Self { meta, spec, volumes: BTreeMap::new() }
    }

    /// The template of a pod that runs for ever.
    pub fn service(meta: ObjectMeta) -> Self {
        Self { meta, spec: PodSpec::default(), volumes: BTreeMap::new() }
    }

    /// Gives our containers the task. It travels as an annotation and is mounted as a file.
    pub fn task(mut self, task: &Task) -> Self {
        let json = serde_json::to_string(task).unwrap_or_default();
        self.meta.annotations.get_or_insert_default().insert(labels::TASK.to_owned(), json);
        let file = DownwardAPIVolumeFile {
            path: "task.json".to_owned(),
            field_ref: Some(ObjectFieldSelector {
                field_path: format!("metadata.annotations['{}']", labels::TASK),
                api_version: None,
            }),
            ..Default::default()
        };
        let source = DownwardAPIVolumeSource { items: Some(vec![file]), ..Default::default() };
        self.volumes.insert(
            "task".to_owned(),
            Volume { name: "task".to_owned(), downward_api: Some(source), ..Default::default() },
        );
        self
    }

    /// Gives our containers the keys of `store`, if it has any.
    pub fn keys(mut self, store: &ObjectStore) -> Self {
        let (Some(secret), Some(name)) = (&store.spec.secret_name, &store.metadata.name) else { return self };
        let items = [labels::ACCESS_KEY_ID, labels::SECRET_ACCESS_KEY].map(|key| KeyToPath {
            key: key.to_owned(),
            path: key.to_owned(),
            mode: None,
        });
        self.secret(format!("store-{name}"), secret, items.to_vec());
        self
    }

    /// Gives our containers a file `password` from a Secret's key of that name.
    pub fn password(mut self, secret: Option<&str>) -> Self {
        if let Some(secret) = secret {
            let item = KeyToPath { key: "password".to_owned(), path: "password".to_owned(), mode: None };
            self.secret("redis".to_owned(), secret, vec![item]);
        }
        self
    }

    fn secret(&mut self, name: String, secret: &str, items: Vec<KeyToPath>) {
        let source = SecretVolumeSource {
            secret_name: Some(secret.to_owned()),
            items: Some(items),
            default_mode: Some(0o440),
            ..Default::default()
        };
        self.volumes.insert(name.clone(), Volume { name, secret: Some(source), ..Default::default() });
    }

    /// An empty folder as a volume.
    pub fn scratch(mut self, name: &str, size: Option<&str>, in_memory: bool) -> Self {
        let source = EmptyDirVolumeSource {
            medium: in_memory.then(|| "Memory".to_owned()),
            size_limit: size.map(|size| Quantity(size.to_owned())),
        };
        self.volumes.insert(
            name.to_owned(),
            Volume { name: name.to_owned(), empty_dir: Some(source), ..Default::default() },
        );
        self
    }

    /// Any other volume.
    pub fn volume(mut self, volume: Volume) -> Self {
        self.volumes.insert(volume.name.clone(), volume);
        self
    }

    pub fn init(mut self, container: Container) -> Self {
        self.spec.init_containers.get_or_insert_default().push(container);
        self
    }

    pub fn container(mut self, container: Container) -> Self {
        self.spec.containers.push(container);
        self
    }

    /// Where it runs and how long it may take.
    pub fn execution(mut self, execution: &Execution) -> Self {
        self.spec.active_deadline_seconds =
            execution.deadline.and_then(|span| i64::try_from(span.as_secs()).ok());
        self.placement(&execution.node_selector, &execution.tolerations, &execution.pull_secrets)
    }

    pub fn placement(
        mut self,
        node_selector: &BTreeMap<String, String>,
        tolerations: &[common::Toleration],
        pull_secrets: &[String],
    ) -> Self {
        self.spec.node_selector = (!node_selector.is_empty()).then(|| node_selector.clone());
        self.spec.tolerations =
            (!tolerations.is_empty()).then(|| tolerations.iter().map(toleration).collect());
        self.spec.image_pull_secrets = (!pull_secrets.is_empty())
            .then(|| pull_secrets.iter().map(|name| LocalObjectReference { name: name.clone() }).collect());
        self
    }

    /// Longest time between SIGTERM and SIGKILL, in seconds.
    pub fn grace(mut self, seconds: i64) -> Self {
        self.spec.termination_grace_period_seconds = Some(seconds);
        self
    }

    /// The pod, with what makes it safe set last.
    pub fn build(self) -> Pod {
        let mut spec = self.spec;
        spec.volumes = Some(self.volumes.into_values().collect());
        spec.automount_service_account_token = Some(false);
        spec.enable_service_links = Some(false);
        spec.security_context = Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            fs_group: Some(USER),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                localhost_profile: None,
            }),
            ..Default::default()
        });
        let containers = spec.init_containers.iter_mut().flatten().chain(&mut spec.containers);
        for container in containers {
            let read_only = container.security_context.as_ref().and_then(|c| c.read_only_root_filesystem);
            container.security_context = Some(SecurityContext {
                allow_privilege_escalation: Some(false),
                read_only_root_filesystem: Some(read_only.unwrap_or(true)),
                capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
                ..Default::default()
            });
        }
        Pod { metadata: self.meta, spec: Some(spec), status: None }
    }
}

fn toleration(toleration: &common::Toleration) -> Toleration {
    Toleration {
        key: Some(toleration.key.clone()),
        operator: Some(if toleration.value.is_some() { "Equal" } else { "Exists" }.to_owned()),
        value: toleration.value.clone(),
        effect: toleration.effect.map(|effect| format!("{effect:?}")),
        toleration_seconds: None,
    }
}

/// A container of ours that does a task: it sees the task, the keys of `stores`, and a writable `/tmp`.
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

/// Memory is limited to what is requested; CPU is not limited, so that idle cores are used.
pub fn requirements(resources: &Resources) -> ResourceRequirements {
    let mut requests = BTreeMap::from([
        ("cpu".to_owned(), Quantity(resources.cpu.clone())),
        ("memory".to_owned(), Quantity(resources.memory.clone())),
    ]);
    let mut limits = BTreeMap::from([("memory".to_owned(), Quantity(resources.memory.clone()))]);
    if resources.gpu > 0 {
        let gpus = Quantity(resources.gpu.to_string());
        requests.insert("nvidia.com/gpu".to_owned(), gpus.clone());
        limits.insert("nvidia.com/gpu".to_owned(), gpus);
    }
    ResourceRequirements { requests: Some(requests), limits: Some(limits), claims: None }
}

/// `text` as Kubernetes must be given it in a command, an argument or a variable so that `$(NAME)` in it stays text.
pub fn literal(text: &str) -> String {
    text.replace('$', "$$")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_a_pod_safe_cannot_be_undone() {
        let lax = Container {
            name: "x".into(),
            security_context: Some(SecurityContext {
                privileged: Some(true),
                run_as_user: Some(0),
                read_only_root_filesystem: Some(false),
                ..Default::default()
            }),
            ..Default::default()
        };
        let pod = Builder::once(ObjectMeta::default()).init(lax.clone()).container(lax).build();
        let spec = pod.spec.unwrap();
        assert_eq!(spec.automount_service_account_token, Some(false));
        assert_eq!(spec.security_context.unwrap().run_as_non_root, Some(true));
        for container in spec.init_containers.unwrap().iter().chain(&spec.containers) {
            let context = container.security_context.as_ref().unwrap();
            assert_eq!((context.privileged, context.run_as_user), (None, None));
            assert_eq!(context.allow_privilege_escalation, Some(false));
            assert_eq!(context.capabilities.as_ref().unwrap().drop, Some(vec!["ALL".to_owned()]));
        }
    }

    #[test]
    fn dollars_stay_dollars() {
        assert_eq!(literal("$(PATH) $x"), "$$(PATH) $$x");
    }
}
