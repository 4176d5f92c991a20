//! How soon each operator works again whose process died, or that was cut off from the API server.
//!
//! Both are done to the node's processes and network, so the node has to be this machine.

use crate::support;
use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::{core::v1::Pod, discovery::v1::EndpointSlice};
use kube::{Api, api::ListParams};
use mlop_api::{
    contract::condition_type::READY, dataset::Dataset, deployment::ModelDeployment, features::FeatureView,
    registry::Model, training::TrainingJob,
};
use mlop_e2e::{
    chain::{OPERATORS, STAGES},
    scratch::Scratch,
    state::Kind,
};
use serde_json::json;
use std::{fs, path::Path, process::Command, time::Duration};
use tokio::{
    time::{Instant, sleep},
    try_join,
};

/// Longest time, in seconds, from a kill or the end of a partition until the operator has written what it saw.
const RECOVERED: u64 = 5;
/// The same for half of the operators that were killed. The kubelet looks for dead processes once a second.
const KILLED_MEDIAN: Duration = Duration::from_secs(2);
/// Longer than a lease lasts: leadership is lost too.
const PARTITION: Duration = Duration::from_secs(20);
/// Longest time, in seconds, until an operator has seen new objects.
const SEEN: u64 = 30;

#[tokio::test(flavor = "multi_thread")]
async fn operators_that_were_killed_or_cut_off_work_again_within_seconds() -> Result<()> {
    Scratch::run("recovery", async |scratch| {
        start_afresh(scratch).await?;
        scratch.apply(&waiting()).await?;
        all_seen(scratch, SEEN).await?;

        let mut killed = [
            after_a_kill::<Dataset>(scratch, "points").await?,
            after_a_kill::<FeatureView>(scratch, "means").await?,
            after_a_kill::<TrainingJob>(scratch, "fit").await?,
            after_a_kill::<Model>(scratch, "slope").await?,
            after_a_kill::<ModelDeployment>(scratch, "slope").await?,
        ];
        killed.sort();
        ensure!(killed[2] <= KILLED_MEDIAN, "operators work again {killed:?} after a kill");

        let operators = operators(scratch).await?;
        let cuts = Cuts::off(&operators, scratch).await?;
        edit::<Dataset>(scratch, "points", false).await?;
        edit::<FeatureView>(scratch, "means", false).await?;
        edit::<TrainingJob>(scratch, "fit", false).await?;
        edit::<Model>(scratch, "slope", false).await?;
        edit::<ModelDeployment>(scratch, "slope", false).await?;
        sleep(PARTITION).await;
        drop(cuts);
        let healed = all_seen(scratch, RECOVERED).await?;
        let lives = |pods: &[Pod]| -> Vec<_> {
            pods.iter().map(|pod| (pod.metadata.uid.clone(), restarts(pod))).collect()
        };
        ensure!(
            lives(&self::operators(scratch).await?) == lives(&operators),
            "an operator was started again after it had been cut off"
        );
        println!("operators work again {killed:?} after a kill, {healed:?} after a partition");
        Ok(())
    })
    .await
}

/// One object of each operator, without what they need: the operators have something to say, and nothing to start.
fn waiting() -> Vec<&'static str> {
    let files = [support::POINTS, support::MEANS, support::FIT, support::SERVE];
    let of_a_stage = |document: &&str| {
        STAGES.iter().any(|(kind, _)| document.lines().any(|line| line == format!("kind: {kind}")))
    };
    files.iter().flat_map(|file| file.split("\n---\n")).filter(of_a_stage).collect()
}

/// The kubelet starts a container later that has crashed lately: begin with some that have not.
async fn start_afresh(scratch: &Scratch) -> Result<()> {
    let deployments: Vec<String> =
        STAGES.iter().map(|(_, operator)| format!("deployment/{operator}")).collect();
    let names: Vec<&str> = deployments.iter().map(String::as_str).collect();
    scratch.cluster.kubectl(&[&["-n", OPERATORS, "rollout", "restart"], &names[..]].concat()).await?;
    for name in names {
        scratch.cluster.kubectl(&["-n", OPERATORS, "rollout", "status", name, "--timeout=60s"]).await?;
    }
    Ok(())
}

/// Kills the operator of a kind, edits an object at once, and returns the time from the kill to its answer.
async fn after_a_kill<K: Kind>(scratch: &Scratch, name: &str) -> Result<Duration> {
    let (_, operator) = STAGES.iter().find(|(kind, _)| *kind == K::kind(&())).context("no such stage")?;
    let process = process(operator)?;
    let began = Instant::now();
    run("kill", &["-KILL", &process])?;
    edit::<K>(scratch, name, true).await?;
    seen::<K>(scratch, name, RECOVERED).await?;
    Ok(began.elapsed())
}

