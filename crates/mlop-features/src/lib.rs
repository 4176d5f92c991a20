//! Features: computes a view's table, loads it into Redis, and serves it.
//!
//! One binary with two modes. As a worker it does the mounted task and ends; as a server it answers
//! `POST /get-online-features`.
//!
//! | module | gives |
//! |---|---|
//! | [`worker`] | the task, dispatched |
//! | [`snapshot`] | SQL over input tables, written as a table |
//! | [`query`] | which SQL is allowed, and running it the same way every time |
//! | [`writer`], [`stats`] | deterministic Parquet, and statistics counted on the way |
//! | [`activate`], [`served`], [`newest`] | the newest row of each entity, loaded into Redis |
//! | [`online`], [`feast`] | the layout of Redis, and the encoding of rows |
//! | [`serve`] | the online API |

pub mod activate;
pub mod cell;
pub mod feast;
pub mod newest;
pub mod online;
pub mod query;
pub mod serve;
pub mod served;
pub mod snapshot;
pub mod stack;
pub mod stats;
mod text;
pub mod types;
pub mod worker;
pub mod writer;
