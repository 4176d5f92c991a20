//! An upgrade of the operators and its rollback, while a training runs and a model serves.

use super::release::Release;
use crate::support::{self, CHAIN_SECONDS, SAVE, STAGE, published_run, script};
use anyhow::{Context as _, Result, ensure};
use futures::{AsyncBufReadExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt as _,
    api::{ListParams, LogParams},
};
use mlop_api::{
    contract::condition_type::READY,
    dataset::Dataset,
    deployment::ModelDeployment,
    features::FeatureView,
    labels::{ROLE, SERVER_CONTAINER, USER_CONTAINER},
    registry::Model,
    trace::TraceId,
    training::TrainingJob,
};
use mlop_e2e::{namespace::TestNamespace, predict::Request, prober::Prober, state::Kind, wait};
use serde::Deserialize;
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::time::timeout;

/// Takes OTLP over HTTP, and logs each request as one line.
const COLLECTOR: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: collector}
spec: {selector: {app: collector}, ports: [{port: 4318}]}
---
apiVersion: v1
kind: Pod
metadata: {name: collector, labels: {app: collector}}
spec:
  securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: collector
    image: mlop.local/trainer:dev
    imagePullPolicy: IfNotPresent
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
    readinessProbe: {tcpSocket: {port: 4318}, periodSeconds: 1}
    command:
    - python3
    - -c
    - |
      from http.server import BaseHTTPRequestHandler, HTTPServer
      class Collector(BaseHTTPRequestHandler):
          def do_POST(self):
              body = self.rfile.read(int(self.headers["Content-Length"]))
              self.send_response(200)
              self.end_headers()
              print(body.decode(), flush=True)
          def log_message(self, *args):
              pass
      HTTPServer(("", 4318), Collector).serve_forever()
"#;
const ENDPOINT: &str = "global.otlp.endpoint=http://collector.e2e-upgrade:4318";

/// A training that lasts until it is told to end.
const WAITS: &str = "\
import os, time
while not os.path.exists('/tmp/end'):
    time.sleep(0.2)
";

/// The spans of one propagation through the chain of these tests.
const SPANS: [&str; 9] = [
    "DatasetVersion points",
    "FeatureSnapshot means",
    "ModelDeployment slope",
    "ModelVersion slope",
    "TrainingRun fit",
    "attempt 1",
    "attempt 1",
    "attempt 1",
    "attempt 1",
];

#[tokio::test(flavor = "multi_thread")]
async fn upgrade_and_rollback_harm_neither_training_nor_serving() -> Result<()> {
    TestNamespace::run("upgrade", async |ns| {
        ns.apply(&[COLLECTOR]).await?;
        let served = support::serve_chain(ns).await?;
        ns.apply(&[&script(&format!("{WAITS}{SAVE}"))]).await?;
        let pods: Api<Pod> = Api::namespaced(ns.cluster.client.clone(), &ns.name);
        let limit = Duration::from_secs(STAGE);
        let at_work = wait::until_any(&pods, support::of_runs(), "training at work", limit, |pod| {
            pod.name_any().starts_with("script") && support::command_runs(pod)
        });
        let training = at_work.await?.name_any();
        let prober = Prober::start(support::infer_url(ns, &served).await?, Request::new([("x", 10.0)]))?;

        let before = containers(&pods).await?;
        Release::FIRST.upgrade(&[ENDPOINT]).await?;
        let outcome = async {
            operators_work(ns, 9).await?;
            check_same(&before, &containers(&pods).await?)?;
            check_trace(ns, &pods).await?;
            containers(&pods).await
        };
        let outcome = outcome.await;
        Release::FIRST.roll_back().await?;
        let before = outcome?;
        operators_work(ns, 8).await?;
        check_same(&before, &containers(&pods).await?)?;
        prober.stop().await?.check()?;

        ns.kubectl(&["exec", &training, "-c", USER_CONTAINER, "--", "touch", "/tmp/end"], "").await?;
        let run = published_run(ns).await?;
        ensure!(run.status.as_ref().map(|status| status.attempts) == Some(1), "{}", run.describe());
        Ok(())
    })
    .await
}

