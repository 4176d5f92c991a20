//! What every mlop operator shares.
//!
//! An operator is a set of controllers, one per kind. A controller's pass is always the same four steps
//! ([`Reconciler`]): *observe* reads, mostly from caches ([`Cache`]); *plan* decides, a pure function whose result is
//! data ([`plan`]); *execute* is the only writer (`runtime::execute`); what went wrong is *reported* in the
//! status. Most kinds are one of two classes and need no plan of their own: an [`intent`] turns inputs into runs and
//! publishes their results, a [`run`] turns itself into pods and reads what they report. [`main`] puts the parts
//! together and is the entry point of them all.

mod blocked;
pub mod children;
pub mod condition;
pub mod inputs;
pub mod intent;
mod operator;
pub mod plan;
pub mod resource;
pub mod run;
mod runtime;

pub use blocked::Blocked;
pub use operator::main;
pub use plan::{Action, Plan};
pub use runtime::{
    cache::{Cache, Cached},
    client,
    context::{Clock, Context, Settings},
    controller::{Reconciler, Reports},
    error::Error,
    leader_election,
    setup::Setup,
    triggers,
    workqueue::{Key, Workqueue},
};
