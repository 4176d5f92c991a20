//! A table of the reports of a FeatureStore about its servers and its online store.

use super::*;
use k8s_openapi::{
    api::core::v1::{Pod, PodStatus, PodTemplateSpec},
    apimachinery::pkg::apis::meta::v1::Time,
};
use mlop_api::{
    contract::condition_type,
    result::{Failure, ResultDocument},
};
use serde_json::Value;

const NOW: i64 = 1_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// A FeatureStore in one situation.
struct Case {
    store: FeatureStore,
    api: Option<Value>,
    redis: Option<Value>,
    pods: Vec<Arc<PodView>>,
    profile: Profile,
    now: i64,
}

/// With an existing Redis that has a password.
fn case() -> Case {
    let redis = json!({"existing": {"address": "redis:6379", "secretName": "redis"}});
    Case {
        store: store(redis),
        api: None,
        redis: None,
        pods: Vec::new(),
        profile: Profile::default(),
        now: NOW,
    }
}

fn managed() -> Case {
    Case { store: store(json!({"managed": {"image": "redis:7", "secretName": "redis"}})), ..case() }
}

fn store(redis: Value) -> FeatureStore {
    serde_json::from_value(json!({
        "apiVersion": "mlop.dev/v1alpha1", "kind": "FeatureStore",
        "metadata": {"name": "features", "namespace": "default", "uid": "f", "generation": 1},
        "spec": {"store": "files", "redis": redis},
    }))
    .unwrap()
}

/// A Deployment or StatefulSet whose pod is ready or not, since the second [`NOW`] of its conditions.
fn server(ready: bool) -> Value {
    let counts = i64::from(ready);
    let available = if ready { "True" } else { "False" };
    json!({
        "metadata": {"name": "s", "generation": 1}, "spec": {"replicas": 1},
        "status": {"observedGeneration": 1, "updatedReplicas": 1, "readyReplicas": counts, "replicas": 1,
            "conditions": [{"type": "Available", "status": available, "lastTransitionTime": Time(at(NOW))}]},
    })
}

impl Case {
    fn api(self, ready: bool) -> Self {
        Self { api: Some(server(ready)), ..self }
    }
    fn redis(self, ready: bool) -> Self {
        Self { redis: Some(server(ready)), ..self }
    }
    /// An autoscaler wants three pods. Those that exist are ready or not.
    fn scaled(self, ready: bool) -> Self {
        let mut api = server(ready);
        (api["spec"]["replicas"], api["metadata"]["generation"]) = (json!(3), json!(2));
        Self { api: Some(api), ..self }
    }
    fn missing_profile(self) -> Self {
        Self { profile: Profile::new(Some("gpu"), None), ..self }
    }
    fn at(self, seconds: i64) -> Self {
        Self { now: NOW + seconds, ..self }
    }

    fn plan(&self) -> Plan<ConnectionStatus> {
        let child = |value: &Value, template: PodTemplateSpec| {
            let mut value = value.clone();
            value["spec"]["template"] = serde_json::to_value(template).unwrap();
            Arc::new(serde_json::from_value::<ChildObject>(value).unwrap())
        };
        let mut observed = Observed {
            object: Arc::new(self.store.clone()),
            api: None,
            redis: None,
            children: Vec::new(),
            pods: self.pods.clone(),
            profile: self.profile.clone(),
            operator: "mlop-feature-store".to_owned(),
            worker_image: "worker:1".to_owned(),
        };
        // The servers have the templates of the present spec.
        let redis = self.store.spec.redis.managed.as_ref().map(|managed| observed.redis(managed));
        observed.redis = self
            .redis
            .as_ref()
            .map(|value| child(value, redis.and_then(|set| Some(set.spec?.template)).unwrap_or_default()));
        let api = observed.api().spec.unwrap().template;
        observed.api = self.api.as_ref().map(|value| child(value, api));
        FeatureStoreReconciler::plan(&observed, at(self.now))
    }

