//! What mlop's containers add to a training: a command that writes one small file, alone and in a training.

use super::lab::{Cost, Lab, measure};
use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use std::{path::Path, process::Command};

/// The user's command.
const COMMAND: [&str; 3] = ["sh", "-c", "echo 42 > \"$MLOP_OUTPUT/model.txt\""];
const ROLES: [&str; 5] = ["command alone", "copy", "fetch", "command in the launcher", "agent"];

/// Measures `trainings` trainings, one after the other, and returns the median of each container.
///
/// # Errors
/// A program is missing or fails.
pub async fn run(programs: &Path, trainings: usize) -> Result<Value> {
    let lab = Lab::start(programs).await?;
    let mut costs = [const { Vec::new() }; ROLES.len()];
    for index in 0..trainings.max(1) {
        let measured = train(&lab, &format!("training-{index}")).await?;
        costs.iter_mut().zip(measured).for_each(|(all, cost)| all.push(cost));
    }
    let mut figures = Vec::new();
    println!("{trainings} trainings, medians");
    for (role, costs) in ROLES.iter().zip(costs) {
        let cost = median(costs).context("no training")?;
        println!("{role:<24} {cost}");
        figures.push(json!({"container": role, "cost": cost.to_json()}));
    }
    Ok(json!({"suite": "launcher", "trainings": trainings, "figures": figures}))
}

async fn train(lab: &Lab, name: &str) -> Result<[Cost; ROLES.len()]> {
    let [shell, arguments @ ..] = COMMAND;
    let mut alone = Command::new(shell);
    alone.args(arguments).env("MLOP_OUTPUT", lab.directory(&format!("alone-{name}"))?);
    let alone = measure(alone).await?;
    let copy = lab.directory(name)?.join("launcher");
    let copy = measure(lab.training(name, &["copy", &copy.display().to_string()])?).await?;
    let fetch = measure(lab.training(name, &["fetch"])?).await?;
    let mut command = lab.training(name, &[&["run", "--"], COMMAND.as_slice()].concat())?;
    command.env("MLOP_OUTPUT", lab.directory(name)?.join("output"));
    let (agent, command) = tokio::join!(measure(lab.training(name, &["agent"])?), measure(command));
    Ok([alone, copy, fetch, command?, agent?])
}

/// The median of each figure.
fn median(costs: Vec<Cost>) -> Option<Cost> {
    let of = |figure: fn(&Cost) -> f64| {
        let mut figures: Vec<f64> = costs.iter().map(figure).collect();
        figures.sort_unstable_by(f64::total_cmp);
        figures.get(figures.len() / 2).copied()
    };
    Some(Cost {
        seconds: of(|cost| cost.seconds)?,
        cpu_seconds: of(|cost| cost.cpu_seconds)?,
        memory: of(|cost| cost.memory)?,
    })
}
