//! NetworkPolicies of servers.

use super::service::selector;
use k8s_openapi::{
    api::networking::v1::{
        NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
    },
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};
use std::collections::BTreeMap;

/// Admits only `peers` to `port` of the pods behind the Service of this name.
pub fn policy(meta: ObjectMeta, port: i32, peers: Vec<NetworkPolicyPeer>) -> NetworkPolicy {
    let pods = selector(meta.name.as_deref().unwrap_or_default());
    let port = NetworkPolicyPort {
        port: Some(IntOrString::Int(port)),
        protocol: Some("TCP".to_owned()),
        end_port: None,
    };
    let spec = NetworkPolicySpec {
        pod_selector: Some(LabelSelector { match_labels: Some(pods), match_expressions: None }),
        policy_types: Some(vec!["Ingress".to_owned()]),
        ingress: Some(vec![NetworkPolicyIngressRule { from: Some(peers), ports: Some(vec![port]) }]),
        egress: None,
    };
    NetworkPolicy { metadata: meta, spec: Some(spec) }
}

/// The pods of this namespace that have the label.
pub fn pods_with(label: &str, value: &str) -> NetworkPolicyPeer {
    let labels = BTreeMap::from([(label.to_owned(), value.to_owned())]);
    NetworkPolicyPeer {
        pod_selector: Some(LabelSelector { match_labels: Some(labels), match_expressions: None }),
        ..Default::default()
    }
}

/// As [`pods_with`], in every namespace.
pub fn pods_anywhere_with(label: &str, value: &str) -> NetworkPolicyPeer {
    NetworkPolicyPeer { namespace_selector: Some(LabelSelector::default()), ..pods_with(label, value) }
}
