//! Builds the copy and runs the checks that must fail.
use std::collections::BTreeMap;
use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::copy::Copy;
use super::mutant::{Kill, Target};
use super::{source, switch};
use crate::{build, process};

/// A check that takes longer hangs: virtual time does not advance, or does not end.
const TIME_LIMIT: Duration = Duration::from_secs(120);

/// The outcome of a check.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Holds,
    /// The oracle, the test or the time limit that noticed the mistake.
    Killed(String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Holds => f.write_str("survives"),
            Self::Killed(by) => write!(f, "killed by {by}"),
        }
    }
}

/// The programs of the checks.
pub struct Programs<'a> {
    copy: &'a Copy,
    plans: PathBuf,
    /// All programs, by the directory of their package and the name of their target.
    all: BTreeMap<(PathBuf, String), PathBuf>,
}

impl<'a> Programs<'a> {
    /// Builds those of `kills`.
    ///
    /// # Errors
    /// When the copy does not compile: a mistake that does not shows nothing.
    pub fn build(copy: &'a Copy, kills: impl Iterator<Item = &'a Kill>) -> Result<Self> {
        let mut cargo = build::cargo("test")?;
        cargo.args(["--no-run", "--quiet", "--locked", "--message-format", "json-render-diagnostics"]);
        // The program of the plans is built for the tests of its package.
        cargo.args(["--lib", "--test", "chain"]);
        for kill in kills {
            if let Kill::Tests { target: Target::Test(name), .. } = kill {
                cargo.args(["--test", name]);
            }
        }
        cargo.current_dir(copy.tree()).env("CARGO_TARGET_DIR", copy.target());
        let messages = process::output(&mut cargo)?;
        let programs =
            executables(&messages).map(|program| ((program.package, program.name), program.executable));
        let all: BTreeMap<_, _> = programs.collect();
        let plans = all.get(&(copy.tree().join("crates/mlop-faults"), "mlop-faults".to_owned()));
        let plans = plans.context("cargo did not report the path of mlop-faults")?.clone();
        Ok(Self { copy, plans, all })
    }

    /// Runs the check of `kill`, with a mistake by the name of its mutant or without one.
    ///
    /// # Errors
    /// When the check runs no test: that proves nothing.
    pub fn run(&self, kill: &Kill, mistake: Option<&str>) -> Result<Verdict> {
        let mut command = match kill {
            Kill::Plans(args) => {
                let mut command = Command::new(&self.plans);
                // Regressions are not part of the check.
                command.arg("--regressions").arg(self.copy.target().join("no-regressions"));
                command.arg("--failures").arg(self.copy.target().join("failures")).args(args);
                command.current_dir(self.copy.tree());
                command
            }
            Kill::Tests { package, target, filters } => {
                let directory = self.copy.tree().join(source::directory(self.copy.tree(), package)?);
                let name = match target {
                    Target::Library => package.replace('-', "_"),
                    Target::Test(name) => name.clone(),
                };
                let program = self.all.get(&(directory.clone(), name));
                let mut command = Command::new(program.with_context(|| format!("`{kill}` has no program"))?);
                // As cargo does.
                command.args(filters).current_dir(&directory).env("CARGO_MANIFEST_DIR", &directory);
                command
            }
        };
        // Backtraces of planned panics would only take time, and a skipped check proves nothing.
        command.env("RUST_BACKTRACE", "0").env("CI", "true").env_remove(switch::VARIABLE);
        command.envs(mistake.map(|name| (switch::VARIABLE, name)));
        let Some((status, said)) = within(TIME_LIMIT, &mut command)? else {
            return Ok(Verdict::Killed(format!("hang: it did not end within {} s", TIME_LIMIT.as_secs())));
        };
        if said.contains("\nrunning 0 tests\n") {
            bail!("`{kill}` runs no test");
        }
        Ok(match (status.success(), kill) {
            (true, _) => Verdict::Holds,
            (false, Kill::Plans(_)) => Verdict::Killed(oracle(&said)),
            (false, Kill::Tests { .. }) => Verdict::Killed(test(&said)),
        })
    }
}

/// A program that cargo has built.
#[derive(Debug, PartialEq, Eq)]
struct Program {
    /// The directory of its package.
    package: PathBuf,
    /// The name of its target.
    name: String,
    executable: PathBuf,
}

