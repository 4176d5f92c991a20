//! The versions that ready pods serve.

use kube::ResourceExt;
use mlop_api::{Digest, labels, status::Serving};
use mlop_core::resource::PodView;
use std::sync::Arc;

/// Most versions in a status.
const VERSIONS_MAX: usize = 8;

/// The versions that ready pods serve, the published one first. It stays in the list while no pod of it is ready.
///
/// `known` are the versions that were listed before, `newest` may be one that is being rolled out. Of the `ready` pods of
/// the Deployment, those with the digest of another version serve that; all others serve the published one.
pub fn serving(
    known: Vec<Serving>,
    newest: Option<Serving>,
    published: Option<&Digest>,
    ready: i32,
    pods: &[Arc<PodView>],
) -> Vec<Serving> {
    let (mut list, others): (Vec<_>, Vec<_>) =
        known.into_iter().partition(|version| published == Some(&version.digest));
    list.truncate(1);
    let mut rest = ready;
    let mut rolled_out: Vec<Serving> = Vec::new();
    for version in others.into_iter().chain(newest).filter(|version| published != Some(&version.digest)) {
        let ready_replicas = ready_pods(pods, &version.digest);
        if ready_replicas > 0 && rolled_out.iter().all(|other| other.digest != version.digest) {
            rest -= ready_replicas;
            rolled_out.push(Serving { ready_replicas, ..version });
        }
    }
    list.iter_mut().for_each(|version| version.ready_replicas = rest.max(0));
    list.extend(rolled_out);
    list.truncate(VERSIONS_MAX);
    list
}

fn ready_pods(pods: &[Arc<PodView>], digest: &Digest) -> i32 {
    let serves = |pod: &&Arc<PodView>| {
        let has_digest = pod.labels().get(labels::DIGEST).is_some_and(|label| label == digest.short(63));
        has_digest && is_ready(pod)
    };
    i32::try_from(pods.iter().filter(serves).count()).unwrap_or(i32::MAX)
}

/// A pod that ends gets no requests any more.
fn is_ready(pod: &PodView) -> bool {
    let mut conditions = pod.status.conditions.iter().flatten();
    pod.metadata.deletion_timestamp.is_none() && conditions.any(|c| c.type_ == "Ready" && c.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn digest(version: u8) -> Digest {
        Digest::of_bytes(&[version])
    }

    fn entry(version: u8) -> Serving {
        Serving {
            digest: digest(version),
            model_version: format!("delay-{version}"),
            version: Some(version.to_string()),
            ready_replicas: 0,
        }
    }

    /// A pod of `version`.
    fn pod(version: u8, is_ready: bool) -> Arc<PodView> {
        let ready = json!({"type": "Ready", "status": if is_ready { "True" } else { "False" },
            "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let labels = json!({labels::DIGEST: digest(version).short(63)});
        let pod = json!({"metadata": {"name": "p", "labels": labels}, "status": {"conditions": [ready]}});
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    #[test]
    fn serving_lists_the_versions_of_ready_pods() {
        let ending = || {
            let mut pod = pod(2, true).as_ref().clone();
            pod.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
            Arc::new(pod)
        };
        type Row = (&'static str, Vec<u8>, Option<u8>, Option<u8>, i32, Vec<Arc<PodView>>, Vec<(u8, i32)>);
        let rows: Vec<Row> = vec![
            ("nothing is ready yet", vec![], Some(1), None, 0, vec![pod(1, false)], vec![]),
            ("the first version rolls out", vec![], Some(1), None, 1, vec![pod(1, true)], vec![(1, 1)]),
            ("it is published", vec![1], Some(1), Some(1), 2, vec![pod(1, true), pod(1, true)], vec![(1, 2)]),
            ("no pod is in the cache yet", vec![1], Some(1), Some(1), 2, vec![], vec![(1, 2)]),
            (
                "the second version rolls out",
                vec![1],
                Some(2),
                Some(1),
                3,
                vec![pod(1, true), pod(1, true), pod(2, true), pod(2, false)],
                vec![(1, 2), (2, 1)],
            ),
            (
                "its Model cannot be used meanwhile",
                vec![1, 2],
                None,
                Some(1),
                2,
                vec![pod(1, true), pod(2, true)],
                vec![(1, 1), (2, 1)],
            ),
            (
                "it is taken back: its pod ends",
                vec![1, 2],
                Some(1),
                Some(1),
                2,
                vec![pod(1, true), pod(1, true), ending()],
                vec![(1, 2)],
            ),
            (
                "the last pod of the first version is gone",
                vec![1, 2],
                Some(2),
                Some(1),
                2,
                vec![pod(2, true), pod(2, true)],
                vec![(1, 0), (2, 2)],
            ),
            ("all pods are down", vec![1], Some(1), Some(1), 0, vec![pod(1, false)], vec![(1, 0)]),
        ];
        for (situation, known, newest, published, ready, pods, want) in rows {
            let known = known.into_iter().map(entry).collect();
            let list = serving(known, newest.map(entry), published.map(digest).as_ref(), ready, &pods);
            let got: Vec<_> =
                list.iter().map(|version| (version.digest.clone(), version.ready_replicas)).collect();
            let want: Vec<_> = want.into_iter().map(|(version, ready)| (digest(version), ready)).collect();
            assert_eq!(got, want, "{situation}");
        }
    }
}
