//! Services.

use k8s_openapi::{
    api::core::v1::{Service, ServicePort, ServiceSpec},
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use std::collections::BTreeMap;

/// Labels that a server's Service and Deployment select its pods by.
pub fn selector(name: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("app.kubernetes.io/instance".to_owned(), name.to_owned())])
}

/// A Service of `parent` in front of the pods that [`selector`] selects by the Service's name.
pub fn service(meta: ObjectMeta, ports: &[(&str, i32)]) -> Service {
    let name = meta.name.clone().unwrap_or_default();
    let ports = ports.iter().map(|(name, port)| ServicePort {
        name: Some((*name).to_owned()),
        port: *port,
        target_port: Some(IntOrString::String((*name).to_owned())),
        ..Default::default()
    });
    let spec =
        ServiceSpec { selector: Some(selector(&name)), ports: Some(ports.collect()), ..Default::default() };
    Service { metadata: meta, spec: Some(spec), status: None }
}

/// A Service without an address of its own. Each of the pods that `selector` selects has a name in it, also before it is
/// ready.
pub fn headless(meta: ObjectMeta, selector: BTreeMap<String, String>) -> Service {
    let spec = ServiceSpec {
        cluster_ip: Some("None".to_owned()),
        publish_not_ready_addresses: Some(true),
        selector: Some(selector),
        ..Default::default()
    };
    Service { metadata: meta, spec: Some(spec), status: None }
}
