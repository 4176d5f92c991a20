//! The rollout in steps of a ModelDeployment: its step, its last measurement, and the ends of earlier rollouts.

use crate::{
    age,
    output::{Table, brief, clean},
    snapshot::{Object, ObjectId, Snapshot},
};
use anyhow::{Result, bail};
use jiff::Timestamp;
use mlop_api::{
    rollout::{RolloutPhase, RolloutSpec, RolloutStatus},
    text::printable,
};
use serde::Serialize;

const KIND: &str = "ModelDeployment";

/// A rollout, and the steps that it takes.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    #[serde(flatten)]
    pub object: ObjectId,
    /// None if the steps in the spec cannot be read, or are taken out.
    pub spec: Option<RolloutSpec>,
    /// None before the first one.
    pub status: Option<RolloutStatus>,
}

/// The ModelDeployment that `name` means.
///
/// # Errors
/// There is none, or it has no steps.
pub fn of(snapshot: &Snapshot, name: &str) -> Result<Rollout> {
    let object = crate::names::single(snapshot, name, "rollout", |object| object.id.kind == KIND)?;
    if object.id.kind != KIND {
        bail!("{} has no rollout: want a {KIND}", object.id);
    }
    let rollout =
        Rollout { object: object.id.clone(), spec: spec(object), status: object.status.rollout.clone() };
    if rollout.spec.is_none() && rollout.status.is_none() {
        bail!("{} is rolled out without steps: it has no spec.rollout", object.id);
    }
    Ok(rollout)
}

fn spec(object: &Object) -> Option<RolloutSpec> {
    serde_json::from_value(object.spec.get("rollout")?.clone()).ok()
}

/// The rollout for a terminal.
pub fn text(rollout: &Rollout, now: Timestamp) -> String {
    let Some(status) = &rollout.status else {
        return format!("{}: nothing was rolled out in steps yet\n", rollout.object);
    };
    let since =
        status.since.map(|since| format!(", for {}", age::since(now, since.get()))).unwrap_or_default();
    let mut table = Table::default();
    table.text(format!("{}: {} is {:?}{since}", rollout.object, clean(&status.canary.words()), status.phase));
    table.text(format!("  {}", clean(&status.message)));
    table.text(String::new());
    table.row(["STEP", "WEIGHT", "HOLD", ""].map(Into::into).into());
    for (number, step) in (1_u32..).zip(rollout.spec.iter().flat_map(|spec| &spec.steps)) {
        let is_present = number == status.step && status.phase == RolloutPhase::Progressing;
        let mark = match (is_present, status.since) {
            (true, Some(_)) => "<- now",
            (true, None) => "<- its pods start",
            _ => "",
        };
        let weight = format!("{} %", step.weight);
        table.row(vec![number.to_string().into(), weight.into(), step.hold.to_string().into(), mark.into()]);
    }
    table.text(String::new());
    table.text(format!("stable   {}", clean(&status.stable.words())));
    table.text(format!("weight   {} %", status.weight));
    if let Some(last) = &status.last_measurement {
        let p99 = last.p99.as_ref().map(|p99| format!(", p99 {} s", clean(p99))).unwrap_or_default();
        table.text(format!(
            "measured {:?} in step {}, {} ago: {}{p99}; {} requests to the stable version",
            last.verdict,
            last.step,
            age::since(now, last.at.get()),
            clean(&last.message),
            last.stable_requests
        ));
    }
    let shown = table.render();
    if status.history.is_empty() { shown } else { format!("{shown}\n{}", history(status, now)) }
}

fn history(status: &RolloutStatus, now: Timestamp) -> String {
    let mut table = Table::with_header(&["VERSION", "END", "AGE", "MESSAGE"]);
    for past in &status.history {
        table.row(vec![
            past.version.as_ref().unwrap_or(&past.run).into(),
            format!("{:?}", past.phase).into(),
            age::since(now, past.at.get()).into(),
            brief(&printable(&past.message), 120).into(),
        ]);
    }
    table.render()
}
