//! The custom resource definitions, one file per kind.
use std::path::PathBuf;

use anyhow::Result;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

use super::files::{Files, yaml};

/// Uninstalling the chart must not delete everybody's objects: helm leaves what carries this annotation.
pub const KEEP: (&str, &str) = ("helm.sh/resource-policy", "keep");

pub fn files(kinds: &[CustomResourceDefinition]) -> Result<Files> {
    kinds.iter().map(file).collect()
}

fn file(kind: &CustomResourceDefinition) -> Result<(PathBuf, String)> {
    let mut kind = kind.clone();
    let name = format!("{}.{}", kind.spec.names.plural, kind.spec.group);
    kind.metadata.annotations = Some([(KEEP.0.to_owned(), KEEP.1.to_owned())].into());
    Ok((PathBuf::from(format!("charts/mlop-crds/templates/{name}.yaml")), yaml(&kind)?))
}
