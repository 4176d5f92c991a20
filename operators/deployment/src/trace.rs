//! The span of a rollout: from the publication of a model until nothing else is served.

use jiff::Timestamp;
use mlop_api::{
    deployment::ModelDeployment,
    status::DeploymentStatus,
    trace::{SpanId, TraceId},
};
use mlop_core::{
    inputs,
    span::{self, Span},
};

/// The span of the artifact that comes into use with the status `planned`, or has a short time ago.
pub(crate) fn rollout(
    object: &ModelDeployment,
    planned: Option<&DeploymentStatus>,
    now: Timestamp,
) -> Option<Span> {
    let before = object.status.as_ref();
    let artifact = planned.or(before)?.artifact.as_ref()?;
    let known = before.and_then(|status| status.artifact.as_ref());
    let is_known = known.is_some_and(|known| known.revision == artifact.revision);
    if is_known && !span::is_exported_again(artifact.produced_at.get(), now) {
        return None;
    }
    let namespace = object.metadata.namespace.as_deref()?;
    let (name, uid) = (object.metadata.name.as_deref()?, object.metadata.uid.as_deref()?);
    let trace = TraceId::of(namespace, &artifact.ancestors)?;
    let published = inputs::last_published(artifact.inputs.iter(), &artifact.ancestors);
    Some(Span {
        id: SpanId::of_rollout(uid, artifact.revision),
        parent: Some(trace.root_span()),
        trace,
        name: format!("ModelDeployment {name}"),
        start: published.unwrap_or(artifact.produced_at).get(),
        end: artifact.produced_at.get(),
        attributes: vec![
            ("k8s.namespace.name", namespace.into()),
            ("mlop.kind", "ModelDeployment".into()),
            ("mlop.name", name.into()),
            ("mlop.run", artifact.run.as_str().into()),
            ("mlop.digest", artifact.digest.as_str().into()),
            ("mlop.revision", artifact.revision.into()),
        ],
        error: None,
    })
}
