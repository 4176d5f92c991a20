//! The generated RBAC of the operators, in their charts, and of users.
use std::path::PathBuf;

use anyhow::Result;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use kube::ResourceExt as _;
use mlop_api::kinds;
use mlop_api::operators::{self, Answered, Operator, READ, Rule, WATCH};
use serde::Serialize;

use super::crds::KEEP;
use super::files::{Files, yaml};
use super::rbac::{COMMON, OWN_RUNS, OWN_STATUS, SET_FINALIZER, TAKE_FINALIZER_OFF};

/// Names of the resources that the policy of an operator's chart guards.
#[derive(Serialize)]
struct Guarded {
    runs: Vec<String>,
    statuses: Vec<String>,
    /// Whether its kinds have no namespaces: then the cluster has one installation, wherever that works.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cluster: bool,
    /// The field of the runs' statuses that another operator writes, and its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    answered: Option<Field>,
}

#[derive(Serialize)]
struct Field {
    by: &'static str,
    field: &'static str,
}

pub fn files() -> Result<Files> {
    let mut files = Files::new();
    for operator in operators::ALL {
        let directory = PathBuf::from(format!("charts/{}/files", operator.name));
        files.insert(directory.join("rights.yaml"), yaml(&rules(operator))?);
        files.insert(directory.join("guarded.yaml"), yaml(&guarded(operator))?);
        let cluster = cluster_rules(operator);
        if !cluster.is_empty() {
            files.insert(directory.join("cluster-rights.yaml"), yaml(&cluster)?);
        }
        if !operator.finalized.is_empty() {
            // The chart has the hook if it has this file.
            let take_off = mlop(operator.finalized_resources(), TAKE_FINALIZER_OFF);
            files.insert(directory.join("finalizers.yaml"), yaml(&[take_off])?);
        }
    }
    for role in [view(), edit()] {
        let name = role.name_any();
        files.insert(format!("charts/mlop-crds/templates/{name}.yaml").into(), yaml(&role)?);
    }
    Ok(files)
}

/// Resources of all kinds of the operator, as plural names.
fn owned(operator: &Operator) -> Vec<String> {
    [operator.policies(), operator.intents(), operator.runs()].concat()
}

fn statuses(operator: &Operator) -> Vec<String> {
    owned(operator).iter().map(|plural| format!("{plural}/status")).collect()
}

fn guarded(operator: &Operator) -> Guarded {
    let answered = operator.answered.map(|Answered { by, field }| Field { by, field });
    let cluster = operator.kinds.iter().all(|kind| kinds::is_cluster_scoped(kind));
    Guarded { runs: operator.runs(), statuses: statuses(operator), cluster, answered }
}

/// Rules in the namespaces that the operator works in.
fn rules(operator: &Operator) -> Vec<PolicyRule> {
    let mut rules = own(operator, false);
    if !operator.runs().is_empty() {
        rules.push(mlop(operator.runs(), OWN_RUNS));
    }
    if !operator.finalized.is_empty() {
        rules.push(mlop(operator.finalized_resources(), SET_FINALIZER));
    }
    let owned = owned(operator);
    let has = |rule: &&Rule| {
        rule.group == mlop_api::GROUP && rule.resources.iter().all(|r| owned.iter().any(|o| o == r))
    };
    let common = COMMON.iter().filter(|rule| operator.intent().is_some() && !has(rule));
    rules.extend(common.map(policy));
    rules.extend(operator.rbac.iter().map(policy));
    rules
}

/// Rules on objects without a namespace.
fn cluster_rules(operator: &Operator) -> Vec<PolicyRule> {
    let mut rules = own(operator, true);
    rules.extend(operator.cluster.iter().map(policy));
    rules
}

/// Rules on the objects of the operator's kinds that users write, and on the statuses of all of its kinds.
fn own(operator: &Operator, in_cluster: bool) -> Vec<PolicyRule> {
    let is_here = |plural: &String| {
        let kinds = operator.kinds.iter().copied().filter(|kind| kinds::is_cluster_scoped(kind));
        kinds.map(kinds::plural).any(|scoped| *plural.trim_end_matches("/status") == scoped) == in_cluster
    };
    let mut watched = [operator.policies(), operator.intents()].concat();
    let mut written = statuses(operator);
    watched.retain(is_here);
    written.retain(is_here);
    let rules = [mlop(watched, WATCH), mlop(written, OWN_STATUS)];
    rules.into_iter().filter(|rule| rule.resources.as_ref().is_some_and(|all| !all.is_empty())).collect()
}

/// Users read everything that mlop shows.
fn view() -> ClusterRole {
    let kinds = operators::ALL.into_iter().flat_map(owned);
    user_role("mlop-view", &["view", "edit", "admin"], mlop(kinds, READ))
}

/// Users write intents and connections; policies are the platform team's, runs and statuses the operators'.
fn edit() -> ClusterRole {
    let intents = operators::ALL.into_iter().flat_map(Operator::intents);
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
    // The rights stay with the objects that they are about.
    role.metadata.annotations = Some([(KEEP.0.to_owned(), KEEP.1.to_owned())].into());
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
