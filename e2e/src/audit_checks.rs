//! Checks of the operators' requests in the audit log.

use crate::audit::Entry;
use std::fmt::Write as _;

/// Accepted writes of operators that changed nothing, except renewals of leases.
///
/// Every change increases the revision of the whole cluster. So a write changed nothing if the resource version in its
/// response had already been reached when the request was received.
pub fn idle_writes(entries: &[Entry]) -> Vec<&Entry> {
    let mut newest = 0;
    let reached: Vec<_> = entries
        .iter()
        .filter_map(|entry| {
            newest = newest.max(entry.resource_version?);
            Some((entry.at, newest))
        })
        .collect();
    let before = |entry: &Entry| {
        let count = reached.partition_point(|(at, _)| *at < entry.received);
        count.checked_sub(1).and_then(|last| reached.get(last)).map_or(0, |(_, version)| *version)
    };
    let idle = |entry: &&Entry| {
        let unchanged = entry.resource_version.is_some_and(|version| version <= before(entry));
        let removed = entry.gone && entry.verb != "delete";
        entry.operator().is_some() && entry.is_write() && entry.resource != "leases" && unchanged && !removed
    };
    entries.iter().filter(|entry| entry.is_accepted()).filter(idle).collect()
}

/// Requests of operators that their roles do not permit.
pub fn unauthorized(entries: &[Entry]) -> Vec<&Entry> {
    entries.iter().filter(|entry| entry.operator().is_some() && entry.unauthorized).collect()
}

/// Requests of operators for Secrets.
pub fn secrets(entries: &[Entry]) -> Vec<&Entry> {
    let about = |entry: &&Entry| entry.resource.split('/').next() == Some("secrets");
    entries.iter().filter(|entry| entry.operator().is_some()).filter(about).collect()
}

/// Namespaces of the cluster's own programs, and of the tests' object store.
const FOUNDATION: [&str; 2] = ["kube-system", "storage"];

/// Created pods whose namespace does not enforce Pod Security *restricted*, also those that controllers create.
pub fn unrestricted_pods(entries: &[Entry]) -> Vec<&Entry> {
    created_pods(entries).filter(|entry| !entry.pod_security.starts_with("restricted:")).collect()
}

/// Accepted creations of pods outside of the cluster's foundation.
pub fn created_pods(entries: &[Entry]) -> impl Iterator<Item = &Entry> {
    let creates = |entry: &&Entry| entry.verb == "create" && entry.resource == "pods" && entry.is_accepted();
    let is_foundation = |entry: &Entry| FOUNDATION.contains(&entry.namespace.as_str());
    entries.iter().filter(creates).filter(move |entry| !is_foundation(entry))
}

/// The values in the Secrets of the pipelines of the demo and the tests.
pub const SECRET_VALUES: [&str; 2] = ["mlop-test-secret", "mlop-test-password"];

/// Whether a text contains the value of a Secret.
pub fn contains_secret(text: &str) -> bool {
    SECRET_VALUES.iter().any(|value| text.contains(value))
}