/// Waits until the operators have answered an edit of each intent.
async fn operators_work(ns: &TestNamespace, history: u32) -> Result<()> {
    answers::<Dataset>(ns, "points", history).await?;
    answers::<FeatureView>(ns, "means", history).await?;
    answers::<TrainingJob>(ns, "fit", history).await?;
    answers::<TrainingJob>(ns, "script", history).await?;
    answers::<Model>(ns, "slope", history).await?;
    let deadline = json!({"spec": {"target": {"deployment": {"progressDeadline": format!("{history}m")}}}});
    ns.patch::<ModelDeployment>("slope", &deadline).await?;
    is_reported::<ModelDeployment>(ns, "slope").await
}

async fn answers<K: Kind>(ns: &TestNamespace, name: &str, history: u32) -> Result<()> {
    ns.patch::<K>(name, &json!({"spec": {"historyLimit": history}})).await?;
    is_reported::<K>(ns, name).await
}

async fn is_reported<K: Kind>(ns: &TestNamespace, name: &str) -> Result<()> {
    ns.until(name, "reported", STAGE, |object: &K| object.current(READY).is_some()).await.map(drop)
}

/// A container: its pod, the pod's uid, its name.
type Container = (String, Option<String>, String);

/// The restarts of each container of the pods that serve or train.
async fn containers(pods: &Api<Pod>) -> Result<BTreeMap<Container, i32>> {
    let running =
        ListParams::default().fields("status.phase=Running").labels(&format!("{ROLE} notin (probe, scan)"));
    let pods = pods.list(&running).await?;
    let stay = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    let containers = stay.flat_map(|pod| {
        let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_deref());
        let restarts = statuses.unwrap_or_default().iter();
        restarts.map(move |status| ((pod.name_any(), pod.uid(), status.name.clone()), status.restart_count))
    });
    Ok(containers.collect())
}

fn check_same(before: &BTreeMap<Container, i32>, after: &BTreeMap<Container, i32>) -> Result<()> {
    let names: BTreeSet<_> = before.keys().map(|(_, _, name)| name.as_str()).collect();
    ensure!(names.contains(USER_CONTAINER) && names.contains(SERVER_CONTAINER), "{names:?}");
    ensure!(before == after, "pods have changed: {before:?}\n{after:?}");
    Ok(())
}

/// A request that exports spans: the parts that this test reads.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Export {
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans {
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Deserialize)]
struct ScopeSpans {
    spans: Vec<Span>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Span {
    trace_id: String,
    span_id: String,
    parent_span_id: Option<String>,
    name: String,
}

/// Checks that new data makes one trace over all stages.
async fn check_trace(ns: &TestNamespace, pods: &Api<Pod>) -> Result<()> {
    let old = support::served_digest(&ns.api().get("slope").await?)?;
    ns.upload("points/1.csv", &support::points(0, 3.0)).await?;
    support::request_refresh(ns, "upgraded").await?;
    let serves_another = |deployment: &ModelDeployment| {
        deployment.is_ready() && support::served_digest(deployment).is_ok_and(|digest| digest != old)
    };
    let served = ns.until("slope", "serving another model", CHAIN_SECONDS, serves_another).await?;
    let artifact = served.status.and_then(|status| status.artifact).context("no artifact")?;
    let trace = TraceId::of(&ns.name, &artifact.ancestors).context("no root")?;

    let follow = LogParams { follow: true, ..LogParams::default() };
    let mut lines = pods.log_stream("collector", &follow).await?.lines();
    let mut spans: BTreeMap<String, Span> = BTreeMap::new();
    let complete = timeout(Duration::from_secs(STAGE), async {
        while spans.len() < SPANS.len() {
            let line = lines.try_next().await?.context("the collector has ended")?;
            let export: Export = serde_json::from_str(&line).context(line)?;
            let all = export.resource_spans.into_iter().flat_map(|spans| spans.scope_spans);
            let ours = all.flat_map(|scope| scope.spans).filter(|span| span.trace_id == trace.as_str());
            spans.extend(ours.map(|span| (span.span_id.clone(), span)));
        }
        anyhow::Ok(())
    });
    let complete = complete.await;
    let mut names: Vec<_> = spans.values().map(|span| span.name.as_str()).collect();
    names.sort_unstable();
    ensure!(complete.is_ok_and(|read| read.is_ok()) && names == SPANS, "spans of {trace:?}: {names:?}");
    let without = spans
        .values()
        .filter(|span| span.parent_span_id.as_ref().is_none_or(|parent| !spans.contains_key(parent)));
    let without: Vec<_> = without.map(|span| &span.name).collect();
    ensure!(without == [SPANS[0]], "spans without their parent: {without:?}");
    Ok(())
}
