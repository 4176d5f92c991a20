//! Fault plans: data that a person can read, write and keep.
//!
//! ```yaml
//! scenario: newData
//! faults:
//! - at: {write: {by: mlop-training, verb: create, kind: jobs, name: delay-*-1, nth: 1}}
//!   fault: crashAfter
//! ```
//!
//! A write is identified by its effect and not by its time, so that a plan outlives changes of the code around it.
//! Digests and numbers of time slots in names are written as `*`.

mod fault;
mod operation;

pub use fault::Fault;
pub use operation::{Action, Change, Child, Course, Operation, Request, Scenario, Stage, System, Work};

use mlop_api::operators::{self, Operator};
use serde::{Deserialize, Serialize};

/// One run of the chain: the operations of users, and the faults meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Plan {
    pub scenario: Scenario,
    /// Operations of the users of [`Scenario::Restless`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<Operation>,
    pub faults: Vec<Injection>,
}

/// What runs must have in common to be the same until a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Beginning {
    makes_backups: bool,
    uses_leases: bool,
    namespace_ends: bool,
}

/// A fault and its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Injection {
    pub at: Point,
    pub fault: Fault,
}

/// Where a fault strikes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Point {
    Write(WriteId),
    Notification(NotificationId),
    /// A pod begins its work.
    Work(WorkId),
    /// Virtual milliseconds after the start.
    Millisecond(u64),
}

impl Point {
    /// Whether it is one of `operator`, or of the work that only the operator's pods in unusual scenarios do.
    pub fn is_of(&self, operator: &Operator) -> bool {
        match self {
            Self::Write(write) => write.by == operator.name,
            Self::Notification(notification) => notification.to == operator.name,
            Self::Work(work) => match operator.name {
                name if name == operators::TRAINING.name => work.kind == Work::Train.name(),
                name if name == operators::DEPLOYMENT.name => work.kind == Work::Analyze.name(),
                _ => false,
            },
            Self::Millisecond(_) => false,
        }
    }
}

/// A write request of an operator.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WriteId {
    pub by: String,
    /// `create`, `apply`, `patch`, `update` or `delete`.
    pub verb: String,
    /// Plural name of the kind.
    pub kind: String,
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subresource: String,
    /// Counts writes that are equal in everything else, from 1.
    pub nth: u32,
}

/// An event of a watch that an operator receives.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NotificationId {
    pub to: String,
    /// Plural name of the watched kind.
    pub kind: String,
    /// `ADDED`, `MODIFIED` or `DELETED`.
    pub event: String,
    pub name: String,
    pub nth: u32,
}

/// A pod's work in an external system: the object store, Redis or MLflow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkId {
    /// `scan`, `version`, `snapshot`, `activate`, `train`, `register`, `alias`, ...
    pub kind: String,
    pub nth: u32,
}

impl Plan {
    /// Whether one of the faults is among `faults`.
    pub fn has(&self, faults: &[Fault]) -> bool {
        self.faults.iter().any(|injection| faults.contains(&injection.fault))
    }

    /// How the run begins. None: it differs from those of all other plans.
    pub fn beginning(&self) -> Option<Beginning> {
        let is_timed = |injection: &Injection| matches!(injection.at, Point::Millisecond(_));
        if !self.users.is_empty() || self.faults.iter().any(is_timed) {
            return None;
        }
        Some(Beginning {
            makes_backups: self.has(Fault::WITH_BACKUPS),
            uses_leases: self.has(Fault::WITH_LEASES),
            namespace_ends: self.has(&[Fault::NamespaceEnds]),
        })
    }

    /// The plan as YAML.
    pub fn to_yaml(&self) -> String {
        serde_saphyr::to_string(self).unwrap_or_default()
    }

    /// # Errors
    /// When the text is not a plan.
    pub fn from_yaml(text: &str) -> anyhow::Result<Self> {
        serde_saphyr::from_str(text).map_err(|error| anyhow::anyhow!("invalid fault plan: {error}"))
    }
}

/// `name` with `*` for every digest, long number and time slot of a scan in it.
pub fn stable(name: &str) -> String {
    // An Event's name is an object's, a dot, and a digest.
    name.split('.').map(stable_label).collect::<Vec<_>>().join(".")
}

fn stable_label(label: &str) -> String {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let is_digest = |part: &str| {
        part.len() >= 7
            && part.bytes().all(|b| b.is_ascii_hexdigit())
            && part.bytes().any(|b| b.is_ascii_digit())
    };
    let mut before = "";
    let mut parts = Vec::new();
    for part in label.split('-') {
        let is_slot = before == "scan" && is_number(part);
        parts.push(if is_slot || is_digest(part) { "*" } else { part });
        before = part;
    }
    parts.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stable_name_hides_digests_and_numbers() {
        assert_eq!(stable("delay-0123456789ab-1"), "delay-*-1");
        assert_eq!(stable("flights-scan-29456789"), "flights-scan-*");
        assert_eq!(stable("flights-scan-56-0a1b2c3d"), "flights-scan-*-*");
        assert_eq!(stable("delay-0123456789ab.00112233445566aa"), "delay-*.*");
        assert_eq!(stable("feedback"), "feedback");
    }

    #[test]
    fn plan_is_equal_after_a_round_trip_through_yaml() {
        let write = WriteId {
            by: "mlop-training".into(),
            verb: "create".into(),
            kind: "jobs".into(),
            name: "delay-*-1".into(),
            subresource: String::new(),
            nth: 1,
        };
        let plan = Plan {
            scenario: Scenario::Restless,
            users: vec![Operation { at: 7, does: Action::Edit(Stage::Model) }],
            faults: vec![
                Injection { at: Point::Write(write), fault: Fault::CrashAfter },
                Injection { at: Point::Millisecond(5), fault: Fault::AllCrash },
            ],
        };
        assert_eq!(Plan::from_yaml(&plan.to_yaml()).unwrap(), plan);
        assert!(Plan::from_yaml("scenario: no\nfaults: []").is_err());
    }
}
