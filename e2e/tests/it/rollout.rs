//! Rollouts in steps, under constant load through the Service of users.

use crate::support::{self, CHAIN_SECONDS, SERVE, STAGE, STORES, TRAINER};
use anyhow::{Result, ensure};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, runtime::watcher};
use kubectl_mlop::{
    actions::{self, Change},
    cluster::Cluster,
    snapshot::Snapshot,
};
use mlop_api::{
    contract::condition_type::UP_TO_DATE,
    deployment::ModelDeployment,
    rollout::{RolloutPhase, RolloutStatus},
};
use mlop_e2e::{namespace::TestNamespace, predict::Request, prober::Prober, state::Kind as _, wait};
use serde_json::json;
use std::time::Duration;

/// The share of the new version in its only step, in percent.
const WEIGHT: i32 = 30;

/// A training whose model answers a multiple of `x`.
fn line(slope: f64) -> String {
    support::script(&format!(
        "{BEGINNING}\nmodel = LinearRegression().fit(x, x['x'] * {slope})\n\
         mlflow.sklearn.save_model(model, output / 'model', signature=signature, pip_requirements=[])\n"
    ))
}

/// A training whose model fails every request.
fn broken() -> String {
    support::script(&format!(
        "{BEGINNING}\nclass Broken(mlflow.pyfunc.PythonModel):\n    \
         def predict(self, context, model_input, params=None):\n        \
         raise RuntimeError('this model is broken')\n\
         mlflow.pyfunc.save_model(\n    \
         output / 'model', python_model=Broken(), signature=signature, pip_requirements=[])\n"
    ))
}

/// What both trainings begin with.
const BEGINNING: &str = "
import json, os, pathlib
import mlflow.pyfunc, mlflow.sklearn, pandas as pd
from mlflow.models import infer_signature
from sklearn.linear_model import LinearRegression
output = pathlib.Path(os.environ['MLOP_OUTPUT'])
(output / 'metrics.json').write_text(json.dumps({'r2': 1.0}))
x = pd.DataFrame({'x': [1.0, 2.0, 3.0]})
signature = infer_signature(x, x['x'])";

/// The training with room for its libraries.
fn training(code: &str) -> String {
    code.replace("memory: 128Mi", "memory: 1Gi").replace("scratch: 64Mi", "scratch: 256Mi")
}

#[tokio::test(flavor = "multi_thread")]
async fn good_version_is_promoted_and_bad_one_rolled_back() -> Result<()> {
    TestNamespace::run("steps", async |ns| {
        let serve = SERVE.replace("name: fit}", "name: script}");
        ensure!(training(&line(2.0)).contains(TRAINER), "the training has another image");
        ns.apply(&[STORES, &training(&line(2.0)), &serve]).await?;
        let first: ModelDeployment =
            ns.until("slope", "serving", CHAIN_SECONDS, ModelDeployment::is_ready).await?;
        let url = support::infer_url(ns, &first).await?;
        let request = || Request::new([("x", 10.0)]);

        let mut prober = Prober::start(url.clone(), request())?;
        prober.until_answers(1, Duration::from_secs(STAGE)).await?;
        let steps = json!({"spec": {"rollout": {
            "steps": [{"weight": WEIGHT, "hold": "5s"}],
            "analysis": {"interval": "10s", "minRequests": 20, "maxErrorRate": "0.1"},
        }}});
        let _: ModelDeployment = ns.patch("slope", &steps).await?;
        let routers: Api<Deployment> = Api::namespaced(ns.cluster.client.clone(), &ns.name);
        let limit = Duration::from_secs(STAGE);
        let are_ready = |routers: &Deployment| {
            routers.status.as_ref().is_some_and(|status| status.ready_replicas == Some(2))
        };
        let of_routers = || watcher::Config::default().fields("metadata.name=slope-mdep-router");
        wait::until_any(&routers, of_routers(), "routers that are ready", limit, are_ready).await?;

        ns.apply(&[&training(&line(3.0))]).await?;
        let promoted = ended(ns, RolloutPhase::Promoted).await?;
        let serving = |object: &ModelDeployment| object.has_status(UP_TO_DATE, "True");
        let second: ModelDeployment = ns.until("slope", "up to date", STAGE, serving).await?;
        let report = prober.stop().await?;
        println!("good version: {report}");
        report.check()?;
        ensure!(report.answers.len() == 2, "{:?}", report.answers);
        check_share(&promoted)?;

        let prober = Prober::start(url, request())?;
        ns.apply(&[&training(&broken())]).await?;
        let back = ended(ns, RolloutPhase::RolledBack).await?;
        let report = prober.stop().await?;
        println!("bad version: {} of {} requests failed; {}", report.failed, report.sent, back.message);
        ensure!(back.measurements == 1, "it is rolled back by its first measurement: {back:?}");
        check_share(&back)?;
        let share = report.failed as f64 / report.sent as f64 * 100.0;
        ensure!(
            report.failed > 0 && share <= f64::from(WEIGHT),
            "{share} % of the requests failed: {report}"
        );
        let object: ModelDeployment = ns.api().get("slope").await?;
        ensure!(
            support::served_digest(&object)? == support::served_digest(&second)?,
            "{}",
            object.describe()
        );
        ensure!(object.is_ready(), "{}", object.describe());

        decide_by_hand(ns).await?;

        let _: ModelDeployment = ns.patch("slope", &json!({"spec": {"rollout": null}})).await?;
        wait::until_gone(&routers, of_routers(), "the routers", limit).await
    })
    .await
}

