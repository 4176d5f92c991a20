//! Pods. Every pod that mlop creates passes the Pod Security level *restricted*.
//!
//! User input enters as values. [`Builder::build`] sets the security fields last.

use k8s_openapi::{
    api::core::v1::{
        Capabilities, Container, DownwardAPIVolumeFile, DownwardAPIVolumeSource, EmptyDirVolumeSource,
        KeyToPath, LocalObjectReference, ObjectFieldSelector, Pod, PodSecurityContext, PodSpec,
        ProjectedVolumeSource, SeccompProfile, SecretProjection, SecurityContext, Toleration, Volume,
        VolumeProjection,
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta},
};
use mlop_api::{
    common,
    dataset::ObjectStore,
    labels,
    run::Execution,
    task::{Store, Task},
};
use std::collections::BTreeMap;

/// User and group of every container.
pub const USER: i64 = 65532;

/// An ObjectStore as a pod reaches it.
pub fn store(object: &ObjectStore) -> Store {
    Store {
        name: object.metadata.name.clone().unwrap_or_default(),
        endpoint: object.spec.endpoint.trim_end_matches('/').to_owned(),
        region: object.spec.region.clone(),
        bucket: object.spec.bucket.clone(),
        prefix: object.spec.prefix.clone(),
        credentials: object.spec.secret_name.is_some(),
        virtual_hosted: object.spec.virtual_hosted,
    }
}

/// A pod under construction.
pub struct Builder {
    meta: ObjectMeta,
    spec: PodSpec,
    volumes: BTreeMap<String, Volume>,
    /// Whether its program names a Secret or key that is missing. The kubelet would only wait.
    names_missing_keys: bool,
}

impl Builder {
    /// A pod that runs once.
    pub fn once(meta: ObjectMeta) -> Self {
        let spec = PodSpec { restart_policy: Some("Never".to_owned()), ..Default::default() };
        Self { meta, spec, volumes: BTreeMap::new(), names_missing_keys: true }
    }

    /// The template of a pod that does not end.
    pub fn service(meta: ObjectMeta) -> Self {
        Self { meta, spec: PodSpec::default(), volumes: BTreeMap::new(), names_missing_keys: false }
    }

    /// Adds the task. It is stored as an annotation and mounted as a file.
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

    /// Whether the pod starts without Secrets and keys that are added later and do not exist, since its program names them.
    pub fn naming_missing_keys(self, names_missing_keys: bool) -> Self {
        Self { names_missing_keys, ..self }
    }

    /// Adds the keys of `store` as a volume, if it has any.
    pub fn keys(mut self, store: &ObjectStore) -> Self {
        if let (Some(secret), Some(name)) = (&store.spec.secret_name, &store.metadata.name) {
            let required = [labels::ACCESS_KEY_ID, labels::SECRET_ACCESS_KEY];
            let optional = [labels::SESSION_TOKEN, labels::CA_CERTIFICATE];
            self.secret(format!("store-{name}"), secret, &required, &optional);
        }
        self
    }

    /// Adds a file `password` from the Secret's key of that name.
    pub fn password(mut self, secret: Option<&str>) -> Self {
        if let Some(secret) = secret {
            self.secret("redis".to_owned(), secret, &["password"], &[labels::CA_CERTIFICATE]);
        }
        self
    }

    /// Adds the keys of a tracking server's Secret as a volume, for [`tracking_mount`](super::container::tracking_mount).
    pub fn tracking(mut self, secret: Option<&str>) -> Self {
        if let Some(secret) = secret {
            let keys = [
                labels::TRACKING_TOKEN,
                labels::TRACKING_USERNAME,
                labels::TRACKING_PASSWORD,
                labels::CA_CERTIFICATE,
            ];
            self.secret(super::container::TRACKING.to_owned(), secret, &[], &keys);
        }
        self
    }

    fn secret(&mut self, name: String, secret: &str, required: &[&str], optional: &[&str]) {
        let sources = [(required, self.names_missing_keys), (optional, true)];
        let sources = sources.into_iter().filter(|(keys, _)| !keys.is_empty()).map(|(keys, is_optional)| {
            let items = keys.iter().map(|key| KeyToPath {
                key: (*key).to_owned(),
                path: (*key).to_owned(),
                mode: None,
            });
            let projection = SecretProjection {
                name: secret.to_owned(),
                items: Some(items.collect()),
                optional: Some(is_optional),
            };
            VolumeProjection { secret: Some(projection), ..Default::default() }
        });
        let projected = ProjectedVolumeSource { sources: Some(sources.collect()), default_mode: Some(0o440) };
        self.volumes.insert(name.clone(), Volume { name, projected: Some(projected), ..Default::default() });
    }

    /// Adds an empty directory as a volume.
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

    /// Adds any other volume.
    pub fn volume(mut self, volume: Volume) -> Self {
        self.volumes.insert(volume.name.clone(), volume);
        self
    }

    /// Adds an init container.
    pub fn init(mut self, container: Container) -> Self {
        self.spec.init_containers.get_or_insert_default().push(container);
        self
    }

    /// Adds a container.
    pub fn container(mut self, container: Container) -> Self {
        self.spec.containers.push(container);
        self
    }

    /// Sets placement and deadline.
    pub fn execution(mut self, execution: &Execution) -> Self {
        self.spec.active_deadline_seconds =
            execution.deadline.and_then(|span| i64::try_from(span.as_secs()).ok());
        self.placement(&execution.node_selector, &execution.tolerations, &execution.pull_secrets)
    }

    /// Sets the placement.
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

    /// The pod, with the security fields set.
    pub fn build(self) -> Pod {
        let mut spec = self.spec;
        spec.volumes = Some(self.volumes.into_values().collect());
        secure(&mut spec);
        Pod { metadata: self.meta, spec: Some(spec), status: None }
    }
}

/// Sets the fields that Pod Security *restricted* asks for, whatever they were. Only a container's wish for a writable root
/// is kept.
pub(super) fn secure(spec: &mut PodSpec) {
    spec.automount_service_account_token = Some(false);
    spec.enable_service_links = Some(false);
    spec.security_context = Some(PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        fs_group: Some(USER),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
        ..Default::default()
    });
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        let read_only = container.security_context.as_ref().and_then(|c| c.read_only_root_filesystem);
        container.security_context = Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(read_only.unwrap_or(true)),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
            ..Default::default()
        });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn security_fields_of_a_container_are_overwritten() {
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
}
