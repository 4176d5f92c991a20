//! Checks of the audit log that the end-to-end tests produced.
//!
//! `cargo xtask test` runs them after those tests. `MLOP_AUDIT_FROM` is the offset at which their part of the log begins.

use anyhow::{Context as _, Result, ensure};
use mlop_api::operators;
use mlop_e2e::{
    audit::{AuditLog, Entry},
    audit_checks,
    cluster::Cluster,
    stage::OPERATORS,
};

/// The entries of operators, and all entries with a resource version.
///
/// Fails unless every operator has written something, because otherwise the log is not that of a test run.
async fn log() -> Result<Vec<Entry>> {
    let log = AuditLog::whole()?.context("this cluster has no audit log: MLOP_AUDIT_LOG is not set")?;
    log.catch_up(&Cluster::connect().await?).await?;
    let entries = log.entries(|entry| entry.operator().is_some() || entry.resource_version.is_some())?;
    for operator in operators::ALL.map(|operator| operator.name) {
        let wrote = |entry: &Entry| {
            entry.operator() == Some(operator) && entry.is_accepted() && entry.resource_version.is_some()
        };
        ensure!(entries.iter().any(wrote), "the audit log has no accepted write of {operator}");
    }
    Ok(entries)
}

#[tokio::test]
async fn operators_make_no_idle_writes() -> Result<()> {
    let entries = log().await?;
    let idle = audit_checks::idle_writes(&entries);
    ensure!(idle.is_empty(), "{} writes changed nothing:\n{}", idle.len(), audit_checks::list(&idle));
    Ok(())
}

#[tokio::test]
async fn operators_have_the_permissions_that_they_use() -> Result<()> {
    let entries = log().await?;
    let unauthorized = audit_checks::unauthorized(&entries);
    ensure!(
        unauthorized.is_empty(),
        "{} requests were not permitted:\n{}",
        unauthorized.len(),
        audit_checks::list(&unauthorized)
    );
    Ok(())
}

#[tokio::test]
async fn operators_do_not_read_secrets() -> Result<()> {
    let entries = log().await?;
    let secrets = audit_checks::secrets(&entries);
    ensure!(
        secrets.is_empty(),
        "{} requests were for Secrets:\n{}",
        secrets.len(),
        audit_checks::list(&secrets)
    );
    Ok(())
}

/// The audit log contains everything that operators write: pods, statuses, Events, and messages that pods reported.
#[tokio::test]
async fn operators_do_not_reveal_secret_values() -> Result<()> {
    log().await?;
    let audit = AuditLog::whole()?.context("this cluster has no audit log")?;
    let lines = audit.lines(audit_checks::contains_secret)?;
    ensure!(lines.is_empty(), "the value of a Secret is in the audit log:\n{}", lines.join("\n"));

    let cluster = Cluster::connect().await?;
    for operator in operators::ALL.map(|operator| operator.name) {
        let deployment = format!("deployment/{operator}");
        let output = cluster.kubectl(&["-n", OPERATORS, "logs", &deployment, "--tail=-1"]).await?;
        ensure!(!output.trim().is_empty(), "{operator} has logged nothing");
        ensure!(!audit_checks::contains_secret(&output), "the value of a Secret is in the log of {operator}");
    }
    Ok(())
}
