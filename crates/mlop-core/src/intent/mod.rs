//! Intents: from inputs to a run, and from the run's result to the artifact that others use.
//!
//! A kind implements [`Intent`]: what enters the digest ([`Intent::identity`]), what its run looks like
//! ([`Intent::run`]) and, if its result is shown in an external system, how ([`Intent::activation`]). Everything else is
//! common to all kinds. [`plan`] decides it without a client or a clock:
//!
//!  1. A dependency cycle blocks the intent (`decide`).
//!  2. `spec.pin` selects a run. The inputs are not followed (`decide`).
//!  3. Every input passes the gate, and inputs that share an ancestor come from the same version of it
//!     ([`inputs`](crate::inputs)).
//!  4. The identity and the inputs give the input digest. It names the run (`digest`).
//!  5. An artifact with this digest is kept. A run of this name is followed. Another active run is waited for, or
//!     superseded if it has made no progress (`decide`).
//!  6. Otherwise a run starts, unless the intent is suspended, waits for a request, or waits until its inputs are stable.
//!  7. The result of a run that has succeeded is judged by the gates (`gates`).
//!  8. It is activated under a revision of its own (`activation`).
//!  9. An activation that nobody wants any more is replaced by the published one (`plan`).
//! 10. A result of earlier inputs is published, too (`late_result`).
//! 11. The status explains the step: conditions, artifact, history and dead letters (`status`, `artifact`, `history`).
//! 12. The execution is mirrored into the open run, and old runs and pods are pruned (`retention`).
//!
//! # Activation and revisions
//!
//! Each activation has a number, the [`Revision`], and the highest one wins in the external system. A run gets one when
//! it is created: its pod activates the result if the intent wants that when the pod starts ([`wants_active`]). In all
//! other cases (a pin, other parameters, an online store that was away) a separate pod does it, under the next revision.
//!
//! # Example
//!
//! A kind of intent over FeatureViews. Its input does not exist, so no run starts:
//!
//! ```
//! use jiff::Timestamp;
//! use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
//! use mlop_api::{
//!     common::{Flow, NamedInput},
//!     features::{FeatureContent, FeatureSnapshot, FeatureView},
//!     run::{Execution, Lineage},
//! };
//! use mlop_core::{
//!     Blocked,
//!     children::profile::Profile,
//!     inputs::{Inputs, ReadyInput},
//!     intent::{Identity, Intent, Observed, plan},
//! };
//! use std::sync::Arc;
//!
//! struct ViewIntent;
//!
//! impl Intent for ViewIntent {
//!     type Resource = FeatureView;
//!     type Run = FeatureSnapshot;
//!     type Related = ();
//!
//!     fn observe(&self, _: &FeatureView, _: &[Arc<FeatureSnapshot>]) {}
//!
//!     fn flow(view: &FeatureView) -> &dyn Flow {
//!         &view.spec
//!     }
//!
//!     fn inputs(view: &FeatureView) -> Vec<NamedInput> {
//!         view.spec.inputs.clone()
//!     }
//!
//!     fn identity(observed: &Observed<Self>) -> Result<Identity<FeatureContent>, Blocked> {
//!         // Everything that determines the output and nothing else: an edit of it starts a run.
//!         Ok(Identity::of(FeatureContent::from(&observed.object.spec), Some("features")))
//!     }
//!
//!     fn execution(_: &FeatureView) -> Execution {
//!         Execution::default()
//!     }
//!
//!     fn run(
//!         _: &Observed<Self>,
//!         _: ObjectMeta,
//!         _: &Identity<FeatureContent>,
//!         _: Lineage,
//!         _: Execution,
//!         _: &[ReadyInput],
//!     ) -> FeatureSnapshot {
//!         unreachable!("no run starts before its inputs are ready")
//!     }
//! }
//!
//! let view: FeatureView = serde_json::from_value(serde_json::json!({
//!     "apiVersion": "mlop.dev/v1alpha1",
//!     "kind": "FeatureView",
//!     "metadata": {"name": "delays", "namespace": "default", "generation": 1},
//!     "spec": {
//!         "inputs": [{"name": "flights", "from": {"kind": "Dataset", "name": "flights"}}],
//!         "sql": "SELECT * FROM flights",
//!         "entities": ["origin"],
//!         "timestamp": "time_hour",
//!         "featureStore": "features",
//!     },
//! }))?;
//! let observed = Observed::<ViewIntent> {
//!     inputs: ViewIntent::inputs(&view).iter().map(|input| Inputs::default().state("default", input)).collect(),
//!     object: Arc::new(view),
//!     runs: Vec::new(),
//!     pods: Vec::new(),
//!     cycle: None,
//!     profile: Profile::default(),
//!     operator: "mlop-feature-store".to_owned(),
//!     worker_image: String::new(),
//!     related: (),
//! };
//! let plan = plan(&observed, Timestamp::UNIX_EPOCH);
//! assert!(plan.creates.is_empty());
//! assert_eq!(plan.status.unwrap().conditions[0].reason, "InputKindUnknown");
//! # Ok::<(), serde_json::Error>(())
//! ```

mod activation;
mod artifact;
mod decide;
mod digest;
mod gates;
mod history;
mod late_result;
mod observed;
mod pin;
mod plan;
mod reconciler;
mod request;
mod retention;
mod revision;
mod status;
mod step;
mod still_valid;
#[cfg(test)]
mod tests;

