//! The support bundle: what helps somebody else to find a problem, without secrets.
//!
//! Objects lose the fields that may hold secrets ([`redact`]): values of variables, commands, annotations, code,
//! hyperparameters. Values of variables and the like are also looked for in every text of the bundle ([`scrub`]), since a
//! command may print its variables. Secrets are never read.

mod redact;
mod scrub;

use crate::{
    output::{Style, yaml},
    snapshot::{Object, Snapshot},
    status::{self, Chain, Width},
};
use anyhow::Result;
use flate2::{Compression, write::GzEncoder};
use jiff::Timestamp;
use mlop_api::labels;
use scrub::Scrub;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What was read from the cluster.
#[derive(Clone, Debug)]
pub struct Material {
    pub namespace: String,
    pub now: Timestamp,
    /// Objects of the kinds of mlop, each with its kind.
    pub objects: Vec<Value>,
    /// Pods that mlop has made in the namespace.
    pub pods: Vec<Value>,
    pub events: Vec<Value>,
    /// Pods of the operators.
    pub operators: Vec<Value>,
    pub logs: Vec<Log>,
    pub versions: Value,
    /// What could not be read, and why.
    pub failures: Vec<String>,
}

/// The output of a container.
#[derive(Clone, Debug)]
pub struct Log {
    pub source: Container,
    pub text: String,
}

/// A container whose output is in the bundle.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Container {
    pub namespace: String,
    pub pod: String,
    pub name: String,
    /// The container before its last restart.
    pub is_previous: bool,
}

const README: &str = "\
Written by `kubectl mlop support-bundle`. Read it before you send it: the output of your own commands is in it.

Not in it: Secrets, values of environment variables, commands and arguments, annotations other than mlop's requests, code,
hyperparameters, headers of probes, attributes of volumes. Values of variables, hyperparameters, headers, attributes and
options such as --token are replaced by <removed> also where they are printed, unless they are shorter than 8 characters or
the name of an object or image. So is what looks like a password, a token or a key.

  status.txt      the chain
  versions.yaml   versions of Kubernetes, of the plugin and of the operators' images
  objects/        intents, runs, connections and profiles
  pods/           pods that mlop has made, with their state
  events.yaml     Events of the namespace
  logs/           output of the newest attempts, and of servers
  operators/      pods of the operators, and their output
";

/// The containers whose output helps: of each object the newest pod of each task, and all servers.
pub fn containers(pods: &[Value]) -> Vec<Container> {
    let mut newest: BTreeMap<[&str; 4], &Value> = BTreeMap::new();
    for pod in pods {
        let label = |name: &str| label(pod, name);
        // Servers are all of interest.
        let server = if label(labels::ROLE) == labels::SERVING { text(pod, "/metadata/name") } else { "" };
        let task = [label(labels::INTENT_KIND), label(labels::INTENT), label(labels::ROLE), server];
        let created = |pod: &Value| {
            (text(pod, "/metadata/creationTimestamp").to_owned(), text(pod, "/metadata/name").to_owned())
        };
        let known = newest.entry(task).or_insert(pod);
        if created(pod) > created(known) {
            *known = pod;
        }
    }
    newest.into_values().flat_map(of_pod).collect()
}

/// The containers of a pod that have started, and those before their last restart.
pub fn of_pod(pod: &Value) -> Vec<Container> {
    let mut containers = Vec::new();
    for list in ["initContainerStatuses", "containerStatuses"] {
        let statuses = pod.pointer(&format!("/status/{list}")).and_then(Value::as_array);
        for status in statuses.into_iter().flatten() {
            let container = |is_previous| Container {
                namespace: text(pod, "/metadata/namespace").to_owned(),
                pod: text(pod, "/metadata/name").to_owned(),
                name: text(status, "/name").to_owned(),
                is_previous,
            };
            let has_started = status.pointer("/state/waiting").is_none();
            let restarts = status.get("restartCount").and_then(Value::as_i64).unwrap_or_default();
            containers.extend((restarts > 0).then(|| container(true)));
            containers.extend(has_started.then(|| container(false)));
        }
    }
    containers
}

/// The files of the bundle by their paths.
///
/// # Errors
/// An object has no YAML form.
pub fn files(material: &Material) -> Result<BTreeMap<String, String>> {
    let all = || material.objects.iter().chain(&material.pods).chain(&material.operators);
    let scrub = Scrub::new(&redact::removed(all()));
    let mut files = BTreeMap::new();
    let clean = |value: &Value| yaml(&scrub.value(redact::object(value)));
    for object in material.objects.iter().filter(|object| text(object, "/kind") != "Secret") {
        let path = format!("objects/{}/{}.yaml", text(object, "/kind"), text(object, "/metadata/name"));
        files.insert(path, clean(object)?);
    }
    for (directory, pods) in [("pods", &material.pods), ("operators", &material.operators)] {
        for pod in pods {
            files.insert(format!("{directory}/{}.yaml", text(pod, "/metadata/name")), clean(pod)?);
        }
    }
    files.insert("events.yaml".to_owned(), clean(&json!({"items": material.events}))?);
    files.insert("versions.yaml".to_owned(), yaml(&material.versions)?);
    files.insert("status.txt".to_owned(), scrub.text(&status(material)));
    for Log { source, text } in &material.logs {
        let Container { namespace, pod, name, is_previous } = source;
        let directory = if *namespace == material.namespace { "logs" } else { "operators" };
        let previous = if *is_previous { ".previous" } else { "" };
        files.insert(format!("{directory}/{pod}/{name}{previous}.log"), scrub.text(text));
    }
    let failures: String =
        material.failures.iter().map(|failure| format!("- {}\n", scrub.text(failure))).collect();
    let failures = if failures.is_empty() { failures } else { format!("\nCould not be read:\n{failures}") };
    files.insert("README.txt".to_owned(), format!("{README}{failures}"));
    Ok(files)
}

fn status(material: &Material) -> String {
    // What cannot be read as an object is in objects/ nevertheless.
    let objects: Vec<_> =
        material.objects.iter().filter_map(|value| Object::from_value(value).ok().flatten()).collect();
    let snapshot = Snapshot { namespace: material.namespace.clone(), objects, now: material.now };
    status::tree(&Chain::of(&snapshot, None), Width::Wide, Style::PLAIN)
}

/// Packs the files into `NAME.tar.gz`, below a directory of that name.
///
/// # Errors
/// A path is too long.
pub fn archive(files: &BTreeMap<String, String>, name: &str, now: Timestamp) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    for (path, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(u64::try_from(text.len())?);
        header.set_mode(0o600);
        header.set_mtime(u64::try_from(now.as_second()).unwrap_or_default());
        archive.append_data(&mut header, format!("{name}/{path}"), text.as_bytes())?;
    }
    Ok(archive.into_inner()?.finish()?)
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn label<'a>(value: &'a Value, name: &str) -> &'a str {
    let labels = value.pointer("/metadata/labels");
    labels.and_then(|labels| labels.get(name)?.as_str()).unwrap_or_default()
}
