//! The part of a status that code for all kinds reads and writes.

use super::{ConnectionStatus, DeploymentStatus, IntentStatus, PolicyStatus, RunStatus};
use crate::{contract::Cause, headline::Headline, kinds::Class, queue::QueueStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// A status with conditions.
pub trait Conditioned {
    /// Class of the kinds that have such a status.
    const CLASS: Class;

    fn conditions(&self) -> &[Condition];
    fn conditions_mut(&mut self) -> &mut Vec<Condition>;
    fn headline_mut(&mut self) -> &mut Option<Headline>;

    /// Where a problem began, here or upstream.
    fn cause(&self) -> Option<&Cause> {
        None
    }

    /// Sets where a problem began. Connections and policies have no cause.
    fn set_cause(&mut self, _cause: Option<Cause>) {}

    /// The status, if it is that of a run.
    fn as_run(&self) -> Option<&RunStatus> {
        None
    }

    /// The status, if it is that of a TrainingQueue.
    fn as_queue(&self) -> Option<&QueueStatus> {
        None
    }

    /// Number of inputs that were given up.
    fn dead_letters(&self) -> usize {
        0
    }

    /// Remarks on a result that may still be used.
    fn notes(&self) -> &[String] {
        &[]
    }
}

/// Every status has these fields under the same names.
macro_rules! fields {
    () => {
        fn conditions(&self) -> &[Condition] {
            &self.conditions
        }
        fn conditions_mut(&mut self) -> &mut Vec<Condition> {
            &mut self.conditions
        }
        fn headline_mut(&mut self) -> &mut Option<Headline> {
            &mut self.headline
        }
    };
}

/// Statuses with a cause have it under the same name.
macro_rules! caused {
    () => {
        fn cause(&self) -> Option<&Cause> {
            self.cause.as_ref()
        }
        fn set_cause(&mut self, cause: Option<Cause>) {
            self.cause = cause;
        }
    };
}

impl Conditioned for ConnectionStatus {
    const CLASS: Class = Class::Connection;
    fields!();
}

impl Conditioned for PolicyStatus {
    const CLASS: Class = Class::Policy;
    fields!();
}

impl Conditioned for QueueStatus {
    const CLASS: Class = Class::Policy;
    fields!();
    fn as_queue(&self) -> Option<&Self> {
        Some(self)
    }
}

impl Conditioned for IntentStatus {
    const CLASS: Class = Class::Intent;
    fields!();
    caused!();
    fn dead_letters(&self) -> usize {
        self.dead_letters.len()
    }
    fn notes(&self) -> &[String] {
        &self.notes
    }
}

impl Conditioned for DeploymentStatus {
    const CLASS: Class = Class::Intent;
    fields!();
    caused!();
}

impl Conditioned for RunStatus {
    const CLASS: Class = Class::Run;
    fields!();
    caused!();
    fn as_run(&self) -> Option<&RunStatus> {
        Some(self)
    }
    fn notes(&self) -> &[String] {
        self.output.as_ref().map_or(&[], |output| &output.notes)
    }
}
