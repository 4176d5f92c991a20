//! The cost of operators with nothing to do, while pipelines are served and before there is any.
//!
//! Everything that an operator does by a timer is in it: probes of stores, looks at sources, watches that are renewed.
//! What nodes do is not: the pods of probes, kubelets and served models. Neither are leases, since one process of each
//! operator runs without leader election, nor requests without an object, such as those for versions and health.

use super::{
    chains::{Operators, namespaces, serve_first},
    workers::{self, Epoch},
};
use crate::{
    audit::{AuditLog, Entry},
    control_plane::ControlPlane,
};
use anyhow::Result;
use jiff::Timestamp;
use mlop_api::operators;
use serde_json::{Value, json};
use std::{collections::BTreeMap, fmt::Write as _, path::Path, time::Duration};
use tokio::time::sleep;

/// What the operators have used in a window.
struct Used {
    /// CPU seconds by operator.
    cpu: BTreeMap<&'static str, f64>,
    /// Number of requests by operator, verb and resource.
    requests: BTreeMap<(String, String), usize>,
}

/// Measures the operators for `window` without any pipeline, then with `pipelines` that are served. Returns the figures.
///
/// # Errors
/// A program does not start, or a pipeline does not serve in time.
pub async fn run(programs: &Path, pipelines: u32, window: Duration) -> Result<Value> {
    let server = ControlPlane::start_audited_fully().await?;
    let client = server.client.clone();
    let log = AuditLog::at(server.audit_log());
    let epoch = Epoch::default();
    let work = workers::run(client.clone(), epoch.clone());
    let measurements = async {
        let mut operators = Operators::start(programs, &server).await?;
        let nothing = watch(&operators, &log, window).await?;
        serve_first(&client, &namespaces(pipelines), &epoch).await?;
        operators.settle().await?;
        let served = watch(&operators, &log, window).await?;
        print!("{}", table(&nothing, &served, pipelines, window));
        Ok(json!({
            "suite": "idle", "pipelines": pipelines, "seconds": window.as_secs_f64(),
            "nothing": nothing.to_json(), "served": served.to_json(),
        }))
    };
    tokio::select! {
        ended = measurements => ended,
        () = work => Err(anyhow::anyhow!("the stand-in for the workers has ended")),
    }
}

async fn watch(operators: &Operators, log: &AuditLog, window: Duration) -> Result<Used> {
    #[allow(clippy::disallowed_methods, reason = "the log has the times of a real clock")]
    let (from, before) = (Timestamp::now(), cpu(operators)?);
    sleep(window).await;
    let cpu =
        cpu(operators)?.into_iter().map(|(name, after)| (name, after - before.get(name).unwrap_or(&0.0)));
    let entries = log.entries(|entry| entry.at > from && operators::named(&entry.user).is_some())?;
    Ok(Used { cpu: cpu.collect(), requests: count(&entries) })
}

fn cpu(operators: &Operators) -> Result<BTreeMap<&'static str, f64>> {
    let all = operators::ALL.iter().zip(&operators.0);
    all.map(|(operator, process)| Ok((operator.name, process.usage()?.cpu))).collect()
}

fn count(entries: &[Entry]) -> BTreeMap<(String, String), usize> {
    let mut requests = BTreeMap::new();
    for entry in entries {
        let what = (entry.user.clone(), format!("{} {}", entry.verb, entry.resource));
        *requests.entry(what).or_default() += 1;
    }
    requests
}

impl Used {
    fn to_json(&self) -> Value {
        let requests = self
            .requests
            .iter()
            .map(|((operator, what), count)| json!({"operator": operator, "request": what, "count": count}));
        json!({"cpuSeconds": self.cpu, "requests": requests.collect::<Vec<_>>()})
    }

    fn requests_of(&self, operator: &str) -> Vec<(&str, usize)> {
        let own = self.requests.iter().filter(|((user, _), _)| user == operator);
        own.map(|((_, what), count)| (what.as_str(), *count)).collect()
    }
}

fn table(nothing: &Used, served: &Used, pipelines: u32, window: Duration) -> String {
    let mut text = format!(
        "{:.0} s each\n{:<20} {:>30} {:>30}\n{:<20} {:>14} {:>15} {:>14} {:>15}\n",
        window.as_secs_f64(),
        "",
        "no pipeline",
        format!("{pipelines} served"),
        "operator",
        "1/1000 core",
        "requests/min",
        "1/1000 core",
        "requests/min",
    );
    for operator in operators::ALL {
        let _infallible = write!(text, "{:<20}", operator.name);
        for used in [nothing, served] {
            let cores = used.cpu.get(operator.name).unwrap_or(&0.0) * 1e3 / window.as_secs_f64();
            let requests: usize = used.requests_of(operator.name).iter().map(|(_, count)| count).sum();
            let minute = requests as f64 * 60.0 / window.as_secs_f64();
            let _infallible = write!(text, " {cores:>14.2} {minute:>15.1}");
        }
        let list: Vec<_> =
            served.requests_of(operator.name).iter().map(|(what, count)| format!("{what} {count}")).collect();
        let _infallible = writeln!(text, "  {}", list.join(", "));
    }
    text
}
