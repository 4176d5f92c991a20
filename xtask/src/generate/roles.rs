//! What the operators' charts have from code: their rights (from [`super::rights`]), the users' rights, and the schema
//! of their values, which is one for all.
use std::path::PathBuf;

use anyhow::{Result, ensure};
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt as _;
use serde::Serialize;

use super::files::{Files, yaml};
use super::rights::{COMMON, OPERATORS, OWN_RUNS, OWN_STATUS, Operator, READ, Rule};

/// Schema of an operator chart's values.
const VALUES: &str = include_str!("values.schema.json");

/// What the policy of an operator's chart guards, as names of resources.
#[derive(Serialize)]
struct Guarded {
    runs: Vec<String>,
    statuses: Vec<String>,
}

pub fn files(kinds: &[CustomResourceDefinition]) -> Result<Files> {
    complete(kinds)?;
    let mut files = Files::new();
    for operator in OPERATORS {
        let directory = PathBuf::from(format!("charts/{}/files", operator.chart));
        files.insert(directory.join("rights.yaml"), yaml(&rules(operator))?);
        files.insert(directory.join("guarded.yaml"), yaml(&guarded(operator))?);
        files.insert(format!("charts/{}/values.schema.json", operator.chart).into(), VALUES.to_owned());
    }
    for role in [view(), edit()] {
        let name = role.name_any();
        files.insert(format!("charts/mlop-crds/templates/{name}.yaml").into(), yaml(&role)?);
    }
    Ok(files)
}

/// Every kind has exactly one operator.
fn complete(kinds: &[CustomResourceDefinition]) -> Result<()> {
    let mut owned: Vec<_> = OPERATORS.iter().flat_map(owned).collect();
    let mut kinds: Vec<_> = kinds.iter().map(|kind| kind.spec.names.plural.as_str()).collect();
    owned.sort_unstable();
    kinds.sort_unstable();
    ensure!(owned == kinds, "rights.rs must name each kind once: it has {owned:?}, the kinds are {kinds:?}");
    Ok(())
}

fn owned(operator: &Operator) -> impl Iterator<Item = &'static str> {
    operator.intents.iter().chain(operator.runs).copied()
}

fn statuses(operator: &Operator) -> Vec<String> {
    owned(operator).map(|plural| format!("{plural}/status")).collect()
}

fn guarded(operator: &Operator) -> Guarded {
    Guarded {
        runs: operator.runs.iter().map(|plural| (*plural).to_owned()).collect(),
        statuses: statuses(operator),
    }
}

fn rules(operator: &Operator) -> Vec<PolicyRule> {
    let mut rules =
        vec![mlop(owned(operator).map(str::to_owned), READ), mlop(statuses(operator), OWN_STATUS)];
    if !operator.runs.is_empty() {
        rules.push(mlop(operator.runs.iter().map(|plural| (*plural).to_owned()), OWN_RUNS));
    }
    let has = |rule: &&Rule| {
        rule.group == mlop_api::GROUP && rule.resources.iter().all(|r| owned(operator).any(|o| o == *r))
    };
    rules.extend(COMMON.iter().filter(|rule| !has(rule)).map(policy));
    rules.extend(operator.further.iter().map(policy));
    rules
}

/// Users read everything that mlop shows.
fn view() -> ClusterRole {
    let kinds = OPERATORS.iter().flat_map(owned).map(str::to_owned);
    user_role("mlop-view", &["view", "edit", "admin"], mlop(kinds, READ))
}

/// Users write intents and connections; runs and statuses are the operators'.
fn edit() -> ClusterRole {
    let intents = OPERATORS.iter().flat_map(|operator| operator.intents).map(|plural| (*plural).to_owned());
    user_role(
        "mlop-edit",
        &["edit", "admin"],
        mlop(intents, &["create", "update", "patch", "delete", "deletecollection"]),
    )
}

fn user_role(name: &str, joins: &[&str], rule: PolicyRule) -> ClusterRole {
    let label = |role: &&str| (format!("rbac.authorization.k8s.io/aggregate-to-{role}"), "true".to_owned());
    let mut role = ClusterRole { rules: Some(vec![rule]), ..ClusterRole::default() };
    role.metadata.name = Some(name.to_owned());
    role.metadata.labels = Some(joins.iter().map(label).collect());
    role
}

fn policy(rule: &Rule) -> PolicyRule {
    policy_rule(rule.group, rule.resources.iter().map(|name| (*name).to_owned()), rule.verbs)
}

fn mlop(resources: impl IntoIterator<Item = String>, verbs: &[&str]) -> PolicyRule {
    policy_rule(mlop_api::GROUP, resources, verbs)
}

fn policy_rule(group: &str, resources: impl IntoIterator<Item = String>, verbs: &[&str]) -> PolicyRule {
    let mut resources: Vec<_> = resources.into_iter().collect();
    resources.sort();
    PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(resources),
        verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
        ..PolicyRule::default()
    }
}
