//! The routers of a ModelDeployment with a rollout in steps, the Services behind them, and the routes that they follow.

use crate::server::{self, Server};
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{ConfigMap, ConfigMapVolumeSource, Container, Pod, Service, Volume},
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::ResourceExt;
use mlop_api::{
    Digest,
    common::Resources,
    labels,
    rollout::{RolloutSpec, RolloutStatus},
    routes::Routes,
    task::{AnalyzeWork, Work},
};
use mlop_core::{
    children::{
        budget,
        container::{self, mount, probe},
        deployment, meta, pod, service,
        template::{self, Edition, OwnContainer},
    },
    plan::Apply,
    resource::{ApiKind, ChildObject, PodView},
};
use serde_json::json;
use std::{collections::BTreeMap, sync::Arc};

/// Port of a router's health and metrics.
const METRICS_PORT: i32 = 8081;
/// Name of the container, and of the volume with its routes.
const ROUTER: &str = "router";
const ROUTES: &str = "routes";
/// Memory of a router in MiB: its connections and buffers are bounded.
const MEMORY: u32 = 128;
/// Time from the deletion of a router to SIGKILL, in seconds: its drain, and then the rest for requests under way.
const GRACE_SECONDS: i64 = 35;
/// Longest time in which the routers become ready, in seconds.
const PROGRESS_DEADLINE: i32 = 600;

/// Name of the routers' Deployment, of their ConfigMap and of the Service with their addresses.
pub fn name(object: &str) -> String {
    format!("{object}-mdep-router")
}

/// Name of the Service in front of the stable pods, for routers.
fn stable_name(object: &str) -> String {
    format!("{object}-mdep-stable")
}

/// `host:port` of the stable pods, for routers.
pub fn stable_address(object: &str) -> String {
    format!("{}:{}", stable_name(object), server::PORT)
}

/// `host:port` of the pods of the new version, for routers.
pub fn canary_address(object: &str) -> String {
    format!("{}:{}", server::canary_name(object), server::PORT)
}

/// The work of an analysis pod.
pub fn analysis(object: &str, status: &RolloutStatus, seconds: u64) -> Work {
    Work::Analyze(AnalyzeWork {
        routers: format!("{}:{METRICS_PORT}", name(object)),
        model: status.canary.digest.clone(),
        canary: status.canary.template.clone(),
        stable: status.stable.template.clone(),
        seconds,
    })
}

/// The routers of one ModelDeployment.
pub struct Router<'a> {
    pub server: &'a Server<'a>,
    /// The Deployment that exists.
    pub observed: Option<&'a ChildObject>,
}

impl Router<'_> {
    fn object(&self) -> String {
        self.server.object.name_any()
    }

    /// The Service of users: in front of the routers once one is ready, before that in front of the stable pods.
    pub fn users_service(&self, is_routed: bool) -> Service {
        let mut service = self.server.service();
        if is_routed {
            service.spec.get_or_insert_default().selector = Some(service::selector(&name(&self.object())));
        }
        service
    }

    /// The Services in front of the stable pods, of those of the new version, and of each router.
    pub fn services(&self) -> [Service; 3] {
        let object = self.object();
        let ports = [("http", server::PORT)];
        let mut stable = service::service(self.server.meta(stable_name(&object)), &ports);
        let pods = service::selector(&server::name(&object));
        stable.spec.get_or_insert_default().selector = Some(pods);
        let canary = service::service(self.server.meta(server::canary_name(&object)), &ports);
        let routers = service::headless(self.server.meta(name(&object)), service::selector(&name(&object)));
        [stable, canary, routers]
    }

    pub fn budget(&self) -> PodDisruptionBudget {
        budget::budget(self.server.meta(name(&self.object())))
    }

    pub fn routes(&self, routes: &Routes) -> ConfigMap {
        let text = serde_json::to_string(routes).unwrap_or_default();
        let data = BTreeMap::from([(labels::ROUTES_FILE.to_owned(), text)]);
        let metadata = self.server.meta(name(&self.object()));
        ConfigMap { metadata, data: Some(data), ..Default::default() }
    }

    /// The pods that have not been told of `routes`, with the annotation that tells them.
    pub fn told(&self, routes: &Routes, pods: &[Arc<PodView>]) -> Vec<Apply> {
        let digest = Digest::of(&json!(routes)).short(16).to_owned();
        let untold = pods.iter().filter_map(|pod| {
            let meta = &pod.metadata;
            let known = pod.annotations().get(labels::ROUTES);
            let is_told = meta.deletion_timestamp.is_some() || known.is_some_and(|known| *known == digest);
            let annotations = json!({labels::ROUTES: digest});
            let object = json!({
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid, "annotations": annotations},
            });
            let why = "its routes have changed".to_owned();
            (!is_told).then(|| Apply { kind: ApiKind::of::<Pod>(), object, why })
        });
        untold.collect()
    }

    pub fn deployment(&self, spec: &RolloutSpec) -> Deployment {
        let own = OwnContainer { name: ROUTER, image: self.server.launcher_image };
        let name = name(&self.object());
        let template =
            template::template(&name, self.observed, Some(own), |_: Edition, image| self.pod(image));
        deployment::deployment(self.server.meta(name), spec.routers, template, PROGRESS_DEADLINE, false)
    }

    fn pod(&self, image: &str) -> Pod {
        let Server { object, profile, operator, .. } = self.server;
        let labels = meta::child_labels(*object, operator, labels::ROUTING);
        let common = (labels::MANAGED_BY, labels::MANAGER.to_owned());
        let labels = labels.into_iter().chain([common]).map(|(key, value)| (key.to_owned(), value)).collect();
        let source = ConfigMapVolumeSource { name: name(&self.object()), ..Default::default() };
        let routes = Volume { name: ROUTES.to_owned(), config_map: Some(source), ..Default::default() };
        let container = Container {
            name: ROUTER.to_owned(),
            image: Some(image.to_owned()),
            args: Some(vec!["route".to_owned()]),
            ports: Some(vec![
                container::port("http", server::PORT),
                container::port("metrics", METRICS_PORT),
            ]),
            volume_mounts: Some(vec![mount(ROUTES, labels::ROUTES_DIR)]),
            resources: Some(container::requirements(&Resources::small(MEMORY))),
            readiness_probe: Some(probe("/health", "metrics", 1, 3)),
            liveness_probe: Some(probe("/livez", "metrics", 10, 6)),
            ..Default::default()
        };
        let pod = pod::Builder::service(ObjectMeta { labels: Some(labels), ..Default::default() })
            .volume(routes)
            .container(container)
            .placement(&object.spec.node_selector, &object.spec.tolerations, &[])
            .grace(GRACE_SECONDS)
            .build();
        profile.complete(pod)
    }
}
