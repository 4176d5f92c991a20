//! What user code does to a training, and what the training does about it.

use crate::support::{self, SCRIPT, STAGE, STORES};
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
use mlop_e2e::{
    scratch::Scratch,
    state::{Intent, Kind as _, Run as _},
    wait,
};
use serde_json::json;
use std::time::Duration;

/// The shared script with this content.
fn script(code: &str) -> String {
    SCRIPT.replace("\"raise SystemExit('the test replaces this')\"", &json!(code).to_string())
}

const SAVE: &str = r#"
import os, pathlib
pathlib.Path(os.environ["MLOP_OUTPUT"], "model.txt").write_text("42")
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_training_that_fails_twice_succeeds_at_the_third_attempt() -> Result<()> {
    Scratch::run("thrice", async |scratch| {
        let code = format!("import os\nassert int(os.environ['MLOP_ATTEMPT']) == 3, 'not yet'\n{SAVE}");
        scratch.apply(&[STORES, &script(&code)]).await?;
        let failure = failed_attempt(scratch, 2).await?;
        ensure!(failure.reason == Reason::UserError.as_str() && failure.retryable, "{failure:?}");
        ensure!(failure.message.contains("not yet"), "the last lines of the output: {}", failure.message);
        scratch.until("script", "ready", STAGE, TrainingJob::ready).await?;
        let run = only_run(scratch).await?;
        ensure!(run.status().map(|status| status.attempts) == Some(3), "{}", run.describe());
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn out_of_memory_is_cured_by_raising_memory() -> Result<()> {
    Scratch::run("memory", async |scratch| {
        let code = format!("hoard = bytearray(200 << 20)\n{SAVE}");
        scratch.apply(&[STORES, &script(&code)]).await?;
        let starved =
            |job: &TrainingJob| dead_letters(job).iter().any(|l| l.reason == Reason::OutOfMemory.as_str());
        let job: TrainingJob = scratch.until("script", "out of memory", STAGE, starved).await?;
        ensure!(job.is(STALLED, "True"), "{}", job.describe());
        let attempts = dead_letters(&job)[0].attempts;

        scratch.patch::<TrainingJob>("script", &json!({"spec": {"resources": {"memory": "512Mi"}}})).await?;
        scratch.until("script", "ready", STAGE, TrainingJob::ready).await?;
        let run = only_run(scratch).await?;
        ensure!(
            run.status().map(|status| status.attempts) == Some(attempts + 1),
            "one more attempt of the same run"
        );
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_replayed_on_request() -> Result<()> {
    Scratch::run("letter", async |scratch| {
        let code = format!("import os\nassert int(os.environ['MLOP_ATTEMPT']) > 3, 'out of order'\n{SAVE}");
        scratch.apply(&[STORES, &script(&code)]).await?;
        let given_up = |job: &TrainingJob| job.is(STALLED, "True") && !dead_letters(job).is_empty();
        let job: TrainingJob = scratch.until("script", "given up", STAGE, given_up).await?;
        let letter = &dead_letters(&job)[0];
        ensure!(letter.attempts == 3 && letter.reason == Reason::UserError.as_str(), "{letter:?}");
        ensure!(letter.message.contains("out of order"), "{letter:?}");

        let replay = format!("{}=1", labels::RETRY_REQUESTED_AT);
        scratch.kubectl(&["annotate", "tjob", "script", &replay], "").await?;
        let job: TrainingJob = scratch.until("script", "ready", STAGE, TrainingJob::ready).await?;
        ensure!(dead_letters(&job).is_empty(), "the letter is answered: {:?}", dead_letters(&job));
        let run = only_run(scratch).await?;
        ensure!(run.status().map(|status| status.attempts) == Some(4), "numbers never restart");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_deleted_in_the_middle_is_replaced() -> Result<()> {
    Scratch::run("lost-pod", async |scratch| {
        let code = format!("import os, signal\nif os.environ['MLOP_ATTEMPT'] == '1': signal.pause()\n{SAVE}");
        scratch.apply(&[STORES, &script(&code)]).await?;
        let pods: Api<Pod> = Api::namespaced(scratch.cluster.client.clone(), &scratch.namespace);
        let first = format!("{}=1,{}=TrainingRun", labels::ATTEMPT, labels::RUN_KIND);
        let config = watcher::Config::default().labels(&first);
        let running = |pod: &Pod| {
            let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_deref());
            let user = statuses.and_then(|all| all.iter().find(|s| s.name == labels::USER_CONTAINER));
            user.and_then(|s| s.state.as_ref()).is_some_and(|state| state.running.is_some())
        };
        let pod = wait::any(&pods, config, "running training", Duration::from_secs(STAGE), running).await?;
        pods.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await?;

        let failure = failed_attempt(scratch, 1).await?;
        ensure!(failure.reason == Reason::PodLost.as_str(), "{failure:?}");
        scratch.until("script", "ready", STAGE, TrainingJob::ready).await?;
        let run = only_run(scratch).await?;
        ensure!(run.status().map(|status| status.attempts) == Some(2), "{}", run.describe());
        Ok(())
    })
    .await
}

/// Why the attempt of this number failed, as its run says before the next one ends.
async fn failed_attempt(scratch: &Scratch, attempt: u32) -> Result<AttemptFailure> {
    let failure =
        |run: &TrainingRun| run.status()?.failure.clone().filter(|failure| failure.attempt == attempt);
    let what = format!("run whose attempt {attempt} has failed");
    let limit = Duration::from_secs(STAGE);
    let runs = scratch.api::<TrainingRun>();
    let run =
        wait::any(&runs, watcher::Config::default(), &what, limit, |run| failure(run).is_some()).await?;
    failure(&run).context("no failure")
}

async fn only_run(scratch: &Scratch) -> Result<TrainingRun> {
    let mut runs = support::runs::<TrainingRun>(scratch).await?;
    ensure!(runs.len() == 1, "one run per input digest, not {}", runs.len());
    Ok(runs.remove(0))
}

fn dead_letters(job: &TrainingJob) -> &[DeadLetter] {
    Intent::status(job).map_or(&[], |status| &status.dead_letters)
}
