//! What any API server must do, as checks that run against the simulator and against a real one.
//!
//! The simulator is only worth what it has in common with the real server: where a check passes on one and fails on
//! the other, the simulator is wrong. They need the type of [`crd`], a namespace of their own, a
//! garbage collector, and nothing that runs pods they do not ask for.

use std::{error::Error, fmt, future::Future, pin::Pin, time::Duration};

use k8s_openapi::{
    api::core::v1::{ConfigMap, Pod},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DynamicObject, PostParams},
    core::{ApiResource, GroupVersionKind, Status},
};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

mod apply;
mod deletion;
mod objects;
mod reads;
mod schemas;
mod watches;

const GROUP: &str = "conformance.mlop.dev";
const VERSION: &str = "conformance.mlop.dev/v1";
/// How long anything that happens in the background may take. (The real collector notices a new type after half a
/// minute.)
const PATIENCE: Duration = Duration::from_secs(90);

/// Why a check failed.
type Failure = Box<dyn Error + Send + Sync>;
type Outcome = Result<(), Failure>;
type Running = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// One named promise of an API server.
pub struct Check {
    /// What is promised, in a few words.
    pub name: &'static str,
    run: fn(Bench) -> Running,
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Makes the list of checks out of the names of their functions.
macro_rules! list {
    ($($name:ident),* $(,)?) => {
        vec![$(crate::conformance::Check {
            name: stringify!($name),
            run: |bench| Box::pin($name(bench)),
        }),*]
    };
}
/// Fails the check unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(format!($($message)+).into());
        }
    };
}
use {ensure, list};

/// Every check.
pub fn checks() -> Vec<Check> {
    [
        objects::checks(),
        apply::checks(),
        deletion::checks(),
        reads::checks(),
        watches::checks(),
        schemas::checks(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Runs every check in `namespace`, one after the other, and gives the failures as `name: why`.
///
/// The checks leave their objects behind: use a namespace of its own and delete it afterwards.
pub async fn run(client: &Client, namespace: &str) -> Vec<String> {
    let mut failures = Vec::new();
    for check in checks() {
        failures.extend(check.run(client, namespace).await.err());
    }
    failures
}

impl Check {
    /// Runs this check alone.
    ///
    /// # Errors
    /// `name: why` if the server does not keep the promise.
    pub async fn run(&self, client: &Client, namespace: &str) -> Result<(), String> {
        let bench = Bench { client: client.clone(), namespace: namespace.into(), check: self.name };
        (self.run)(bench).await.map_err(|failure| format!("{}: {failure}", self.name))
    }
}

/// What a check works with.
#[derive(Clone)]
struct Bench {
    client: Client,
    namespace: String,
    check: &'static str,
}

impl Bench {
    fn widgets(&self) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, &widget_type())
    }

    fn config_maps(&self) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// A name that no other check has.
    fn name(&self, suffix: &str) -> String {
        format!("{}-{suffix}", self.check.replace('_', "-"))
    }

    /// A widget of this check with a spec.
    fn widget(&self, suffix: &str, spec: Value) -> Value {
        json!({"apiVersion": VERSION, "kind": "Widget", "metadata": {"name": self.name(suffix)}, "spec": spec})
    }

    async fn create(&self, suffix: &str, spec: Value) -> Result<DynamicObject, Failure> {
        self.post(&self.widget(suffix, spec)).await
    }

    async fn post(&self, widget: &Value) -> Result<DynamicObject, Failure> {
        Ok(self.widgets().create(&PostParams::default(), &serde_json::from_value(widget.clone())?).await?)
    }

    /// Waits until `done` gives something.
    async fn until<T, F: Future<Output = Result<Option<T>, Failure>>>(
        &self,
        done: impl Fn(Bench) -> F,
    ) -> Result<T, Failure> {
        let polled = async {
            loop {
                match done(self.clone()).await? {
                    Some(value) => return Ok(value),
                    None => sleep(Duration::from_millis(100)).await,
                }
            }
        };
        timeout(PATIENCE, polled).await.map_err(|_| "it did not happen in time")?
    }

    async fn until_gone(&self, suffix: &str) -> Outcome {
        let name = self.name(suffix);
        self.until(|bench| {
            let name = name.clone();
            async move { Ok(bench.widgets().get_opt(&name).await?.is_none().then_some(())) }
        })
        .await
    }
}

fn widget_type() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk(GROUP, "v1", "Widget"))
}

fn version(object: &impl ResourceExt) -> String {
    object.resource_version().unwrap_or_default()
}

fn generation(object: &impl ResourceExt) -> i64 {
    object.meta().generation.unwrap_or_default()
}

/// The failure that the server must have answered with.
fn refusal<T>(result: kube::Result<T>, code: u16, reason: &str) -> Result<Box<Status>, Failure> {
    match result {
        Ok(_) => Err(format!("succeeded instead of {code} {reason}").into()),
        Err(kube::Error::Api(status)) if status.code == code && status.reason == reason => Ok(status),
        Err(other) => Err(format!("{other:?} instead of {code} {reason}").into()),
    }
}

/// The causes of a refusal as `field reason`, sorted. (The real server finds some of them twice.)
fn causes(status: &Status) -> Vec<String> {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let mut causes: Vec<String> = causes.map(|cause| format!("{} {}", cause.field, cause.reason)).collect();
    causes.sort();
    causes.dedup();
    causes
}

/// The type that the checks use: a widget with one field of each sort.
///
/// # Errors
/// Never: the document is a constant.
pub fn crd() -> Result<CustomResourceDefinition, serde_json::Error> {
    let condition = json!({"type": "object", "required": ["type", "status"], "properties": {
        "type": {"type": "string"}, "status": {"type": "string"}, "reason": {"type": "string"}}});
    let item = json!({"type": "object", "required": ["name"], "properties": {
        "name": {"type": "string"}, "value": {"type": "string"}, "weight": {"type": "integer", "default": 1}}});
    let spec = json!({"type": "object", "properties": {
        "size": {"type": "integer", "minimum": 1, "maximum": 10},
        "color": {"type": "string", "enum": ["red", "green", "blue"], "default": "red"},
        "code": {"type": "string", "pattern": "^[a-z]+$", "minLength": 2, "maxLength": 5},
        "fixed": {"type": "string", "x-kubernetes-validations": [
            {"rule": "self == oldSelf", "message": "fixed is immutable"}]},
        "low": {"type": "integer"},
        "high": {"type": "integer"},
        "nested": {"type": "object", "properties": {
            "depth": {"type": "integer", "default": 3}, "label": {"type": "string"}}},
        "part": {"type": "object", "required": ["id"], "properties": {"id": {"type": "string"}}},
        "items": {"type": "array", "items": item, "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"]},
        "tags": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set", "maxItems": 3},
        "steps": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "atomic", "maxItems": 3},
        "options": {"type": "object", "additionalProperties": {"type": "string"}, "maxProperties": 2},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        "port": {"x-kubernetes-int-or-string": true},
    }, "x-kubernetes-validations": [
        {"rule": "!has(self.low) || !has(self.high) || self.low <= self.high", "message": "low is above high"}]});
    let status = json!({"type": "object",
        "default": {"conditions": [{"type": "Ready", "status": "Unknown", "reason": "Pending"}]},
        "properties": {
            "note": {"type": "string"},
            "observedGeneration": {"type": "integer"},
            "conditions": {"type": "array", "items": condition, "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"]}}});
    serde_json::from_value(json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("widgets.{GROUP}")},
        "spec": {"group": GROUP, "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec, "status": status}}}}]},
    }))
}
