//! What the operators did while the end-to-end tests ran, from the API server's audit log.
//!
//! `cargo xtask test` runs this after those tests, and names the part of the log that they wrote (`MLOP_AUDIT_FROM`).

use anyhow::{Context as _, Result, ensure};
use mlop_e2e::{
    audit::{AuditLog, Entry},
    chain::{OPERATORS, STAGES},
    cluster::Cluster,
    conduct,
};

/// Whatever the log has about operators, and the versions that others reached. All of them have written something,
/// else it is not the log of a run.
async fn log() -> Result<Vec<Entry>> {
    let log = AuditLog::whole()?.context("this cluster keeps no audit log: MLOP_AUDIT_LOG is not set")?;
    log.catch_up(&Cluster::connect().await?).await?;
    let entries = log.entries(|entry| entry.operator().is_some() || entry.resource_version.is_some())?;
    for (_, operator) in STAGES {
        let wrote = |entry: &Entry| {
            entry.operator() == Some(operator) && entry.accepted() && entry.resource_version.is_some()
        };
        ensure!(entries.iter().any(wrote), "the audit log has no answer to a write of {operator}");
    }
    Ok(entries)
}

#[tokio::test]
async fn no_write_of_an_operator_changed_nothing() -> Result<()> {
    let entries = log().await?;
    let idle = conduct::idle_writes(&entries);
    ensure!(idle.is_empty(), "{} writes changed nothing:\n{}", idle.len(), conduct::list(&idle));
    Ok(())
}

#[tokio::test]
async fn operators_have_the_rights_that_they_use() -> Result<()> {
    let entries = log().await?;
    let refused = conduct::refusals(&entries);
    ensure!(refused.is_empty(), "{} requests were refused:\n{}", refused.len(), conduct::list(&refused));
    Ok(())
}

#[tokio::test]
async fn no_operator_looks_at_a_secret() -> Result<()> {
    let entries = log().await?;
    let secrets = conduct::secrets(&entries);
    ensure!(
        secrets.is_empty(),
        "{} requests were about Secrets:\n{}",
        secrets.len(),
        conduct::list(&secrets)
    );
    Ok(())
}

/// All that operators write is in the log: pods, statuses, Events, and what pods told them.
#[tokio::test]
async fn no_operator_gives_a_secret_away() -> Result<()> {
    log().await?;
    let audit = AuditLog::whole()?.context("this cluster keeps no audit log")?;
    let lines = audit.text(conduct::gives_away)?;
    ensure!(lines.is_empty(), "the value of a Secret is in the audit log:\n{}", lines.join("\n"));

    let cluster = Cluster::connect().await?;
    for (_, operator) in STAGES {
        let deployment = format!("deployment/{operator}");
        let said = cluster.kubectl(&["-n", OPERATORS, "logs", &deployment, "--tail=-1"]).await?;
        ensure!(!said.trim().is_empty(), "{operator} has logged nothing");
        ensure!(!conduct::gives_away(&said), "the value of a Secret is in the log of {operator}");
    }
    Ok(())
}
