//! A request of an operator, as plans identify it.

use crate::plan::{Point, WriteId, stable};
use bytes::Bytes;
use http::{Method, header, request::Parts};
use serde::Deserialize;
use std::collections::VecDeque;

/// One request of an operator.
pub struct OperatorRequest {
    pub by: String,
    pub verb: &'static str,
    /// Plural name.
    pub kind: String,
    pub name: String,
    pub subresource: String,
    pub body: Bytes,
    pub path: String,
}

/// An object's name, without the rest of the object.
#[derive(Default, Deserialize)]
pub struct Named {
    #[serde(default)]
    pub metadata: NameOnly,
}

#[derive(Default, Deserialize)]
pub struct NameOnly {
    #[serde(default)]
    pub name: String,
}

impl OperatorRequest {
    pub fn parse(by: &str, parts: &Parts, body: Bytes) -> Self {
        let path = parts.uri.path().to_owned();
        let mut segments: VecDeque<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        // `api/v1` or `apis/<group>/<version>`, then perhaps `namespaces/<name>`.
        let root = if segments.front() == Some(&"api") { 2 } else { 3 };
        segments.drain(..root.min(segments.len()));
        if segments.len() > 2 && segments.front() == Some(&"namespaces") {
            segments.drain(..2);
        }
        let mut next = || segments.pop_front().unwrap_or_default().to_owned();
        let (kind, mut name, subresource) = (next(), next(), next());
        let verb = verb(parts, name.is_empty());
        if verb == "create" {
            let object: Named = serde_json::from_slice(&body).unwrap_or_default();
            name = object.metadata.name;
        }
        Self { by: by.to_owned(), verb, kind, name, subresource, body, path }
    }

    /// The namespace of the object.
    pub fn namespace(&self) -> Option<&str> {
        let mut segments = self.path.split('/');
        segments.find(|segment| *segment == "namespaces")?;
        segments.next()
    }

    pub fn is_write(&self) -> bool {
        !matches!(self.verb, "watch" | "list" | "get")
    }

    /// The point of a write.
    pub fn point(&self, nth: u32) -> Point {
        Point::Write(WriteId {
            by: self.by.clone(),
            verb: self.verb.to_owned(),
            kind: self.kind.clone(),
            name: stable(&self.name),
            subresource: self.subresource.clone(),
            nth,
        })
    }

    /// The path of the object itself.
    pub fn object_path(&self) -> String {
        if self.verb == "create" {
            return format!("{}/{}", self.path, self.name);
        }
        let suffix = format!("/{}", self.subresource);
        match self.path.strip_suffix(&suffix) {
            Some(path) if !self.subresource.is_empty() => path.to_owned(),
            _ => self.path.clone(),
        }
    }
}

fn verb(parts: &Parts, is_collection: bool) -> &'static str {
    let query = parts.uri.query().unwrap_or_default();
    let is_apply = parts
        .headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/apply-patch"));
    match parts.method {
        Method::GET if query.split('&').any(|part| part == "watch=true") => "watch",
        // A dry run asks a question.
        _ if query.split('&').any(|part| part.starts_with("dryRun=")) => "get",
        Method::GET if is_collection => "list",
        Method::GET => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::DELETE => "delete",
        _ if is_apply => "apply",
        _ => "patch",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn parse(method: Method, uri: &str, content: &str, body: &'static str) -> OperatorRequest {
        let request = Request::builder().method(method).uri(uri).header(header::CONTENT_TYPE, content);
        let (parts, ()) = request.body(()).unwrap().into_parts();
        OperatorRequest::parse("mlop-training", &parts, Bytes::from_static(body.as_bytes()))
    }

    #[test]
    fn request_is_identified_by_verb_kind_name_and_subresource() {
        let apply = "application/apply-patch+yaml";
        let jobs = "/apis/batch/v1/namespaces/default/jobs";
        let job = format!("{jobs}/delay-1");
        let status = format!("{job}/status?fieldManager=mlop-training&force=true");
        let watch = "/api/v1/pods?watch=true&resourceVersion=7";
        for (method, uri, content, body, wanted) in [
            (
                Method::POST,
                jobs,
                "",
                r#"{"metadata": {"name": "delay-1"}}"#,
                ["create", "jobs", "delay-1", ""],
            ),
            (Method::PATCH, &status, apply, "", ["apply", "jobs", "delay-1", "status"]),
            (Method::PATCH, &job, "application/merge-patch+json", "", ["patch", "jobs", "delay-1", ""]),
            (Method::DELETE, &job, "", "", ["delete", "jobs", "delay-1", ""]),
            (Method::GET, jobs, "", "", ["list", "jobs", "", ""]),
            (Method::GET, watch, "", "", ["watch", "pods", "", ""]),
        ] {
            let request = parse(method, uri, content, body);
            let found = [request.verb, &request.kind, &request.name, &request.subresource];
            assert_eq!(found, wanted, "{uri}");
            if !request.name.is_empty() {
                assert_eq!(request.object_path(), job, "{uri}");
            }
        }
    }
}
