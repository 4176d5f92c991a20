//! The workbench of a check: access to the server, and helpers for the objects and refusals of a check.

use std::{error::Error, future::Future, time::Duration};

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{
    Api, Client, ResourceExt,
    api::{DynamicObject, PostParams},
    core::Status,
};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::widget::{VERSION, widget_type};

/// The longest wait for a reaction in the background. The real garbage collector notices a new type after half a minute.
pub(super) const TIMEOUT: Duration = Duration::from_secs(90);
/// The interval between two reads while a check waits.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The reason for which a check failed.
pub(super) type Failure = Box<dyn Error + Send + Sync>;
pub(super) type Outcome = Result<(), Failure>;

/// The server, the namespace and the name of a check.
#[derive(Clone)]
pub(super) struct Bench {
    pub(super) client: Client,
    pub(super) namespace: String,
    /// The name of the check.
    pub(super) check: &'static str,
}

impl Bench {
    pub(super) fn widgets(&self) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, &widget_type())
    }

    pub(super) fn config_maps(&self) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(super) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// A name that is unique to this check.
    pub(super) fn name(&self, suffix: &str) -> String {
        format!("{}-{suffix}", self.check.replace('_', "-"))
    }

    /// A widget of this check.
    pub(super) fn widget(&self, suffix: &str, spec: Value) -> Value {
        json!({"apiVersion": VERSION, "kind": "Widget", "metadata": {"name": self.name(suffix)}, "spec": spec})
    }

    pub(super) async fn create(&self, suffix: &str, spec: Value) -> Result<DynamicObject, Failure> {
        self.post(&self.widget(suffix, spec)).await
    }

    pub(super) async fn post(&self, widget: &Value) -> Result<DynamicObject, Failure> {
        Ok(self.widgets().create(&PostParams::default(), &serde_json::from_value(widget.clone())?).await?)
    }

    /// Waits until `read` returns a value.
    pub(super) async fn until<T, F: Future<Output = Result<Option<T>, Failure>>>(
        &self,
        read: impl Fn(Bench) -> F,
    ) -> Result<T, Failure> {
        let polled = async {
            loop {
                match read(self.clone()).await? {
                    Some(value) => return Ok(value),
                    None => sleep(POLL_INTERVAL).await,
                }
            }
        };
        timeout(TIMEOUT, polled).await.map_err(|_| "the expected state was not reached in time")?
    }

    pub(super) async fn until_gone(&self, suffix: &str) -> Outcome {
        let name = self.name(suffix);
        self.until(|bench| {
            let name = name.clone();
            async move { Ok(bench.widgets().get_opt(&name).await?.is_none().then_some(())) }
        })
        .await
    }
}

pub(super) fn version(object: &impl ResourceExt) -> String {
    object.resource_version().unwrap_or_default()
}

pub(super) fn generation(object: &impl ResourceExt) -> i64 {
    object.meta().generation.unwrap_or_default()
}

/// The `Status` of a request that the server must refuse with `code` and `reason`.
pub(super) fn refusal<T>(result: kube::Result<T>, code: u16, reason: &str) -> Result<Box<Status>, Failure> {
    match result {
        Ok(_) => Err(format!("succeeded instead of {code} {reason}").into()),
        Err(kube::Error::Api(status)) if status.code == code && status.reason == reason => Ok(status),
        Err(other) => Err(format!("{other:?} instead of {code} {reason}").into()),
    }
}

/// The causes of a refusal as `field reason`, sorted. Duplicates, which the real server reports for some, are removed.
pub(super) fn causes(status: &Status) -> Vec<String> {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let mut causes: Vec<String> = causes.map(|cause| format!("{} {}", cause.field, cause.reason)).collect();
    causes.sort();
    causes.dedup();
    causes
}
