//! The custom resource definitions of Flux, for the time of a test.

use super::view::Delivered;
use crate::wait;
use anyhow::{Context as _, Result, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    core::{ApiResource, GroupVersionKind},
    runtime::watcher,
};
use serde_json::json;
use std::{env, fs, path::Path, time::Duration};

/// The directories with the definitions, from the Go modules of the controllers.
const DIRECTORIES: &str = "MLOP_FLUX_KINDS";
const GROUP: &str = "toolkit.fluxcd.io";
/// Label of the definitions that a test has created.
const TEST: &str = "mlop.dev/e2e";
const LIMIT: Duration = Duration::from_secs(60);

/// Creates the definitions, and waits until the API server serves them.
///
/// # Errors
/// The cluster has Flux, or a file cannot be read or is refused.
pub(super) async fn create(client: &Client) -> Result<()> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let existing = definitions.list(&ListParams::default()).await?.items;
    let foreign = existing.iter().find(|definition| definition.spec.group.ends_with(GROUP));
    ensure!(foreign.is_none(), "this cluster has a Flux, which would get in the way of the test's");
    for definition in read()? {
        definitions.create(&PostParams::default(), &definition).await?;
        let is_established = |definition: &CustomResourceDefinition| {
            let conditions = definition.status.iter().flat_map(|status| status.conditions.iter().flatten());
            conditions.into_iter().any(|c| c.type_ == "Established" && c.status == "True")
        };
        let name = definition.name_any();
        let one = watcher::Config::default().fields(&format!("metadata.name={name}"));
        wait::until_any(&definitions, one, &format!("established {name}"), LIMIT, is_established).await?;
    }
    Ok(())
}

/// Deletes what [`create`] has created, also in an earlier run, and all objects of these kinds. No controller may run: the objects
/// lose their finalizers, and what they have applied stays.
///
/// # Errors
/// The API server refuses it.
pub(super) async fn delete(client: &Client) -> Result<()> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let own = ListParams::default().labels(TEST);
    for definition in definitions.list(&own).await? {
        remove_finalizers(client, &kind(&definition)).await?;
        // Not as a collection: then the API server forgets to delete the objects.
        definitions.delete(&definition.name_any(), &DeleteParams::default()).await?;
    }
    let own = watcher::Config::default().labels(TEST);
    wait::until_gone(&definitions, own, "the definitions of Flux", LIMIT).await
}

async fn remove_finalizers(client: &Client, kind: &ApiResource) -> Result<()> {
    let all: Api<Delivered> = Api::all_with(client.clone(), kind);
    for object in all.list(&ListParams::default()).await? {
        let namespace = object.namespace().unwrap_or_default();
        let api: Api<Delivered> = Api::namespaced_with(client.clone(), &namespace, kind);
        let without = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        api.patch(&object.name_any(), &PatchParams::default(), &without).await?;
    }
    Ok(())
}

/// The kind at the version that is stored.
fn kind(definition: &CustomResourceDefinition) -> ApiResource {
    let spec = &definition.spec;
    let version = spec.versions.iter().find(|version| version.storage).map(|version| version.name.as_str());
    let kind = GroupVersionKind::gvk(&spec.group, version.unwrap_or_default(), &spec.names.kind);
    ApiResource::from_gvk_with_plural(&kind, &spec.names.plural)
}

/// The definitions in the files, labelled.
fn read() -> Result<Vec<CustomResourceDefinition>> {
    let directories = env::var_os(DIRECTORIES)
        .with_context(|| format!("{DIRECTORIES} is not set: run `cargo xtask test --only Flux`"))?;
    let mut definitions = Vec::new();
    for directory in env::split_paths(&directories) {
        let entries = fs::read_dir(&directory).with_context(|| directory.display().to_string())?;
        for entry in entries {
            definitions.push(definition(&entry?.path())?);
        }
    }
    Ok(definitions)
}

fn definition(file: &Path) -> Result<CustomResourceDefinition> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let mut definition: CustomResourceDefinition =
        serde_saphyr::from_str(&text).with_context(|| file.display().to_string())?;
    definition.labels_mut().insert(TEST.to_owned(), "flux".to_owned());
    Ok(definition)
}
