//! The permissions of the operators: what their roles grant, and what they use.

use crate::{audit::Entry, cluster::Cluster, stage::OPERATORS};
use anyhow::{Context as _, Result};
use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
use kube::{Api, ResourceExt as _, api::ListParams};
use mlop_api::operators;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Write as _},
};

/// A verb on a resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Permission {
    pub operator: String,
    /// API group; empty for the core group.
    pub group: String,
    /// Plural name, with the subresource after a slash.
    pub resource: String,
    pub verb: String,
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {}", self.operator, self.verb, qualified(&self.group, &self.resource))
    }
}

/// Permissions that not every end-to-end run uses.
struct Rare {
    /// None for all operators.
    operator: Option<&'static str>,
    resources: &'static [&'static str],
    verbs: &'static [&'static str],
    /// When they are used: an index of [`CASES`].
    case: usize,
}

const fn rare(
    operator: Option<&'static str>,
    resources: &'static [&'static str],
    verbs: &'static [&'static str],
    case: usize,
) -> Rare {
    Rare { operator, resources, verbs, case }
}

/// When rare permissions are used.
const CASES: [&str; 9] = [
    "The first start in a cluster.",
    "A creation finds that the object exists, for example after an answer that was lost.",
    "The spec was edited, a release makes the object differently, or somebody else has edited it.",
    "Resources or retries are edited while a run is open.",
    "There are more finished runs than `spec.historyLimit` keeps.",
    "`managed` becomes `existing`, or `rollout` is removed: the server is no longer wanted.",
    "The input of an object is of its own kind.",
    "A probe or a check is repeated after ten minutes, or failed before.",
    "A run that was admitted is gone, or no cache has seen it.",
];

const RUNS: &[&str] = &["datasetversions", "featuresnapshots", "trainingruns", "modelversions"];

const RARE: &[Rare] = &[
    rare(None, &["leases"], &["create"], 0),
    rare(Some("mlop-queue"), &["trainingruns"], &["get"], 8),
    rare(None, RUNS, &["get"], 1),
    rare(None, &["pods", "jobs", "deployments", "statefulsets"], &["get"], 1),
    rare(
        None,
        &["configmaps", "services", "networkpolicies", "poddisruptionbudgets", "persistentvolumeclaims"],
        &["get"],
        1,
    ),
    rare(None, &["statefulsets", "services", "networkpolicies", "poddisruptionbudgets"], &["patch"], 2),
    rare(None, &["persistentvolumeclaims"], &["patch"], 2),
    rare(Some("mlop-feature-store"), &["deployments"], &["patch"], 2),
    rare(Some("mlop-registry"), &["deployments"], &["patch"], 2),
    rare(None, RUNS, &["patch"], 3),
    rare(None, RUNS, &["delete"], 4),
    rare(None, &["deployments", "statefulsets", "networkpolicies"], &["delete"], 5),
    rare(Some("mlop-feature-store"), &["services"], &["delete"], 5),
    rare(Some("mlop-registry"), &["services"], &["delete"], 5),
    rare(None, &["persistentvolumeclaims"], &["delete"], 5),
    rare(Some("mlop-feature-store"), &["featureviews"], &["get"], 6),
    rare(Some("mlop-training"), &["trainingjobs"], &["get"], 6),
    rare(Some("mlop-registry"), &["pods"], &["delete"], 7),
];

/// The case in which this permission is used, if not every end-to-end run uses it.
fn case(permission: &Permission) -> Option<usize> {
    let is_it = |rare: &&Rare| {
        rare.operator.is_none_or(|operator| operator == permission.operator)
            && rare.resources.contains(&permission.resource.as_str())
            && rare.verbs.contains(&permission.verb.as_str())
    };
    RARE.iter().find(is_it).map(|rare| rare.case)
}

/// What the roles of the cluster grant to the operators, by all bindings that name their ServiceAccounts.
///
/// # Errors
/// A binding or role cannot be read.
pub async fn granted(cluster: &Cluster) -> Result<BTreeSet<Permission>> {
    let client = &cluster.client;
    let all = ListParams::default();
    let wide = Api::<ClusterRoleBinding>::all(client.clone()).list(&all).await?;
    let narrow = Api::<RoleBinding>::all(client.clone()).list(&all).await?;
    let wide = wide.into_iter().map(|it| (String::new(), it.role_ref, it.subjects));
    let narrow = narrow.into_iter().map(|it| (it.namespace().unwrap_or_default(), it.role_ref, it.subjects));
    let mut granted = BTreeSet::new();
    for (namespace, role, subjects) in wide.chain(narrow) {
        let bound: Vec<_> = subjects.iter().flatten().filter_map(operator).collect();
        if bound.is_empty() {
            continue;
        }
        let rules = rules(cluster, &namespace, &role).await.with_context(|| format!("role {}", role.name))?;
        for operator in bound {
            granted.extend(rules.iter().flat_map(|rule| of_rule(&operator, rule)));
        }
    }
    Ok(granted)
}

/// The operator whose ServiceAccount this is.
fn operator(subject: &Subject) -> Option<String> {
    let is_account = subject.kind == "ServiceAccount" && subject.namespace.as_deref() == Some(OPERATORS);
    (is_account && operators::named(&subject.name).is_some()).then(|| subject.name.clone())
}

