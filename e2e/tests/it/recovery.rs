//! How soon an operator works again whose process died, or that was cut off from the API server.
//!
//! Both are done to the node's processes and network, so the node has to be this machine.

use crate::support;
use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::{core::v1::Pod, discovery::v1::EndpointSlice};
use kube::{Api, ResourceExt as _, api::ListParams, runtime::watcher};
use mlop_api::labels;
use mlop_e2e::{chain::OPERATORS, scratch::Scratch, state::Intent as _, wait};
use std::{collections::BTreeSet, fs, process::Command, time::Duration};
use tokio::time::{Instant, sleep};

const OPERATOR: &str = "mlop-ingestion";
/// A process that was killed is noticed by the kubelet within a second, and started.
const AFTER_KILL: Duration = Duration::from_secs(5);
const AFTER_PARTITION: Duration = Duration::from_secs(5);
/// Longer than a lease lasts: leadership is lost too.
const PARTITION: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_was_killed_or_cut_off_works_again_within_seconds() -> Result<()> {
    Scratch::run("recovery", async |scratch| {
        scratch.arrive("points/1.csv", &support::points(0, 2.0)).await?;
        scratch.apply(&[support::STORES, support::POINTS]).await?;
        let seen = |dataset: &mlop_api::dataset::Dataset| dataset.artifact().is_some();
        scratch.until("points", "ingested", support::STAGE, seen).await?;

        start_afresh(scratch).await?;
        let process = process(OPERATOR)?;
        let scans = scans(scratch).await?;
        let began = Instant::now();
        run("kill", &["-KILL", &process])?;
        support::refresh(scratch, "killed").await?;
        let killed = works_again(scratch, &scans, began, AFTER_KILL).await?;

        let operator = operator(scratch).await?;
        let scans = self::scans(scratch).await?;
        let cut = Cut::off(&operator, scratch).await?;
        support::refresh(scratch, "cut-off").await?;
        sleep(PARTITION).await;
        drop(cut);
        let healed = works_again(scratch, &scans, Instant::now(), AFTER_PARTITION).await?;
        let restarts = |pod: &Pod| restarts(pod).unwrap_or_default();
        let after = self::operator(scratch).await?;
        ensure!(
            after.metadata.uid == operator.metadata.uid && restarts(&after) == restarts(&operator),
            "{OPERATOR} was started again after it had been cut off"
        );
        println!(
            "works again {} ms after a kill, {} ms after a partition",
            killed.as_millis(),
            healed.as_millis()
        );
        Ok(())
    })
    .await
}

/// The kubelet starts a container later that has crashed lately: begin with one that has not.
async fn start_afresh(scratch: &Scratch) -> Result<()> {
    let deployment = format!("deployment/{OPERATOR}");
    scratch.cluster.kubectl(&["-n", OPERATORS, "rollout", "restart", &deployment]).await?;
    scratch.cluster.kubectl(&["-n", OPERATORS, "rollout", "status", &deployment, "--timeout=60s"]).await?;
    Ok(())
}

/// Waits for a scan that is none of `known`; how long that is after `began`.
async fn works_again(
    scratch: &Scratch,
    known: &BTreeSet<String>,
    began: Instant,
    limit: Duration,
) -> Result<Duration> {
    let pods: Api<Pod> = Api::namespaced(scratch.cluster.client.clone(), &scratch.namespace);
    let is_new = |pod: &Pod| !known.contains(&pod.name_any());
    wait::any(&pods, watcher::Config::default().labels(&scan()), "new scan", limit, is_new).await?;
    Ok(began.elapsed())
}

async fn scans(scratch: &Scratch) -> Result<BTreeSet<String>> {
    let pods: Api<Pod> = Api::namespaced(scratch.cluster.client.clone(), &scratch.namespace);
    let scans = pods.list(&ListParams::default().labels(&scan())).await?;
    Ok(scans.iter().map(kube::ResourceExt::name_any).collect())
}

fn scan() -> String {
    format!("{}=scan", labels::ROLE)
}

async fn operator(scratch: &Scratch) -> Result<Pod> {
    let pods: Api<Pod> = Api::namespaced(scratch.cluster.client.clone(), OPERATORS);
    let named = ListParams::default().labels(&format!("app.kubernetes.io/name={OPERATOR}"));
    pods.list(&named).await?.items.pop().with_context(|| format!("no pod of {OPERATOR}"))
}

fn restarts(pod: &Pod) -> Option<i32> {
    Some(pod.status.as_ref()?.container_statuses.as_ref()?.first()?.restart_count)
}

/// The newest process of an operator's pod on this machine: one before it may still be ending.
fn process(name: &str) -> Result<String> {
    let is_it = |pid: &String| {
        let number = pid.bytes().all(|byte| byte.is_ascii_digit());
        number && fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name)
    };
    let started =
        |pid: &String| fs::metadata(format!("/proc/{pid}")).and_then(|folder| folder.modified()).ok();
    let processes = fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    processes
        .filter(is_it)
        .max_by_key(started)
        .with_context(|| format!("no process {name} on this machine: the node of the cluster has to be here"))
}

/// Packets between a pod and the API server are dropped until this is.
struct Cut {
    rules: [Vec<String>; 2],
}

impl Cut {
    async fn off(pod: &Pod, scratch: &Scratch) -> Result<Self> {
        let address = pod
            .status
            .as_ref()
            .and_then(|status| status.pod_ip.clone())
            .context("a pod without an address")?;
        let port = api_port(scratch).await?.to_string();
        let rule = |words: [&str; 5]| -> Vec<String> {
            let [chain, side, address, which, port] = words;
            [chain, side, address, "-p", "tcp", which, port, "-j", "DROP"].map(str::to_owned).to_vec()
        };
        let cut = Self {
            rules: [
                rule(["INPUT", "-s", &address, "--dport", &port]),
                rule(["OUTPUT", "-d", &address, "--sport", &port]),
            ],
        };
        cut.rules.iter().try_for_each(|rule| iptables("-I", rule))?;
        Ok(cut)
    }
}

impl Drop for Cut {
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
