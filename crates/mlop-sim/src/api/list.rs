//! Lists: selection, pages, and earlier revisions.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::{Value, json};

use super::{
    selector::Selector,
    server::Server,
    status::{self, Result},
};
use crate::{
    schema::resource::{Model, ResourceType},
    storage::{object_version::ObjectVersion, store::Key},
};

/// The form of the objects in a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Full,
    /// Without `metadata.managedFields`.
    Unmanaged,
    /// `PartialObjectMetadata`: the metadata alone.
    Metadata,
}

impl Form {
    pub(crate) fn render(self, object: &ObjectVersion) -> Bytes {
        match self {
            Form::Full => object.json().clone(),
            Form::Unmanaged => object.unmanaged_json().clone(),
            Form::Metadata => json!({
                "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object.managed()["metadata"],
            })
            .to_string()
            .into(),
        }
    }
}

/// An object as an item of a list.
struct Item<'a> {
    object: &'a ObjectVersion,
    form: Form,
    /// Whether to include kind and API version. As on the real server, items of built-in lists omit them.
    typed: bool,
}

impl Serialize for Item<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if self.form == Form::Metadata {
            map.serialize_entry("kind", "PartialObjectMetadata")?;
            map.serialize_entry("apiVersion", "meta.k8s.io/v1")?;
            map.serialize_entry("metadata", &self.object.managed()["metadata"])?;
            return map.end();
        }
        let managed = (self.form == Form::Full).then(|| self.object.managed());
        let object: &Value = managed.as_ref().unwrap_or(self.object);
        for (name, value) in object.as_object().into_iter().flatten() {
            if self.typed || !matches!(name.as_str(), "kind" | "apiVersion") {
                map.serialize_entry(name, value)?;
            }
        }
        map.end()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct List<'a> {
    kind: String,
    api_version: String,
    metadata: ListMeta,
    items: Vec<Item<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ListMeta {
    resource_version: String,
    #[serde(rename = "continue", skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remaining_item_count: Option<usize>,
}

/// The parameters of a list request.
#[derive(Debug, Default)]
pub(crate) struct ListOptions {
    pub(crate) selector: Selector,
    pub(crate) resource_version: Option<u64>,
    /// Whether the list is of exactly `resource_version` instead of at least that.
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
    ) -> Result<Bytes> {
        let (revision, start) = self.list_position(options)?;
        let objects = self.store.list_at(&ty.resource, namespace, revision)?;
        let matching: Vec<(&Key, &Arc<ObjectVersion>)> = objects
            .into_iter()
            .filter(|(key, object)| {
                start.as_ref().is_none_or(|start| (&key.namespace, &key.name) > (&start.0, &start.1))
                    && options.selector.matches(object)
            })
            .collect();
        let page = options.limit.filter(|limit| *limit > 0).unwrap_or(matching.len());
        let last = page.checked_sub(1).filter(|_| matching.len() > page).and_then(|last| matching.get(last));
        let metadata = ListMeta {
            resource_version: revision.to_string(),
            token: last.map(|(last, _)| encode_token(revision, last)),
            remaining_item_count: last
                .filter(|_| options.selector.is_empty())
                .map(|_| matching.len().saturating_sub(page)),
        };
        let typed = matches!(ty.model, Model::Custom(_));
        let items = matching.iter().take(page).map(|(_, object)| Item { object, form, typed }).collect();
        let (kind, api_version) = match form {
            Form::Full | Form::Unmanaged => (format!("{}List", ty.kind), ty.api_version()),
            Form::Metadata => ("PartialObjectMetadataList".into(), "meta.k8s.io/v1".into()),
        };
        let list = List { kind, api_version, metadata, items };
        let text = serde_json::to_vec(&list).map_err(|error| status::internal(error.to_string()))?;
        Ok(text.into())
    }

    /// The revision of the list, and the key after which the page begins.
    fn list_position(&self, options: &ListOptions) -> Result<(u64, Option<(String, String)>)> {
        let current = self.store.revision();
        if let Some(token) = &options.token {
            let (revision, start) =
                parse_token(token).ok_or_else(|| status::bad_request("continue key is not valid"))?;
            return match revision > current {
                true => Err(status::too_large_resource_version(revision, current)),
                false => Ok((revision, Some(start))),
            };
        }
        match options.resource_version {
            Some(wanted) if wanted > current => Err(status::too_large_resource_version(wanted, current)),
            Some(wanted) if options.exact => Ok((wanted, None)),
            _ => Ok((current, None)),
        }
    }
}

fn encode_token(revision: u64, last: &Key) -> String {
    format!("{revision}:{}:{}", last.namespace, last.name)
}

fn parse_token(token: &str) -> Option<(u64, (String, String))> {
    let (revision, rest) = token.split_once(':')?;
    let (namespace, name) = rest.split_once(':')?;
    Some((revision.parse().ok()?, (namespace.into(), name.into())))
}
