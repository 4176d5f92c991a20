//! The stages of a chain, with their results and dependencies.

use crate::{audit::Entry, state::Intent};
use kube::ResourceExt as _;
use mlop_api::{Digest, deployment::ModelDeployment, operators};

/// The namespace of the operators.
pub const OPERATORS: &str = "mlop-system";

/// The result of one stage.
#[derive(Clone, Debug)]
pub struct Stage {
    pub kind: String,
    pub name: String,
    /// The run with this result; `None` for a kind without runs.
    pub run: Option<String>,
    pub digest: Digest,
    pub summary: String,
    /// The objects that had to be ready before its pods could start.
    pub dependencies: Vec<Dependency>,
}

/// An object on which a stage depends.
#[derive(Clone, Debug)]
pub struct Dependency {
    pub kind: String,
    pub name: String,
    /// The digest that it must have published; `None` for a connection.
    pub digest: Option<Digest>,
}

impl Stage {
    /// The stage of an intent; `None` if it has not published an artifact.
    pub fn of<K: Intent>(object: &K) -> Option<Self> {
        let artifact = object.artifact()?;
        let status = object.status()?;
        let inputs = artifact.inputs.iter().map(|input| Dependency {
            kind: input.kind.clone(),
            name: input.object.clone(),
            digest: Some(input.digest.clone()),
        });
        Some(Self {
            kind: K::kind(&()).into_owned(),
            name: object.name_any(),
            run: Some(artifact.run.clone()),
            digest: artifact.digest.clone(),
            summary: status.summary.clone().unwrap_or_default(),
            dependencies: inputs.chain(tracking_server(object)).collect(),
        })
    }

    /// The stage of a deployment; `None` if it does not serve.
    pub fn serving(deployment: &ModelDeployment) -> Option<Self> {
        let status = deployment.status.as_ref()?;
        let serving = status.serving.first()?;
        let from = &deployment.spec.from;
        let digest = Some(serving.digest.clone());
        Some(Self {
            kind: "ModelDeployment".to_owned(),
            name: deployment.name_any(),
            run: None,
            digest: serving.digest.clone(),
            summary: status.summary.clone().unwrap_or_default(),
            dependencies: vec![Dependency { kind: from.kind.clone(), name: from.name.clone(), digest }],
        })
    }

    /// The prefix of the names of its pods and Jobs.
    pub fn pod_prefix(&self) -> String {
        match &self.run {
            Some(run) => format!("{run}-"),
            None => format!("{}-mdep-", self.name),
        }
    }

    /// The result of this stage as a dependency of another.
    pub fn result(&self) -> Dependency {
        Dependency { kind: self.kind.clone(), name: self.name.clone(), digest: Some(self.digest.clone()) }
    }

    /// Whether a request belongs to a scan of the source.
    pub fn is_scan(&self, entry: &Entry) -> bool {
        entry.name.strip_prefix(&self.name).is_some_and(|rest| rest.starts_with("-scan-"))
    }

    /// Whether a request is from its operator, and for its intent, runs, pods, Jobs or servers, but not for Events.
    pub fn is_about(&self, entry: &Entry) -> bool {
        let is_its_operator =
            operators::of(&self.kind).is_some_and(|operator| entry.operator() == Some(operator.name));
        let rest = entry.name.strip_prefix(&self.name);
        is_its_operator
            && entry.resource != "events"
            && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    }
}

/// The connection that can delay a pod. All other connections are ready before the data of a chain.
fn tracking_server<K: Intent>(object: &K) -> Option<Dependency> {
    let object = serde_json::to_value(object).ok()?;
    let name = object.pointer("/spec/trackingServer")?.as_str()?.to_owned();
    Some(Dependency { kind: "TrackingServer".to_owned(), name, digest: None })
}
