//! The server of a ModelDeployment: MLServer with the model that an init container of mlop has fetched and verified.

use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{Container, Lifecycle, LifecycleHandler, Pod, Service, SleepAction},
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Resource, ResourceExt};
use mlop_api::{
    Artifact,
    common::Resources,
    dataset::ObjectStore,
    deployment::{DeploymentTarget, ModelDeployment, Runtime, Strategy},
    labels,
    task::{Input, Subject, Task, Work},
};
use mlop_core::{
    children::{
        budget,
        container::{self, mount, probe, variable, writable},
        deployment, meta, pod,
        profile::Profile,
        service,
        template::{self, Edition, OwnContainer},
    },
    resource::ChildObject,
};

/// Port of the Open Inference Protocol over HTTP.
pub const PORT: i32 = 8080;
const MODELS: &str = "/mnt/models";
/// An empty directory to start MLServer in: it would take over every `model-settings.json` that it finds there.
const EMPTY: &str = "/mnt/empty";
/// Time in which a terminating pod still answers, in seconds: every router learns of its end meanwhile.
const DRAIN_SECONDS: i64 = 5;
/// Time from the deletion of a pod to SIGKILL, in seconds: the drain, and then the rest for requests under way.
const GRACE_SECONDS: i64 = 35;
/// Digits of the model's digest that answers carry as its version.
const VERSION_CHARS: usize = 12;
/// Time between two probes of a server that starts, in seconds.
const STARTUP_PERIOD_SECONDS: i32 = 2;

/// Name of the Deployment and the Service.
pub fn name(object: &str) -> String {
    format!("{object}-mdep")
}

/// The Deployment and the Service of the new version in a rollout in steps.
pub fn canary_name(object: &str) -> String {
    format!("{object}-mdep-canary")
}

/// URL of the predictions of `object`.
pub fn url(object: &ModelDeployment) -> String {
    format!(
        "http://{}.{}.svc:{PORT}/v2/models/{}/infer",
        name(&object.name_any()),
        object.namespace().unwrap_or_default(),
        model_name(object),
    )
}

/// Name of the model in requests.
fn model_name(object: &ModelDeployment) -> String {
    object.spec.runtime.model_name.clone().unwrap_or_else(|| object.name_any())
}

/// The server of one ModelDeployment.
pub struct Server<'a> {
    pub object: &'a ModelDeployment,
    /// The Deployment that exists.
    pub observed: Option<&'a ChildObject>,
    /// The profile of its pods.
    pub profile: &'a Profile,
    /// Name of the operator.
    pub operator: &'a str,
    pub launcher_image: &'a str,
}

