//! The five operators in one process on a simulated API server, and workers that do their tasks by computing digests.

use mlop_api::{
    Digest, Reason,
    common::Metric,
    kinds, labels,
    result::{Failure, Registered, ResultDocument},
    task::{Task, Work},
};
use mlop_core::{Clock, Settings, Setup};
use mlop_sim::{
    Sim, controllers,
    kubelet::{self, PodOutcome},
};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::watch;

pub const NS: &str = "default";

/// What workers find outside the cluster, and how they are to behave.
#[derive(Default)]
pub struct Outside {
    /// What is in the bucket.
    pub bucket: String,
    /// What the training measures.
    pub auc: f64,
    /// Failures that the next pods of a kind of work meet, first one first.
    pub failures: BTreeMap<&'static str, Vec<Failure>>,
    /// Registered versions, in order of their registration.
    pub versions: Vec<Digest>,
    /// Tasks that were done, by kind of work.
    pub done: BTreeMap<&'static str, u32>,
    /// The model of this digest never becomes ready.
    pub broken_rollout: bool,
}

pub struct World {
    pub sim: Sim,
    pub outside: Arc<Mutex<Outside>>,
}

impl World {
    /// Starts everything. Objects of mlop may be created at once.
    pub fn start() -> Self {
        let sim = Sim::new();
        for crd in kinds::all() {
            sim.register_crd(&crd).unwrap();
        }
        let outside =
            Arc::new(Mutex::new(Outside { bucket: "january".into(), auc: 0.75, ..Default::default() }));
        let world = Self { sim: sim.clone(), outside: Arc::clone(&outside) };
        kubelet::spawn(&sim, move |pod| work(pod, &mut outside.lock().unwrap()));
        controllers::spawn_jobs(&sim);
        let stuck = Arc::clone(&world.outside);
        controllers::spawn_workloads(&sim, move |name| {
            let broken = stuck.lock().unwrap().broken_rollout && name.ends_with("-mdep");
            (!broken).then_some(Duration::from_secs(2))
        });
        operator(&sim, mlop_ingestion::NAME, &[], mlop_ingestion::install);
        operator(&sim, mlop_feature_store::NAME, &["Dataset", "FeatureView"], mlop_feature_store::install);
        operator(
            &sim,
            mlop_training::NAME,
            &["Dataset", "FeatureView", "TrainingJob"],
            mlop_training::install,
        );
        operator(&sim, mlop_registry::NAME, &["TrainingJob"], mlop_registry::install);
        operator(&sim, mlop_deployment::NAME, &["Model"], mlop_deployment::install);
        world
    }

    /// Creates the objects of a YAML text.
    pub fn apply(&self, yaml: &str) {
        use mlop_api::{dataset, deployment, features, registry, training};
        for document in yaml.split("\n---\n") {
            let value: serde_json::Value = serde_saphyr::from_str(document).unwrap();
            match value["kind"].as_str().unwrap() {
                "ObjectStore" => self.create::<dataset::ObjectStore>(value),
                "Dataset" => self.create::<dataset::Dataset>(value),
                "FeatureStore" => self.create::<features::FeatureStore>(value),
                "FeatureView" => self.create::<features::FeatureView>(value),
                "TrainingJob" => self.create::<training::TrainingJob>(value),
                "TrackingServer" => self.create::<registry::TrackingServer>(value),
                "Model" => self.create::<registry::Model>(value),
                "ModelDeployment" => self.create::<deployment::ModelDeployment>(value),
                other => panic!("unknown kind {other}"),
            }
        }
    }

    fn create<K>(&self, mut value: serde_json::Value)
    where
        K: kube::Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
    {
        value["metadata"]["namespace"] = NS.into();
        let object: K = serde_json::from_value(value).unwrap();
        self.sim.create(&object).unwrap();
    }

    /// The object, which must exist.
    pub fn get<K>(&self, name: &str) -> K
    where
        K: kube::Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        self.sim.get::<K>(NS, name).unwrap_or_else(|| panic!("{} {name} does not exist", K::kind(&())))
    }

    /// Lets virtual time pass until `holds`, at most ten minutes.
    pub async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        for _ in 0..6_000 {
            if holds(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("not within ten minutes: {what}\n{}", self.picture());
    }

    /// All intents with their conditions, for a failed test.
    pub fn picture(&self) -> String {
        use mlop_api::{dataset, deployment, features, registry, training};
        let mut lines = Vec::new();
        lines.extend(self.sim.list::<dataset::Dataset>().iter().map(|o| format!("{:#?}", o.status)));
        lines.extend(self.sim.list::<features::FeatureStore>().iter().map(|o| format!("{:#?}", o.status)));
        lines.extend(self.sim.list::<features::FeatureView>().iter().map(|o| format!("{:#?}", o.status)));
        lines.extend(self.sim.list::<training::TrainingJob>().iter().map(|o| format!("{:#?}", o.status)));
        lines.extend(self.sim.list::<registry::Model>().iter().map(|o| format!("{:#?}", o.status)));
        lines.extend(
            self.sim.list::<deployment::ModelDeployment>().iter().map(|o| format!("{:#?}", o.status)),
        );
        lines.join("\n")
    }

    pub fn done(&self, work: &str) -> u32 {
        self.outside.lock().unwrap().done.get(work).copied().unwrap_or_default()
    }

    pub fn outside(&self) -> std::sync::MutexGuard<'_, Outside> {
        self.outside.lock().unwrap()
    }
}

