//! Checks of the audit log that the end-to-end tests produced.
//!
//! `cargo xtask test` runs them after those tests. `MLOP_AUDIT_FROM` is the offset at which their part of the log begins.

use anyhow::{Context as _, Result, ensure};
use expect_test::expect_file;
use mlop_api::{operators, text::printable};
use mlop_e2e::{
    audit::{AuditLog, Entry},
    audit_checks,
    cluster::Cluster,
    rights,
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

/// `UPDATE_EXPECT=1` writes the page of the documentation.
#[tokio::test]
async fn operators_use_all_of_their_permissions() -> Result<()> {
    let used = rights::used(&log().await?);
    let granted = rights::granted(&Cluster::connect().await?).await?;
    println!("{} of {} permissions were used", granted.intersection(&used).count(), granted.len());
    let differences = rights::differences(&granted, &used);
    ensure!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
    expect_file!["../../docs/operations/rights.md"].assert_eq(&rights::page(&granted));
    Ok(())
}

/// The API server notes the enforced level at each request about a pod.
#[tokio::test]
async fn pods_run_where_pod_security_restricted_is_enforced() -> Result<()> {
    let entries = log().await?;
    let of_users = audit_checks::created_pods(&entries).filter(|entry| entry.namespace != OPERATORS);
    ensure!(of_users.count() > 0, "no pod was created");
    let lax = audit_checks::unrestricted_pods(&entries);
    ensure!(lax.is_empty(), "{} pods in lax namespaces:\n{}", lax.len(), audit_checks::list(&lax));
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

/// No text of a tenant ends a line or acts on a terminal.
#[tokio::test]
async fn operators_log_one_json_object_a_line() -> Result<()> {
    let cluster = Cluster::connect().await?;
    for operator in operators::ALL.map(|operator| operator.name) {
        let output = cluster
            .kubectl(&["-n", OPERATORS, "logs", &format!("deployment/{operator}"), "--tail=-1"])
            .await?;
        ensure!(!output.is_empty(), "{operator} has logged nothing");
        for line in output.lines() {
            let fields: serde_json::Map<String, serde_json::Value> =
                serde_json::from_str(line).with_context(|| format!("{operator}: {line:?}"))?;
            ensure!(
                ["timestamp", "level"].iter().all(|name| fields.contains_key(*name)),
                "{operator}: {line}"
            );
            ensure!(printable(line) == line, "{operator}: {line:?}");
        }
    }
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