impl Server<'_> {
    /// The Service of users.
    pub fn service(&self) -> Service {
        service::service(self.meta(name(&self.object.name_any())), &[("http", PORT)])
    }

    pub fn budget(&self) -> PodDisruptionBudget {
        budget::budget(self.meta(name(&self.object.name_any())))
    }

    /// The Deployment that serves `artifact`.
    pub fn deployment(
        &self,
        target: &DeploymentTarget,
        artifact: &Artifact,
        store: &ObjectStore,
    ) -> Deployment {
        // Without a number, the size is the one that others give the Deployment. A copy of it might undo their next one.
        let meta = self.meta(name(&self.object.name_any()));
        self.deployment_of(meta, self.observed, target.replicas, (target, artifact, store))
    }

    /// The Deployment that serves `artifact` as the new version in a rollout in steps. `live` is the one that exists.
    pub fn canary(
        &self,
        live: Option<&ChildObject>,
        replicas: i32,
        target: &DeploymentTarget,
        artifact: &Artifact,
        store: &ObjectStore,
    ) -> Deployment {
        let meta = self.meta(canary_name(&self.object.name_any()));
        self.deployment_of(meta, live, Some(replicas), (target, artifact, store))
    }

    fn deployment_of(
        &self,
        meta: ObjectMeta,
        live: Option<&ChildObject>,
        replicas: Option<i32>,
        (target, artifact, store): (&DeploymentTarget, &Artifact, &ObjectStore),
    ) -> Deployment {
        let own = OwnContainer { name: labels::FETCH_CONTAINER, image: self.launcher_image };
        let build = |edition, image: &str| self.pod(target, artifact, store, edition, image);
        let name = meta.name.clone().unwrap_or_default();
        let template = template::template(&name, live, Some(own), build);
        let deadline = i32::try_from(target.progress_deadline.as_secs()).unwrap_or(i32::MAX);
        let recreate = target.strategy == Strategy::Recreate;
        deployment::deployment(meta, replicas, template, deadline, recreate)
    }

    fn pod(
        &self,
        target: &DeploymentTarget,
        artifact: &Artifact,
        store: &ObjectStore,
        edition: Edition,
        launcher_image: &str,
    ) -> Pod {
        let object = self.object;
        let serving = [
            (labels::OPERATOR, self.operator.to_owned()),
            (labels::ROLE, labels::SERVING.to_owned()),
            (labels::INTENT, object.name_any()),
            (labels::INTENT_KIND, ModelDeployment::kind(&()).into_owned()),
            (labels::DIGEST, artifact.digest.short(63).to_owned()),
        ];
        let labels = serving.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let runtime = &object.spec.runtime;
        let pod = pod::Builder::service(ObjectMeta { labels: Some(labels), ..Default::default() })
            .task(&self.task(artifact, store))
            .naming_missing_keys(edition != Edition::First)
            .keys(store)
            .scratch("models", None, false)
            .scratch("empty", Some("1Mi"), false)
            .scratch("tmp", Some("1Gi"), false)
            .init(fetch(launcher_image, store))
            .container(self.mlserver(target, artifact))
            .placement(&object.spec.node_selector, &object.spec.tolerations, &runtime.pull_secrets)
            .grace(GRACE_SECONDS)
            .build();
        self.profile.complete(pod)
    }

    /// Metadata of the child `name`.
    pub fn meta(&self, name: String) -> ObjectMeta {
        let object = self.object.name_any();
        meta::child_meta(
            self.object,
            name,
            [
                (labels::OPERATOR, self.operator.to_owned()),
                (labels::INTENT, object),
                (labels::INTENT_KIND, ModelDeployment::kind(&()).into_owned()),
            ],
        )
    }

    fn task(&self, artifact: &Artifact, store: &ObjectStore) -> Task {
        let object = self.object;
        let subject = Subject {
            kind: ModelDeployment::kind(&()).into_owned(),
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
            uid: object.uid().unwrap_or_default(),
            attempt: 1,
        };
        let model = Input {
            name: "model".to_owned(),
            digest: artifact.digest.clone(),
            media_type: artifact.media_type.clone(),
            store: pod::store(store),
        };
        // Only the part that is served: other files of the tree must not take part.
        let path = served_part(&object.spec.runtime).map(str::to_owned);
        Task { subject, work: Work::Serve { model, directory: MODELS.to_owned(), path } }
    }

    fn mlserver(&self, target: &DeploymentTarget, artifact: &Artifact) -> Container {
        let runtime = &self.object.spec.runtime;
        let model = model_name(self.object);
        let uri = served_part(runtime).map_or_else(|| MODELS.to_owned(), |part| format!("{MODELS}/{part}"));
        let ready = format!("/v2/models/{model}/ready");
        let starts = i32::try_from(target.progress_deadline.as_secs()).unwrap_or(i32::MAX)
            / STARTUP_PERIOD_SECONDS
            + 1;
        Container {
            name: labels::SERVER_CONTAINER.to_owned(),
            image: Some(runtime.image.clone()),
            command: Some(["mlserver", "start", EMPTY].map(str::to_owned).to_vec()),
            env: Some(vec![
                variable("HOME", "/tmp"),
                variable("MLSERVER_MODEL_NAME", &model),
                // Answers carry it. The digest stays when the registry gives the version another number.
                variable("MLSERVER_MODEL_VERSION", artifact.digest.short(VERSION_CHARS)),
                variable("MLSERVER_MODEL_URI", &uri),
                variable("MLSERVER_MODEL_IMPLEMENTATION", &runtime.implementation),
                // Its own worker processes do not start with current event loops.
                variable("MLSERVER_PARALLEL_WORKERS", "0"),
            ]),
            ports: Some(vec![container::port("http", PORT)]),
            volume_mounts: Some(vec![
                mount("models", MODELS),
                mount("empty", EMPTY),
                writable("tmp", "/tmp"),
            ]),
            resources: Some(container::requirements(&runtime.resources)),
            // A large model may load until the rollout's deadline. The other probes begin after that.
            startup_probe: Some(probe(&ready, "http", STARTUP_PERIOD_SECONDS, starts)),
            readiness_probe: Some(probe(&ready, "http", 1, 3)),
            liveness_probe: Some(probe("/v2/health/live", "http", 10, 12)),
            // The last lines of a crash reach the status.
            termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
            lifecycle: Some(Lifecycle {
                pre_stop: Some(LifecycleHandler {
                    sleep: Some(SleepAction { seconds: DRAIN_SECONDS }),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        }
    }
}

/// The directory of the artifact that holds the model; none if that is the whole artifact.
fn served_part(runtime: &Runtime) -> Option<&str> {
    Some(runtime.path.as_str()).filter(|path| *path != ".")
}

/// Whether the observed Deployment has the template of `wanted`.
pub fn has_template(child: &ChildObject, wanted: &Deployment) -> bool {
    template::mark(child) == wanted.spec.as_ref().and_then(|spec| template::mark_of_spec(&spec.template))
}

/// Identity of the pods of a template with this mark: the release that made them counts for nothing.
pub fn identity(mark: Option<&str>) -> Option<&str> {
    mark?.split('-').next()
}

/// The label selector of the pods of `object`, as text.
pub fn selector(object: &str) -> String {
    let labels = service::selector(&name(object));
    labels.into_iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

/// Digest of the model that the observed template serves, shortened.
pub fn model_digest(child: &ChildObject) -> Option<&str> {
    template::of(child)?.pointer("/metadata/labels")?.get(labels::DIGEST)?.as_str()
}

fn fetch(image: &str, store: &ObjectStore) -> Container {
    let resources = Resources::small(256);
    let mut container = container::worker(image, &["fetch"], &[store], &resources);
    container.name = labels::FETCH_CONTAINER.to_owned();
    container.volume_mounts.get_or_insert_default().push(writable("models", MODELS));
    container
}
