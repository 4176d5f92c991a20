//! `FeatureStore`: a Redis that only mlop's pods reach, and the online API in front of it.

use crate::online_store::{self, redis, redis_name, redis_secret, with_password};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{
        apps::v1::{
            Deployment, StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec,
        },
        core::v1::{
            Container, ExecAction, PersistentVolumeClaim, PersistentVolumeClaimSpec, Pod, Probe,
            TCPSocketAction, VolumeResourceRequirements,
        },
        networking::v1::NetworkPolicy,
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};
use kube::{Resource, ResourceExt};
use mlop_api::{
    Digest, Reason,
    common::Resources,
    contract::condition_type,
    features::{FeatureStore, ManagedRedis},
    labels,
    status::ConnectionStatus,
    task::{PROBES, Work},
};
use mlop_core::{
    Cache, Context, Error, Index, Key, Plan, Reconciler,
    children::{
        budget,
        connection::{self, Server},
        container::{self, probe, variable, writable},
        deployment, meta, network,
        owned::{Child, ChildCaches},
        pod,
        profile::Profile,
        profiles::Profiles,
        service,
        template::{self, Edition, OwnContainer},
    },
    condition,
    errand::{Decision, Errand, report_connection},
    resource::{ChildObject, PodView},
};
use serde_json::json;
use std::{collections::BTreeMap, sync::Arc};

/// Name of the container of the online API.
const API: &str = "api";
/// Feast's port.
const API_PORT: i32 = 6566;

/// Longest time of a probe.
const DEADLINE: SignedDuration = SignedDuration::from_mins(2);
/// The password of Redis in its own pod.
const PASSWORD: &str = "/run/mlop/redis/password";

pub struct FeatureStoreReconciler {
    /// By the name of the FeatureStore.
    pub pods: Index<PodView>,
    pub deployments: Arc<Cache<ChildObject>>,
    pub sets: Arc<Cache<ChildObject>>,
    pub children: ChildCaches,
    pub profiles: Profiles,
}

pub struct Observed {
    pub object: Arc<FeatureStore>,
    pub api: Option<Arc<ChildObject>>,
    pub redis: Option<Arc<ChildObject>>,
    pub children: Vec<Child>,
    pub pods: Vec<Arc<PodView>>,
    pub profile: Profile,
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
            pods: self.pods.get(&key.namespace, &key.name),
            api: self.deployments.get(&Key::new(&key.namespace, api_name(&key.name))),
            redis: self.sets.get(&Key::new(&key.namespace, redis_name(&key.name))),
            children: self.children.of(&object.metadata),
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
        let why = "the store is wanted";
        let name = object.name_any();
        let mut plan = Plan::idle();
        if let Some(managed) = &object.spec.redis.managed {
            let meta = || observed.meta(redis_name(&name));
            plan = plan
                .apply(&service::service(meta(), &[("redis", online_store::PORT)]), why)
                .apply(&policy(meta()), why)
                .apply(&observed.redis(managed), why);
        }
        let api = || observed.meta(api_name(&name));
        let plan = plan
            .apply(&service::service(api(), &[("http", API_PORT)]), why)
            .apply(&observed.api(), why)
            .apply(&budget::budget(api()), why);
        let servers: Vec<_> = observed.redis_server().into_iter().chain([observed.api_server()]).collect();
        let address =
            format!("http://{}.{}.svc:{API_PORT}", api_name(&name), object.namespace().unwrap_or_default());
        let probe = observed.probe(now);
        let plan = observed.report(plan, address, &servers, &probe, now);
        probe.carry_out(connection::prune(plan, &observed.children))
    }
}

