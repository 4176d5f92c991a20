//! `cargo xtask test`: everything that must hold before a change lands, from fast to slow.
mod disk_space;
mod suite;

use std::env;
use std::fs;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::build::{self, in_ci};
use crate::cluster::{self, Choice, Cluster, Provider, local};
use crate::images::{self, Kind};
use crate::lanes::{self, Lane};
use crate::{paths, process, text};

/// Version of cargo-deny that reads our deny.toml.
const CARGO_DENY: &str = "0.20.2";

#[derive(clap::Args)]
pub struct Args {
    /// Only the steps whose names contain one of these words, as in `--only format clippy`. Each step prints its name.
    #[arg(long, num_args = 1.., value_name = "WORD")]
    only: Vec<String>,
    #[command(flatten)]
    choice: Choice,
}

/// Something that must hold.
struct Step {
    name: &'static str,
    place: Place,
    check: fn(&World) -> Result<Report>,
}

enum Place {
    Here,
    /// It needs a cluster, and these steps before it. Where it cannot run it counts for so many checks.
    Cluster {
        after: &'static [&'static str],
        count: fn() -> Result<usize>,
    },
}

/// What steps work with.
struct World {
    cluster: Option<Box<dyn Cluster>>,
}

/// What came of a step.
#[derive(Default)]
struct Report {
    passed: usize,
    failed: usize,
    left_out: usize,
    /// The last lines of what failed.
    said: Vec<String>,
}

const ONE: Report = Report { passed: 1, failed: 0, left_out: 0, said: Vec::new() };

const CLUSTER: &str = "cluster";
const INSTALLATION: &str = "installation";

const STEPS: [Step; 15] = [
    Step { name: "disk space", place: Place::Here, check: |_| disk_space::check() },
    Step { name: "format", place: Place::Here, check: |_| format() },
    Step { name: "text", place: Place::Here, check: |_| text() },
    Step { name: "clippy", place: Place::Here, check: |_| clippy() },
    Step { name: "dependencies", place: Place::Here, check: |_| dependencies() },
    Step { name: "generated files", place: Place::Here, check: |_| xtask(&["generate", "--check"], None) },
    Step { name: "build", place: Place::Here, check: compile },
    Step { name: "unit and simulator tests", place: Place::Here, check: |_| unit_tests() },
    Step { name: "faults", place: Place::Here, check: |_| xtask(&FAULTS, None) },
    Step {
        name: CLUSTER,
        place: Place::Cluster { after: &[], count: || Ok(1) },
        check: |world| on_cluster(world, &["cluster", "up"]),
    },
    Step {
        name: "faults on a real API server",
        place: Place::Cluster { after: &[CLUSTER], count: || Ok(1) },
        check: |_| real_faults(),
    },
    Step {
        name: "conformance",
        place: Place::Cluster { after: &[CLUSTER], count: || suite::listed(&CONFORMANCE) },
        check: conformance,
    },
    Step {
        name: "charts",
        place: Place::Cluster { after: &[], count: || Ok(1) },
        check: |_| xtask(&["charts"], None),
    },
    Step {
        name: INSTALLATION,
        place: Place::Cluster { after: &[CLUSTER], count: || Ok(1) },
        check: installation,
    },
    Step {
        name: "end-to-end tests",
        place: Place::Cluster {
            after: &[CLUSTER, INSTALLATION],
            count: || Ok(suite::listed(&END_TO_END)? + suite::listed(&CONDUCT)?),
        },
        check: end_to_end,
    },
];

/// As many fault plans as two minutes allow on two cores; `cargo xtask faults` tries all.
const FAULTS: [&str; 8] = ["faults", "--profile", build::PROFILE, "--", "--every", "6", "--seeds", "600"];
/// A minute of them on two cores; `cargo xtask faults --real` tries one for every write.
const REAL_FAULTS: [&str; 5] = ["faults", "--real", "--", "--every", "6"];
const CONFORMANCE: [&str; 4] = ["--test", "conformance_real", "--test", "admission"];
const END_TO_END: [&str; 2] = ["--test", "it"];
/// Of these, the ones that kill processes of the node and drop its packets: only of a node that is this machine.
const ON_THE_NODE: &str = "operators_recover_in_seconds_after_kill_or_partition";
/// What the operators did meanwhile.
const CONDUCT: [&str; 2] = ["--test", "audit"];

