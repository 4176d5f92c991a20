//! The fault of each alert, made once on a real cluster: whether the alert fires, after how long, and what the statuses
//! say meanwhile. The lines "Seen" of the runbooks have these results.

mod lab;
mod operators;
mod resources;
mod roles;
mod servers;

pub use lab::Lab;

use super::{Observatory, rules};
use crate::namespace::TestNamespace;
use anyhow::{Context as _, Result, ensure};
use futures::future::BoxFuture;
use std::{fmt::Write as _, time::Duration};
use tokio::time::Instant;

/// The time limit from a fault to its alert.
const LIMIT: Duration = Duration::from_secs(600);
/// The time limit from a repair to the end of the alert.
const RESOLUTION_LIMIT: Duration = Duration::from_secs(240);

type Step = for<'a> fn(&'a Lab<'a>) -> BoxFuture<'a, Result<()>>;

/// How the fault of an alert is made.
struct Drill {
    alert: &'static str,
    /// The fault, in words.
    fault: &'static str,
    /// What has to be there before.
    prepare: Step,
    make: Step,
    /// Repeated until the alert fires: requests of users, further runs.
    again: Step,
    mend: Step,
    look: Look,
    /// Name of the object that the alert is about; any if it is empty.
    object: &'static str,
    /// Whether the alert ends soon after the repair. Rates over ten minutes do not.
    ends: bool,
}

/// Where the fault can be seen.
enum Look {
    /// `kubectl mlop why KIND/NAME` in the namespace.
    Why(&'static str, &'static str),
    /// kubectl with these arguments; the last lines with one of the words.
    Kubectl(&'static [&'static str], &'static str),
}

/// What was seen.
#[derive(Debug)]
pub struct Seen {
    pub alert: &'static str,
    pub fault: &'static str,
    /// `for` of the rule that users get, and of the rule in this run.
    pub shipped: String,
    /// From the fault until Alertmanager had the alert.
    pub fired: Duration,
    /// From the repair until Alertmanager had it no more.
    pub ended: Option<Duration>,
    pub summary: String,
    pub status: String,
}

fn nothing<'a>(_: &'a Lab<'a>) -> BoxFuture<'a, Result<()>> {
    Box::pin(async { Ok(()) })
}

fn all() -> Vec<Drill> {
    [operators::drills(), resources::drills(), servers::drills()].into_iter().flatten().collect()
}

/// Makes the faults of the alerts whose names contain one of `only`, or of all, and prints each.
///
/// # Errors
/// An alert does not fire, or a fault cannot be made or repaired.
pub async fn run(ns: &TestNamespace, observatory: &Observatory, only: &[String]) -> Result<Vec<Seen>> {
    let lab = Lab::new(ns, observatory);
    // An operator that was never seen leading cannot be missed.
    let lead = format!("count(mlop_leading == 1) >= {}", operators::NUMBER);
    observatory.prometheus.until(&lead, LIMIT).await?;
    let (mut seen, mut failures) = (Vec::new(), Vec::new());
    for drill in all() {
        let named = |word: &String| drill.alert.to_lowercase().contains(&word.to_lowercase());
        if !only.is_empty() && !only.iter().any(named) {
            continue;
        }
        match one(&lab, &drill).await {
            Ok(found) => {
                println!("{found}");
                seen.push(found);
            }
            Err(error) => {
                println!("--- {}: {error:#}", drill.alert);
                failures.push(drill.alert);
            }
        }
    }
    ensure!(failures.is_empty(), "not seen: {}", failures.join(", "));
    Ok(seen)
}

async fn one(lab: &Lab<'_>, drill: &Drill) -> Result<Seen> {
    println!("\n=== {}: {}", drill.alert, drill.fault);
    let shipped = rules::shipped()?.into_iter().find(|(alert, _)| alert == drill.alert);
    let (_, shipped) = shipped.with_context(|| format!("the chart has no alert {}", drill.alert))?;
    let outcome = broken(lab, drill).await;
    // Also after an error: the next drill needs a cluster in order.
    let repaired = (drill.mend)(lab).await.context("repair");
    let (summary, fired, status) = outcome?;
    repaired?;
    let mended = Instant::now();
    let ended = if drill.ends {
        lab.until_quiet(drill, RESOLUTION_LIMIT).await?;
        Some(mended.elapsed())
    } else {
        None
    };
    Ok(Seen { alert: drill.alert, fault: drill.fault, shipped, fired, ended, summary, status })
}

/// Makes the fault; the alert's summary, the time until it fired, and what the status said.
async fn broken(lab: &Lab<'_>, drill: &Drill) -> Result<(String, Duration, String)> {
    (drill.prepare)(lab).await.context("preparation")?;
    ensure!(lab.firing(drill).await?.is_none(), "it fires before the fault");
    let made = Instant::now();
    (drill.make)(lab).await.context("fault")?;
    let summary = lab.until_firing(drill, LIMIT).await?;
    let fired = made.elapsed();
    Ok((summary, fired, lab.look(&drill.look).await?))
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "fired after {:.0} s (for: {} as shipped): {}",
            self.fired.as_secs_f64(),
            self.shipped,
            self.summary
        )?;
        if let Some(ended) = self.ended {
            writeln!(f, "ended {:.0} s after the repair", ended.as_secs_f64())?;
        }
        write!(f, "{}", self.status)
    }
}

/// The rows of the table in the runbooks. `short` is the longest `for` of the run.
pub fn table(seen: &[Seen], short: Duration) -> String {
    let mut rows = format!(
        "`for` was at most {} s.\n\n| alert | fault | `for` as shipped | fired after | ended after the repair |\n|---|---|---|---|---|\n",
        short.as_secs()
    );
    for row in seen {
        let ended = row.ended.map_or_else(|| "not waited for".to_owned(), |it| format!("{} s", it.as_secs()));
        let (Seen { alert, fault, shipped, .. }, fired) = (row, row.fired.as_secs());
        writeln!(rows, "| `{alert}` | {fault} | {shipped} | {fired} s | {ended} |").ok();
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_alert_of_the_chart_has_one_drill() {
        let drills = all();
        let names: BTreeSet<_> = drills.iter().map(|drill| drill.alert.to_owned()).collect();
        let alerts: BTreeSet<_> = rules::shipped().unwrap().into_iter().map(|(alert, _)| alert).collect();
        assert_eq!(names, alerts);
        assert_eq!(drills.len(), names.len());
    }
}
