//! The facts about each operator that its code, chart, images and tests share.

use crate::{
    GROUP,
    kinds::{self, Class},
};

/// An operator.
#[derive(Clone, Copy, Debug)]
pub struct Operator {
    /// Name of its package, program, image and chart.
    pub name: &'static str,
    /// The kinds that it reconciles.
    pub kinds: &'static [&'static str],
    /// Kinds of mlop that its chart lets it read as inputs.
    pub inputs: &'static [&'static str],
    /// Package, program and image that its pods in the users' namespaces run; none if it creates no pods.
    pub worker: Option<&'static str>,
    /// The kinds on whose objects it sets a finalizer. Its permission to do so, and the hook of its chart that takes them off
    /// after an uninstall, follow from it.
    pub finalized: &'static [&'static str],
    /// RBAC rules beyond those that every operator has.
    pub rbac: &'static [Rule],
    /// Another operator that writes one field of the statuses of its runs.
    pub answered: Option<Answered>,
    /// RBAC rules on objects without a namespace. They hold for the cluster also if the operator works in some namespaces only.
    pub cluster: &'static [Rule],
}

/// The field of a run's status in which another operator answers it. Both are installed in one namespace.
#[derive(Clone, Copy, Debug)]
pub struct Answered {
    /// Name of the other operator.
    pub by: &'static str,
    pub field: &'static str,
}

/// Verbs on resources of one API group.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    pub group: &'static str,
    pub resources: &'static [&'static str],
    pub verbs: &'static [&'static str],
}

/// Verbs on objects that the operator reads from its caches only.
pub const WATCH: &[&str] = &["list", "watch"];
/// Verbs on objects that are also read one by one: inputs right before a run is created, and children that exist already.
pub const READ: &[&str] = &["get", "list", "watch"];
/// Verbs on children that are created once and then only deleted.
const WORK: &[&str] = &["get", "list", "watch", "create", "delete"];
/// Verbs on children that are applied. Their owner's deletion removes them.
const KEEP: &[&str] = &["get", "list", "watch", "create", "patch"];
/// Verbs on children that are applied, and deleted when their owner's spec no longer asks for them.
const OWN: &[&str] = &["get", "list", "watch", "create", "patch", "delete"];

/// The pods that an operator creates.
const PODS: Rule = Rule { group: "", resources: &["pods"], verbs: WORK };

/// Keeps ObjectStores and PodProfiles checked, and Datasets up to date.
pub const INGESTION: Operator = Operator {
    name: "mlop-ingestion",
    kinds: &["PodProfile", "ObjectStore", "Dataset", "DatasetVersion"],
    inputs: &[],
    worker: Some("mlop-dataset"),
    finalized: &[],
    rbac: &[PODS],
    answered: None,
    cluster: &[],
};

/// Computes FeatureViews and serves them online.
pub const FEATURE_STORE: Operator = Operator {
    name: "mlop-feature-store",
    kinds: &["FeatureStore", "FeatureView", "FeatureSnapshot"],
    inputs: &["Dataset", "FeatureView"],
    worker: Some("mlop-features"),
    // Its rows in the online store are deleted with a view.
    finalized: &["FeatureView"],
    rbac: &[
        PODS,
        Rule { group: "apps", resources: &["deployments", "statefulsets"], verbs: OWN },
        Rule { group: "", resources: &["services"], verbs: OWN },
        Rule { group: "networking.k8s.io", resources: &["networkpolicies"], verbs: OWN },
        Rule { group: "policy", resources: &["poddisruptionbudgets"], verbs: KEEP },
    ],
    answered: None,
    cluster: &[],
};

/// Runs users' training commands.
pub const TRAINING: Operator = Operator {
    name: "mlop-training",
    kinds: &["TrainingJob", "TrainingRun"],
    inputs: &["Dataset", "FeatureView", "TrainingJob"],
    worker: Some("mlop-launcher"),
    finalized: &[],
    rbac: &[
        PODS,
        // The progress that the agents of trainings print.
        Rule { group: "", resources: &["pods/log"], verbs: &["get"] },
        Rule { group: "batch", resources: &["jobs"], verbs: WORK },
        // The names of a distributed training's pods.
        Rule { group: "", resources: &["services"], verbs: OWN },
    ],
    answered: Some(Answered { by: QUEUE.name, field: "admission" }),
    cluster: &[Rule { group: GROUP, resources: &["trainingqueues"], verbs: WATCH }],
};

/// Records models in MLflow.
pub const REGISTRY: Operator = Operator {
    name: "mlop-registry",
    kinds: &["TrackingServer", "Model", "ModelVersion"],
    inputs: &["TrainingJob"],
    worker: Some("mlop-registrar"),
    finalized: &[],
    rbac: &[
        PODS,
        Rule { group: "apps", resources: &["deployments"], verbs: OWN },
        Rule { group: "", resources: &["persistentvolumeclaims", "services"], verbs: OWN },
        Rule { group: "networking.k8s.io", resources: &["networkpolicies"], verbs: OWN },
    ],
    answered: None,
    cluster: &[],
};

