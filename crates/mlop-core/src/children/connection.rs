//! The status of a connection that runs its own servers: ready when all servers are.

use crate::{
    children::rollout::Rollout,
    condition::{ConditionStatus, Conditions},
    plan::Plan,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use mlop_api::{Reason, contract::condition_type, status::ConnectionStatus};

/// A server of the connection.
pub struct Server<'a> {
    pub name: &'a str,
    /// State of its rollout; none before it is created.
    pub rollout: Option<Rollout>,
}

/// Adds to `plan` the status of a connection that is served at `address` once all `servers` are ready.
pub fn report(
    plan: Plan<ConnectionStatus>,
    meta: &ObjectMeta,
    before: Option<&ConnectionStatus>,
    address: String,
    servers: &[Server<'_>],
    now: Timestamp,
) -> Plan<ConnectionStatus> {
    let generation = meta.generation.unwrap_or_default();
    let mut status = before.cloned().unwrap_or_default();
    status.observed_generation = Some(generation);
    status.address = Some(address);
    let open = servers.iter().find(|server| server.rollout != Some(Rollout::Done));
    let mut conditions = Conditions::new(&mut status.conditions, generation, now);
    match open.map(|server| (server.name, &server.rollout)) {
        None => {
            conditions.set(
                condition_type::READY,
                ConditionStatus::True,
                Reason::Ready,
                "all servers are ready",
            );
            conditions.settled();
        }
        Some((name, Some(Rollout::Failed(message)))) => {
            let message = format!("{name} does not become ready: {message}; see its pods");
            conditions.set(condition_type::READY, ConditionStatus::False, Reason::RolloutFailed, &message);
            conditions.stalled(Reason::RolloutFailed, &message);
        }
        Some((name, rollout)) => {
            let detail = match rollout {
                Some(Rollout::Progressing(detail)) => format!(": {detail}"),
                _ => String::new(),
            };
            let message = format!("{name} is starting{detail}");
            conditions.set(condition_type::READY, ConditionStatus::Unknown, Reason::Starting, &message);
            conditions.reconciling(Reason::Starting, &message);
        }
    }
    Plan { status: Some(status), ..plan }
}
