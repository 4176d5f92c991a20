//! The document in which an operator tells routers how to share requests out.
//!
//! It is a file of a mounted ConfigMap that routers follow, and holds no secrets.

use serde::{Deserialize, Serialize};

/// Where a router's requests go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Routes {
    pub stable: Backend,
    /// A second version and its share of the requests in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
}

/// A version and its address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Backend {
    /// `host:port`.
    pub address: String,
    /// Identity of its pods, under which its requests are counted.
    pub version: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Canary {
    #[serde(flatten)]
    pub backend: Backend,
    pub weight: u8,
}
