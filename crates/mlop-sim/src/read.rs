//! Lists: selection, pages, and the state at an earlier revision.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use crate::{
    object::as_object,
    resource::{Model, ResourceType},
    select::Selector,
    server::Server,
    status::{self, Result},
    store::Key,
};

/// In which form objects are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Full,
    /// `PartialObjectMetadata`: metadata only.
    Metadata,
}

impl Form {
    pub(crate) fn of(self, object: &Value) -> Value {
        match self {
            Form::Full => object.clone(),
            Form::Metadata => json!({
                "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"],
            }),
        }
    }
}

/// What a list request asks for.
#[derive(Debug, Default)]
pub(crate) struct ListOptions {
    pub(crate) selector: Selector,
    pub(crate) resource_version: Option<u64>,
    /// Exactly that version, rather than at least that.
    pub(crate) exact: bool,
    pub(crate) limit: Option<usize>,
    pub(crate) token: Option<String>,
}

impl Server {
    pub(crate) fn list(
        &self,
        ty: &ResourceType,
        namespace: Option<&str>,
        options: &ListOptions,
        form: Form,
    ) -> Result<Value> {
        let (revision, start) = self.list_position(options)?;
        let objects = self.store.list_at(&ty.qualified(), namespace, revision)?;
        let matching: Vec<(&Key, &Arc<Value>)> = objects
            .iter()
            .filter(|(key, object)| {
                start.as_ref().is_none_or(|start| (&key.namespace, &key.name) > (&start.0, &start.1))
                    && options.selector.matches(object)
            })
            .collect();
        let page = options.limit.filter(|limit| *limit > 0).unwrap_or(matching.len());
        let mut metadata = json!({"resourceVersion": revision.to_string()});
        if matching.len() > page
            && let Some((last, _)) = page.checked_sub(1).and_then(|last| matching.get(last))
        {
            metadata["continue"] = json!(token(revision, last));
            if options.selector.is_empty() {
                metadata["remainingItemCount"] = json!(matching.len() - page);
            }
        }
        let items: Vec<Value> =
            matching.iter().take(page).map(|(_, object)| list_item(ty, form.of(object), form)).collect();
        let (kind, api_version) = match form {
            Form::Full => (format!("{}List", ty.kind), ty.api_version()),
            Form::Metadata => ("PartialObjectMetadataList".into(), "meta.k8s.io/v1".into()),
        };
        Ok(json!({"kind": kind, "apiVersion": api_version, "metadata": metadata, "items": items}))
    }

    /// The revision to list at, and the key after which the page begins.
    fn list_position(&self, options: &ListOptions) -> Result<(u64, Option<(String, String)>)> {
        let current = self.store.revision();
        if let Some(token) = &options.token {
            let (revision, start) =
                parse_token(token).ok_or_else(|| status::bad_request("continue key is not valid"))?;
            return Ok((revision, Some(start)));
        }
        match options.resource_version {
            Some(wanted) if wanted > current => Err(status::too_large_resource_version(wanted, current)),
            Some(wanted) if options.exact => Ok((wanted, None)),
            _ => Ok((current, None)),
        }
    }
}

/// Items of built-in lists do not repeat their type, as those of the real server.
fn list_item(ty: &ResourceType, mut item: Value, form: Form) -> Value {
    if form == Form::Full && matches!(ty.model, Model::BuiltIn { .. }) {
        let item = as_object(&mut item);
        item.remove("kind");
        item.remove("apiVersion");
    }
    item
}

fn token(revision: u64, last: &Key) -> String {
    format!("{revision}:{}:{}", last.namespace, last.name)
}

fn parse_token(token: &str) -> Option<(u64, (String, String))> {
    let (revision, rest) = token.split_once(':')?;
    let (namespace, name) = rest.split_once(':')?;
    Some((revision.parse().ok()?, (namespace.into(), name.into())))
}

/// The objects of one resource that a selector matches, as a watch's initial events.
pub(crate) fn initial(
    server: &Server,
    ty: &ResourceType,
    namespace: Option<&str>,
    selector: &Selector,
) -> BTreeMap<Key, Arc<Value>> {
    let resource = ty.qualified();
    let objects = server.store.list(&resource, namespace).filter(|(_, object)| selector.matches(object));
    objects.map(|(key, object)| (key.clone(), object.clone())).collect()
}
