//! `cargo xtask test`: every check of a change, from fast to slow.
mod disk_space;
pub mod end_to_end;
mod report;
mod suite;

use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::build::{self, in_ci};
use crate::cluster::{self, Choice, Cluster, local};
use crate::images::{self, Kind};
use crate::lanes::{self, Lane};
use crate::tools::{self, GATOR, MINIO};
use crate::{paths, process, text};
use end_to_end::{AUDIT, END_TO_END};
use report::ONE;
pub use report::Report;

/// Version of cargo-deny that reads our deny.toml.
const CARGO_DENY: (&str, &str) = ("cargo-deny", "0.20.2");

#[derive(clap::Args)]
#[command(
    after_help = "Steps, in order: disk space, format, text, clippy, dependencies, generated files, build, unit and simulator tests, \
                        faults; then, on a cluster: cluster, faults on a real API server, conformance, charts, installation, \
                        end-to-end tests. Only by name: life (10 min), busy cores (10 min), frameworks, vault, Flux, \
                        checkov, policies of Gatekeeper, site.\n\n\
                        It needs what `cargo xtask demo` needs, and 24 GiB of disk the first time."
)]
pub struct Args {
    /// Only the steps whose names contain one of these words, as in `--only format clippy`.
    #[arg(long, num_args = 1.., value_name = "WORD")]
    only: Vec<String>,
    #[command(flatten)]
    choice: Choice,
}

/// A check, or several of one kind.
struct Step {
    name: &'static str,
    place: Place,
    check: fn(&Environment) -> Result<Report>,
}

enum Place {
    Here,
    /// It needs a cluster and the steps `after`. Where it cannot run, `count` checks are skipped.
    Cluster {
        after: &'static [&'static str],
        count: fn() -> Result<usize>,
    },
}

/// The surroundings of the steps.
struct Environment {
    cluster: Option<Box<dyn Cluster>>,
}

const CLUSTER: &str = "cluster";
const INSTALLATION: &str = "installation";

const LIFE: &str = "life";
const BUSY: &str = "busy cores";
const FRAMEWORKS: &str = "frameworks";
const VAULT: &str = "vault";
const FLUX: &str = "Flux";
const SCAN: &str = "checkov";
const GATEKEEPER: &str = "policies of Gatekeeper";
const SITE: &str = "site";

const STEPS: [Step; 23] = [
    Step { name: "disk space", place: Place::Here, check: |_| disk_space::check() },
    Step { name: "format", place: Place::Here, check: |_| format() },
    Step { name: "text", place: Place::Here, check: |_| text() },
    Step { name: "clippy", place: Place::Here, check: |_| clippy() },
    Step { name: "dependencies", place: Place::Here, check: |_| dependencies() },
    Step { name: "generated files", place: Place::Here, check: |_| xtask(&["generate", "--check"]) },
    Step { name: "build", place: Place::Here, check: compile },
    Step { name: "unit and simulator tests", place: Place::Here, check: |_| unit_tests() },
    Step { name: "faults", place: Place::Here, check: |_| xtask(&FAULTS) },
    Step {
        name: CLUSTER,
        place: Place::Cluster { after: &[], count: || Ok(1) },
        check: |environment| on_cluster(environment, &["cluster", "up"]),
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
        check: |_| xtask(&["charts"]),
    },
    Step {
        name: INSTALLATION,
        place: Place::Cluster { after: &[CLUSTER], count: || Ok(1) },
        check: installation,
    },
    Step {
        name: "end-to-end tests",
        place: Place::Cluster { after: &[CLUSTER, INSTALLATION], count: end_to_end::count },
        check: |environment| end_to_end::run(environment.cluster()?),
    },
    Step {
        name: LIFE,
        place: Place::Cluster { after: &[CLUSTER, INSTALLATION], count: end_to_end::count_life },
        check: |environment| end_to_end::life(environment.cluster()?),
    },
    Step {
        name: BUSY,
        place: Place::Cluster { after: &[CLUSTER, INSTALLATION], count: || Ok(1) },
        check: |environment| end_to_end::busy_cores(environment.cluster()?),
    },
    Step {
        name: FRAMEWORKS,
        place: Place::Cluster { after: &[CLUSTER, INSTALLATION], count: end_to_end::count_frameworks },
        check: |environment| with_image(environment, "pytorch", end_to_end::frameworks),
    },
    Step {
        name: VAULT,
        place: Place::Cluster { after: &[CLUSTER, INSTALLATION], count: end_to_end::count_vault },
        check: |environment| with_image(environment, "openbao", end_to_end::vault),
    },
    Step {
        name: FLUX,
        place: Place::Cluster { after: &[CLUSTER, INSTALLATION], count: end_to_end::count_flux },
        check: |environment| end_to_end::flux(environment.cluster()?),
    },
    Step { name: SCAN, place: Place::Here, check: |_| xtask(&["charts", "--scan"]) },
    Step { name: GATEKEEPER, place: Place::Here, check: |_| gatekeeper() },
    Step { name: SITE, place: Place::Here, check: |_| xtask(&["docs"]) },
];

