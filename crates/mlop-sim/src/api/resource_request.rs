//! Requests for objects of a served type.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::Method;

use super::{
    delete::DeleteOptions,
    list::ListOptions,
    patch::apply_patch,
    request::ApiRequest,
    selector::Selector,
    server::Server,
    shared::SharedServer,
    status::{self, Result},
    watch::{Watch, WatchOptions},
    write::{Body, Part, WriteOptions, Written},
};
use crate::{
    object::{Object, text},
    schema::resource::ResourceType,
    storage::trace::Write,
};

/// A request whose path names a served type.
pub(crate) struct ResourceRequest<'a> {
    request: &'a ApiRequest,
    ty: Arc<ResourceType>,
    namespace: Option<String>,
    name: Option<String>,
    /// Whether it is for the status subresource.
    status: bool,
}

impl<'a> ResourceRequest<'a> {
    /// Resolves the path of `request`.
    pub(crate) fn route(request: &'a ApiRequest, server: &Server) -> Result<Self> {
        let target = request.target().ok_or_else(status::no_such_resource)?;
        let ty = server
            .types
            .get(&target.plural, &target.group)
            .filter(|ty| ty.version == target.version)
            .ok_or_else(status::no_such_resource)?;
        let status = match target.subresource.as_deref() {
            None => false,
            Some("status") if ty.has_status => true,
            Some(_) => return Err(status::no_such_resource()),
        };
        Ok(Self { request, ty: ty.clone(), namespace: target.namespace, name: target.name, status })
    }

    fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or_default()
    }

    /// Gets one object or lists several.
    pub(crate) fn read(&self, server: &Server) -> Result<(u16, Bytes)> {
        let form = self.request.form(server);
        match &self.name {
            Some(name) => Ok((200, form.render(&*server.find(&self.ty, self.namespace(), name)?))),
            None => {
                let document =
                    server.list(&self.ty, self.namespace.as_deref(), &self.list_options()?, form)?;
                Ok((200, document))
            }
        }
    }

    fn selector(&self) -> Result<Selector> {
        let param = |name| self.request.param(name).unwrap_or_default();
        Selector::parse(&self.ty, param("labelSelector"), param("fieldSelector"))
    }

    fn resource_version(&self) -> Result<Option<u64>> {
        match self.request.param("resourceVersion") {
            None | Some("") => Ok(None),
            Some(version) => version
                .parse()
                .map(Some)
                .map_err(|_| status::bad_request(format!("invalid resource version: {version}"))),
        }
    }

    fn list_options(&self) -> Result<ListOptions> {
        Ok(ListOptions {
            selector: self.selector()?,
            resource_version: self.resource_version()?,
            exact: self.request.param("resourceVersionMatch") == Some("Exact"),
            limit: self.request.param("limit").and_then(|limit| limit.parse().ok()),
            token: self.request.param("continue").map(str::to_string),
        })
    }

    pub(crate) fn watch(&self, shared: &SharedServer, server: &mut Server) -> Result<Watch> {
        let options = WatchOptions {
            selector: self.selector()?,
            resource_version: self.resource_version()?,
            bookmarks: self.request.flag("allowWatchBookmarks"),
            send_initial_events: self.request.flag("sendInitialEvents"),
            timeout: self
                .request
                .param("timeoutSeconds")
                .and_then(|s| s.parse().ok())
                .map(Duration::from_secs),
        };
        let form = self.request.form(server);
        Ok(Watch::open(shared, server, self.ty.clone(), self.namespace.clone(), options, form))
    }

    /// Performs the write and records it, even if it fails. A dry run writes nothing.
    pub(crate) fn traced_write(&self, server: &mut Server) -> Result<Written> {
        let outcome = self.write(server);
        let created = match &outcome {
            Ok(Written { body: Body::Object(object), .. }) => object.name().to_string(),
            _ => String::new(),
        };
        let write = Write {
            time: server.clock.now().to_string(),
            verb: self.verb().into(),
            resource: self.ty.resource.to_string(),
            namespace: self.namespace().into(),
            name: self.name.clone().unwrap_or(created),
            subresource: if self.status { "status".into() } else { String::new() },
            field_manager: self.request.param("fieldManager").unwrap_or_default().into(),
            code: outcome.as_ref().map_or_else(|failure| failure.code, |written| written.code),
            changed: outcome.as_ref().is_ok_and(|written| written.changed),
        };
        if !self.write_options().dry_run {
            server.writes.push(write);
        }
        outcome
    }

    fn verb(&self) -> &'static str {
        match self.request.method {
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH if self.is_apply() => "apply",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => "unknown",
        }
    }

    fn is_apply(&self) -> bool {
        self.request.content_type.starts_with("application/apply-patch")
    }

    fn write_options(&self) -> WriteOptions {
        let agent = self.request.user_agent.split('/').next().filter(|agent| !agent.is_empty());
        WriteOptions {
            manager: self.request.param("fieldManager").or(agent).unwrap_or("unknown").into(),
            part: if self.status { Part::Status } else { Part::Main },
            dry_run: self.request.param("dryRun").is_some(),
            force: self.request.flag("force"),
            strict: self.request.param("fieldValidation") == Some("Strict"),
        }
    }

    fn write(&self, server: &mut Server) -> Result<Written> {
        let body = self.request.json()?;
        let options = self.write_options();
        let (ty, namespace) = (&self.ty, self.namespace());
        if ty.namespaced && namespace.is_empty() {
            return Err(status::method_not_allowed());
        }
        match (&self.request.method, &self.name) {
            (&Method::POST, None) => server.create(ty, namespace, body, &options),
            (&Method::PUT, Some(name)) => server.update(ty, namespace, name, body, &options),
            (&Method::PATCH, Some(name)) if self.is_apply() => {
                if self.request.param("fieldManager").is_none_or(str::is_empty) {
                    let message = "Required value: is required for apply patch";
                    return Err(status::invalid_options("fieldManager", "FieldValueRequired", message));
                }
                server.apply(ty, namespace, name, body, &options)
            }
            (&Method::PATCH, Some(name)) => {
                let old = server.find(ty, namespace, name)?;
                let new = apply_patch(&old, &self.request.content_type, body)?;
                if text(&new.meta()["name"]) != name {
                    return Err(status::bad_request(
                        "the name of the object does not match the name on the URL",
                    ));
                }
                server.replace(ty, &old, new, None, &options)
            }
            (&Method::DELETE, Some(name)) if !self.status => {
                server.delete(ty, namespace, name, &DeleteOptions::decode(&body))
            }
            _ => Err(status::method_not_allowed()),
        }
    }
}
