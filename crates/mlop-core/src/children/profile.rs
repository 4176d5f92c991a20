//! The PodProfile of an object, and how it completes a pod.
//!
//! A profile lies below the pod that mlop makes: it adds, and replaces nothing.
//!
//! - The fields of the pod come from the section `user` if a container runs user code, and from `workers` otherwise.
//!   Pull secrets come from both: the images of mlop are pulled for every pod.
//! - Each container has the variables, mounts and resources of its own section: `user` for user code, `workers` for the
//!   containers of mlop next to it. So an identity or a key for mlop's programs never reaches user code.
//! - The security fields are set again afterwards ([`pod::secure`]).

use super::pod;
use crate::Blocked;
use k8s_openapi::{
    api::core::v1::{Container, Pod, PodResourceClaim, PodSpec, ResourceRequirements, Volume},
    apimachinery::pkg::api::resource::Quantity,
};
use kube::ResourceExt;
use mlop_api::{
    Reason, labels,
    profile::{DEFAULT, PodFragment, PodProfile, is_reserved},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};

/// The containers that run user code: the command of a training, the server of a model.
const USER_CONTAINERS: [&str; 2] = [labels::USER_CONTAINER, labels::SERVER_CONTAINER];

/// The profile of an object's pods. The default has none.
#[derive(Clone, Debug)]
pub struct Profile(Result<Option<Arc<Sections>>, Blocked>);

impl Default for Profile {
    fn default() -> Self {
        Self(Ok(None))
    }
}

#[derive(Debug)]
struct Sections {
    workers: Section,
    user: Section,
}

/// A section in the types of Kubernetes. The names of its volumes and claims are those in the pod.
#[derive(Debug)]
struct Section {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    pod: PodSpec,
    container: Container,
}

impl Profile {
    /// The profile of an object whose `spec.profile` is `name`. `found` is the PodProfile of that name, or without a name
    /// the one named `default`.
    pub fn new(name: Option<&str>, found: Option<&PodProfile>) -> Self {
        Self(match (name, found) {
            (_, Some(profile)) => Sections::parse(profile).map(|sections| Some(Arc::new(sections))),
            (Some(name), None) => {
                let message =
                    format!("PodProfile {name} (spec.profile) does not exist; create it or name another one");
                Err(Blocked::waiting(Reason::ProfileNotFound, message))
            }
            (None, None) => Ok(None),
        })
    }

    /// Name of the PodProfile of an object whose `spec.profile` is `name`.
    pub fn name_of(name: Option<&str>) -> &str {
        name.unwrap_or(DEFAULT)
    }

    /// Whether pods can be made.
    ///
    /// # Errors
    /// When the profile does not exist, or a field of it is not as a pod has it.
    pub fn check(&self) -> Result<(), Blocked> {
        self.0.as_ref().map(drop).map_err(Clone::clone)
    }

    /// `pod` with the fields of the profile that it does not have. Without a usable profile it stays as it is: callers
    /// create nothing unless [`check`](Self::check) succeeds.
    #[must_use]
    pub fn complete(&self, mut pod: Pod) -> Pod {
        let (Ok(Some(sections)), Some(spec)) = (&self.0, &mut pod.spec) else { return pod };
        let has_user_code = spec.containers.iter().any(is_user_code);
        let section = if has_user_code { &sections.user } else { &sections.workers };
        section.complete_pod(spec);
        if has_user_code {
            append(&mut spec.image_pull_secrets, sections.workers.pod.image_pull_secrets.as_ref());
        }
        for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
            let section = if is_user_code(container) { &sections.user } else { &sections.workers };
            section.complete_container(container);
        }
        let volumes =
            [&sections.workers, &sections.user].into_iter().flat_map(|section| &section.pod.volumes);
        let mounted: Vec<Volume> =
            volumes.flatten().filter(|volume| is_mounted(volume, spec)).cloned().collect();
        append(&mut spec.volumes, Some(&mounted));
        let claims =
            [&sections.workers, &sections.user].into_iter().flat_map(|section| &section.pod.resource_claims);
        let used: Vec<PodResourceClaim> =
            claims.flatten().filter(|claim| is_used(claim, spec)).cloned().collect();
        append(&mut spec.resource_claims, Some(&used));
        pod::secure(spec);
        add(&mut pod.metadata.labels, &section.labels);
        add(&mut pod.metadata.annotations, &section.annotations);
        pod
    }
}

impl Sections {
    fn parse(profile: &PodProfile) -> Result<Self, Blocked> {
        let section = |name, fragment| {
            Section::parse(name, fragment).map_err(|error| {
                let message = format!("PodProfile {}: spec.{name}: {error}", profile.name_any());
                Blocked::stalled(Reason::ProfileInvalid, message)
            })
        };
        Ok(Self {
            workers: section("workers", &profile.spec.workers)?,
            user: section("user", &profile.spec.user)?,
        })
    }
}

