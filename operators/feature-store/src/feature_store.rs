//! `FeatureStore`: a Redis that only mlop's pods reach, and the online API in front of it.

use crate::{
    memory,
    online_store::{self, redis, redis_name, redis_secret, with_password},
};
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::{
            Deployment, StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec,
        },
        core::v1::{
            Container, EnvVar, EnvVarSource, ExecAction, PersistentVolumeClaim, PersistentVolumeClaimSpec,
            PodTemplateSpec, Probe, SecretKeySelector, Service, VolumeResourceRequirements,
        },
        networking::v1::{
            NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
        },
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};
use kube::{Resource, ResourceExt};
use mlop_api::{
    contract::condition_type,
    features::{FeatureStore, ManagedRedis},
    labels,
    status::ConnectionStatus,
};
use mlop_core::{
    Cache, Context, Error, Key, Plan, Reconciler,
    children::{
        connection::{self, Server},
        container::{self, probe, variable, writable},
        deployment, meta,
        owned::{Child, ChildCaches},
        pod, rollout, service,
    },
    condition,
    resource::ChildObject,
};
use std::{collections::BTreeMap, sync::Arc};

/// Feast's port.
const API_PORT: i32 = 6566;

pub struct FeatureStoreReconciler {
    pub deployments: Arc<Cache<ChildObject>>,
    pub sets: Arc<Cache<ChildObject>>,
    pub children: ChildCaches,
}

pub struct Observed {
    pub object: Arc<FeatureStore>,
    pub api: Option<Arc<ChildObject>>,
    pub redis: Option<Arc<ChildObject>>,
    pub children: Vec<Child>,
    pub operator: String,
    pub worker_image: String,
}

/// Whether the Ready condition of `feature_store` is True.
pub fn is_ready(feature_store: &FeatureStore) -> bool {
    let status = feature_store.status.as_ref();
    status.is_some_and(|status| condition::is_true(&status.conditions, condition_type::READY))
}

fn api_name(name: &str) -> String {
    format!("{name}-fs")
}

impl Reconciler for FeatureStoreReconciler {
    type Resource = FeatureStore;
    type Status = ConnectionStatus;
    type Observed = Observed;

