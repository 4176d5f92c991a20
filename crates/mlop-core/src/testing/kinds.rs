//! A kind of intent and a kind of run.

use kube::CustomResource;
use mlop_api::{
    Digest,
    common::{Consistency, Flow, NamedInput, Trigger},
    run::{Execution, Lineage, RunSpec},
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
pub(crate) struct ForecastSpec {
    pub method: String,
    pub inputs: Vec<NamedInput>,
    pub consistency: Consistency,
    pub pin: Option<String>,
    pub suspend: bool,
    pub trigger: Trigger,
    pub history_limit: u32,
    /// Results must be at least this good.
    pub gate: Option<u32>,
    pub alias: String,
    pub profile: Option<String>,
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
pub(crate) struct ForecastRunSpec {
    pub content: ForecastContent,
    pub lineage: TestLineage,
    pub execution: Execution,
}

/// The part of a Forecast that determines its result.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ForecastContent {
    pub method: String,
}

/// [`Lineage`] with a default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TestLineage(pub Lineage);

impl Default for TestLineage {
    fn default() -> Self {
        let input_digest = Digest::of_bytes(b"");
        Self(Lineage { input_digest, semantics_version: 1, inputs: Vec::new(), ancestors: Vec::new() })
    }
}

impl RunSpec for ForecastRunSpec {
    type Content = ForecastContent;
    fn content(&self) -> &ForecastContent {
        &self.content
    }
    fn lineage(&self) -> &Lineage {
        &self.lineage.0
    }
    fn execution(&self) -> &Execution {
        &self.execution
    }
    fn store(&self) -> &str {
        "files"
    }
    fn digested_store(&self) -> Option<&str> {
        Some("files")
    }
    fn drop_work(&mut self) {
        self.content.method.clear();
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
    fn history_limit(&self) -> u32 {
        self.history_limit
    }
    fn profile(&self) -> Option<&str> {
        self.profile.as_deref()
    }
}
