//! `cargo xtask mutants`: shows that tests and fault plans notice mistakes.
//!
//! Each mutant of `crates/mlop-faults/mutants` puts one mistake that real controllers make into a function, and names
//! the check that must fail because of it. A copy of the checkout is built once with all mistakes in it, each behind a
//! switch. A check must pass without a mistake, and fail with it.
mod copy;
mod kill;
mod mutant;
mod source;
mod switch;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::cache::{self, Inputs};
use crate::{paths, test};
use copy::Copy;
use kill::{Programs, Verdict};
use mutant::{Kill, Mutant};

/// The directory of the mutants.
const MUTANTS: &str = "crates/mlop-faults/mutants";

#[derive(clap::Args)]
pub struct Args {
    /// Only mutants whose names contain this.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Build nothing: only check that each mutant fits today's sources and that its tests exist.
    #[arg(long)]
    check: bool,
}

/// How a mutant ended.
struct Row<'a> {
    mutant: &'a Mutant,
    verdict: Verdict,
    seconds: f64,
}

impl Row<'_> {
    fn is_killed(&self) -> bool {
        self.verdict != Verdict::Holds
    }
}

pub fn run(args: &Args) -> Result<()> {
    let all = mutant::all(&paths::repository().join(MUTANTS))?;
    let is_wanted = |mutant: &&Mutant| args.only.as_ref().is_none_or(|text| mutant.name.contains(text));
    let mutants: Vec<&Mutant> = all.iter().filter(is_wanted).collect();
    if mutants.is_empty() {
        bail!("no mutant has such a name");
    }
    mutant::check(&all, paths::repository())?;
    if args.check {
        println!("{} mutants fit the sources", mutants.len());
        return Ok(());
    }
    let record = record()?;
    test::redis()?;
    // All mistakes, so that another choice of mutants needs no other build.
    let copy = Copy::of_checkout(&switch::sources(&all, paths::repository())?)?;
    let programs = Programs::build(&copy, all.iter().map(|mutant| &mutant.killed_by))?;
    holds_without(&programs, &mutants)?;
    let mut rows = Vec::new();
    for mutant in mutants {
        let (verdict, seconds) = timed(|| programs.run(&mutant.killed_by, Some(&mutant.name)))?;
        eprintln!("{}: {verdict} in {seconds:.1} s", mutant.name);
        rows.push(Row { mutant, verdict, seconds });
    }
    print(&rows);
    if args.only.is_none() {
        remember(&record, &rows)?;
    }
    let alive: Vec<&Row<'_>> = rows.iter().filter(|row| !row.is_killed()).collect();
    for row in &alive {
        eprintln!("{} is not killed: {}", row.mutant.name, row.mutant.mistake);
    }
    if !alive.is_empty() {
        bail!("{} of {} mutants are not killed", alive.len(), rows.len());
    }
    Ok(())
}

/// A failure with a mistake proves something only if the same check passes without it.
fn holds_without(programs: &Programs<'_>, mutants: &[&Mutant]) -> Result<()> {
    let kills: BTreeSet<&Kill> = mutants.iter().map(|mutant| &mutant.killed_by).collect();
    for kill in kills {
        let (verdict, seconds) = timed(|| programs.run(kill, None))?;
        if let Verdict::Killed(by) = verdict {
            bail!("`{kill}` fails without any mutant ({by}): fix that first");
        }
        eprintln!("`{kill}` holds without mutants in {seconds:.1} s");
    }
    Ok(())
}

/// The file that keeps the outcome for the code as it is now.
fn record() -> Result<PathBuf> {
    let mut code = Inputs::new("mutants");
    for directory in ["crates", "operators"] {
        code.directory(&paths::repository().join(directory))?;
    }
    Ok(paths::cache()?.join("mutants").join(format!("killed-{}", code.key())))
}

fn remember(record: &Path, rows: &[Row<'_>]) -> Result<()> {
    let killed = rows.iter().filter(|row| row.is_killed()).count();
    fs::write(record, format!("{killed} of {}", rows.len()))
        .with_context(|| format!("cannot write {}", record.display()))?;
    cache::keep_only(record)
}

/// The number of mutants that the last whole run has killed, if the code is unchanged since.
pub fn killed() -> Result<Option<String>> {
    Ok(fs::read_to_string(record()?).ok())
}

fn print(rows: &[Row<'_>]) {
    let width = rows.iter().map(|row| row.mutant.name.len()).max().unwrap_or_default();
    println!("{:width$}  {:>7}  killed by", "mutant", "seconds");
    for row in rows {
        let by = match &row.verdict {
            Verdict::Holds => "nothing: it survives",
            Verdict::Killed(by) => by,
        };
        println!("{:width$}  {:>7.1}  {by}", row.mutant.name, row.seconds);
    }
}

#[allow(clippy::disallowed_methods, reason = "a measurement for the report; no decision uses it")]
fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
    let start = Instant::now();
    Ok((work()?, start.elapsed().as_secs_f64()))
}
