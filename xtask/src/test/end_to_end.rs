//! The end-to-end tests, on a cluster with the operators.
use std::{env, fs};

use anyhow::{Result, ensure};

use super::report::Report;
use super::suite;
use crate::cluster::{self, Cluster, Provider, local};
use crate::tools;

pub const END_TO_END: [&str; 2] = ["--test", "it"];
/// Checks of the audit log: the operators' requests during the end-to-end tests.
pub const AUDIT: [&str; 2] = ["--test", "audit"];
/// Tests of troubles that last for minutes.
const LIFE_TESTS: [&str; 3] = ["--test", "it", "life::"];
/// Tests of frameworks, with images that nothing else needs.
const FRAMEWORKS: [&str; 3] = ["--test", "it", "frameworks::"];
/// The test of keys from Vault, with an image that nothing else needs.
const VAULT: [&str; 3] = ["--test", "it", "vault::"];
/// The test of Flux, whose controllers nothing else needs.
const FLUX: [&str; 3] = ["--test", "it", "flux::"];
const BUSY_CORES: &str = "life::alone::busy_cores_restart_no_operator";
/// The tests that stop processes of a node or drop its packets.
const ON_THE_NODE: &str = "operators_recover_in_seconds_after_kill_or_partition";
const NODE_LOSS: &str = "training_recovers_from_the_loss_of_its_node";

/// The number of tests that [`run`] runs.
pub fn count() -> Result<usize> {
    let by_name = count_life()? + count_frameworks()? + count_vault()? + count_flux()?;
    let shared = suite::listed(&END_TO_END)?.saturating_sub(by_name);
    Ok(shared + suite::listed(&AUDIT)?)
}

/// The number of tests that [`life`] and [`busy_cores`] run.
pub fn count_life() -> Result<usize> {
    suite::listed(&LIFE_TESTS)
}

/// The number of tests that [`frameworks`] runs.
pub fn count_frameworks() -> Result<usize> {
    suite::listed(&FRAMEWORKS)
}

/// The number of tests that [`vault`] runs.
pub fn count_vault() -> Result<usize> {
    suite::listed(&VAULT)
}

/// The number of tests that [`flux`] runs.
pub fn count_flux() -> Result<usize> {
    suite::listed(&FLUX)
}

/// All tests but those of life, of frameworks, of Vault and of Flux, then the checks of the audit log.
pub fn run(cluster: &dyn Cluster) -> Result<Report> {
    let log = cluster.audit_log()?;
    let length = |log| fs::metadata(log).map_or(0, |metadata| metadata.len());
    let begin = log.as_ref().map(length);
    // One at a time: they share the machine's cores, and some of them kill operators.
    let by_name = [LIFE_TESTS, FRAMEWORKS, VAULT, FLUX].map(|[.., words]| ["--skip", words]).concat();
    let tests = tests(cluster, &[&["--test-threads=1"], &by_name[..]].concat(), Some(ON_THE_NODE))?;
    let Some(begin) = begin else {
        return Ok(tests.and(Report { skipped: suite::listed(&AUDIT)?, ..Report::default() }));
    };
    let audit = suite::run(&AUDIT, &[], |command| {
        cluster::environment(command.env("MLOP_AUDIT_FROM", begin.to_string()), cluster)
    })?;
    Ok(tests.and(audit))
}

/// The tests of life that share the cluster run side by side, then those that stop a part of it.
pub fn life(cluster: &dyn Cluster) -> Result<Report> {
    local::provide("jq", "jq", "the documented backup uses it")?;
    let shared = tests(cluster, &["life::shared::", "--test-threads=4"], None)?;
    let alone = ["life::", "--test-threads=1", "--skip", "life::shared::", "--skip", BUSY_CORES];
    Ok(shared.and(tests(cluster, &alone, Some(NODE_LOSS))?))
}

/// The tests of frameworks.
pub fn frameworks(cluster: &dyn Cluster) -> Result<Report> {
    tests(cluster, &["frameworks::", "--test-threads=1"], None)
}

/// The test of keys from Vault.
pub fn vault(cluster: &dyn Cluster) -> Result<Report> {
    tests(cluster, &["vault::", "--test-threads=1"], None)
}

/// The test of Flux, whose controllers run next to the cluster.
pub fn flux(cluster: &dyn Cluster) -> Result<Report> {
    let kinds = env::join_paths(tools::flux()?)?;
    suite::run(&END_TO_END, &["flux::", "--format=pretty"], |command| {
        cluster::environment(command.env("MLOP_FLUX_KINDS", kinds), cluster)
    })
}

/// The test of life that stops a kubelet.
pub fn node_loss(cluster: &dyn Cluster) -> Result<Report> {
    tests(cluster, &[NODE_LOSS], Some(NODE_LOSS))
}

/// Ten minutes without an idle core.
pub fn busy_cores(cluster: &dyn Cluster) -> Result<Report> {
    tests(cluster, &[BUSY_CORES, "--exact"], None)
}

/// The tests whose names contain one of `words`.
pub fn named(cluster: &dyn Cluster, words: &[String]) -> Result<Report> {
    let harness: Vec<&str> = words.iter().map(String::as_str).chain(["--test-threads=1"]).collect();
    let report = tests(cluster, &harness, None)?;
    ensure!(report.passed + report.failed > 0, "no test has {} in its name", words.join(" or "));
    Ok(report)
}

/// Runs tests with these arguments of the harness, without `on_a_node` if xtask does not know the nodes.
fn tests(cluster: &dyn Cluster, harness: &[&str], on_a_node: Option<&str>) -> Result<Report> {
    // Each is long enough for a line.
    let mut harness = [harness, &["--format=pretty"]].concat();
    let mut skipped = 0;
    if let (Some(test), Provider::Current) = (on_a_node, cluster.provider()) {
        eprintln!("skipped: {test}, because it stops processes or drops packets of a node");
        harness.extend(["--skip", test]);
        skipped = 1;
    }
    let tests = suite::run(&END_TO_END, &harness, |command| cluster::environment(command, cluster))?;
    Ok(tests.and(Report { skipped, ..Report::default() }))
}