async fn rules(cluster: &Cluster, namespace: &str, role: &RoleRef) -> Result<Vec<PolicyRule>> {
    let client = cluster.client.clone();
    let rules = match role.kind.as_str() {
        "Role" => Api::<Role>::namespaced(client, namespace).get(&role.name).await?.rules,
        _ => Api::<ClusterRole>::all(client).get(&role.name).await?.rules,
    };
    Ok(rules.unwrap_or_default())
}

fn of_rule(operator: &str, rule: &PolicyRule) -> Vec<Permission> {
    let mut permissions = Vec::new();
    for group in rule.api_groups.iter().flatten() {
        for resource in rule.resources.iter().flatten() {
            for verb in &rule.verbs {
                permissions.push(Permission {
                    operator: operator.to_owned(),
                    group: group.clone(),
                    resource: resource.clone(),
                    verb: verb.clone(),
                });
            }
        }
    }
    permissions
}

/// What the operators have asked for and got.
pub fn used(entries: &[Entry]) -> BTreeSet<Permission> {
    let accepted = entries.iter().filter(|entry| !entry.unauthorized);
    let permissions = accepted.filter_map(|entry| {
        Some(Permission {
            operator: entry.operator().filter(|name| operators::named(name).is_some())?.to_owned(),
            group: entry.group.clone(),
            resource: entry.resource.clone(),
            verb: entry.verb.clone(),
        })
    });
    permissions.collect()
}

/// How the granted permissions differ from the used ones, a line each.
pub fn differences(granted: &BTreeSet<Permission>, used: &BTreeSet<Permission>) -> Vec<String> {
    let unused = granted.difference(used).filter(|permission| case(permission).is_none());
    let unused = unused.map(|permission| format!("granted and never used: {permission}"));
    let other = used.difference(granted).map(|permission| format!("used, but of no role: {permission}"));
    let wild =
        granted.iter().filter(|it| [&it.group, &it.resource, &it.verb].iter().any(|part| part.contains('*')));
    let wild = wild.map(|permission| format!("a wildcard: {permission}"));
    unused.chain(other).chain(wild).collect()
}

/// The page of the documentation that lists all permissions.
pub fn page(granted: &BTreeSet<Permission>) -> String {
    let mut text = INTRODUCTION.to_owned();
    for operator in operators::ALL.map(|operator| operator.name) {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "\n## {operator}\n\n{HEADER}");
        let mut rows: BTreeMap<(&str, &str), Vec<&Permission>> = BTreeMap::new();
        for permission in granted.iter().filter(|permission| permission.operator == operator) {
            rows.entry((&permission.group, &permission.resource)).or_default().push(permission);
        }
        for ((group, resource), permissions) in rows {
            let verbs = |is_rare: bool| {
                let verbs = permissions.iter().filter(|it| case(it).is_some() == is_rare);
                let verbs = verbs.map(|it| match case(it) {
                    Some(case) => format!("{} ({})", it.verb, case + 1),
                    None => it.verb.clone(),
                });
                verbs.collect::<Vec<_>>().join(", ")
            };
            let _ =
                writeln!(text, "| `{}` | {} | {} |", qualified(group, resource), verbs(false), verbs(true));
        }
    }
    text.push_str("\n## Cases\n\n");
    for (index, case) in CASES.iter().enumerate() {
        let _ = writeln!(text, "{}. {case}", index + 1);
    }
    text
}

const INTRODUCTION: &str = "\
# Permissions of the operators

What the roles of the charts grant, operator by operator. An end-to-end run uses every permission of the second column;
those of the third column are for the [case](#cases) with the number. The check
`operators_use_all_of_their_permissions` compares the audit log of a whole run with the roles in the cluster, in both
directions, and writes this page.

Nothing is granted by a wildcard. No operator may read Secrets. Leases are those of the operator's own namespace, and the
operator reads and updates only the lease that has its name.
";

const HEADER: &str = "| resource | always used | used in a case |\n|---|---|---|";

fn qualified(group: &str, resource: &str) -> String {
    match (group, resource.split_once('/')) {
        ("", _) => resource.to_owned(),
        (group, None) => format!("{resource}.{group}"),
        (group, Some((resource, subresource))) => format!("{resource}.{group}/{subresource}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::tests::line;
    use serde_json::json;

    fn permission(verb: &str, resource: &str) -> Permission {
        let operator = operators::FEATURE_STORE.name.to_owned();
        Permission { operator, group: String::new(), resource: resource.to_owned(), verb: verb.to_owned() }
    }

    #[test]
    fn differences_are_found_in_both_directions() {
        let granted = BTreeSet::from([
            permission("watch", "pods"),
            permission("list", "pods"),
            permission("*", "pods"),
        ]);
        let mut refused = line(2, "get", "configmaps", "c", json!({}));
        refused.unauthorized = true;
        let log = [line(0, "watch", "pods", "", json!({})), line(1, "get", "nodes", "n", json!({})), refused];
        assert_eq!(
            differences(&granted, &used(&log)),
            [
                "granted and never used: mlop-feature-store: * pods",
                "granted and never used: mlop-feature-store: list pods",
                "used, but of no role: mlop-feature-store: get nodes",
                "a wildcard: mlop-feature-store: * pods",
            ]
        );
    }

    #[test]
    fn page_has_each_resource_once() {
        let granted = BTreeSet::from([permission("watch", "pods"), permission("list", "pods")]);
        assert!(page(&granted).contains("## mlop-feature-store\n\n| resource | always used | used in a case |\n|---|---|---|\n| `pods` | list, watch |  |\n"));
        assert_eq!(qualified("mlop.dev", "datasets/status"), "datasets.mlop.dev/status");
    }
}
