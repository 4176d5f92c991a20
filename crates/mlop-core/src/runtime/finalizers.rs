//! The end of an installation: the operator's finalizers are taken off its objects.
//!
//! Nobody would take them off later, so every deletion of such an object, and of its namespace, would hang. The chart's
//! hook runs this when the operator can no longer set them again.

use anyhow::Context as _;
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, PartialObjectMeta, Patch, PatchParams},
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use mlop_api::{GROUP, VERSION, kinds};
use serde_json::json;

/// Finalizers of this domain are mlop's own.
const OWN: &str = "mlop.dev/";
/// Objects in one answer of the API server.
const PAGE: u32 = 500;
/// Attempts to patch an object that others write at the same time.
const ATTEMPTS: usize = 5;
const CONFLICT: u16 = 409;
const NOT_FOUND: u16 = 404;

type Meta = PartialObjectMeta<DynamicObject>;

/// Takes the finalizers of mlop off all objects of `kinds` in `namespaces`; in all namespaces if there are none. It may be
/// repeated.
///
/// # Errors
/// When the API server does not answer, refuses, or an object changes all the time.
pub(crate) async fn release(client: &Client, kinds: &[&str], namespaces: &[String]) -> anyhow::Result<()> {
    for kind in kinds {
        let resource = ApiResource::from_gvk_with_plural(
            &GroupVersionKind::gvk(GROUP, VERSION, kind),
            &kinds::plural(kind),
        );
        let places: Vec<Api<DynamicObject>> = if namespaces.is_empty() {
            vec![Api::all_with(client.clone(), &resource)]
        } else {
            namespaces.iter().map(|ns| Api::namespaced_with(client.clone(), ns, &resource)).collect()
        };
        let mut released = 0;
        for place in places {
            released += release_listed(client, &resource, &place).await?;
        }
        tracing::info!(kind, released, "took the finalizers off");
    }
    Ok(())
}

/// Releases the objects that `place` lists, and returns their number.
async fn release_listed(
    client: &Client,
    resource: &ApiResource,
    place: &Api<DynamicObject>,
) -> anyhow::Result<usize> {
    let (mut released, mut page) = (0, ListParams::default().limit(PAGE));
    loop {
        let listed = match place.list_metadata(&page).await {
            Err(kube::Error::Api(status)) if status.code == NOT_FOUND => return Ok(released),
            listed => listed.with_context(|| format!("cannot list {}", resource.plural))?,
        };
        for object in listed.items {
            let namespace = object.namespace().unwrap_or_default();
            let objects = Api::namespaced_with(client.clone(), &namespace, resource);
            let name = object.name_any();
            let place = || format!("cannot release {} {namespace}/{name}", resource.kind);
            released += usize::from(release_one(&objects, object).await.with_context(place)?);
        }
        match listed.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(released),
        }
    }
}

/// Takes the finalizers of mlop off `object`, and keeps those of others. Returns whether it had one.
async fn release_one(objects: &Api<DynamicObject>, mut object: Meta) -> kube::Result<bool> {
    let name = object.name_any();
    for attempt in 1.. {
        let kept: Vec<_> = object.finalizers().iter().filter(|name| !name.starts_with(OWN)).collect();
        if kept.len() == object.finalizers().len() {
            return Ok(false);
        }
        let metadata = json!({"resourceVersion": object.resource_version(), "finalizers": kept});
        let patch = Patch::Merge(json!({"metadata": metadata}));
        match objects.patch_metadata(&name, &PatchParams::default(), &patch).await {
            Err(kube::Error::Api(status)) if status.code == NOT_FOUND => return Ok(false),
            Err(kube::Error::Api(status)) if status.code == CONFLICT && attempt < ATTEMPTS => {}
            done => return done.map(|_| true),
        }
        let Some(read) = objects.get_metadata_opt(&name).await? else { return Ok(false) };
        object = read;
    }
    Ok(false)
}
