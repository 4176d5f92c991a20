//! Fault plans of the simulator, beside the same plans without shared beginnings.

use super::lab::{Cost, measure};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::{
    fs::{self, File},
    path::Path,
    process::Command,
};

/// A run of the program.
struct Run {
    plans: u64,
    cost: Cost,
}

/// Runs every `every`-th plan with one fault and `seeds` random plans, and returns the figures.
///
/// # Errors
/// The program is missing, or a plan fails.
pub async fn run(programs: &Path, every: usize, seeds: u64) -> Result<Value> {
    println!("{:>8} {:<24} {:>33} {:>9} {:>13}", "plans", "manner", "cost", "plans/s", "for a CPU s");
    // Every scenario is first run without faults, which does not count.
    let start = faults(programs, usize::MAX, 0, &[]).await?;
    println!("{:>8} {:<24} {}", start.plans, "fewest plans", start.cost);
    let shared = faults(programs, every, seeds, &[]).await?.after(&start, "shared beginnings")?;
    let alone =
        faults(programs, every, seeds, &["--alone"]).await?.after(&start, "each from its beginning")?;
    Ok(json!({"suite": "simulator", "sharedBeginnings": shared, "alone": alone}))
}

async fn faults(programs: &Path, every: usize, seeds: u64, arguments: &[&str]) -> Result<Run> {
    let directory = tempfile::tempdir()?;
    let log = directory.path().join("log");
    let mut command = Command::new(programs.join("mlop-faults"));
    command.args(["--every", &every.to_string(), "--seeds", &seeds.to_string()]).args(arguments);
    command.arg("--failures").arg(directory.path().join("failures")).stdout(File::create(&log)?);
    let cost = measure(command).await?;
    let plans = count(&fs::read_to_string(&log)?).context("mlop-faults reports no number of plans")?;
    Ok(Run { plans, cost })
}

impl Run {
    /// The figures of the plans that `start` does not have.
    fn after(self, start: &Self, manner: &str) -> Result<Value> {
        let plans = self.plans.saturating_sub(start.plans);
        ensure!(plans > 0, "too few plans: use a smaller --every or more --seeds");
        let Cost { seconds, cpu_seconds, memory } = self.cost;
        let cost = Cost {
            seconds: (seconds - start.cost.seconds).max(0.0),
            cpu_seconds: (cpu_seconds - start.cost.cpu_seconds).max(0.0),
            memory,
        };
        let (rate, of_cpu) = (plans as f64 / cost.seconds, plans as f64 / cost.cpu_seconds);
        println!("{plans:>8} {manner:<24} {cost} {rate:>9.1} {of_cpu:>13.1}");
        Ok(json!({"plans": plans, "cost": cost.to_json()}))
    }
}

/// The number of plans in the first line of the program's output: the sum of its numbers.
fn count(output: &str) -> Option<u64> {
    let line = output.lines().find(|line| line.contains("plans with one fault"))?;
    Some(line.split_whitespace().filter_map(|word| word.parse::<u64>().ok()).sum())
}

#[cfg(test)]
mod tests {
    #[test]
    fn plans_of_all_kinds_are_counted() {
        let output = "31 plans with one fault, 4 with one action of users, 100 random plans\n7 more\n";
        assert_eq!(super::count(output), Some(135));
    }
}