/// A user offers the first version again for an hour, aborts its rollout, tries it again, and promotes it.
async fn decide_by_hand(ns: &TestNamespace) -> Result<()> {
    type Action = fn(&Snapshot, &str) -> Result<Change>;
    let plugin = Cluster::new(ns.cluster.client.clone(), &ns.name);
    let held = json!({"spec": {"rollout": {"steps": [{"weight": WEIGHT, "hold": "1h"}]}}});
    let _: ModelDeployment = ns.patch("slope", &held).await?;
    let steps: [(Action, &str, RolloutPhase); 4] = [
        (|snapshot, _| actions::pin(snapshot, "model/slope", "1"), "pin", RolloutPhase::Progressing),
        (actions::cancel, "abort", RolloutPhase::RolledBack),
        (actions::retry, "retry", RolloutPhase::Progressing),
        (actions::promote, "promote", RolloutPhase::Promoted),
    ];
    for (action, name, phase) in steps {
        let change = action(&plugin.snapshot(Timestamp::UNIX_EPOCH).await?, "mdep/slope")?;
        plugin.apply(&change, false).await?;
        let is_reached = |object: &ModelDeployment| {
            let rollout = object.status.as_ref().and_then(|status| status.rollout.as_ref());
            rollout.is_some_and(|it| it.phase == phase && it.canary.version.as_deref() == Some("1"))
        };
        ns.until::<ModelDeployment>("slope", name, STAGE, is_reached).await?;
    }
    let is_served = |object: &ModelDeployment| object.has_status(UP_TO_DATE, "True");
    ns.until::<ModelDeployment>("slope", "version 1 served", STAGE, is_served).await.map(drop)
}

/// The rollout when it has ended in this phase.
async fn ended(ns: &TestNamespace, phase: RolloutPhase) -> Result<RolloutStatus> {
    let rollout = |object: &ModelDeployment| object.status.as_ref()?.rollout.clone();
    let has_ended = |object: &ModelDeployment| rollout(object).is_some_and(|rollout| rollout.phase == phase);
    let object = ns.until("slope", &format!("{phase:?}"), CHAIN_SECONDS, has_ended).await?;
    rollout(&object).ok_or_else(|| anyhow::anyhow!("no rollout"))
}

/// The last measurement has seen the share of the step.
fn check_share(rollout: &RolloutStatus) -> Result<()> {
    let last = rollout.last_measurement.as_ref();
    let last = last.ok_or_else(|| anyhow::anyhow!("nothing was measured: {rollout:?}"))?;
    let share = last.requests as f64 / (last.requests + last.stable_requests) as f64 * 100.0;
    println!("share of {}: {share:.1} % of {}", rollout.canary.run, last.requests + last.stable_requests);
    // An interval may begin before the routers have read their weight.
    let bounds = f64::from(WEIGHT) / 2.0..=f64::from(WEIGHT) + 3.0;
    ensure!(bounds.contains(&share), "the share is {share} %: {last:?}");
    Ok(())
}
