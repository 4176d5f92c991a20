//! Everyday mistakes and troubles of a cluster. Each is reported soon and in words, and ends with its cause.

use crate::support::{
    self, MEANS, POINTS, SAVE, SERVE, STAGE, STORES, TRAINER, points, published_run, says, script,
    stores_are_ready, with_spec,
};
use anyhow::{Result, ensure};
use mlop_api::{
    Reason,
    contract::condition_type::{READY, STALLED},
    dataset::ObjectStore,
    deployment::ModelDeployment,
    features::{FeatureStore, FeatureView},
    profile::PodProfile,
    registry::{Model, TrackingServer},
    training::TrainingJob,
};
use mlop_e2e::{
    namespace::TestNamespace,
    state::{Intent as _, Kind},
};

/// Longest time, in seconds, from a mistake to its words in the status.
const TOLD: u64 = 30;
#[tokio::test(flavor = "multi_thread")]
async fn wrong_image_is_reported_downstream_until_corrected() -> Result<()> {
    TestNamespace::run("image", async |ns| {
        stores_are_ready(ns).await?;
        ns.apply(&[&script(SAVE).replace(TRAINER, "mlop.local/trian:dev"), &downstream()]).await?;
        let told = |job: &TrainingJob| says(job, Reason::ImagePull, "mlop.local/trian:dev of container user");
        let (job, model, deployment) = tokio::join!(
            ns.until("script", "the wrong image", TOLD, told),
            ns.until("slope", "the wrong image upstream", TOLD, blames_image::<Model>),
            ns.until("slope", "the wrong image upstream", TOLD, blames_image::<ModelDeployment>),
        );
        job.and(model.map(drop)).and(deployment.map(drop))?;
        ns.apply(&[&script(SAVE)]).await?;
        ns.until("script", "ready", STAGE, TrainingJob::is_ready).await?;
        let is_healed = |deployment: &ModelDeployment| deployment.cause().is_none();
        ns.until("slope", "without the cause", TOLD, is_healed).await?;
        Ok(())
    })
    .await
}

/// The Model and the ModelDeployment behind the training `script`.
fn downstream() -> String {
    support::SERVE.replace("name: fit}", "name: script}")
}

