//! Measurements of mlop's programs, each beside a baseline in the same run on the same machine.
//!
//! Operators run on a real API server: etcd, kube-apiserver and the operators are real. There is no node: [`workers`] reports the success of each pod at
//! once, with results that a worker could have. All processes share the machine.

mod bare_loop;
mod chains;
pub mod features;
pub mod hand_off;
pub mod idle;
pub mod ingest;
pub mod isolation;
mod lab;
pub mod launcher;
mod process;
mod raw_writer;
mod redis;
pub mod scale;
mod server;
pub mod simulator;
pub mod throughput;
mod times;
pub mod trees;
mod workers;

use anyhow::Result;
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, api::PostParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Requests of a measurement at the same time.
const CONCURRENCY: usize = 32;

fn object<K: DeserializeOwned>(value: Value) -> Result<K> {
    Ok(serde_json::from_value(value)?)
}

async fn create_namespace(client: &Client, name: &str) -> Result<()> {
    let namespace: Namespace = object(json!({"metadata": {"name": name}}))?;
    Api::all(client.clone()).create(&PostParams::default(), &namespace).await?;
    Ok(())
}