/// The entries, one per line.
pub fn list(entries: &[&Entry]) -> String {
    entries.iter().fold(String::new(), |mut text, entry| {
        let Entry { at, user, verb, resource, namespace, name, code, message, .. } = entry;
        writeln!(text, "{at} {user} {verb} {resource} {namespace}/{name}: {code} {message}").ok();
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::tests::line;
    use serde_json::json;

    #[test]
    fn secret_values_match_the_pipelines() {
        let pipelines = [
            include_str!("../pipelines/flights.yaml"),
            concat!(
                include_str!("../tests/pipelines/stores.yaml"),
                include_str!("../tests/pipelines/means.yaml")
            ),
        ];
        for pipeline in pipelines {
            assert_eq!(pipeline.matches("kind: Secret").count(), SECRET_VALUES.len());
            assert!(SECRET_VALUES.iter().all(|value| pipeline.contains(value)));
        }
    }

    fn version(number: u64) -> serde_json::Value {
        json!({"metadata": {"resourceVersion": number.to_string()}})
    }

    #[test]
    fn write_without_a_new_version_is_idle() {
        let log = [
            line(0, "patch", "datasets/status", "a", version(10)),
            line(10, "create", "pods", "p", version(11)),
            line(20, "patch", "datasets/status", "a", version(10)),
            line(30, "patch", "datasets/status", "a", version(12)),
        ];
        assert_eq!(idle_writes(&log).iter().map(|entry| entry.at).collect::<Vec<_>>(), [log[2].at]);
    }

    #[test]
    fn write_of_others_between_own_ones_hides_no_violation() {
        let log = [
            line(0, "patch", "datasets/status", "a", version(10)),
            // A user's edit of `a`, whose response the log lacks, got version 11.
            line(10, "update", "leases", "l", version(12)),
            line(20, "patch", "datasets/status", "a", version(11)),
        ];
        assert_eq!(idle_writes(&log).len(), 1);
    }

    #[test]
    fn concurrent_writes_can_respond_in_any_order() {
        let log = [
            line(10, "patch", "datasets/status", "a", version(11)),
            line(12, "patch", "models/status", "b", version(10)),
        ];
        assert!(idle_writes(&log).is_empty());
    }

    #[test]
    fn leases_refusals_and_other_users_are_not_idle() {
        let mut other = line(20, "patch", "datasets/status", "a", version(10));
        other.user = "admin".to_owned();
        let log = [
            line(0, "patch", "datasets/status", "a", version(10)),
            line(10, "update", "leases", "l", version(10)),
            other,
            line(30, "create", "pods", "p", json!({"kind": "Status", "status": "Failure"})),
        ];
        assert!(idle_writes(&log).is_empty());
    }

    #[test]
    fn second_deletion_is_idle_and_last_finalizer_is_not() {
        let deleting = |finalizers: &[&str]| {
            json!({"metadata": {
                "resourceVersion": "10", "deletionTimestamp": "2026-11-21T10:00:00Z", "finalizers": finalizers,
            }})
        };
        let log = [
            line(0, "delete", "pods", "p", deleting(&[])),
            line(10, "patch", "featureviews", "f", deleting(&[])),
            line(20, "patch", "featureviews", "f", deleting(&["mlop.dev/online-cleanup"])),
            line(30, "delete", "pods", "p", deleting(&[])),
        ];
        assert_eq!(
            idle_writes(&log).iter().map(|entry| entry.at).collect::<Vec<_>>(),
            [log[2].at, log[3].at]
        );
    }

    #[test]
    fn refusal_by_a_role_counts_and_by_a_quota_does_not() {
        let mut role = line(0, "list", "configmaps", "", json!({}));
        (role.code, role.unauthorized) = (403, true);
        let mut quota = line(1, "create", "pods", "p", json!({}));
        quota.code = 403;
        let log = [role, quota];
        let found: Vec<_> = unauthorized(&log).iter().map(|entry| entry.at).collect();
        assert_eq!(found, [log[0].at]);
    }

    #[test]
    fn pod_of_a_lax_namespace_is_found_for_every_creator() {
        let mut log = [0, 1, 2, 3].map(|at| line(at, "create", "pods", "p", version(10)));
        log[0].pod_security = "restricted:latest".to_owned();
        log[1].pod_security = "baseline:latest".to_owned();
        log[2].user = "system:serviceaccount:kube-system:replicaset-controller".to_owned();
        log[3].namespace = "kube-system".to_owned();
        let found: Vec<_> = unrestricted_pods(&log).iter().map(|entry| entry.at).collect();
        assert_eq!(found, [log[1].at, log[2].at]);
    }

    #[test]
    fn read_of_a_secret_is_found() {
        let log = [line(0, "get", "secrets", "s3", json!({})), line(1, "get", "pods", "p", json!({}))];
        assert_eq!(secrets(&log).len(), 1);
    }
}