pub fn run(args: &Args) -> Result<()> {
    let begin = now();
    let chosen =
        |step: &&Step| args.only.is_empty() || args.only.iter().any(|word| step.name.contains(word.as_str()));
    if !STEPS.iter().any(|step| chosen(&step)) {
        let names: Vec<_> = STEPS.iter().map(|step| step.name).collect();
        bail!("no step's name has {}; there are: {}", args.only.join(" or "), names.join(", "));
    }
    let (cluster, obstacle) = match args.choice.cluster() {
        Ok(cluster) => (Some(cluster), String::new()),
        Err(error) => (None, format!("{error:#}")),
    };
    let world = World { cluster };
    let (mut total, mut problems) = (Report::default(), Vec::new());
    for step in STEPS.iter().filter(chosen) {
        let failed: Vec<&str> = problems.iter().map(|(name, _)| *name).collect();
        let report = step.outcome(&world, &failed);
        total.passed += report.passed;
        total.failed += report.failed;
        total.left_out += report.left_out;
        if report.failed > 0 {
            problems.push((step.name, report.said));
        }
    }
    for (name, said) in &problems {
        eprintln!("\nfailed: {name}\n  {}", said.join("\n  "));
    }
    if world.cluster.is_none() && total.left_out > 0 {
        eprintln!("no cluster can run here, so {} checks were left out: {obstacle}", total.left_out);
    }
    let minutes = begin.elapsed().as_secs_f64() / 60.0;
    let Report { passed, failed, left_out, .. } = total;
    println!("{passed} passed, {failed} failed, {left_out} left out in {minutes:.1} min");
    if failed > 0 || (in_ci() && left_out > 0) {
        bail!("not everything holds: see above");
    }
    Ok(())
}

impl Step {
    /// Runs it, if it can run. `failed` are the names of those before it that failed.
    fn outcome(&self, world: &World, failed: &[&str]) -> Report {
        let start = now();
        eprintln!("== {}", self.name);
        let report = self.run(world, failed).unwrap_or_else(|error| {
            let said: Vec<String> = format!("{error:#}").lines().map(str::to_owned).collect();
            Report { failed: 1, said, ..Report::default() }
        });
        let seconds = start.elapsed().as_secs_f64();
        let Report { passed, failed, left_out, .. } = report;
        eprintln!("== {}: {passed} passed, {failed} failed, {left_out} left out, {seconds:.1} s", self.name);
        report
    }

    fn run(&self, world: &World, failed: &[&str]) -> Result<Report> {
        let Place::Cluster { after, count } = &self.place else { return (self.check)(world) };
        if world.cluster.is_none() {
            return Ok(Report { left_out: count()?, ..Report::default() });
        }
        if let Some(before) = after.iter().find(|name| failed.contains(name)) {
            let said = vec![format!("not run, because the step {before} failed")];
            return Ok(Report { failed: count()?, said, ..Report::default() });
        }
        (self.check)(world)
    }
}

fn format() -> Result<Report> {
    let mut format = process::cargo();
    show(format.args(["fmt", "--all", "--check"]).current_dir(paths::repository()))
}

fn text() -> Result<Report> {
    text::check()?;
    Ok(Report { passed: text::CHECKS, ..Report::default() })
}

fn clippy() -> Result<Report> {
    show(build::cargo("clippy")?.args(["--quiet", "--all-targets", "--", "--deny", "warnings"]))
}

/// Everything that later steps run, side by side: compilers and linkers would disturb tests that measure time.
fn compile(world: &World) -> Result<Report> {
    let mut tests = build::cargo("test")?;
    tests.args(["--quiet", "--no-run", "--lib", "--bins", "--tests"]);
    let mut end_to_end = build::cargo("test")?;
    end_to_end.args(["--quiet", "--no-run"]).args(END_TO_END).args(CONDUCT).args(["--test", "faults"]);
    let mut rust = vec![tests, end_to_end];
    let mut other = Vec::new();
    if let Some(cluster) = world.cluster.as_deref() {
        rust.push(task(&images::arguments(Kind::Program), Some(cluster))?);
        other.push(task(&["cluster", "build"], Some(cluster))?);
        other.push(task(&images::arguments(Kind::Container), Some(cluster))?);
    }
    lanes::run(vec![Lane { name: "rust", commands: rust }, Lane { name: "cluster", commands: other }])?;
    Ok(ONE)
}

