//! The contents of a support bundle.

use super::{Cluster, copy_lines, explained};
use crate::bundle::{self, Container, Log, Material};
use anyhow::{Context as _, Result};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::{
    Api,
    api::{ListParams, LogParams},
};
use mlop_api::labels;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Last lines of the output of a container.
const LINES: i64 = 5_000;
/// Largest output of a container in bytes.
const LOG_BYTES: i64 = 4 << 20;
/// Label of the pods of the charts.
const OPERATORS: &str = "app.kubernetes.io/part-of=mlop";
/// Where the charts' documentation installs them.
const OPERATORS_NAMESPACE: &str = "mlop-system";

impl Cluster {
    /// Reads everything of the namespace that mlop has made, but no Secret. What the user may not read is named.
    ///
    /// # Errors
    /// The cluster does not answer, or has no kinds of mlop.
    pub async fn material(&self, now: Timestamp) -> Result<Material> {
        let mut failures = Vec::new();
        let mut objects = Vec::new();
        for (kind, list) in self.lists().await? {
            for object in list {
                let mut object = serde_json::to_value(object)?;
                if let Some(fields) = object.as_object_mut() {
                    fields.insert("apiVersion".to_owned(), kind.resource.api_version.clone().into());
                    fields.insert("kind".to_owned(), kind.kind.clone().into());
                }
                objects.push(object);
            }
        }
        let own: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let pods = or_note(values(&own, labels::OPERATOR, "pods").await, &mut failures);
        let events: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let events = or_note(values(&events, "", "Events").await, &mut failures);
        let operators = or_note(self.operators().await, &mut failures);
        let containers =
            bundle::containers(&pods).into_iter().chain(operators.iter().flat_map(bundle::of_pod));
        let mut logs = Vec::new();
        for source in containers {
            match self.last_lines(&source).await {
                Ok(text) => logs.push(Log { source, text }),
                Err(error) => failures.push(format!("{error:#}")),
            }
        }
        let versions = self.versions(&operators, &mut failures).await;
        let namespace = self.namespace.clone();
        Ok(Material { namespace, now, objects, pods, events, operators, logs, versions, failures })
    }

    /// The pods of the operators, wherever they are installed.
    async fn operators(&self) -> Result<Vec<Value>> {
        let everywhere: Api<Pod> = Api::all(self.client.clone());
        let usual: Api<Pod> = Api::namespaced(self.client.clone(), OPERATORS_NAMESPACE);
        match values(&everywhere, OPERATORS, "operators' pods").await {
            Ok(pods) => Ok(pods),
            // Users of a namespace may be allowed to read another one.
            Err(_) => values(&usual, OPERATORS, "operators' pods").await,
        }
    }

    async fn last_lines(&self, source: &Container) -> Result<String> {
        let Container { namespace, pod, name, is_previous } = source;
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let params = LogParams {
            container: Some(name.clone()),
            previous: *is_previous,
            tail_lines: Some(LINES),
            limit_bytes: Some(LOG_BYTES),
            timestamps: true,
            ..LogParams::default()
        };
        let what = format!("reading container {name} of pod {pod}");
        let log = api.log_stream(pod, &params).await.map_err(|error| explained(error, &what))?;
        let mut text = String::new();
        let copied = copy_lines(log, |line| {
            text.push_str(line);
            text.push('\n');
            Ok(())
        });
        copied.await.with_context(|| what.clone())?;
        Ok(text)
    }

    async fn versions(&self, operators: &[Value], failures: &mut Vec<String>) -> Value {
        let kubernetes = self.client.apiserver_version().await;
        let kubernetes = kubernetes.map(|info| info.git_version).map_err(anyhow::Error::new);
        let kubernetes = or_note(kubernetes.map(|version| vec![Value::from(version)]), failures);
        let mut images = BTreeMap::new();
        for pod in operators {
            for status in
                pod.pointer("/status/containerStatuses").and_then(Value::as_array).into_iter().flatten()
            {
                let field = |name| status.get(name).cloned().unwrap_or_default();
                let pod = pod.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
                images.insert(pod.to_owned(), json!({"image": field("image"), "imageID": field("imageID")}));
            }
        }
        json!({
            "kubectl-mlop": env!("CARGO_PKG_VERSION"),
            "kubernetes": kubernetes.first(),
            "operators": images,
        })
    }
}

/// The objects with a label as they are.
async fn values<K>(api: &Api<K>, label: &str, what: &str) -> Result<Vec<Value>>
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug + Serialize,
{
    let params = ListParams::default().labels(label);
    let found = api.list(&params).await.map_err(|error| explained(error, &format!("listing {what}")))?;
    Ok(found.items.iter().map(serde_json::to_value).collect::<Result<_, _>>()?)
}

fn or_note<T>(found: Result<Vec<T>>, failures: &mut Vec<String>) -> Vec<T> {
    found.unwrap_or_else(|error| {
        failures.push(format!("{error:#}"));
        Vec::new()
    })
}