impl Section {
    /// The fragment as Kubernetes reads it.
    fn parse(name: &str, fragment: &PodFragment) -> serde_json::Result<Self> {
        let PodFragment { metadata, container, .. } = fragment;
        let mut container: Container = serde_json::from_value(json!(container))?;
        let mut pod: PodSpec = serde_json::from_value(pod_fields(fragment)?)?;
        for mount in container.volume_mounts.iter_mut().flatten() {
            mount.name = format!("profile-{name}-{}", mount.name);
        }
        for volume in pod.volumes.iter_mut().flatten() {
            volume.name = format!("profile-{name}-{}", volume.name);
        }
        for claim in container.resources.iter_mut().flat_map(|resources| &mut resources.claims).flatten() {
            claim.name = format!("profile-{name}-{}", claim.name);
        }
        for claim in pod.resource_claims.iter_mut().flatten() {
            claim.name = format!("profile-{name}-{}", claim.name);
        }
        let free = |map: &BTreeMap<String, String>| {
            let entries = map.iter().filter(|(key, _)| !is_reserved(key));
            entries.map(|(key, value)| (key.clone(), value.clone())).collect()
        };
        Ok(Self { labels: free(&metadata.labels), annotations: free(&metadata.annotations), pod, container })
    }

    fn complete_pod(&self, spec: &mut PodSpec) {
        let PodSpec { node_selector, affinity, tolerations, image_pull_secrets, .. } = &self.pod;
        if let Some(labels) = node_selector {
            add(&mut spec.node_selector, labels);
        }
        append(&mut spec.tolerations, tolerations.as_ref());
        append(&mut spec.image_pull_secrets, image_pull_secrets.as_ref());
        fill(&mut spec.affinity, affinity.as_ref());
        fill(&mut spec.topology_spread_constraints, self.pod.topology_spread_constraints.as_ref());
        fill(&mut spec.service_account_name, self.pod.service_account_name.as_ref());
        fill(&mut spec.priority_class_name, self.pod.priority_class_name.as_ref());
        fill(&mut spec.scheduler_name, self.pod.scheduler_name.as_ref());
        fill(&mut spec.runtime_class_name, self.pod.runtime_class_name.as_ref());
    }

    fn complete_container(&self, container: &mut Container) {
        let known: Vec<String> =
            container.env.iter().flatten().map(|variable| variable.name.clone()).collect();
        let variables =
            self.container.env.iter().flatten().filter(|variable| !known.contains(&variable.name));
        let variables: Vec<_> = variables.cloned().collect();
        if !variables.is_empty() {
            // The container's own come last: they may refer to those of the profile.
            container.env.get_or_insert_default().splice(0..0, variables);
        }
        let path = |path: &str| path.trim_end_matches('/').to_owned();
        let taken: Vec<_> =
            container.volume_mounts.iter().flatten().map(|mount| path(&mount.mount_path)).collect();
        let mounts = self.container.volume_mounts.iter().flatten();
        let mounts: Vec<_> =
            mounts.filter(|mount| !taken.contains(&path(&mount.mount_path))).cloned().collect();
        append(&mut container.volume_mounts, Some(&mounts));
        if let Some(resources) = &self.container.resources {
            complete_resources(container.resources.get_or_insert_default(), resources);
        }
    }
}

/// The fields of the fragment that are fields of a pod's spec.
fn pod_fields(fragment: &PodFragment) -> serde_json::Result<Value> {
    let mut fields = serde_json::to_value(fragment)?;
    if let Some(fields) = fields.as_object_mut() {
        fields.retain(|name, _| !matches!(name.as_str(), "metadata" | "container"));
    }
    Ok(fields)
}

fn is_user_code(container: &Container) -> bool {
    USER_CONTAINERS.contains(&container.name.as_str())
}

fn containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers.iter().flatten().chain(&spec.containers)
}

fn is_used(claim: &PodResourceClaim, spec: &PodSpec) -> bool {
    let resources = containers(spec).filter_map(|container| container.resources.as_ref());
    resources.flat_map(|resources| resources.claims.iter().flatten()).any(|used| used.name == claim.name)
}

fn is_mounted(volume: &Volume, spec: &PodSpec) -> bool {
    containers(spec)
        .flat_map(|container| container.volume_mounts.iter().flatten())
        .any(|mount| mount.name == volume.name)
}

/// Adds the claims, and the amounts of resources that `own` does not set. A limit below its request is raised to it: the API server would
/// refuse the pod.
fn complete_resources(own: &mut ResourceRequirements, more: &ResourceRequirements) {
    append(&mut own.claims, more.claims.as_ref());
    if let Some(requests) = &more.requests {
        add(&mut own.requests, requests);
    }
    for (resource, limit) in more.limits.iter().flatten() {
        let request = own.requests.as_ref().and_then(|requests| requests.get(resource));
        let raised = request.filter(|request| is_below(limit, request)).unwrap_or(limit).clone();
        own.limits.get_or_insert_default().entry(resource.clone()).or_insert(raised);
    }
}

fn is_below(limit: &Quantity, request: &Quantity) -> bool {
    let amount = |quantity: &Quantity| quantity.0.parse::<mlop_api::Quantity>().ok();
    amount(limit).zip(amount(request)).is_some_and(|(limit, request)| limit < request)
}

/// Adds the entries whose keys `own` does not have.
fn add<T: Clone>(own: &mut Option<BTreeMap<String, T>>, more: &BTreeMap<String, T>) {
    for (key, value) in more {
        own.get_or_insert_default().entry(key.clone()).or_insert_with(|| value.clone());
    }
}

/// Appends the items that `own` does not have.
fn append<T: Clone + PartialEq>(own: &mut Option<Vec<T>>, more: Option<&Vec<T>>) {
    for item in more.into_iter().flatten() {
        let own = own.get_or_insert_default();
        if !own.contains(item) {
            own.push(item.clone());
        }
    }
}

fn fill<T: Clone>(own: &mut Option<T>, other: Option<&T>) {
    if own.is_none() {
        *own = other.cloned();
    }
}

#[cfg(test)]
mod tests;