fn executables(messages: &str) -> impl Iterator<Item = Program> {
    messages.lines().filter_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let text = |pointer: &str| message.pointer(pointer)?.as_str().map(str::to_owned);
        Some(Program {
            package: Path::new(&text("/manifest_path")?).parent()?.to_owned(),
            name: text("/target/name")?,
            executable: text("/executable")?.into(),
        })
    })
}

/// The status and output of `command`, or none if it was killed after `limit`.
fn within(limit: Duration, command: &mut Command) -> Result<Option<(ExitStatus, String)>> {
    let (mut output, input) = std::io::pipe().context("cannot make a pipe")?;
    command.stdin(Stdio::null()).stdout(input.try_clone()?).stderr(input);
    let child = command.spawn();
    // The pipe ends when all its writers are gone: the command holds two of them.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = child.with_context(|| format!("cannot start {}", command.get_program().display()))?;
    let (sender, output_text) = mpsc::channel();
    let reader = thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = output.read_to_end(&mut bytes);
        // The receiver is gone after the limit.
        sender.send(read.map(|_| String::from_utf8_lossy(&bytes).into_owned())).ok();
    });
    let output_text = output_text.recv_timeout(limit);
    if output_text.is_err() {
        child.kill().context("cannot kill a check that hangs")?;
    }
    let status = child.wait()?;
    reader.join().ok();
    match output_text {
        Ok(text) => Ok(Some((status, text?))),
        Err(_) => Ok(None),
    }
}

/// The oracle that a failing plan names first.
fn oracle(said: &str) -> String {
    let failure = said.lines().find_map(|line| {
        let without = line.strip_prefix("without faults: ").map(|why| (why, " without faults"));
        let plan = || Some((line.strip_prefix("cargo xtask faults --plan ")?.split_once("# ")?.1, ""));
        without.or_else(plan)
    });
    match failure {
        Some((why, when)) => format!("{}{when}", before_colon(why)),
        // The harness itself panicked, or it ran a single plan.
        None if said.contains("panicked at") => "panic".to_owned(),
        None => before_colon(said.lines().last().unwrap_or_default()).to_owned(),
    }
}

/// The first test that failed.
fn test(said: &str) -> String {
    let failed = |line: &str| Some(line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?.to_owned());
    said.lines().find_map(failed).unwrap_or_else(|| "a test program that ended early".to_owned())
}

fn before_colon(text: &str) -> &str {
    text.split_once(':').map_or(text, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oracle_is_read_from_the_first_failure() {
        let rows = [
            (
                "1 plan\ncargo xtask faults --plan a/0.yaml    # end state: x: y; quiet: z\nthe rest",
                "end state",
            ),
            ("without faults: quiet: patch of jobs", "quiet without faults"),
            ("thread 'main' panicked at x.rs:1:2:\nwhy", "panic"),
            ("trace 01\nexactly once: twice", "exactly once"),
        ];
        for (said, name) in rows {
            assert_eq!(oracle(said), name);
        }
    }

    #[test]
    fn failed_test_is_read_from_the_output() {
        assert_eq!(test("test a ... ok\ntest b::c ... FAILED\n"), "b::c");
        assert_eq!(test("Aborted"), "a test program that ended early");
    }

    #[test]
    fn command_is_killed_when_it_hangs() {
        let ended = within(Duration::from_millis(50), Command::new("sleep").arg("60")).unwrap();
        assert!(ended.is_none());
        let script = "echo out; echo err >&2; exit 3";
        let (status, said) =
            within(Duration::from_secs(60), Command::new("sh").args(["-c", script])).unwrap().unwrap();
        assert_eq!((status.code(), said.as_str()), (Some(3), "out\nerr\n"));
    }

    #[test]
    fn executables_are_read_from_cargos_messages() {
        let messages = "{\"reason\":\"compiler-artifact\",\"manifest_path\":\"/w/x/Cargo.toml\",\"target\":{\"name\":\"x\"},\"executable\":null}\n\
            {\"manifest_path\":\"/w/x/Cargo.toml\",\"target\":{\"name\":\"x\"},\"executable\":\"/t/x\"}\n{\"success\":true}";
        let program = Program { package: "/w/x".into(), name: "x".to_owned(), executable: "/t/x".into() };
        assert_eq!(executables(messages).collect::<Vec<_>>(), [program]);
    }
}
