//! An HTTP request to the server, before its path is resolved.

use bytes::Bytes;
use http::{Method, header, request::Parts};
use serde_json::Value;

use super::{
    list::Form,
    server::Server,
    status::{self, Result},
    url::{Target, query},
};

/// One request, with the headers that the server reads.
pub(crate) struct ApiRequest {
    pub(crate) method: Method,
    pub(crate) path: String,
    query: Vec<(String, String)>,
    pub(crate) content_type: String,
    pub(crate) user_agent: String,
    metadata_only: bool,
    body: Bytes,
}

impl ApiRequest {
    pub(crate) fn new(parts: &Parts, body: Bytes) -> Self {
        let header = |name| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        Self {
            method: parts.method.clone(),
            path: parts.uri.path().to_string(),
            query: query(parts.uri.query().unwrap_or_default()),
            content_type: header(header::CONTENT_TYPE).to_string(),
            user_agent: header(header::USER_AGENT).to_string(),
            metadata_only: header(header::ACCEPT).contains("as=PartialObjectMetadata"),
            body,
        }
    }

    /// The parts of the path; `None` if it is not a path of the API.
    pub(crate) fn target(&self) -> Option<Target> {
        Target::parse(&self.path)
    }

    /// The form in which the client gets objects.
    pub(crate) fn form(&self, server: &Server) -> Form {
        match (self.metadata_only, server.shows_managers) {
            (true, _) => Form::Metadata,
            (false, true) => Form::Full,
            (false, false) => Form::Unmanaged,
        }
    }

    /// A parameter of the query.
    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether a parameter of the query is true.
    pub(crate) fn flag(&self, name: &str) -> bool {
        matches!(self.param(name), Some("true" | "1"))
    }

    /// The body as JSON; null if there is none.
    pub(crate) fn json(&self) -> Result<Value> {
        if self.body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&self.body).map_err(|error| {
            status::bad_request(format!("couldn't get version/kind; json parse error: {error}"))
        })
    }
}
