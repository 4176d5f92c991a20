//! `cargo xtask test`: everything that must hold before a change lands, from fast to slow.
use std::env;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::cluster::{Choice, Cluster, local};
use crate::{paths, process};

/// Version of cargo-deny that reads our deny.toml.
const CARGO_DENY: &str = "0.20.2";

#[derive(clap::Args)]
pub struct Args {
    /// Only the steps whose names contain one of these words.
    #[arg(long, num_args = 1.., value_name = "WORD")]
    only: Vec<String>,
    #[command(flatten)]
    choice: Choice,
}

/// Something that must hold.
struct Step {
    name: &'static str,
    /// Whether it needs a cluster, and what it counts for when there is none.
    place: Place,
    check: fn(&World) -> Result<Count>,
}

enum Place {
    Here,
    Cluster { left_out: fn() -> Result<usize> },
}

/// What steps work with.
struct World {
    cluster: Option<Box<dyn Cluster>>,
}

/// How many things were checked.
#[derive(Clone, Copy, Default)]
struct Count {
    passed: usize,
    failed: usize,
}

const ONE: Count = Count { passed: 1, failed: 0 };

const STEPS: [Step; 10] = [
    Step { name: "format", place: Place::Here, check: |_| cargo(&["fmt", "--all", "--check"]) },
    Step { name: "clippy", place: Place::Here, check: |_| clippy() },
    Step { name: "dependencies", place: Place::Here, check: |_| dependencies() },
    Step { name: "generated files", place: Place::Here, check: |_| xtask(&["generate", "--check"], None) },
    Step { name: "unit and simulator tests", place: Place::Here, check: |_| unit_tests() },
    Step {
        name: "cluster",
        place: Place::Cluster { left_out: || Ok(1) },
        check: |world| on_cluster(world, &["cluster", "up"]),
    },
    Step {
        name: "conformance",
        place: Place::Cluster { left_out: || listed(&CONFORMANCE) },
        check: conformance,
    },
    Step {
        name: "charts",
        place: Place::Cluster { left_out: || Ok(1) },
        check: |_| xtask(&["charts"], None),
    },
    Step { name: "installation", place: Place::Cluster { left_out: || Ok(1) }, check: installation },
    Step {
        name: "end-to-end tests",
        place: Place::Cluster { left_out: || listed(&END_TO_END) },
        check: end_to_end,
    },
];

const CONFORMANCE: [&str; 8] =
    ["--package", "mlop-sim", "--test", "conformance_real", "--package", "mlop-api", "--test", "admission"];
const END_TO_END: [&str; 4] = ["--package", "mlop-e2e", "--test", "it"];

pub fn run(args: &Args) -> Result<()> {
    let begin = now();
    let chosen =
        |step: &&Step| args.only.is_empty() || args.only.iter().any(|word| step.name.contains(word.as_str()));
    let (cluster, obstacle) = match args.choice.cluster() {
        Ok(cluster) => (Some(cluster), String::new()),
        Err(error) => (None, format!("{error:#}")),
    };
    let world = World { cluster };
    let (mut total, mut left_out, mut problems) = (Count::default(), 0, Vec::new());
    for step in STEPS.iter().filter(chosen) {
        if let (Place::Cluster { left_out: count }, None) = (&step.place, &world.cluster) {
            let count = count()?;
            eprintln!("== {}: left out ({count})", step.name);
            left_out += count;
            continue;
        }
        eprintln!("== {}", step.name);
        let start = now();
        let outcome = (step.check)(&world);
        let seconds = start.elapsed().as_secs_f64();
        let count = outcome.unwrap_or_else(|error| {
            eprintln!("{error:#}");
            Count { passed: 0, failed: 1 }
        });
        eprintln!("== {}: {} passed, {} failed, {seconds:.1} s", step.name, count.passed, count.failed);
        total.passed += count.passed;
        total.failed += count.failed;
        if count.failed > 0 {
            problems.push(step.name);
        }
    }
    if left_out > 0 {
        eprintln!("no cluster can run here, so {left_out} checks were left out: {obstacle}");
    }
    problems.iter().for_each(|name| eprintln!("failed: {name}"));
    let minutes = begin.elapsed().as_secs_f64() / 60.0;
    println!("{} passed, {} failed, {left_out} left out in {minutes:.1} min", total.passed, total.failed);
    let in_ci = env::var("CI").is_ok_and(|value| value == "true");
    if total.failed > 0 || (in_ci && left_out > 0) {
        bail!("not everything holds: see above");
    }
    Ok(())
}

fn clippy() -> Result<Count> {
    cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "--deny", "warnings"])
}

/// Licences, sources and duplicate versions. Known vulnerabilities need a database from the network: not here.
fn dependencies() -> Result<Count> {
    let root = paths::cache()?.join("tools").join(format!("cargo-deny-{CARGO_DENY}"));
    let program = root.join("bin/cargo-deny");
    if !program.exists() {
        let mut install = process::cargo();
        install
            .args(["install", "--quiet", "--locked", "cargo-deny", "--version", CARGO_DENY, "--root"])
            .arg(&root);
        environment(&mut install, None)?;
        process::show(&mut install)?;
    }
    let mut deny = Command::new(program);
    deny.args(["--workspace", "check", "bans", "licenses", "sources"]).current_dir(paths::repository());
    process::show(&mut deny)?;
    Ok(ONE)
}

