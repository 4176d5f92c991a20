//! What each operator may do: the one table from which the charts' roles are generated.
//!
//! Rights to read input kinds are not here: they come from the chart's value `inputKinds`, like the watches. The right
//! to the leader's lease is the same for all and is in the library chart.

/// An operator, the kinds that it reconciles and what it needs besides.
pub struct Operator {
    /// Name of its chart.
    pub chart: &'static str,
    /// Intents and connections that it reconciles, as plural names.
    pub intents: &'static [&'static str],
    /// Runs that it creates and reconciles.
    pub runs: &'static [&'static str],
    /// Rights beyond those that every operator has for its own kinds.
    pub further: &'static [Rule],
}

/// Verbs on resources of one API group.
#[derive(Clone)]
pub struct Rule {
    pub group: &'static str,
    pub resources: &'static [&'static str],
    pub verbs: &'static [&'static str],
}

pub const READ: &[&str] = &["get", "list", "watch"];
/// A child that is created once and then only deleted.
const WORK: &[&str] = &["get", "list", "watch", "create", "delete"];
/// A child that is kept as it should be. It goes with its owner, so nobody deletes it.
const KEEP: &[&str] = &["get", "list", "watch", "create", "patch"];

/// What every operator may do in the namespaces that it watches.
pub const COMMON: &[Rule] = &[
    Rule { group: "mlop.dev", resources: &["objectstores"], verbs: READ },
    Rule { group: "", resources: &["pods"], verbs: WORK },
    Rule { group: "", resources: &["events"], verbs: &["create"] },
];

/// On the runs of the operator, besides reading.
pub const OWN_RUNS: &[&str] = &["create", "patch", "delete"];
/// On the status of the operator's kinds.
pub const OWN_STATUS: &[&str] = &["patch"];

pub const OPERATORS: &[Operator] = &[
    Operator {
        chart: "mlop-ingestion",
        intents: &["datasets", "objectstores"],
        runs: &["datasetversions"],
        further: &[],
    },
    Operator {
        chart: "mlop-feature-store",
        intents: &["featurestores", "featureviews"],
        runs: &["featuresnapshots"],
        further: &[
            // The finalizer that cleans up the online store.
            Rule { group: "mlop.dev", resources: &["featureviews"], verbs: &["patch"] },
            Rule { group: "apps", resources: &["deployments", "statefulsets"], verbs: KEEP },
            Rule { group: "", resources: &["services"], verbs: KEEP },
            Rule { group: "networking.k8s.io", resources: &["networkpolicies"], verbs: KEEP },
        ],
    },
    Operator {
        chart: "mlop-training",
        intents: &["trainingjobs"],
        runs: &["trainingruns"],
        further: &[Rule { group: "batch", resources: &["jobs"], verbs: WORK }],
    },
    Operator {
        chart: "mlop-registry",
        intents: &["models", "trackingservers"],
        runs: &["modelversions"],
        further: &[
            Rule { group: "apps", resources: &["deployments"], verbs: KEEP },
            Rule { group: "", resources: &["persistentvolumeclaims", "services"], verbs: KEEP },
        ],
    },
    Operator {
        chart: "mlop-deployment",
        intents: &["modeldeployments"],
        runs: &[],
        further: &[
            Rule { group: "apps", resources: &["deployments"], verbs: KEEP },
            Rule { group: "", resources: &["services"], verbs: KEEP },
        ],
    },
];