/// The steps that take long: they run by name only.
const BY_NAME: [&str; 8] = [LIFE, BUSY, FRAMEWORKS, VAULT, FLUX, SCAN, GATEKEEPER, SITE];

/// As many fault plans as a few minutes allow on two cores; `cargo xtask faults` tries all.
const FAULTS: [&str; 8] = ["faults", "--profile", build::PROFILE, "--", "--every", "12", "--seeds", "300"];
/// A minute of them on two cores; `cargo xtask faults --real` tries one for every write.
const REAL_FAULTS: [&str; 5] = ["faults", "--real", "--", "--every", "6"];
const CONFORMANCE: [&str; 6] = ["--test", "conformance_real", "--test", "admission", "--test", "policies"];
/// The same policies, and the program that judges by them.
const POLICIES: [&str; 2] = ["--test", "policies"];
const OF_GATEKEEPER: &str = "gatekeeper";

pub fn run(args: &Args) -> Result<()> {
    let begin = now();
    let chosen =
        |step: &&Step| args.only.is_empty() || args.only.iter().any(|word| step.name.contains(word.as_str()));
    if !STEPS.iter().any(|step| chosen(&step)) {
        let names: Vec<_> = STEPS.iter().map(|step| step.name).collect();
        bail!("no step matches {}; available: {}", args.only.join(" or "), names.join(", "));
    }
    let (cluster, obstacle) = match args.choice.cluster() {
        Ok(cluster) => (Some(cluster), String::new()),
        Err(error) => (None, format!("{error:#}")),
    };
    let environment = Environment { cluster };
    let (mut total, mut problems) = (Report::default(), Vec::new());
    for step in STEPS.iter().filter(chosen) {
        if args.only.is_empty() && BY_NAME.contains(&step.name) {
            eprintln!("== {}: left out; `cargo xtask test --only {:?}` runs it", step.name, step.name);
            continue;
        }
        let failed: Vec<&str> = problems.iter().map(|(name, _)| *name).collect();
        let report = step.outcome(&environment, &failed);
        total.passed += report.passed;
        total.failed += report.failed;
        total.skipped += report.skipped;
        if report.failed > 0 {
            problems.push((step.name, report.output));
        }
    }
    for (name, output) in &problems {
        eprintln!("\nfailed: {name}\n  {}", output.join("\n  "));
    }
    if environment.cluster.is_none() && total.skipped > 0 {
        eprintln!("no cluster can run here, so {} checks were skipped: {obstacle}", total.skipped);
    }
    let minutes = begin.elapsed().as_secs_f64() / 60.0;
    let Report { passed, failed, skipped, .. } = total;
    println!("{passed} passed, {failed} failed, {skipped} skipped in {minutes:.1} min");
    if failed > 0 || (in_ci() && skipped > 0) {
        bail!("some checks failed (see above)");
    }
    Ok(())
}

impl Step {
    /// Runs the step if it can run. `failed` has the names of earlier steps that failed.
    fn outcome(&self, environment: &Environment, failed: &[&str]) -> Report {
        let start = now();
        eprintln!("== {}", self.name);
        let report = self.run(environment, failed).unwrap_or_else(|error| {
            let output: Vec<String> = format!("{error:#}").lines().map(str::to_owned).collect();
            Report { failed: 1, output, ..Report::default() }
        });
        let seconds = start.elapsed().as_secs_f64();
        let Report { passed, failed, skipped, .. } = report;
        eprintln!("== {}: {passed} passed, {failed} failed, {skipped} skipped, {seconds:.1} s", self.name);
        report
    }