fn unit_tests() -> Result<Count> {
    redis()?;
    // What needs a cluster is the next steps' concern.
    let here = ["--skip", "a_real_server"];
    let workspace = tests(&["--workspace", "--exclude", "mlop-e2e"], &here, |_| Ok(()))?;
    let e2e = tests(&["--package", "mlop-e2e", "--lib"], &[], |_| Ok(()))?;
    Ok(Count { passed: workspace.passed + e2e.passed, failed: workspace.failed + e2e.failed })
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

/// The suite that keeps the simulator honest, and the admission of the kinds, on a real API server.
fn conformance(world: &World) -> Result<Count> {
    let cluster = world.cluster()?;
    tests(&CONFORMANCE, &[], |command| {
        command.env("MLOP_CONFORMANCE_KUBECONFIG", cluster.kubeconfig()?);
        Ok(())
    })
}

fn installation(world: &World) -> Result<Count> {
    on_cluster(world, &["images"])?;
    on_cluster(world, &["install"])
}

fn end_to_end(world: &World) -> Result<Count> {
    // One at a time: they share two cores, and some of them kill operators.
    tests(&END_TO_END, &["--test-threads=1"], |command| {
        // The error says what was waited for; the stack of a wait says nothing.
        environment(command.env("RUST_BACKTRACE", "0"), Some(world.cluster()?))
    })
}

impl World {
    fn cluster(&self) -> Result<&dyn Cluster> {
        self.cluster.as_deref().context("no cluster can run here")
    }
}

fn on_cluster(world: &World, args: &[&str]) -> Result<Count> {
    xtask(args, Some(world.cluster()?))
}

fn xtask(args: &[&str], cluster: Option<&dyn Cluster>) -> Result<Count> {
    let mut command = Command::new(env::current_exe()?);
    command.args(args);
    if let Some(cluster) = cluster {
        command.env("MLOP_CLUSTER", cluster.provider().name());
    }
    environment(&mut command, None)?;
    process::show(&mut command)?;
    Ok(ONE)
}

fn cargo(args: &[&str]) -> Result<Count> {
    let mut command = process::cargo();
    command.args(args).current_dir(paths::repository());
    environment(&mut command, None)?;
    process::show(&mut command)?;
    Ok(ONE)
}

/// Runs `cargo test`, shows what it says, and adds up its results.
fn tests(what: &[&str], harness: &[&str], prepare: impl FnOnce(&mut Command) -> Result<()>) -> Result<Count> {
    let mut command = cargo_test(what, harness)?;
    prepare(&mut command)?;
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start cargo")?;
    let mut count = Count::default();
    for line in BufReader::new(child.stdout.take().context("cargo has no output")?).lines() {
        let line = line?;
        println!("{line}");
        if let Some(result) = line.strip_prefix("test result: ") {
            count.passed += number_before(result, " passed");
            count.failed += number_before(result, " failed");
        }
    }
    let status = child.wait()?;
    if !status.success() && count.failed == 0 {
        bail!("cargo test {} ended before its tests did ({status})", what.join(" "));
    }
    Ok(count)
}

/// How many tests there are, without running them.
fn listed(what: &[&str]) -> Result<usize> {
    let list = process::output(&mut cargo_test(what, &["--list", "--format=terse"])?)?;
    Ok(list.lines().filter(|line| line.ends_with(": test")).count())
}

fn cargo_test(what: &[&str], harness: &[&str]) -> Result<Command> {
    let mut command = process::cargo();
    // All of them run, also after one has failed.
    command.args(["test", "--quiet", "--no-fail-fast"]).args(what).arg("--").args(harness);
    environment(command.current_dir(paths::repository()), None)?;
    Ok(command)
}

fn number_before(text: &str, word: &str) -> usize {
    let before = text.split_once(word).map_or("", |(before, _)| before);
    before.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// What the programs that we start find: one place for what cargo builds, outside of the checkout, and the cluster as
/// `cargo xtask cluster env` prints it.
pub fn environment(command: &mut Command, cluster: Option<&dyn Cluster>) -> Result<()> {
    if env::var_os("CARGO_TARGET_DIR").is_none() {
        command.env("CARGO_TARGET_DIR", paths::cache()?.join("target"));
    }
    let Some(cluster) = cluster else { return Ok(()) };
    command.env("KUBECONFIG", cluster.kubeconfig()?);
    if let Some(log) = cluster.audit_log()? {
        command.env("MLOP_AUDIT_LOG", log);
    }
    let path = env::var_os("PATH").unwrap_or_default();
    command.env("PATH", env::join_paths([paths::bin()?].into_iter().chain(env::split_paths(&path)))?);
    Ok(())
}

#[allow(clippy::disallowed_methods, reason = "measures for people; nothing is decided by it")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_cargo_are_read() {
        let line = "FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s";
        assert_eq!((number_before(line, " passed"), number_before(line, " failed")), (12, 3));
        assert_eq!(number_before("nothing of the kind", " passed"), 0);
    }
}
