//! Failures of user code and of its pods, and their handling by the training.

use crate::support::{self, SAVE, STAGE, STORES, script};
use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt as _, api::DeleteParams, runtime::watcher};
use mlop_api::{
    Reason,
    contract::condition_type::STALLED,
    labels,
    status::{AttemptFailure, DeadLetter},
    training::{TrainingJob, TrainingRun},
};
use mlop_e2e::{namespace::TestNamespace, state::Kind as _, wait};
use serde_json::json;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn training_succeeds_at_the_third_attempt() -> Result<()> {
    TestNamespace::run("thrice", async |ns| {
        let code = format!("import os\nassert int(os.environ['MLOP_ATTEMPT']) == 3, 'not yet'\n{SAVE}");
        ns.apply(&[STORES, &script(&code)]).await?;
        let failure = failed_attempt(ns, 2).await?;
        ensure!(failure.reason == Reason::UserError.as_str() && failure.retryable, "{failure:?}");
        ensure!(
            failure.message.contains("not yet"),
            "the message lacks the last lines of the output: {}",
            failure.message
        );
        ns.until("script", "ready", STAGE, TrainingJob::is_ready).await?;
        let run = only_run(ns).await?;
        ensure!(run.status.as_ref().map(|status| status.attempts) == Some(3), "{}", run.describe());
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn training_succeeds_when_memory_is_raised() -> Result<()> {
    TestNamespace::run("memory", async |ns| {
        let code = format!("hoard = bytearray(200 << 20)\n{SAVE}");
        ns.apply(&[STORES, &script(&code)]).await?;
        let is_out_of_memory =
            |job: &TrainingJob| dead_letters(job).iter().any(|l| l.reason == Reason::OutOfMemory.as_str());
        let job: TrainingJob = ns.until("script", "out of memory", STAGE, is_out_of_memory).await?;
        ensure!(job.has_status(STALLED, "True"), "{}", job.describe());
        let attempts = dead_letters(&job)[0].attempts;

        ns.patch::<TrainingJob>("script", &json!({"spec": {"resources": {"memory": "512Mi"}}})).await?;
        ns.until("script", "ready", STAGE, TrainingJob::is_ready).await?;
        let run = only_run(ns).await?;
        ensure!(
            run.status.as_ref().map(|status| status.attempts) == Some(attempts + 1),
            "the same run has not one more attempt"
        );
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letter_is_replayed_on_request() -> Result<()> {
    TestNamespace::run("letter", async |ns| {
        let code = format!("import os\nassert int(os.environ['MLOP_ATTEMPT']) > 3, 'out of order'\n{SAVE}");
        ns.apply(&[STORES, &script(&code)]).await?;
        let has_dead_letter =
            |job: &TrainingJob| job.has_status(STALLED, "True") && !dead_letters(job).is_empty();
        let job: TrainingJob = ns.until("script", "a dead letter", STAGE, has_dead_letter).await?;
        let letter = &dead_letters(&job)[0];
        ensure!(letter.attempts == 3 && letter.reason == Reason::UserError.as_str(), "{letter:?}");
        ensure!(letter.message.contains("out of order"), "{letter:?}");

        let replay = format!("{}=1", labels::RETRY_REQUESTED_AT);
        ns.kubectl(&["annotate", "tjob", "script", &replay], "").await?;
        let job: TrainingJob = ns.until("script", "ready", STAGE, TrainingJob::is_ready).await?;
        ensure!(dead_letters(&job).is_empty(), "the dead letter remains: {:?}", dead_letters(&job));
        let run = only_run(ns).await?;
        ensure!(
            run.status.as_ref().map(|status| status.attempts) == Some(4),
            "the attempts did not continue their numbers"
        );
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_training_pod_is_replaced() -> Result<()> {
    TestNamespace::run("lost-pod", async |ns| {
        let code = format!("import os, signal\nif os.environ['MLOP_ATTEMPT'] == '1': signal.pause()\n{SAVE}");
        ns.apply(&[STORES, &script(&code)]).await?;
        let pods: Api<Pod> = Api::namespaced(ns.cluster.client.clone(), &ns.name);
        let first = format!("{}=1,{}=TrainingRun", labels::ATTEMPT, labels::RUN_KIND);
        let config = watcher::Config::default().labels(&first);
        let pod = wait::until_any(
            &pods,
            config,
            "running training",
            Duration::from_secs(STAGE),
            support::command_runs,
        )
        .await?;
        pods.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await?;

        let failure = failed_attempt(ns, 1).await?;
        ensure!(failure.reason == Reason::PodLost.as_str(), "{failure:?}");
        ns.until("script", "ready", STAGE, TrainingJob::is_ready).await?;
        let run = only_run(ns).await?;
        ensure!(run.status.as_ref().map(|status| status.attempts) == Some(2), "{}", run.describe());
        Ok(())
    })
    .await
}

/// The failure of attempt `attempt`, which the run reports until the next attempt ends.
async fn failed_attempt(ns: &TestNamespace, attempt: u32) -> Result<AttemptFailure> {
    let failure =
        |run: &TrainingRun| run.status.as_ref()?.failure.clone().filter(|failure| failure.attempt == attempt);
    let what = format!("run whose attempt {attempt} has failed");
    let limit = Duration::from_secs(STAGE);
    let runs = ns.api::<TrainingRun>();
    let run = wait::until_any(&runs, watcher::Config::default(), &what, limit, |run| failure(run).is_some())
        .await?;
    failure(&run).context("no failure")
}

async fn only_run(ns: &TestNamespace) -> Result<TrainingRun> {
    let mut runs = support::runs::<TrainingRun>(ns).await?;
    ensure!(runs.len() == 1, "{} runs instead of one per input digest", runs.len());
    Ok(runs.remove(0))
}

fn dead_letters(job: &TrainingJob) -> &[DeadLetter] {
    job.status.as_ref().map_or(&[], |status| &status.dead_letters)
}

#[tokio::test(flavor = "multi_thread")]
async fn training_shows_its_progress_while_it_runs() -> Result<()> {
    TestNamespace::run("progress", async |ns| {
        // The metric `clock` says how old what the status shows is.
        let code = format!(
            "import json, os, time\nfor step in range(1, 41):\n    with open(os.environ['MLOP_PROGRESS'], 'a') as file:\n        \
             print(json.dumps({{'step': step, 'of': 40, 'loss': 1 / step, 'clock': time.time()}}), file=file)\n    \
             time.sleep(1)\n{SAVE}"
        );
        ns.apply(&[STORES, &script(&code)]).await?;
        let step = |run: &TrainingRun| run.status.as_ref()?.progress.as_ref()?.step;
        let (runs, limit) = (ns.api::<TrainingRun>(), Duration::from_secs(STAGE));
        let any = watcher::Config::default();
        let seen = wait::until_any(&runs, any.clone(), "first step", limit, |run| step(run).is_some()).await?;
        let first = step(&seen).unwrap_or_default();
        ensure!(first < 40, "the status shows nothing before the end: {}", seen.describe());
        let progress = seen.status.as_ref().and_then(|status| status.progress.as_ref()).context("progress")?;
        let clock = progress.metrics.iter().find(|metric| metric.name == "clock").context("no clock")?;
        #[expect(clippy::cast_precision_loss, reason = "seconds")]
        let age = progress.at.get().as_millisecond() as f64 / 1_000.0 - clock.number();
        ensure!((-1.0..20.0).contains(&age), "the progress was {age} s old: {progress:?}");
        let next = |run: &TrainingRun| step(run).is_some_and(|step| step > first);
        let seen = wait::until_any(&runs, any, "another step", limit, next).await?;
        let second = seen.status.and_then(|status| status.progress).context("progress")?;
        let passed = second.at.get().duration_since(progress.at.get());
        ensure!(passed.as_secs() >= 15 || second.step == Some(40), "written again after {passed}: {second:?}");

        ns.until("script", "ready", STAGE, TrainingJob::is_ready).await?;
        let status = only_run(ns).await?.status.context("no status")?;
        let last = status.progress.context("the progress is gone")?;
        ensure!((last.attempt, last.steps.as_deref(), last.eta) == (1, Some("40/40"), None), "{last:?}");
        let loss = last.metrics.iter().find(|metric| metric.name == "loss").context("no loss")?;
        ensure!(loss.value == "0.025", "{last:?}");
        let loss = status.series.iter().find(|series| series.name == "loss").context("no curve")?;
        let points = loss.parsed();
        ensure!(points.len() >= 3 && points.last() == Some(&(40, 0.025)), "{loss:?}");
        crate::plugin::check_plot(ns, "tjob/script").await
    })
    .await
}