async fn edit<K: Kind>(scratch: &Scratch, name: &str, suspend: bool) -> Result<()> {
    scratch.patch::<K>(name, &json!({ "spec": { "suspend": suspend } })).await.map(drop)
}

async fn all_seen(scratch: &Scratch, seconds: u64) -> Result<[Duration; 5]> {
    let (dataset, view, job, model, deployment) = try_join!(
        seen::<Dataset>(scratch, "points", seconds),
        seen::<FeatureView>(scratch, "means", seconds),
        seen::<TrainingJob>(scratch, "fit", seconds),
        seen::<Model>(scratch, "slope", seconds),
        seen::<ModelDeployment>(scratch, "slope", seconds),
    )?;
    Ok([dataset, view, job, model, deployment])
}

/// Waits until the status speaks of the object as it is now, and returns how long that took.
async fn seen<K: Kind>(scratch: &Scratch, name: &str, seconds: u64) -> Result<Duration> {
    let began = Instant::now();
    let speaks_of_now = |object: &K| object.current(READY).is_some();
    scratch.until(name, "seen", seconds, speaks_of_now).await?;
    Ok(began.elapsed())
}

/// The pods of all operators, by name.
async fn operators(scratch: &Scratch) -> Result<Vec<Pod>> {
    let pods: Api<Pod> = Api::namespaced(scratch.cluster.client.clone(), OPERATORS);
    let names: Vec<&str> = STAGES.iter().map(|(_, operator)| *operator).collect();
    let named = ListParams::default().labels(&format!("app.kubernetes.io/name in ({})", names.join(",")));
    let pods = pods.list(&named).await?.items;
    ensure!(pods.len() == STAGES.len(), "{} pods of {} operators", pods.len(), STAGES.len());
    Ok(pods)
}

fn restarts(pod: &Pod) -> Option<i32> {
    Some(pod.status.as_ref()?.container_statuses.as_ref()?.first()?.restart_count)
}

/// The newest process of an operator's pod on this machine: one before it may still be ending.
fn process(name: &str) -> Result<String> {
    let is_it = |pid: &String| {
        let program = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let program = program.split('\0').next().unwrap_or_default();
        Path::new(program).file_name().is_some_and(|file| file == name)
    };
    let started =
        |pid: &String| fs::metadata(format!("/proc/{pid}")).and_then(|folder| folder.modified()).ok();
    let processes = fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    processes
        .filter(is_it)
        .max_by_key(started)
        .with_context(|| format!("no process {name} on this machine: the node of the cluster has to be here"))
}

/// Packets between pods and the API server are dropped until this is.
struct Cuts {
    rules: Vec<Vec<String>>,
}

impl Cuts {
    async fn off(pods: &[Pod], scratch: &Scratch) -> Result<Self> {
        let port = api_port(scratch).await?.to_string();
        let rule = |words: [&str; 5]| -> Vec<String> {
            let [chain, side, address, which, port] = words;
            [chain, side, address, "-p", "tcp", which, port, "-j", "DROP"].map(str::to_owned).to_vec()
        };
        let mut cuts = Self { rules: Vec::new() };
        for pod in pods {
            let status = pod.status.as_ref();
            let address =
                status.and_then(|status| status.pod_ip.clone()).context("a pod without an address")?;
            for words in
                [["INPUT", "-s", &address, "--dport", &port], ["OUTPUT", "-d", &address, "--sport", &port]]
            {
                let rule = rule(words);
                iptables("-I", &rule)?;
                cuts.rules.push(rule);
            }
        }
        Ok(cuts)
    }
}

impl Drop for Cuts {
    fn drop(&mut self) {
        for rule in &self.rules {
            if let Err(error) = iptables("-D", rule) {
                eprintln!("{error:#}");
            }
        }
    }
}

/// The port that the API server itself listens at.
async fn api_port(scratch: &Scratch) -> Result<i32> {
    let slices: Api<EndpointSlice> = Api::namespaced(scratch.cluster.client.clone(), "default");
    let ports = slices.get("kubernetes").await?.ports.unwrap_or_default();
    ports.into_iter().find_map(|port| port.port).context("the Service kubernetes has no endpoint")
}

fn iptables(verb: &str, rule: &[String]) -> Result<()> {
    let words: Vec<&str> = ["-w", verb].into_iter().chain(rule.iter().map(String::as_str)).collect();
    run("iptables", &words)
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let status =
        Command::new(program).args(arguments).status().with_context(|| format!("cannot start {program}"))?;
    ensure!(status.success(), "{program} {} failed ({status})", arguments.join(" "));
    Ok(())
}