    fn run(&self, environment: &Environment, failed: &[&str]) -> Result<Report> {
        let Place::Cluster { after, count } = &self.place else { return (self.check)(environment) };
        if environment.cluster.is_none() {
            return Ok(Report { skipped: count()?, ..Report::default() });
        }
        if let Some(before) = after.iter().find(|name| failed.contains(name)) {
            let output = vec![format!("skipped because the step {before} failed")];
            return Ok(Report { failed: count()?, output, ..Report::default() });
        }
        (self.check)(environment)
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
    // `--all-targets` leaves out the tests that `cargo test` skips unless they are named.
    for targets in [&["--all-targets"][..], &["--test", "*"]] {
        let mut clippy = build::cargo("clippy")?;
        show(clippy.arg("--quiet").args(targets).args(["--", "--deny", "warnings"]))?;
    }
    Ok(ONE)
}

/// Everything that later steps run, side by side: compilers and linkers would disturb tests that measure time.
fn compile(environment: &Environment) -> Result<Report> {
    let mut tests = build::cargo("test")?;
    tests.args(["--quiet", "--no-run", "--lib", "--bins", "--tests"]);
    let mut end_to_end = build::cargo("test")?;
    end_to_end.args(["--quiet", "--no-run"]).args(END_TO_END).args(AUDIT).args(["--test", "faults"]);
    let mut rust = vec![tests, end_to_end];
    let mut other = Vec::new();
    if let Some(cluster) = environment.cluster.as_deref() {
        rust.push(cluster::task(&images::arguments(Kind::Program), cluster)?);
        other.push(cluster::task(&["cluster", "build"], cluster)?);
        other.push(cluster::task(&images::arguments(Kind::Container), cluster)?);
    }
    lanes::run(vec![Lane { name: "rust", commands: rust }, Lane { name: "cluster", commands: other }])?;
    Ok(ONE)
}

/// Licences, sources and duplicate versions. The database of known vulnerabilities is not in a package registry.
fn dependencies() -> Result<Report> {
    let mut deny = Command::new(tools::cargo_tool(CARGO_DENY)?);
    deny.args(["--workspace", "check", "bans", "licenses", "sources"]).current_dir(paths::repository());
    process::echo(&mut deny, |_| ())?;
    Ok(ONE)
}

fn unit_tests() -> Result<Report> {
    redis()?;
    // The conformance step runs these on the cluster, and a step of its own those of Gatekeeper.
    let here = ["--skip", "real_server", "--skip", OF_GATEKEEPER];
    suite::run(&[], &here, object_store)
}

/// The object store is tested against a real S3 server, built from Go modules.
fn object_store(tests: &mut Command) -> Result<()> {
    if !process::found("go") {
        eprintln!("skipped: tests against a real S3 server, since `go`, which builds it, is not on the PATH");
        return Ok(());
    }
    tests.env("MLOP_TEST_MINIO", tools::build(&MINIO)?.0.path);
    Ok(())
}

/// Gatekeeper's program takes minutes to build.
fn gatekeeper() -> Result<Report> {
    suite::run(&POLICIES, &[OF_GATEKEEPER], |command| {
        command.env("MLOP_GATOR", tools::build(&GATOR)?.0.path);
        Ok(())
    })
}

/// The online features are tested against a real Redis.
pub fn redis() -> Result<()> {
    local::provide("redis-server", "redis-server", "the tests of mlop-features start one")
}

/// They start their own API server, built from Go modules for every provider.
fn real_faults() -> Result<Report> {
    if !process::found("go") {
        eprintln!("skipped: `go`, which builds etcd and the API server, is not on the PATH");
        return Ok(Report { skipped: 1, ..Report::default() });
    }
    xtask(&REAL_FAULTS)
}

/// The suite that compares the simulator with a real API server, and the admission of the kinds.
fn conformance(environment: &Environment) -> Result<Report> {
    let cluster = environment.cluster()?;
    suite::run(&CONFORMANCE, &["--skip", OF_GATEKEEPER], |command| {
        command.env("MLOP_CONFORMANCE_KUBECONFIG", cluster.kubeconfig()?);
        Ok(())
    })
}

fn installation(environment: &Environment) -> Result<Report> {
    on_cluster(environment, &["images"])?;
    on_cluster(environment, &["install", "--test"])
}

/// Distributed trainings with the frameworks themselves, in images that are built for it.
/// Tests that need an image which is built by name only.
fn with_image(
    environment: &Environment,
    image: &str,
    tests: fn(&dyn Cluster) -> Result<Report>,
) -> Result<Report> {
    let cluster = environment.cluster()?;
    let images = on_cluster(environment, &["images", "--only", image])?;
    Ok(images.and(tests(cluster)?))
}

impl Environment {
    fn cluster(&self) -> Result<&dyn Cluster> {
        self.cluster.as_deref().context("no cluster can run here")
    }
}

fn on_cluster(environment: &Environment, args: &[&str]) -> Result<Report> {
    show(&mut cluster::task(args, environment.cluster()?)?)
}

fn xtask(args: &[&str]) -> Result<Report> {
    show(&mut build::task(args)?)
}

fn show(command: &mut Command) -> Result<Report> {
    process::echo(command, |_| ())?;
    Ok(ONE)
}

#[allow(clippy::disallowed_methods, reason = "measures for people; nothing is decided by it")]
fn now() -> Instant {
    Instant::now()
}