/// Whether the object names the image of the training `script` as the cause, and is not ready.
fn blames_image<K: Kind>(object: &K) -> bool {
    let cause = object.cause().map(|cause| (cause.kind.as_str(), cause.name.as_str(), cause.reason.as_str()));
    cause == Some(("TrainingJob", "script", Reason::ImagePull.as_str()))
        && object.current(READY).is_some_and(|ready| ready.message.contains("mlop.local/trian:dev"))
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_image_of_a_server_is_reported_until_corrected() -> Result<()> {
    TestNamespace::run("server-image", async |ns| {
        ns.upload("points/1.csv", &points(0, 2.0)).await?;
        let (redis, mlflow) = ("mlop.local/redsi:dev", "mlop.local/mflow:dev");
        let features = MEANS.replace("mlop.local/redis:dev", redis);
        let tracking = SERVE.replace("mlop.local/mlflow:dev", mlflow);
        ns.apply(&[STORES, POINTS, &features, &tracking]).await?;
        let (features, tracking) = tokio::join!(
            ns.until("features", "the wrong image", TOLD, |store: &FeatureStore| {
                says(store, Reason::ImagePull, redis)
            }),
            ns.until("mlflow", "the wrong image", TOLD, |server: &TrackingServer| {
                says(server, Reason::ImagePull, mlflow)
            }),
        );
        features.and(tracking.map(drop))?;
        // The view needs its FeatureStore once its first snapshot is there.
        let told =
            |view: &FeatureView| view.current(READY).is_some_and(|ready| ready.message.contains(redis));
        ns.until("means", "the wrong image of its FeatureStore", STAGE, told).await?;
        ns.apply(&[MEANS, SERVE]).await?;
        ns.until("mlflow", "ready", STAGE, TrackingServer::is_ready).await?;
        ns.until("means", "ready", STAGE, FeatureView::is_ready).await?;
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_secret_is_named_and_its_arrival_suffices() -> Result<()> {
    TestNamespace::run("secret", async |ns| {
        stores_are_ready(ns).await?;
        let env = "env: [{name: TOKEN, secret: {name: tokens, key: hub}}]";
        ns.apply(&[&with_spec(&script(SAVE), env)]).await?;
        let told = |job: &TrainingJob| says(job, Reason::SecretMissing, "\"tokens\" not found");
        ns.until("script", "the missing Secret", TOLD, told).await?;
        ns.kubectl(&["create", "secret", "generic", "tokens", "--from-literal=hub=none"], "").await?;
        let run = published_run(ns).await?;
        ensure!(run.status.as_ref().map(|status| status.attempts) == Some(1), "{}", run.describe());
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn full_scratch_ends_the_run_and_names_the_field() -> Result<()> {
    TestNamespace::run("disk", async |ns| {
        stores_are_ready(ns).await?;
        let fill = "import os, signal\n\
                    with open(os.environ['MLOP_OUTPUT'] + '/f', 'wb') as f:\n    \
                        for _ in range(200): f.write(os.urandom(1 << 20))\n\
                    signal.pause()";
        ns.apply(&[&script(fill)]).await?;
        let full = |job: &TrainingJob| {
            says(job, Reason::OutOfDisk, "raise spec.scratch") && job.has_status(STALLED, "True")
        };
        ns.until("script", "the full volume", STAGE, full).await?;
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn quota_on_limits_is_reported_and_the_run_goes_on() -> Result<()> {
    TestNamespace::run("quota-limits", async |ns| quota(ns, "limits.cpu=1", "must specify limits.cpu").await)
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn quota_on_pods_is_reported_and_the_run_goes_on() -> Result<()> {
    TestNamespace::run("quota-pods", async |ns| quota(ns, "pods=0", "exceeded quota: none").await).await
}

/// A training under a quota that admits no pod says so, and goes on by itself when the quota is gone.
async fn quota(ns: &TestNamespace, hard: &str, words: &str) -> Result<()> {
    stores_are_ready(ns).await?;
    ns.kubectl(&["create", "quota", "none", &format!("--hard={hard}")], "").await?;
    ns.apply(&[&script(SAVE)]).await?;
    let told = |job: &TrainingJob| says(job, Reason::QuotaExceeded, words);
    ns.until("script", "the quota", TOLD, told).await?;
    ns.kubectl(&["delete", "quota", "none"], "").await?;
    let run = published_run(ns).await?;
    ensure!(run.status.as_ref().map(|status| status.attempts) == Some(1), "{}", run.describe());
    Ok(())
}

/// Gives every container a limit of CPU and of ephemeral storage.
const LIMITS: &str = r#"
apiVersion: mlop.dev/v1alpha1
kind: PodProfile
metadata: {name: default}
spec:
  workers: {container: {resources: {limits: {cpu: "1", ephemeral-storage: 1Gi}}}}
  user: {container: {resources: {limits: {cpu: "2", ephemeral-storage: 2Gi}}}}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn profile_with_limits_satisfies_a_quota() -> Result<()> {
    TestNamespace::run("profile-limits", async |ns| {
        let hard = "--hard=limits.cpu=40,limits.ephemeral-storage=100Gi";
        ns.kubectl(&["create", "quota", "limits", hard], "").await?;
        ns.apply(&[STORES]).await?;
        let told = |store: &ObjectStore| says(store, Reason::QuotaExceeded, "must specify limits.cpu");
        ns.until("mlop", "the quota", TOLD, told).await?;
        ns.apply(&[LIMITS, &script(SAVE)]).await?;
        ns.until("default", "accepted", TOLD, PodProfile::is_ready).await?;
        let run = published_run(ns).await?;
        ensure!(run.status.as_ref().map(|status| status.attempts) == Some(1), "{}", run.describe());
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn policy_passes_labels_and_unchanged_writes_only() -> Result<()> {
    TestNamespace::run("policy", async |ns| {
        ns.apply(&[STORES, &script(SAVE)]).await?;
        let job: TrainingJob = ns.until("script", "ready", STAGE, TrainingJob::is_ready).await?;
        let run = job.artifact().map(|artifact| artifact.run.clone()).unwrap_or_default();
        ns.kubectl(&["label", "trun", &run, "team=forecasts"], "").await?;
        ns.kubectl(&["annotate", "trun", &run, "checked=yes"], "").await?;
        let object = ns.kubectl(&["get", "trun", &run, "-o", "json"], "").await?;
        ns.kubectl(&["replace", "-f", "-"], &object).await?;
        ns.kubectl(&["replace", "--subresource=status", "-f", "-"], &object).await?;

        let spec = r#"--patch={"spec":{"execution":{"retry":{"limit":9}}}}"#;
        let status = r#"--patch={"status":{"attempts":9}}"#;
        let summary = r#"--patch={"status":{"summary":"perfect"}}"#;
        let refused: [&[&str]; 4] = [
            &["label", "--overwrite", "trun", &run, "mlop.dev/intent=other"],
            &["patch", "--type=merge", "trun", &run, spec],
            &["patch", "--type=merge", "--subresource=status", "trun", &run, status],
            &["patch", "--type=merge", "--subresource=status", "tjob", "script", summary],
        ];
        for write in refused {
            let Err(error) = ns.kubectl(write, "").await else { anyhow::bail!("passed: {write:?}") };
            ensure!(error.to_string().contains("alone writes the runs and statuses"), "{write:?}: {error}");
        }
        Ok(())
    })
    .await
}