/// Serves models.
pub const DEPLOYMENT: Operator = Operator {
    name: "mlop-deployment",
    kinds: &["ModelDeployment"],
    inputs: &["Model"],
    worker: Some("mlop-launcher"),
    finalized: &[],
    rbac: &[
        // Those of its Deployments, and the ones that measure a rollout. Those of routers get annotations.
        Rule { group: "", resources: &["pods"], verbs: OWN },
        Rule { group: "apps", resources: &["deployments"], verbs: OWN },
        // The routes of its routers.
        Rule { group: "", resources: &["configmaps", "services"], verbs: OWN },
        Rule { group: "policy", resources: &["poddisruptionbudgets"], verbs: OWN },
    ],
    answered: None,
    cluster: &[],
};

/// Admits the runs of trainings to the quota that they share. It has no stage in the chain, and is installed on request.
pub const QUEUE: Operator = Operator {
    name: "mlop-queue",
    kinds: &["TrainingQueue"],
    inputs: &[],
    worker: None,
    finalized: &[],
    rbac: &[
        // Before a reservation ends, its run is read if the cache lacks it.
        Rule { group: GROUP, resources: &["trainingruns"], verbs: READ },
        // The field `status.admission`. The admission policy of the training operator lets it write no other.
        Rule { group: GROUP, resources: &["trainingruns/status"], verbs: &["patch"] },
    ],
    answered: None,
    // The labels by which a queue selects namespaces.
    cluster: &[Rule { group: "", resources: &["namespaces"], verbs: WATCH }],
};

/// All operators: those of the chain in its order, then the others.
pub const ALL: [&Operator; 6] = [&INGESTION, &FEATURE_STORE, &TRAINING, &REGISTRY, &DEPLOYMENT, &QUEUE];

/// The operators that have a stage in the chain, in its order.
pub fn of_stages() -> impl Iterator<Item = &'static Operator> {
    ALL.into_iter().filter(|operator| operator.intent().is_some())
}

/// The operator of this name.
pub fn named(name: &str) -> Option<&'static Operator> {
    ALL.into_iter().find(|operator| operator.name == name)
}

/// The operator that reconciles `kind`.
pub fn of(kind: &str) -> Option<&'static Operator> {
    ALL.into_iter().find(|operator| operator.kinds.contains(&kind))
}

impl Operator {
    /// The kind of its stage in the chain; none for an operator beside it.
    pub fn intent(&self) -> Option<&'static str> {
        let kinds = kinds::names();
        let is_intent =
            |kind: &&str| kinds.iter().any(|(name, class)| name == kind && *class == Class::Intent);
        self.kinds.iter().copied().find(is_intent)
    }

    /// Resources of the intents and connections that it reconciles, as plural names.
    pub fn intents(&self) -> Vec<String> {
        self.resources(|class| matches!(class, Class::Connection | Class::Intent))
    }

    /// Resources of the policies that it checks, as plural names. Platform teams write them.
    pub fn policies(&self) -> Vec<String> {
        self.resources(|class| class == Class::Policy)
    }

    /// Resources of the runs that it creates and reconciles, as plural names.
    pub fn runs(&self) -> Vec<String> {
        self.resources(|class| class == Class::Run)
    }

    /// Resources on whose objects it sets a finalizer, as plural names.
    pub fn finalized_resources(&self) -> Vec<String> {
        self.finalized.iter().map(|kind| kinds::plural(kind)).collect()
    }

    fn resources(&self, wanted: impl Fn(Class) -> bool) -> Vec<String> {
        let owned = kinds::names().into_iter().filter(|(kind, _)| self.kinds.contains(&kind.as_str()));
        owned.filter(|(_, class)| wanted(*class)).map(|(kind, _)| kinds::plural(&kind)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_one_operator_each() {
        let mut owned: Vec<_> = ALL.iter().flat_map(|operator| operator.kinds).copied().collect();
        let kinds = kinds::names();
        let mut kinds: Vec<_> = kinds.iter().map(|(kind, _)| kind.as_str()).collect();
        owned.sort_unstable();
        kinds.sort_unstable();
        assert_eq!(owned, kinds);
    }

    #[test]
    fn finalized_kinds_are_the_operators_own() {
        for operator in ALL {
            let foreign = operator.finalized.iter().find(|kind| !operator.kinds.contains(kind));
            assert_eq!(foreign, None, "{}", operator.name);
        }
    }

    #[test]
    fn operators_have_at_most_one_stage() {
        let classes = kinds::names();
        for operator in ALL {
            let own = classes.iter().filter(|(kind, _)| operator.kinds.contains(&kind.as_str()));
            let intents: Vec<_> =
                own.filter(|(_, class)| *class == Class::Intent).map(|(kind, _)| kind.as_str()).collect();
            assert_eq!(intents, Vec::from_iter(operator.intent()), "{}", operator.name);
        }
    }
}
