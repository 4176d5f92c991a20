//! `cargo xtask mutants`: shows that tests and fault plans notice mistakes.
//!
//! Each mutant of `crates/mlop-faults/mutants` puts one mistake that real controllers make into a function, and names
//! the check that must fail because of it. It is tried in a copy of the checkout, after the check has passed without
//! the mistake.
mod copy;
mod kill;
mod mutant;
mod source;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::cache::{self, Inputs};
use crate::paths;
use copy::Copy;
use kill::Verdict;
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
        matches!(self.verdict, Verdict::Killed(_))
    }
}

pub fn run(args: &Args) -> Result<()> {
    let mut mutants = mutant::all(&paths::repository().join(MUTANTS))?;
    mutants.retain(|mutant| args.only.as_ref().is_none_or(|text| mutant.name.contains(text)));
    if mutants.is_empty() {
        bail!("no mutant has such a name");
    }
    mutant::check(&mutants, paths::repository())?;
    if args.check {
        println!("{} mutants fit the sources", mutants.len());
        return Ok(());
    }
    let record = record()?;
    let copy = Copy::of_checkout()?;
    holds_without(&copy, &mutants)?;
    let mut rows = Vec::new();
    for mutant in &mutants {
        let (verdict, seconds) = timed(|| try_out(&copy, mutant))?;
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
fn holds_without(copy: &Copy, mutants: &[Mutant]) -> Result<()> {
    let kills: BTreeSet<&Kill> = mutants.iter().map(|mutant| &mutant.killed_by).collect();
    for kill in kills {
        let (verdict, seconds) = timed(|| kill::run(copy, kill))?;
        if let Verdict::Killed(by) = verdict {
            bail!("`{kill}` fails without any mutant ({by}): fix that first");
        }
        eprintln!("`{kill}` holds without mutants in {seconds:.1} s");
    }
    Ok(())
}

fn try_out(copy: &Copy, mutant: &Mutant) -> Result<Verdict> {
    let change = mutant.change(copy.tree())?;
    copy.write(&change.path, &change.after)?;
    let verdict = kill::run(copy, &mutant.killed_by);
    copy.write(&change.path, &change.before)?;
    // A whole run takes long, so the others are tried too.
    Ok(verdict.unwrap_or_else(|error| Verdict::Unknown(format!("{error:#}"))))
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
            Verdict::Unknown(_) => "unknown: its check did not run",
        };
        println!("{:width$}  {:>7.1}  {by}", row.mutant.name, row.seconds);
    }
}

#[allow(clippy::disallowed_methods, reason = "a measurement for the report; no decision uses it")]
fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
    let start = Instant::now();
    Ok((work()?, start.elapsed().as_secs_f64()))
}
