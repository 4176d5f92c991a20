//! Random custom resources of every kind that users write, through admission to all operators.
//!
//! No reconcile may panic, and the API server must accept every status. `MLOP_RANDOM_OBJECTS` sets the number of objects
//! of each kind. An optimised build has time for 10,000.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test bed fails as tests do")]

use fastrand::Rng;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use mlop_api::{
    dataset::{Dataset, ObjectStore},
    deployment::ModelDeployment,
    features::{FeatureStore, FeatureView},
    profile::PodProfile,
    registry::{Model, TrackingServer},
    training::TrainingJob,
};
use mlop_faults::{
    baseline::in_virtual_time,
    cluster::{Cluster, NAMESPACE, documents},
    scenario::PIPELINE,
};
use mlop_random_objects::Generator;
use mlop_sim::Sim;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use std::{borrow::Cow, marker::PhantomData, time::Duration};

/// Objects that share a cluster.
const BATCH: usize = 250;
/// Virtual time for the pipeline to begin.
const BEGINNING: Duration = Duration::from_secs(5);
/// Virtual time in which the operators scan, attempt and back off.
const WATCHED: Duration = Duration::from_secs(60);

/// The profile that random objects may name.
const PROFILE: &str = "apiVersion: mlop.dev/v1alpha1
kind: PodProfile
metadata: {name: quota}
spec:
  workers:
    metadata: {labels: {team: ml}}
    affinity: {nodeAffinity: {}}
    volumes: [{name: ca, configMap: {name: authorities}}]
    container:
      env: [{name: HTTPS_PROXY, value: 'http://proxy:3128'}]
      volumeMounts: [{name: ca, mountPath: /etc/authorities}]
      resources: {limits: {cpu: '4'}}
  user: {nodeSelector: {pool: gpu}}
";

/// The outcome of a number of random objects.
#[derive(Default)]
struct Report {
    generated: usize,
    /// Objects that admission accepted.
    admitted: usize,
    /// Panics, refused statuses, and admitted objects that cannot be decoded.
    problems: Vec<String>,
}

fn generate<K>(count: usize, seed: u64) -> Report
where
    K: Resource<DynamicType = ()> + DeserializeOwned,
{
    let mut examples = documents(PIPELINE).into_iter().chain(documents(PROFILE));
    let example = examples.find(|object| object["kind"] == K::kind(&()).as_ref());
    let generator = Generator::new(&example.unwrap()).unwrap();
    let mut rng = Rng::with_seed(seed);
    let mut report = Report::default();
    while report.generated < count {
        let batch = BATCH.min(count - report.generated);
        let objects: Vec<Value> = (0..batch).map(|nth| generator.object(&mut rng, nth)).collect();
        in_virtual_time(reconcile::<K>(&objects, &mut report));
    }
    report
}

async fn reconcile<K>(objects: &[Value], report: &mut Report)
where
    K: Resource<DynamicType = ()> + DeserializeOwned,
{
    let cluster = Cluster::start();
    cluster.apply(PROFILE);
    cluster.apply(PIPELINE);
    tokio::time::sleep(BEGINNING).await;
    for object in objects {
        report.generated += 1;
        if create::<K>(&cluster.sim, object).is_err() {
            continue;
        }
        report.admitted += 1;
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        if cluster.sim.get::<K>(NAMESPACE, name).is_none() {
            report.problems.push(format!("admitted but undecodable: {object}"));
        }
    }
    tokio::time::sleep(WATCHED).await;
    report.problems.extend(panics(&cluster.sim));
    report.problems.extend(cluster.failures());
    // 404 and 409: the object was deleted or changed meanwhile.
    let refused = cluster.sim.writes().into_iter().filter(|write| {
        write.subresource == "status" && write.code >= 400 && ![404, 409].contains(&write.code)
    });
    report.problems.extend(refused.map(|write| {
        let object = objects.iter().find(|object| object["metadata"]["name"] == write.name.as_str());
        let object = object.unwrap_or(&Value::Null);
        format!("{} for the status of {} {}: {object}", write.code, write.resource, write.name)
    }));
}

/// An object as its user sends it, whether it fits the Rust type or not.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Raw<K> {
    metadata: ObjectMeta,
    #[serde(flatten)]
    body: Map<String, Value>,
    #[serde(skip)]
    kind: PhantomData<K>,
}

impl<K: Resource<DynamicType = ()>> Resource for Raw<K> {
    type DynamicType = ();
    type Scope = K::Scope;
    fn kind(_: &()) -> Cow<'_, str> {
        K::kind(&())
    }
    fn group(_: &()) -> Cow<'_, str> {
        K::group(&())
    }
    fn version(_: &()) -> Cow<'_, str> {
        K::version(&())
    }
    fn plural(_: &()) -> Cow<'_, str> {
        K::plural(&())
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

fn create<K>(sim: &Sim, object: &Value) -> Result<(), String>
where
    K: Resource<DynamicType = ()>,
{
    let object: Raw<K> = serde_json::from_value(object.clone()).map_err(|error| error.to_string())?;
    sim.create(&object).map(drop).map_err(|status| status.message)
}

fn panics_of<K>(sim: &Sim) -> Vec<String>
where
    K: Resource<DynamicType = ()> + DeserializeOwned,
{
    let objects = sim.list::<Raw<K>>().into_iter();
    let panicked = objects.filter_map(|object| {
        let conditions = object.body.get("status")?.get("conditions")?.as_array()?.clone();
        let condition = conditions.into_iter().find(|condition| condition["reason"] == "Panicked")?;
        Some(format!("{}: {}: {}", K::kind(&()), condition["message"], json!(object)))
    });
    panicked.collect()
}

macro_rules! kinds {
    ($($test:ident: $kind:ident;)+) => {
        $(#[test] fn $test() { check::<$kind>(); })+

        fn panics(sim: &Sim) -> Vec<String> {
            [$(panics_of::<$kind>(sim)),+].concat()
        }

        #[test]
        fn kinds_of_the_pipeline_have_tests() {
            let tested = [$(stringify!($kind)),+];
            let missing = documents(PIPELINE).into_iter().find(|object| !tested.iter().any(|kind| object["kind"] == *kind));
            assert_eq!(missing, None);
        }
    };
}
kinds! {
    random_pod_profiles_are_reconciled: PodProfile;
    random_object_stores_are_reconciled: ObjectStore;
    random_datasets_are_reconciled: Dataset;
    random_feature_stores_are_reconciled: FeatureStore;
    random_feature_views_are_reconciled: FeatureView;
    random_training_jobs_are_reconciled: TrainingJob;
    random_tracking_servers_are_reconciled: TrackingServer;
    random_models_are_reconciled: Model;
    random_model_deployments_are_reconciled: ModelDeployment;
}

fn check<K>()
where
    K: Resource<DynamicType = ()> + DeserializeOwned,
{
    let count = std::env::var("MLOP_RANDOM_OBJECTS").map_or(250, |text| text.parse().unwrap());
    let Report { generated, admitted, problems } = generate::<K>(count, 1);
    println!("{}: {admitted} of {generated} were admitted", K::kind(&()));
    let first = &problems[..problems.len().min(5)];
    assert!(problems.is_empty(), "{} problems, the first: {first:#?}", problems.len());
    assert_eq!(generated, count);
    // A kind with two unions, each of which needs exactly one field, loses the most.
    assert!(admitted * 100 >= count * 30, "only {admitted} were admitted");
}

#[test]
fn objects_are_equal_when_the_seed_is_equal() {
    let admitted = |seed| generate::<Dataset>(200, seed).admitted;
    assert_eq!(admitted(7), admitted(7));
}
