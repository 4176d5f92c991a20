//! `cargo xtask kind-e2e`: the end-to-end tests on a cluster that exists only for them.
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;

use crate::cluster::{self, Choice, Cluster, Kubectl, New, Options, Provider};
use crate::test::{Report, end_to_end};
use crate::{cache, lanes, paths, process};

/// The directory for the logs of a failed run, in the repository.
const LOGS: &str = "target/kind-e2e";
const OPERATORS: &str = "mlop-system";
/// Those that end a program by default.
const SIGNALS: [i32; 3] = [SIGINT, SIGTERM, SIGHUP];

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
                  cargo xtask kind-e2e                              kind's own node image, from a registry\n  \
                  cargo xtask kind-e2e --node-image built --nodes 3 no registry: as root on Debian\n  \
                  cargo xtask kind-e2e --only gpu                   some tests\n  \
                  cargo xtask kind-e2e --provider local             the same on processes of this machine\n\n\
                  Logs of a failed run are in target/kind-e2e. The cluster is deleted in any case, also after Ctrl-C.\n\
                  To keep a cluster: cargo xtask cluster up --provider kind, then cargo xtask test --only end-to-end")]
pub struct Args {
    /// Where the cluster comes from: `kind` or `local`.
    #[arg(long, default_value = "kind")]
    provider: Provider,
    #[command(flatten)]
    kind: Options,
    /// Only the tests whose names contain one of these words, without the checks of the audit log.
    #[arg(long, num_args = 1.., value_name = "WORD")]
    only: Vec<String>,
    /// Also the tests of troubles that last for minutes.
    #[arg(long, conflicts_with = "only")]
    life: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let cluster = args.cluster()?;
    let cluster = cluster.as_ref();
    let logs = paths::repository().join(LOGS);
    cache::remove(&logs)?;
    let run = Run { cluster, interrupted: stop_programs_on_signals()? };
    let begin = now();
    let outcome = run.tests(args);
    let is_interrupted = run.is_interrupted();
    if !is_interrupted && !outcome.as_ref().is_ok_and(|report| report.failed == 0) {
        collect_logs(cluster, &logs);
    }
    let deleted = timed("delete the cluster", || {
        let _lock = cache::lock()?;
        cluster.down()
    });
    if is_interrupted {
        deleted?;
        bail!("interrupted; the cluster is deleted");
    }
    let Report { passed, failed, skipped, output } = outcome?;
    output.iter().for_each(|line| eprintln!("{line}"));
    let (name, nodes) = (args.provider.name(), args.kind.nodes);
    let minutes = begin.elapsed().as_secs_f64() / 60.0;
    println!(
        "{name}, nodes: {nodes}: {passed} passed, {failed} failed, {skipped} skipped in {minutes:.1} min"
    );
    ensure!(failed == 0, "some tests failed; logs are in {}", logs.display());
    deleted
}

impl Args {
    /// The cluster, which must not be there yet.
    fn cluster(&self) -> Result<Box<dyn Cluster>> {
        let name = self.provider.name();
        ensure!(self.provider != Provider::Current, "this task deletes its cluster: choose kind or local");
        let choice = Choice { provider: Some(self.provider) };
        let cluster = New { choice, kind: self.kind.clone() }.cluster()?;
        ensure!(
            !cluster.kubeconfig()?.exists(),
            "there is a {name} cluster, which this task would delete: use it by `cargo xtask test`, or delete it by \
             `cargo xtask cluster down --provider {name}`"
        );
        Ok(cluster)
    }
}

/// A run of the task.
struct Run<'a> {
    cluster: &'a dyn Cluster,
    interrupted: Arc<AtomicBool>,
}

impl Run<'_> {
    fn tests(&self, args: &Args) -> Result<Report> {
        let cluster = self.cluster;
        self.part("cluster", || {
            let _lock = cache::lock()?;
            cluster.up()
        })?;
        for task in ["images", "install"] {
            self.part(task, || process::show(&mut cluster::task(&[task], cluster)?))?;
        }
        if !args.only.is_empty() {
            return self.part("tests", || end_to_end::named(cluster, &args.only));
        }
        let tests = self.part("tests", || end_to_end::run(cluster))?;
        let life = if args.life { end_to_end::life } else { end_to_end::node_loss };
        Ok(tests.and(self.part("tests of life", || life(cluster))?))
    }

    /// Runs the next part, unless the run was interrupted.
    fn part<T>(&self, what: &str, part: impl FnOnce() -> Result<T>) -> Result<T> {
        ensure!(!self.is_interrupted(), "interrupted before {what}");
        timed(what, part)
    }

    fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::SeqCst)
    }
}

/// Ends the programs that xtask waits for when a person or a system ends xtask, so that the cluster can be deleted.
fn stop_programs_on_signals() -> Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in SIGNALS {
        flag::register(signal, Arc::clone(&interrupted)).context("cannot receive signals")?;
    }
    let mut signals = Signals::new(SIGNALS).context("cannot receive signals")?;
    thread::spawn(move || {
        // Only the first: later ones would end the programs that delete the cluster.
        if signals.forever().next().is_some() {
            eprintln!("interrupted: the cluster will be deleted");
            lanes::stop_all();
        }
    });
    Ok(interrupted)
}

/// Writes everything that may explain the failure. Its own failures are only reported.
fn collect_logs(cluster: &dyn Cluster, logs: &Path) {
    let parts: [(&str, Result<()>); 3] = [
        (
            "the cluster",
            fs::create_dir_all(logs).map_err(Into::into).and_then(|()| cluster.export_logs(logs)),
        ),
        ("the operators", operators(cluster, logs)),
        (
            "Events",
            save(
                cluster,
                &["get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"],
                &logs.join("events.txt"),
            ),
        ),
    ];
    for (part, outcome) in parts {
        if let Err(error) = outcome {
            eprintln!("no logs of {part}: {error:#}");
        }
    }
    eprintln!("logs: {}", logs.display());
}

fn operators(cluster: &dyn Cluster, logs: &Path) -> Result<()> {
    let kubectl = Kubectl::new(cluster.kubeconfig()?);
    let list = ["-n", OPERATORS, "get", "pods", "-o", "name"];
    for pod in process::output(&mut kubectl.command(&list)?)?.lines() {
        let name = pod.trim_start_matches("pod/");
        for (flag, suffix) in [("--previous=false", ""), ("--previous", ".previous")] {
            let path = logs.join(format!("{name}{suffix}.log"));
            let saved = save(cluster, &["-n", OPERATORS, "logs", name, "--all-containers", flag], &path);
            // Most pods have no previous container.
            if suffix.is_empty() {
                saved?;
            }
        }
    }
    Ok(())
}

fn save(cluster: &dyn Cluster, kubectl: &[&str], path: &Path) -> Result<()> {
    let output = process::output(&mut Kubectl::new(cluster.kubeconfig()?).command(kubectl)?)?;
    fs::write(path, output + "\n").with_context(|| format!("cannot write {}", path.display()))
}

/// Reports the time of a part of the run.
fn timed<T>(what: &str, part: impl FnOnce() -> Result<T>) -> Result<T> {
    eprintln!("== {what}");
    let start = now();
    let outcome = part();
    let word = if outcome.is_ok() { "done" } else { "failed" };
    eprintln!("== {what}: {word} in {:.1} s", start.elapsed().as_secs_f64());
    outcome
}

#[allow(clippy::disallowed_methods, reason = "measures for people; nothing is decided by it")]
fn now() -> Instant {
    Instant::now()
}
