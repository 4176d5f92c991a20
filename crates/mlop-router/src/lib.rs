//! The router of a ModelDeployment: a reverse proxy that shares requests out between two versions, and the measurement of
//! their answers.
//!
//! A router follows a file with its [routes](mlop_api::routes::Routes) and knows no Kubernetes. Of n requests, the new
//! version gets its share exactly, but for a few. What cannot be sent to the new version goes to the stable one. What
//! has been sent is never sent again.
//!
//! - [`serve`] runs a router: `mlop-launcher route`.
//! - [`analyze`] counts the requests of all routers in an interval: `mlop-launcher analyze`.
//!
//! ```
//! use mlop_router::share::Share;
//!
//! let share = Share::default();
//! let canary = (0..1_000).filter(|_| share.is_canary(10)).count();
//! assert!((98..=102).contains(&canary));
//! ```
//!
//! Memory is bounded by the number of connections and the buffers of each. Bodies are streamed both ways.

#![warn(unreachable_pub)]

pub mod analyze;
pub mod counts;
mod exchange;
mod lanes;
mod metrics;
mod proxy;
pub mod serve;
pub mod share;
