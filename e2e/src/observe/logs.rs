//! Logs of the operators and of all pods of mlop into a store, by Loki's push API.

use anyhow::{Context as _, Result};
use futures::{AsyncBufReadExt as _, StreamExt as _};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt as _,
    api::LogParams,
    runtime::{WatchStreamExt as _, watcher},
};
use mlop_api::labels;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
};
use tokio::task::JoinSet;

/// Lines in one request.
const BATCH: usize = 500;

/// A container of a pod, in one of its lives.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Source {
    namespace: String,
    pod: String,
    container: String,
    restarts: i32,
}

/// Sends what containers write to `push`, until the task is aborted.
pub(super) async fn follow(client: Client, push: String) {
    let pods: Api<Pod> = Api::all(client.clone());
    let mut changes =
        pin!(watcher::watcher(pods, watcher::Config::default()).default_backoff().applied_objects());
    let mut known = BTreeSet::new();
    let mut readers = JoinSet::new();
    while let Some(change) = changes.next().await {
        let Ok(pod) = change else { continue };
        for source in sources(&pod) {
            if known.insert(source.clone()) {
                readers.spawn(copy(client.clone(), source, push.clone()));
            }
        }
        while readers.try_join_next().is_some() {}
    }
}

/// The containers that have started, of the operators and of pods that they have created.
fn sources(pod: &Pod) -> Vec<Source> {
    let is_ours = pod.labels().contains_key(labels::OPERATOR)
        || pod.labels().get("app.kubernetes.io/name").is_some_and(|name| name.starts_with("mlop-"));
    let Some(status) = pod.status.as_ref().filter(|_| is_ours) else { return Vec::new() };
    let containers = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    containers
        .filter(|container| {
            container
                .state
                .as_ref()
                .is_some_and(|state| state.running.is_some() || state.terminated.is_some())
        })
        .map(|container| Source {
            namespace: pod.namespace().unwrap_or_default(),
            pod: pod.name_any(),
            container: container.name.clone(),
            restarts: container.restart_count,
        })
        .collect()
}

/// A log ends with its container. One that cannot be read or sent is reported, and the others go on.
async fn copy(client: Client, source: Source, push: String) {
    if let Err(error) = try_copy(client, &source, &push).await {
        eprintln!("log of {}/{} {}: {error:#}", source.namespace, source.pod, source.container);
    }
}

async fn try_copy(client: Client, source: &Source, push: &str) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(client, &source.namespace);
    let params = LogParams {
        container: Some(source.container.clone()),
        follow: true,
        timestamps: true,
        ..LogParams::default()
    };
    let lines = pods.log_stream(&source.pod, &params).await?.lines();
    let mut batches = pin!(lines.ready_chunks(BATCH));
    let http = reqwest::Client::new();
    while let Some(batch) = batches.next().await {
        let lines: Vec<String> = batch.into_iter().filter_map(Result::ok).collect();
        http.post(push).json(&request(source, &lines)).send().await?.error_for_status().context("push")?;
    }
    Ok(())
}

/// Lines of the API server begin with their time.
fn request(source: &Source, lines: &[String]) -> Value {
    let mut by_level: BTreeMap<String, Vec<[String; 2]>> = BTreeMap::new();
    for line in lines {
        let Some((time, text)) = line.split_once(' ') else { continue };
        let Ok(time) = time.parse::<Timestamp>() else { continue };
        let level = serde_json::from_str::<Value>(text).ok();
        let level = level.as_ref().and_then(|line| line.get("level")?.as_str()).unwrap_or_default();
        by_level
            .entry(level.to_owned())
            .or_default()
            .push([time.as_nanosecond().to_string(), text.to_owned()]);
    }
    let streams = by_level.into_iter().map(|(level, values)| {
        let mut stream =
            json!({"namespace": source.namespace, "pod": source.pod, "container": source.container});
        if let (Some(labels), false) = (stream.as_object_mut(), level.is_empty()) {
            labels.insert("level".to_owned(), json!(level));
        }
        json!({"stream": stream, "values": values})
    });
    json!({"streams": streams.collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_has_a_stream_per_level_with_times_in_nanoseconds() {
        let source = Source { namespace: "n".into(), pod: "p".into(), container: "c".into(), restarts: 0 };
        let lines = [
            r#"2026-01-01T00:00:01.5Z {"level":"WARN","message":"a"}"#.to_owned(),
            "2026-01-01T00:00:02Z plain words".to_owned(),
            "no time".to_owned(),
        ];
        assert_eq!(
            request(&source, &lines),
            json!({"streams": [
                {"stream": {"namespace": "n", "pod": "p", "container": "c"},
                 "values": [["1767225602000000000", "plain words"]]},
                {"stream": {"namespace": "n", "pod": "p", "container": "c", "level": "WARN"},
                 "values": [["1767225601500000000", r#"{"level":"WARN","message":"a"}"#]]},
            ]})
        );
    }

    #[test]
    fn sources_are_started_containers_of_mlop() {
        let pod = |labels: Value| -> Pod {
            serde_json::from_value(json!({
                "metadata": {"name": "p", "namespace": "n", "labels": labels},
                "status": {
                    "initContainerStatuses": [{"name": "a", "state": {"terminated": {"exitCode": 0}}, "image": "", "imageID": "", "ready": false, "restartCount": 0}],
                    "containerStatuses": [
                        {"name": "b", "state": {"running": {}}, "image": "", "imageID": "", "ready": true, "restartCount": 2},
                        {"name": "c", "state": {"waiting": {}}, "image": "", "imageID": "", "ready": false, "restartCount": 0},
                    ],
                },
            }))
            .unwrap()
        };
        let found = sources(&pod(json!({(labels::OPERATOR): "mlop-training"})));
        let found: Vec<_> = found.iter().map(|source| (source.container.as_str(), source.restarts)).collect();
        assert_eq!(found, [("a", 0), ("b", 2)]);
        assert!(sources(&pod(json!({"app": "other"}))).is_empty());
    }
}
