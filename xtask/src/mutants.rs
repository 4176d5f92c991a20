//! `cargo xtask mutants`: shows that the fault harness notices mistakes.
//!
//! Each patch in `crates/mlop-faults/mutants` puts one mistake that real controllers make into the code, and names
//! what must fail because of it. It is tried in a copy of the checkout, after the same has passed without the mistake.
mod copy;
mod kill;
mod mutant;

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

#[derive(clap::Args)]
pub struct Args {
    /// Only mutants whose names contain this.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
}

/// How a mutant ended.
struct Row<'a> {
    mutant: &'a Mutant,
    verdict: Verdict,
    seconds: f64,
}

pub fn run(args: &Args) -> Result<()> {
    let mut mutants = mutant::all(&paths::repository().join("crates/mlop-faults/mutants"))?;
    mutants.retain(|mutant| args.only.as_ref().is_none_or(|text| mutant.name.contains(text)));
    if mutants.is_empty() {
        bail!("no mutant has such a name");
    }
    let record = record()?;
    let copy = Copy::of_checkout()?;
    mutants.iter().try_for_each(|mutant| copy.fits(&mutant.patch))?;
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
    let alive: Vec<&Row<'_>> = rows.iter().filter(|row| row.verdict == Verdict::Holds).collect();
    for row in &alive {
        eprintln!("{} is not noticed: {}", row.mutant.name, row.mutant.what);
    }
    if !alive.is_empty() {
        bail!("{} of {} mutants are not noticed", alive.len(), rows.len());
    }
    Ok(())
}

/// What fails with a mistake proves something only if it passes without.
fn holds_without(copy: &Copy, mutants: &[Mutant]) -> Result<()> {
    let kills: BTreeSet<&Kill> = mutants.iter().map(|mutant| &mutant.kill).collect();
    for kill in kills {
        let (verdict, seconds) = timed(|| kill::run(copy, kill))?;
        if let Verdict::Killed(by) = verdict {
            bail!("`{kill}` fails without any mutant ({by}): mend that first");
        }
        eprintln!("`{kill}` holds without mutants in {seconds:.1} s");
    }
    Ok(())
}

fn try_out(copy: &Copy, mutant: &Mutant) -> Result<Verdict> {
    copy.apply(&mutant.patch)?;
    let verdict = kill::run(copy, &mutant.kill).with_context(|| format!("mutant {}", mutant.name));
    copy.undo(&mutant.patch)?;
    verdict
}

/// Where the outcome for the code as it is now is kept.
fn record() -> Result<PathBuf> {
    let mut code = Inputs::new("mutants");
    for folder in ["crates", "operators"] {
        code.folder(&paths::repository().join(folder))?;
    }
    Ok(paths::cache()?.join("mutants").join(format!("killed-{}", code.key())))
}

fn remember(record: &Path, rows: &[Row<'_>]) -> Result<()> {
    let killed = rows.iter().filter(|row| row.verdict != Verdict::Holds).count();
    fs::write(record, format!("{killed} of {}", rows.len()))
        .with_context(|| format!("cannot write {}", record.display()))?;
    cache::keep_only(record)
}

/// How many mutants the last run over all of them has killed, if the code is still the same.
pub fn killed() -> Result<Option<String>> {
    Ok(fs::read_to_string(record()?).ok())
}

fn print(rows: &[Row<'_>]) {
    let width = rows.iter().map(|row| row.mutant.name.len()).max().unwrap_or_default();
    println!("{:width$}  {:>7}  killed by", "mutant", "seconds");
    for row in rows {
        let by = match &row.verdict {
            Verdict::Holds => "nothing: it is not noticed",
            Verdict::Killed(by) => by,
        };
        println!("{:width$}  {:>7.1}  {by}", row.mutant.name, row.seconds);
    }
}

#[allow(clippy::disallowed_methods, reason = "measures for people; nothing is decided by it")]
fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
    let start = Instant::now();
    Ok((work()?, start.elapsed().as_secs_f64()))
}