    async fn observe(&self, cx: &Context, object: Arc<FeatureStore>) -> Result<Observed, Error> {
        let key = Key::of(&object.metadata);
        Ok(Observed {
            api: self.deployments.get(&Key::new(&key.namespace, api_name(&key.name))),
            redis: self.sets.get(&Key::new(&key.namespace, redis_name(&key.name))),
            children: self.children.of(&object.metadata),
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
        let why = "the store is wanted";
        let name = object.name_any();
        let mut plan = Plan::idle();
        let mut servers = Vec::new();
        if let Some(managed) = &object.spec.redis.managed {
            let meta = || observed.meta(redis_name(&name));
            plan = plan
                .apply(&service::service(meta(), &[("redis", online_store::PORT)]), why)
                .apply(&policy(meta()), why)
                .apply(&observed.redis(managed), why);
            servers.push(Server { name: "Redis", rollout: observed.redis.as_deref().map(rollout::rollout) });
        }
        let plan = plan.apply(&observed.service(), why).apply(&observed.api(), why);
        servers
            .push(Server { name: "the online API", rollout: observed.api.as_deref().map(rollout::rollout) });
        let address =
            format!("http://{}.{}.svc:{API_PORT}", api_name(&name), object.namespace().unwrap_or_default());
        let plan = connection::report(plan, &object.metadata, object.status.as_ref(), address, &servers, now);
        connection::prune(plan, &observed.children)
    }
}

impl Observed {
    fn meta(&self, name: String) -> ObjectMeta {
        meta::child_meta(
            self.object.as_ref(),
            name,
            [
                (labels::OPERATOR, self.operator.clone()),
                (labels::INTENT, self.object.name_any()),
                (labels::INTENT_KIND, FeatureStore::kind(&()).into_owned()),
            ],
        )
    }

    fn service(&self) -> Service {
        service::service(self.meta(api_name(&self.object.name_any())), &[("http", API_PORT)])
    }

    fn api(&self) -> Deployment {
        let object = self.object.as_ref();
        let (secret, redis) = (redis_secret(object), redis(object));
        let mut args = vec![
            "serve".to_owned(),
            format!("--redis={}", redis.address),
            format!("--namespace={}", object.namespace().unwrap_or_default()),
            format!("--listen=0.0.0.0:{API_PORT}"),
        ];
        if secret.is_some() {
            args.push(format!("--password-file={}/password", labels::REDIS_DIR));
        }
        args.extend(redis.user.map(|user| format!("--user={user}")));
        if redis.tls {
            args.push("--tls".to_owned());
            args.push(format!("--ca-file={}/{}", labels::REDIS_DIR, labels::CA_CERTIFICATE));
        }
        let mut container = Container {
            name: "api".to_owned(),
            image: Some(self.worker_image.clone()),
            args: Some(args),
            ports: Some(vec![container::port("http", API_PORT)]),
            resources: Some(container::requirements(&object.spec.api.resources)),
            readiness_probe: Some(probe("/health", "http", 1, 3)),
            liveness_probe: Some(probe("/livez", "http", 10, 6)),
            ..Default::default()
        };
        with_password(&mut container, secret);
        let labels = BTreeMap::from([("app.kubernetes.io/managed-by".to_owned(), "mlop".to_owned())]);
        let template = pod::Builder::service(ObjectMeta { labels: Some(labels), ..Default::default() })
            .password(secret)
            .container(container)
            .build();
        deployment::deployment(
            self.meta(api_name(&object.name_any())),
            object.spec.api.replicas,
            template,
            600,
            false,
        )
    }

    fn redis(&self, managed: &ManagedRedis) -> StatefulSet {
        let name = redis_name(&self.object.name_any());
        let template = pod::Builder::service(ObjectMeta {
            labels: Some(service::selector(&name)),
            ..Default::default()
        })
        .scratch("tmp", Some("64Mi"), false)
        .container(redis_container(managed))
        .build();
        let requests = BTreeMap::from([("storage".to_owned(), Quantity(managed.volume.clone()))]);
        let claim = PersistentVolumeClaim {
            metadata: ObjectMeta { name: Some("data".to_owned()), ..Default::default() },
            spec: Some(PersistentVolumeClaimSpec {
                access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
                resources: Some(VolumeResourceRequirements { requests: Some(requests), limits: None }),
                ..Default::default()
            }),
            status: None,
        };
        let spec = StatefulSetSpec {
            replicas: Some(1),
            service_name: Some(name.clone()),
            selector: LabelSelector { match_labels: Some(service::selector(&name)), match_expressions: None },
            template: PodTemplateSpec { metadata: Some(template.metadata), spec: template.spec },
            volume_claim_templates: Some(vec![claim]),
            // The snapshots can fill the store again: a deleted store keeps no volume.
            persistent_volume_claim_retention_policy: Some(StatefulSetPersistentVolumeClaimRetentionPolicy {
                when_deleted: Some("Delete".to_owned()),
                when_scaled: Some("Retain".to_owned()),
            }),
            ..Default::default()
        };
        StatefulSet { metadata: self.meta(name), spec: Some(spec), status: None }
    }
}

/// Share of the pod's memory for the data of Redis. The rest is for its buffers, and for pages that are copied while it
/// rewrites its log.
const DATA_SHARE: f64 = 0.6;

/// Redis with append-only persistence: the online values survive a restart.
fn redis_container(managed: &ManagedRedis) -> Container {
    let key =
        SecretKeySelector { name: managed.secret_name.clone(), key: "password".to_owned(), optional: None };
    let password = EnvVar {
        name: "REDISCLI_AUTH".to_owned(),
        value: None,
        value_from: Some(EnvVarSource { secret_key_ref: Some(key), ..Default::default() }),
    };
    let max_memory = memory::share(&managed.resources.memory, DATA_SHARE).to_string();
    // The kubelet puts the password in for $(REDISCLI_AUTH).
    let command = [
        "redis-server",
        "--protected-mode",
        "no",
        "--bind",
        "0.0.0.0",
        "--port",
        "6379",
        "--dir",
        "/data",
        "--appendonly",
        "yes",
        "--save",
        "",
        // A load that does not fit is refused with words. Without a limit the kernel would end Redis.
        "--maxmemory",
        &max_memory,
        "--maxmemory-policy",
        "noeviction",
        "--requirepass",
        "$(REDISCLI_AUTH)",
    ];
    let ping = ["sh", "-c", "redis-cli ping | grep -q PONG"].map(str::to_owned).to_vec();
    Container {
        name: "redis".to_owned(),
        image: Some(managed.image.clone()),
        command: Some(command.map(str::to_owned).to_vec()),
        env: Some(vec![password, variable("HOME", "/tmp")]),
        ports: Some(vec![container::port("redis", online_store::PORT)]),
        volume_mounts: Some(vec![writable("data", "/data"), writable("tmp", "/tmp")]),
        resources: Some(container::requirements(&managed.resources)),
        readiness_probe: Some(Probe {
            exec: Some(ExecAction { command: Some(ping) }),
            period_seconds: Some(2),
            timeout_seconds: Some(2),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Admits only pods of mlop to Redis.
fn policy(meta: ObjectMeta) -> NetworkPolicy {
    let name = meta.name.clone().unwrap_or_default();
    let ours = BTreeMap::from([("app.kubernetes.io/managed-by".to_owned(), "mlop".to_owned())]);
    let peer = NetworkPolicyPeer {
        pod_selector: Some(LabelSelector { match_labels: Some(ours), match_expressions: None }),
        ..Default::default()
    };
    let port = NetworkPolicyPort {
        port: Some(IntOrString::Int(online_store::PORT)),
        protocol: Some("TCP".to_owned()),
        end_port: None,
    };
    let spec = NetworkPolicySpec {
        pod_selector: Some(LabelSelector {
            match_labels: Some(service::selector(&name)),
            match_expressions: None,
        }),
        policy_types: Some(vec!["Ingress".to_owned()]),
        ingress: Some(vec![NetworkPolicyIngressRule { from: Some(vec![peer]), ports: Some(vec![port]) }]),
        egress: None,
    };
    NetworkPolicy { metadata: meta, spec: Some(spec) }
}