fn operator(sim: &Sim, name: &str, input_kinds: &[&str], install: fn(&mut Setup)) {
    let clock_sim = sim.clone();
    let clock: Clock = Arc::new(move || clock_sim.now());
    let kinds = input_kinds.iter().map(|kind| format!("{kind}.v1alpha1.mlop.dev").parse().unwrap());
    let settings = Settings {
        operator: name.to_owned(),
        namespaces: Vec::new(),
        input_kinds: kinds.collect(),
        worker_image: "worker:test".to_owned(),
    };
    let mut setup = Setup::new(sim.client(), settings, clock);
    install(&mut setup);
    let (leading, is_leading) = watch::channel(true);
    tokio::spawn(async move {
        let ended = setup.run(is_leading).await;
        drop(leading);
        panic!("an operator ended: {ended:?}");
    });
}

fn work(pod: &k8s_openapi::api::core::v1::Pod, outside: &mut Outside) -> PodOutcome {
    let text = pod.metadata.annotations.as_ref().and_then(|all| all.get(labels::TASK));
    let Some(task) = text.and_then(|text| serde_json::from_str::<Task>(text).ok()) else {
        return PodOutcome::run_forever();
    };
    let (name, seconds) = match &task.work {
        Work::Probe { .. } => ("probe", 1),
        Work::Scan(_) => ("scan", 1),
        Work::Version(_) => ("version", 2),
        Work::Snapshot(_) => ("snapshot", 2),
        Work::Activate(_) => ("activate", 1),
        Work::Deactivate { .. } => ("deactivate", 1),
        Work::Train(_) => ("train", 30),
        Work::Register(_) => ("register", 1),
        Work::Alias(_) => ("alias", 1),
        Work::Serve { .. } => return PodOutcome::run_forever(),
    };
    *outside.done.entry(name).or_default() += 1;
    let failures = outside.failures.entry(name).or_default();
    let outcome = if failures.is_empty() {
        PodOutcome::succeed(result(&task.work, outside).to_message())
    } else {
        let failure = failures.remove(0);
        if failure.reason == Reason::OutOfMemory {
            PodOutcome::fail(137, "OOMKilled", "").in_container("user")
        } else {
            PodOutcome::fail(1, "Error", ResultDocument::failed(failure).to_message()).in_container("worker")
        }
    };
    let outcome = if matches!(task.work, Work::Train(_)) { outcome } else { outcome.in_container("worker") };
    outcome.starting_after(Duration::from_millis(500)).running_for(Duration::from_secs(seconds))
}

fn result(work: &Work, outside: &mut Outside) -> ResultDocument {
    let made = |from: &dyn Debug| Some(Digest::of_bytes(format!("{from:?}").as_bytes()));
    match work {
        Work::Scan(_) => ResultDocument {
            digest: made(&outside.bucket),
            summary: Some(format!("saw {}", outside.bucket)),
            ..Default::default()
        },
        Work::Version(work) => ResultDocument {
            digest: made(&(&work.listing, &work.columns)),
            summary: Some("10 rows".into()),
            ..Default::default()
        },
        Work::Snapshot(work) => {
            let inputs: Vec<_> = work.inputs.iter().map(|input| &input.digest).collect();
            ResultDocument {
                digest: made(&(inputs, &work.sql)),
                summary: Some("10 rows".into()),
                ..Default::default()
            }
        }
        Work::Train(work) => ResultDocument {
            digest: made(&work.provenance),
            metrics: vec![Metric::new("auc", outside.auc)],
            summary: Some(format!("auc={}", outside.auc)),
            ..Default::default()
        },
        Work::Register(work) => {
            let known = outside.versions.iter().position(|digest| *digest == work.input_digest);
            let index = known.unwrap_or_else(|| {
                outside.versions.push(work.input_digest.clone());
                outside.versions.len() - 1
            });
            ResultDocument {
                digest: Some(work.model.digest.clone()),
                metrics: work.metrics.clone(),
                summary: Some(format!("version {}", index + 1)),
                registered: Some(Registered {
                    model: work.registered_model.clone(),
                    version: (index + 1).to_string(),
                    run_id: "r".into(),
                }),
                ..Default::default()
            }
        }
        _ => ResultDocument::default(),
    }
}