    /// The plan is carried out: a probe starts, and ends with `result`.
    fn probed(mut self, result: &ResultDocument) -> Self {
        let plan = self.plan();
        self.store.status = plan.status.or(self.store.status);
        let create = plan.creates.into_iter().next().unwrap();
        let mut metadata = serde_json::from_value::<Pod>(create.object).unwrap().metadata;
        metadata.uid = metadata.name.clone();
        metadata.creation_timestamp = Some(Time(at(self.now)));
        let code = i32::from(result.error.is_some());
        let ended = json!({"terminated": {"exitCode": code, "message": result.to_message(), "finishedAt": Time(at(self.now))}});
        let worker = json!({"name": "worker", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": ended});
        let status: PodStatus =
            serde_json::from_value(json!({"phase": "Succeeded", "containerStatuses": [worker]})).unwrap();
        self.pods.push(Arc::new(PodView { metadata, status, ..PodView::default() }));
        self
    }

    /// The conditions, and whether the online store is asked.
    fn words(&self) -> String {
        let plan = self.plan();
        let status = plan.status.unwrap();
        let kinds = [condition_type::READY, condition_type::RECONCILING, condition_type::STALLED];
        let conditions = kinds.iter().filter_map(|kind| condition::get(&status.conditions, kind));
        let mut words: Vec<_> =
            conditions.map(|c| format!("{}={}/{}", c.type_, c.status, c.reason)).collect();
        words.extend((!plan.creates.is_empty()).then(|| "+probe".to_owned()));
        words.join(" ")
    }
}

/// It was reported as ready.
fn ready() -> Case {
    let mut ready = case().api(true).probed(&mark("a"));
    ready.store.status = ready.plan().status;
    ready
}

fn mark(text: &str) -> ResultDocument {
    ResultDocument { digest: Some(Digest::of_bytes(text.as_bytes())), ..ResultDocument::default() }
}

fn unreachable() -> ResultDocument {
    ResultDocument::failed(Failure::transient(Reason::OnlineStoreUnreachable, "connection refused"))
}

fn no_key() -> ResultDocument {
    ResultDocument::failed(Failure::terminal(Reason::SecretMissing, "no key password"))
}

#[test]
fn feature_store_is_ready_when_its_online_store_answers() {
    let starting = "Ready=Unknown/Starting Reconciling=True/Starting";
    let rows: Vec<(&str, Case, String)> = vec![
        ("new", case(), format!("{starting} +probe")),
        (
            "the servers are ready, the probe is not",
            case().api(true),
            "Ready=Unknown/Probing Reconciling=True/Probing +probe".to_owned(),
        ),
        ("both are", case().api(true).probed(&mark("a")), "Ready=True/Ready".to_owned()),
        (
            "it does not answer while a server starts",
            managed().redis(false).api(false).probed(&unreachable()),
            starting.to_owned(),
        ),
        (
            "the password is missing while a server starts",
            managed().redis(false).api(false).probed(&no_key()),
            "Ready=False/SecretMissing Stalled=True/SecretMissing".to_owned(),
        ),
        (
            "it does not answer",
            case().api(true).probed(&unreachable()),
            "Ready=False/OnlineStoreUnreachable Reconciling=True/OnlineStoreUnreachable".to_owned(),
        ),
        (
            "Redis has started since",
            managed().redis(false).api(false).probed(&unreachable()).redis(true),
            format!("{starting} +probe"),
        ),
        (
            "the API is not available any more",
            case().api(true).probed(&mark("a")).api(false),
            format!("{starting} +probe"),
        ),
        ("others add pods of the API", ready().scaled(true), "Ready=True/Ready".to_owned()),
        (
            "they do while none answers, and nobody has seen it",
            ready().scaled(false),
            "Ready=True/Ready +probe".to_owned(),
        ),
        ("they do before the store is ready", case().scaled(true), format!("{starting} +probe")),
        (
            "ten minutes later",
            case().api(true).probed(&mark("a")).at(601),
            "Ready=True/Ready +probe".to_owned(),
        ),
        (
            "its profile is missing",
            case().missing_profile(),
            "Ready=Unknown/ProfileNotFound Reconciling=True/ProfileNotFound".to_owned(),
        ),
        (
            "its profile disappears",
            ready().missing_profile(),
            "Ready=True/Ready Reconciling=True/ProfileNotFound".to_owned(),
        ),
    ];
    for (situation, case, want) in rows {
        assert_eq!(case.words(), want, "{situation}");
    }
}

#[test]
fn mark_of_an_emptied_store_is_taken_over() {
    let full = case().api(true).probed(&mark("a"));
    let marked = |case: &Case| case.plan().status.unwrap().mark;
    assert_eq!(marked(&full), mark("a").digest);
    let emptied = full.api(false).at(5).probed(&mark("b"));
    assert_eq!(marked(&emptied), mark("b").digest);
}