/// Licences, sources and duplicate versions. Known vulnerabilities need a database from the network: not here.
fn dependencies() -> Result<Report> {
    let root = paths::cache()?.join("tools").join(format!("cargo-deny-{CARGO_DENY}"));
    let program = root.join("bin/cargo-deny");
    if !program.exists() {
        // Without optimization: it runs for seconds.
        let mut install = build::shared("install")?;
        install.args(["--quiet", "--locked", "--debug", "cargo-deny", "--version", CARGO_DENY]);
        install.args(["--no-default-features", "--root"]).arg(&root).env("CARGO_PROFILE_DEV_DEBUG", "false");
        show(&mut install)?;
    }
    let mut deny = Command::new(program);
    deny.args(["--workspace", "check", "bans", "licenses", "sources"]).current_dir(paths::repository());
    process::echo(&mut deny, |_| ())?;
    Ok(ONE)
}

fn unit_tests() -> Result<Report> {
    redis()?;
    // What needs a cluster is the next steps' concern.
    let here = ["--skip", "a_real_server"];
    suite::run(&[], &here, |_| Ok(()))
}

/// The online features are tested against a real Redis.
fn redis() -> Result<()> {
    if process::found("redis-server") {
        return Ok(());
    }
    if !process::found("apt-get") {
        bail!("`redis-server` is not on the PATH; the tests of mlop-features start one: install Redis");
    }
    local::install(&["redis-server"]).map(drop)
}

/// They have an API server of their own, built from Go modules whatever the cluster comes from.
fn real_faults() -> Result<Report> {
    if !process::found("go") {
        eprintln!("left out: `go` is not on the PATH, which builds etcd and the API server");
        return Ok(Report { left_out: 1, ..Report::default() });
    }
    xtask(&REAL_FAULTS, None)
}

/// The suite that keeps the simulator honest, and the admission of the kinds, on a real API server.
fn conformance(world: &World) -> Result<Report> {
    let cluster = world.cluster()?;
    suite::run(&CONFORMANCE, &[], |command| {
        command.env("MLOP_CONFORMANCE_KUBECONFIG", cluster.kubeconfig()?);
        Ok(())
    })
}

fn installation(world: &World) -> Result<Report> {
    on_cluster(world, &["images"])?;
    on_cluster(world, &["install"])
}

fn end_to_end(world: &World) -> Result<Report> {
    let cluster = world.cluster()?;
    let log = cluster.audit_log()?;
    let length = |log| fs::metadata(log).map_or(0, |metadata| metadata.len());
    let begin = log.as_ref().map(length);
    // One at a time: they share two cores, and some of them kill operators. Each takes long enough for a line.
    let mut harness = vec!["--test-threads=1", "--format=pretty"];
    let mut left_out = 0;
    if cluster.provider() != Provider::Local {
        eprintln!("left out: {ON_THE_NODE}, because the node is not this machine");
        harness.extend(["--skip", ON_THE_NODE]);
        left_out = 1;
    }
    let tests = suite::run(&END_TO_END, &harness, |command| cluster::environment(command, cluster))?;
    let tests = tests.and(Report { left_out, ..Report::default() });
    let Some(begin) = begin else {
        return Ok(tests.and(Report { left_out: suite::listed(&CONDUCT)?, ..Report::default() }));
    };
    let conduct = suite::run(&CONDUCT, &[], |command| {
        cluster::environment(command.env("MLOP_AUDIT_FROM", begin.to_string()), cluster)
    })?;
    Ok(tests.and(conduct))
}

impl Report {
    fn and(mut self, other: Self) -> Self {
        self.said.extend(other.said);
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            left_out: self.left_out + other.left_out,
            said: self.said,
        }
    }
}

impl World {
    fn cluster(&self) -> Result<&dyn Cluster> {
        self.cluster.as_deref().context("no cluster can run here")
    }
}

fn on_cluster(world: &World, args: &[&str]) -> Result<Report> {
    xtask(args, Some(world.cluster()?))
}

fn xtask(args: &[&str], cluster: Option<&dyn Cluster>) -> Result<Report> {
    show(&mut task(args, cluster)?)
}

/// A task as a person would start it, with the same cluster.
fn task(args: &[&str], cluster: Option<&dyn Cluster>) -> Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    command.args(args);
    if let Some(cluster) = cluster {
        command.env("MLOP_CLUSTER", cluster.provider().name());
    }
    build::environment(&mut command)?;
    Ok(command)
}

fn show(command: &mut Command) -> Result<Report> {
    process::echo(command, |_| ())?;
    Ok(ONE)
}

#[allow(clippy::disallowed_methods, reason = "measures for people; nothing is decided by it")]
fn now() -> Instant {
    Instant::now()
}
