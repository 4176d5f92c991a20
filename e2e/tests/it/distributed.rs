//! Trainings of several pods.

use crate::support::{self, STAGE, STORES, script, with_spec};
use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Service;
use kube::{Api, runtime::watcher};
use mlop_api::{
    Reason, labels,
    training::{TrainingJob, TrainingRun},
};
use mlop_e2e::{namespace::TestNamespace, state::Kind as _, wait};
use std::time::Duration;

/// The leader waits for a word of the worker, which fails at the first attempt.
const TALK: &str = r#"
import os, pathlib, socket, time
rank, hosts = int(os.environ["MLOP_RANK"]), os.environ["MLOP_HOSTS"].split(",")
assert len(hosts) == int(os.environ["MLOP_WORLD_SIZE"]) == 2 and os.environ["MLOP_LEADER"] == hosts[0]
if rank == 0:
    peer, _ = socket.create_server(("", 7000)).accept()
    pathlib.Path(os.environ["MLOP_OUTPUT"], "word.txt").write_text(peer.recv(100).decode())
elif os.environ["MLOP_ATTEMPT"] == "1":
    raise SystemExit("out of words")
else:
    while True:
        try:
            peer = socket.create_connection((hosts[0], 7000))
            break
        except OSError:
            time.sleep(0.2)
    peer.sendall(b"hello")
"#;

#[tokio::test(flavor = "multi_thread")]
async fn workers_find_each_other_and_fail_together() -> Result<()> {
    TestNamespace::run("pair", async |ns| {
        ns.apply(&[STORES, &with_spec(&script(TALK), "workers: {replicas: 2}")]).await?;
        let runs = ns.api::<TrainingRun>();
        let has_failed = |run: &TrainingRun| run.status.as_ref().is_some_and(|it| it.failure.is_some());
        let limit = Duration::from_secs(STAGE);
        let config = watcher::Config::default();
        let run = wait::until_any(&runs, config, "run whose worker has failed", limit, has_failed).await?;
        let failure = run.status.and_then(|status| status.failure).context("no failure")?;
        ensure!(failure.reason == Reason::UserError.as_str(), "{failure:?}");
        ensure!(failure.message == "worker 1 of 2: exit code 1: out of words", "{failure:?}");

        let job: TrainingJob = ns.until("script", "ready", STAGE, TrainingJob::is_ready).await?;
        let run = support::published_run(ns).await?;
        ensure!(run.status.as_ref().map(|status| status.attempts) == Some(2), "{}", run.describe());
        let digest = support::published_digest(&job)?;
        let word = ns.store.get(&format!("{}/trees/{}/word.txt", ns.name, digest.hex())).await?;
        ensure!(word == b"hello", "the leader has heard {word:?}");

        let services: Api<Service> = Api::namespaced(ns.cluster.client.clone(), &ns.name);
        let of_runs = watcher::Config::default().labels(labels::RUN);
        wait::until_gone(&services, of_runs, "the Service of the run", limit).await
    })
    .await
}