impl Observed {
    /// The managed Redis.
    fn redis_server(&self) -> Option<Server<'_>> {
        let managed = self.object.spec.redis.managed.as_ref()?;
        let template = self.redis(managed).spec.map(|spec| spec.template);
        Some(Server { name: "Redis", child: self.redis.as_deref(), template, pods: &self.pods })
    }

    fn api_server(&self) -> Server<'_> {
        let template = self.api().spec.map(|spec| spec.template);
        Server { name: "the online API", child: self.api.as_deref(), template, pods: &self.pods }
    }

    fn was_ready(&self) -> bool {
        connection::was_ready(&self.object.metadata, self.object.status.as_ref())
    }

    /// The status: ready when all servers are and the online store has answered the newest probe.
    fn report(
        &self,
        plan: Plan<ConnectionStatus>,
        address: String,
        servers: &[Server<'_>],
        probe: &Decision,
        now: Timestamp,
    ) -> Plan<ConnectionStatus> {
        let store = self.object.as_ref();
        let mut before = store.status.clone().unwrap_or_default();
        if let Some(answer) = &probe.answer {
            before.mark = answer.result.digest.clone();
        }
        let failure = probe.trouble().filter(|trouble| trouble.failed).map(|trouble| trouble.blocked.reason);
        let is_open = !servers.iter().all(|server| server.is_ready(self.was_ready()));
        // A server that is starting does not answer yet. Any other failure says more than the state of the servers.
        let is_expected = failure.is_none_or(|reason| reason == Reason::OnlineStoreUnreachable);
        if is_open && is_expected {
            return connection::report(plan, &store.metadata, Some(&before), address, servers, now);
        }
        let ready = "all servers are ready, and the online store answers";
        let report = report_connection(store, Some(&before), address, probe, ready, now);
        Plan { status: report.status, ..plan }
    }

    /// Asks the online store for its mark. It is asked again when a server starts, stops being available, or is back: the
    /// online API is not ready while the mark is gone.
    fn probe(&self, now: Timestamp) -> Decision {
        let store = self.object.as_ref();
        let redis_starts = self.redis_server().is_some_and(|redis| !redis.is_ready(self.was_ready()));
        let states = [
            redis_starts.then(|| "Redis starts".to_owned()),
            self.api.as_deref().and_then(unavailable_since),
        ];
        let secret = redis_secret(store);
        let redis = redis(store);
        let server = json!([redis.address, secret, redis.user, redis.tls]);
        let question = Digest::of(&if redis.cluster { json!(["cluster", server]) } else { server });
        let mut errand = Errand::probe(store, &self.operator, &self.pods, question, DEADLINE, &self.profile);
        let requests = errand.request.take().into_iter().chain(states.into_iter().flatten());
        errand.request = Some(requests.collect::<Vec<_>>().join(" "));
        let key = Key::of(&store.metadata);
        let seen = errand.answer().and_then(|answer| {
            let probes = answer.result.metrics.into_iter().find(|metric| metric.name == PROBES)?;
            probes.value.parse().ok()
        });
        let seen = seen.unwrap_or_default();
        let work = Work::ProbeOnline { namespace: key.namespace, name: key.name, redis, seen };
        let resources = Resources::small(128);
        let build = |builder: pod::Builder| {
            let mut container = container::worker(&self.worker_image, &[], &[], &resources);
            with_password(&mut container, secret);
            builder.password(secret).scratch("tmp", Some("64Mi"), false).container(container)
        };
        errand.decide(work, build, now).naming_secret(secret)
    }

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

    /// Labels of the pods of servers by which their state is watched. Those of the first edition have none.
    fn pod_labels(&self, edition: Edition) -> BTreeMap<String, String> {
        let labels = meta::child_labels(self.object.as_ref(), &self.operator, labels::SERVING);
        let labels = labels.into_iter().filter(|_| edition != Edition::First);
        labels.map(|(key, value)| (key.to_owned(), value)).collect()
    }

    fn api(&self) -> Deployment {
        let name = api_name(&self.object.name_any());
        let own = OwnContainer { name: API, image: &self.worker_image };
        let build = |edition, image: &str| self.api_pod(edition, image);
        let template = template::template(&name, self.api.as_deref(), Some(own), build);
        deployment::deployment(self.meta(name), self.object.spec.api.replicas, template, 600, false)
    }

    fn api_pod(&self, edition: Edition, image: &str) -> Pod {
        let object = self.object.as_ref();
        let (secret, redis) = (redis_secret(object), redis(object));
        let mut args = vec![
            "serve".to_owned(),
            format!("--redis={}", redis.address),
            format!("--namespace={}", object.namespace().unwrap_or_default()),
            format!("--listen=0.0.0.0:{API_PORT}"),
            format!("--feature-store={}", object.name_any()),
        ];
        if secret.is_some() {
            args.push(format!("--password-file={}/password", labels::REDIS_DIR));
        }
        args.extend(redis.user.map(|user| format!("--user={user}")));
        if redis.tls {
            args.push("--tls".to_owned());
            args.push(format!("--ca-file={}/{}", labels::REDIS_DIR, labels::CA_CERTIFICATE));
        }
        if redis.cluster {
            args.push("--cluster".to_owned());
        }
        let mut container = Container {
            name: API.to_owned(),
            image: Some(image.to_owned()),
            args: Some(args),
            ports: Some(vec![container::port("http", API_PORT)]),
            resources: Some(container::requirements(&object.spec.api.resources)),
            readiness_probe: Some(probe("/health", "http", 1, 3)),
            liveness_probe: Some(probe("/livez", "http", 10, 6)),
            ..Default::default()
        };
        with_password(&mut container, secret);
        let mut labels = self.pod_labels(edition);
        labels.insert(labels::MANAGED_BY.to_owned(), labels::MANAGER.to_owned());
        let pod = pod::Builder::service(ObjectMeta { labels: Some(labels), ..Default::default() })
            .password(secret)
            .container(container)
            .build();
        self.profile.complete(pod)
    }

    fn redis(&self, managed: &ManagedRedis) -> StatefulSet {
        let name = redis_name(&self.object.name_any());
        let build = |edition, _: &str| {
            let labels = Some(self.pod_labels(edition));
            let pod = pod::Builder::service(ObjectMeta { labels, ..Default::default() })
                .password(Some(&managed.secret_name))
                .scratch("tmp", Some("64Mi"), false)
                .container(redis_container(managed))
                .build();
            self.profile.complete(pod)
        };
        let template = template::template(&name, self.redis.as_deref(), None, build);
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
            // A pod that cannot start gives way to a corrected one. With the other policy it would be waited for.
            pod_management_policy: Some("Parallel".to_owned()),
            service_name: Some(name.clone()),
            selector: LabelSelector { match_labels: Some(service::selector(&name)), match_expressions: None },
            template,
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
const DATA_PERCENT: u8 = 60;

/// Redis with append-only persistence: the online values survive a restart.
///
/// The password is a file that follows its Secret. Redis reads it when it starts, and is started again when the file and the
/// server differ. Startup and liveness run a client; readiness is asked often, so it only connects.
fn redis_container(managed: &ManagedRedis) -> Container {
    // A load that does not fit is refused with words. Without a limit the kernel would end Redis.
    let start = format!(
        "exec redis-server --protected-mode no --bind 0.0.0.0 --port {} --dir /data --appendonly yes --save '' \
         --maxmemory {} --maxmemory-policy noeviction --requirepass \"`cat {PASSWORD}`\"",
        online_store::PORT,
        managed.resources.memory.percent(DATA_PERCENT)
    );
    let ping = format!("REDISCLI_AUTH=\"`cat {PASSWORD}`\" redis-cli ping 2>&1");
    let shell = |script: &str| ["sh", "-c", &container::literal(script)].map(str::to_owned).to_vec();
    let run = |script: String| ExecAction { command: Some(shell(&script)) };
    Container {
        name: "redis".to_owned(),
        image: Some(managed.image.clone()),
        command: Some(shell(&start)),
        env: Some(vec![variable("HOME", "/tmp")]),
        ports: Some(vec![container::port("redis", online_store::PORT)]),
        volume_mounts: Some(vec![
            container::mount("redis", labels::REDIS_DIR),
            writable("data", "/data"),
            writable("tmp", "/tmp"),
        ]),
        resources: Some(container::requirements(&managed.resources)),
        startup_probe: Some(Probe {
            exec: Some(run(format!("{ping} | grep -q PONG"))),
            period_seconds: Some(2),
            timeout_seconds: Some(5),
            failure_threshold: Some(900),
            ..Default::default()
        }),
        readiness_probe: Some(Probe {
            tcp_socket: Some(TCPSocketAction { port: IntOrString::String("redis".to_owned()), host: None }),
            period_seconds: Some(5),
            ..Default::default()
        }),
        liveness_probe: Some(Probe {
            exec: Some(run(format!("! {ping} | grep -qE 'WRONGPASS|NOAUTH'"))),
            period_seconds: Some(20),
            timeout_seconds: Some(15),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Since when the Deployment has had too few available pods.
fn unavailable_since(deployment: &ChildObject) -> Option<String> {
    let conditions = deployment.body.get("status")?.get("conditions")?.as_array()?;
    let unavailable = conditions.iter().find(|c| c["type"] == "Available" && c["status"] == "False")?;
    Some(unavailable["lastTransitionTime"].as_str()?.to_owned())
}

/// Admits only pods of mlop to Redis.
fn policy(meta: ObjectMeta) -> NetworkPolicy {
    let ours = network::pods_with(labels::MANAGED_BY, labels::MANAGER);
    network::policy(meta, online_store::PORT, vec![ours])
}

#[cfg(test)]
mod tests;
