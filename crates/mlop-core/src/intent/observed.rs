//! The state that an intent's decision depends on.

use super::Intent;
use crate::{
    children::{meta, profile::Profile},
    inputs::InputState,
    resource::PodView,
    runtime::workqueue::Key,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, ResourceExt, core::object::HasStatus};
use mlop_api::status::IntentStatus;
use std::sync::Arc;

/// The observed state of one intent, read from caches.
pub struct Observed<I: Intent> {
    pub object: Arc<I::Resource>,
    /// One per entry of [`Intent::inputs`], in that order.
    pub inputs: Vec<InputState>,
    /// All runs of this intent.
    pub runs: Vec<Arc<I::Run>>,
    /// The pods of this intent and of its runs.
    pub pods: Vec<Arc<PodView>>,
    /// The path by which the intent depends on itself; none in a sound chain.
    pub cycle: Option<String>,
    /// The profile of its pods.
    pub profile: Profile,
    /// Name of the operator.
    pub operator: String,
    /// Image of the operator's worker.
    pub worker_image: String,
    /// Related objects of this kind of intent.
    pub related: I::Related,
}

impl<I: Intent> Observed<I> {
    /// Namespace and name of the intent.
    pub fn key(&self) -> Key {
        Key::of(self.object.meta())
    }

    /// Kind of the intent.
    pub fn kind() -> String {
        I::Resource::kind(&()).into_owned()
    }

    /// Kind and name, such as `Dataset flights`.
    pub fn label(&self) -> String {
        format!("{} {}", Self::kind(), self.key().name)
    }

    /// Generation of the spec.
    pub fn generation(&self) -> i64 {
        self.object.meta().generation.unwrap_or_default()
    }

    /// The status that was written last.
    pub fn status(&self) -> Option<&IntentStatus> {
        self.object.status()
    }

    /// Whether the intent is being deleted.
    pub fn is_being_deleted(&self) -> bool {
        self.object.meta().deletion_timestamp.is_some()
    }

    /// The value of an annotation.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.object.annotations().get(name).map(String::as_str)
    }

    /// Metadata of a child that is not a run.
    pub fn child(&self, name: String, role: &str) -> ObjectMeta {
        let object = self.object.as_ref();
        meta::child_meta(object, name, meta::child_labels(object, &self.operator, role))
    }

    /// The run of this name.
    pub(super) fn run_named(&self, name: &str) -> Option<&Arc<I::Run>> {
        self.runs.iter().find(|run| run.meta().name.as_deref() == Some(name))
    }
}
