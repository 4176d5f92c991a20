//! The API server: requests, the rules that they obey, and their responses.

pub(crate) mod admission;
pub(crate) mod apply;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod http;
pub(crate) mod identity;
pub(crate) mod list;
pub(crate) mod patch;
pub(crate) mod quota;
pub(crate) mod request;
pub(crate) mod resource_request;
pub(crate) mod selector;
pub(crate) mod server;
pub(crate) mod shared;
pub(crate) mod status;
pub(crate) mod update;
pub(crate) mod url;
pub(crate) mod watch;
pub(crate) mod write;