use crate::{
    Blocked,
    inputs::ReadyInput,
    resource::Cached,
    run::{Content, RunResource},
};
use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Resource,
    core::{NamespaceResourceScope, object::HasStatus},
};
use mlop_api::{
    Digest, Reason,
    common::{Consistency, Flow, NamedInput},
    run::{Execution, Lineage},
    status::{IntentStatus, Verdict},
    task::Subject,
};
use serde_json::{Value, json};
use std::sync::Arc;

pub use activation::{activation_digest, wants_active};
#[cfg(any(test, feature = "testing"))]
pub(crate) use decide::present_run;
pub use observed::Observed;
pub use plan::plan;
pub use reconciler::Intents;
pub use revision::Revision;

/// A kind of intent that makes runs.
pub trait Intent: Sized + Send + Sync + 'static {
    type Resource: Cached
        + Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + HasStatus<Status = IntentStatus>;
    type Run: RunResource;
    /// Related objects that its decisions depend on.
    type Related: Send + Sync;

    /// Version of the meaning of [`identity`](Self::identity). A new version alone starts no run: an artifact is current
    /// if its recorded version gives the same digest.
    const SEMANTICS: u32 = 1;
    /// Whether results are shown in an external system, by [`activation`](Self::activation).
    const ACTIVATES: bool = false;

    /// Reads the related objects of `object` and of its runs from caches.
    fn observe(&self, object: &Self::Resource, runs: &[Arc<Self::Run>]) -> Self::Related;

    /// The fields that all intents share: pin, suspend, trigger, history limit.
    fn flow(object: &Self::Resource) -> &dyn Flow;

    /// The artifacts that it consumes.
    fn inputs(object: &Self::Resource) -> Vec<NamedInput>;

    /// Whether inputs that share an ancestor must come from the same version of it.
    fn consistency(_object: &Self::Resource) -> Consistency {
        Consistency::Same
    }

    /// Everything that determines the output besides the inputs. Names, times and settings of the execution must not be
    /// part of it.
    ///
    /// # Errors
    /// When an object that it needs is missing, or the spec can never work.
    fn identity(observed: &Observed<Self>) -> Result<Identity<Content<Self::Run>>, Blocked>;

    /// The execution of its runs.
    fn execution(object: &Self::Resource) -> Execution;

    /// The run on `inputs`. `meta` names it; the content of `identity`, `lineage` and `execution` belong into its spec.
    fn run(
        observed: &Observed<Self>,
        meta: ObjectMeta,
        identity: &Identity<Content<Self::Run>>,
        lineage: Lineage,
        execution: Execution,
        inputs: &[ReadyInput],
    ) -> Self::Run;

    /// The merge patch that brings `execution` into an existing run.
    fn execution_patch(execution: &Execution, _object: &Self::Resource) -> Value {
        json!({"execution": execution})
    }

    /// Whether an existing run has the execution that the intent asks for now.
    fn is_mirrored(run: &Self::Run, execution: &Execution, _object: &Self::Resource) -> bool {
        run.execution() == execution
    }

    /// The verdict of the gates on a run that has succeeded; none without gates.
    fn judge(_object: &Self::Resource, _run: &Self::Run) -> Option<Verdict> {
        None
    }

    /// How a result is brought to the external system before it is published.
    fn activation(_observed: &Observed<Self>, _run: &Self::Run) -> Activation {
        Activation::None
    }

    /// Adds to the common plan what only this kind does, such as scans or a finalizer.
    fn amend(
        _observed: &Observed<Self>,
        plan: crate::Plan<IntentStatus>,
        _now: Timestamp,
    ) -> crate::Plan<IntentStatus> {
        plan
    }
}

/// The part of the digest that does not come from input resources.
pub struct Identity<C> {
    /// The fields of the spec that determine the output.
    pub content: C,
    /// Name of the ObjectStore that receives the output; none for a run that writes no objects.
    pub store: Option<String>,
    /// Inputs that are not resources, such as the listing of a source.
    pub digests: Vec<(String, Digest)>,
    /// When the newest of them came to be, or was seen again, if known.
    pub since: Option<Timestamp>,
}

impl<C> Identity<C> {
    /// The identity of a content whose inputs are resources and whose output goes to `store`.
    pub fn of(content: C, store: Option<&str>) -> Self {
        Self { content, store: store.map(str::to_owned), digests: Vec::new(), since: None }
    }
}

/// Builds the pod that activates a revision. Name, owner and labels are given.
pub type BuildActivation = dyn Fn(ObjectMeta, Subject, Revision) -> Pod;

/// How a result reaches the external system.
pub enum Activation {
    /// There is no external system.
    None,
    /// A pod activates it, unless the run's own pod has. `parameters` is the digest of everything that the activation
    /// depends on besides the artifact: a change activates again. While it `waits_for` a connection that is not
    /// ready, no pod starts.
    Pod { parameters: Digest, build: Box<BuildActivation>, waits_for: Option<Blocked> },
    /// It cannot begin: an object that it needs is missing, or another intent has the place.
    Blocked(Blocked),
}

impl Activation {
    /// An object that the activation needs is missing or not ready.
    pub fn waiting(message: impl Into<String>) -> Self {
        Self::Blocked(Blocked::waiting(Reason::ConnectionNotReady, message))
    }
}
