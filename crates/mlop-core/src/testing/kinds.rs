//! A kind of intent and a kind of run.

use crate::{resource::Cached, run::RunResource, runtime::controller::Reports};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use mlop_api::{
    Digest,
    common::{Consistency, Flow, NamedInput, Trigger},
    run::{Execution, Lineage},
    status::{IntentStatus, RunStatus},
};
use serde::{Deserialize, Serialize};

#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "mlop.dev",
    version = "v1alpha1",
    kind = "Forecast",
    namespaced,
    status = "IntentStatus",
    schema = "disabled"
)]
pub struct ForecastSpec {
    pub method: String,
    pub inputs: Vec<NamedInput>,
    pub consistency: Consistency,
    pub pin: Option<String>,
    pub suspend: bool,
    pub trigger: Trigger,
    pub keep: u32,
    /// Results must be at least this good.
    pub gate: Option<u32>,
    pub alias: String,
    pub execution: Execution,
}

#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "mlop.dev",
    version = "v1alpha1",
    kind = "ForecastRun",
    namespaced,
    status = "RunStatus",
    schema = "disabled"
)]
pub struct ForecastRunSpec {
    pub lineage: TestLineage,
    pub execution: Execution,
}

/// [`Lineage`] with a default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TestLineage(pub Lineage);

impl Default for TestLineage {
    fn default() -> Self {
        let input_digest = Digest::of_bytes(b"");
        Self(Lineage { input_digest, semantics_version: 1, inputs: Vec::new(), roots: Vec::new() })
    }
}

impl Cached for Forecast {}
impl Cached for ForecastRun {}

impl Reports for Forecast {
    type Status = IntentStatus;
    fn reported(&self) -> Option<&IntentStatus> {
        self.status.as_ref()
    }
    fn conditions(status: &mut IntentStatus) -> &mut Vec<Condition> {
        &mut status.conditions
    }
}

impl Reports for ForecastRun {
    type Status = RunStatus;
    fn reported(&self) -> Option<&RunStatus> {
        self.status.as_ref()
    }
    fn conditions(status: &mut RunStatus) -> &mut Vec<Condition> {
        &mut status.conditions
    }
}

impl RunResource for ForecastRun {
    fn lineage(&self) -> &Lineage {
        &self.spec.lineage.0
    }
    fn execution(&self) -> &Execution {
        &self.spec.execution
    }
    fn store(&self) -> &str {
        "files"
    }
}

impl Flow for ForecastSpec {
    fn pin(&self) -> Option<&str> {
        self.pin.as_deref()
    }
    fn suspend(&self) -> bool {
        self.suspend
    }
    fn trigger(&self) -> &Trigger {
        &self.trigger
    }
    fn keep(&self) -> u32 {
        self.keep
    }
}
