//! RBAC that is the same for all operators. The rest is in [`mlop_api::operators`].
//!
//! Permission to read input kinds comes from the chart's value `inputKinds`, like the watches. Permission for the leader's
//! lease is in the library chart.
use mlop_api::operators::{Rule, WATCH};

/// In the namespaces that an operator watches.
pub const COMMON: &[Rule] = &[
    Rule { group: mlop_api::GROUP, resources: &["objectstores"], verbs: WATCH },
    Rule { group: mlop_api::GROUP, resources: &["podprofiles"], verbs: WATCH },
    Rule { group: "", resources: &["events"], verbs: &["create"] },
];

/// On the runs of the operator.
pub const OWN_RUNS: &[&str] = &["get", "list", "watch", "create", "patch", "delete"];
/// On the status of the operator's kinds.
pub const OWN_STATUS: &[&str] = &["patch"];
/// On the objects that the operator sets finalizers on.
pub const SET_FINALIZER: &[&str] = &["patch"];
/// On the same objects, of the hook that takes the finalizers off after an uninstall.
pub const TAKE_FINALIZER_OFF: &[&str] = &["get", "list", "patch"];
