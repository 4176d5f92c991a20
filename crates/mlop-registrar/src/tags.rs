//! Names of the tags that mlop sets in MLflow.

use crate::mlflow::RegisteredModel;

/// Beginning of the names of all claims on aliases.
const CLAIM: &str = "mlop.alias.";

/// On runs and versions: digest of everything that determined them. They are found again by it.
pub const INPUT_DIGEST: &str = "mlop.input_digest";
/// On runs and versions: digest of the registered tree.
pub const DIGEST: &str = "mlop.digest";
/// On runs and versions: the seed of the training.
pub const SEED: &str = "mlop.seed";
/// On runs and versions: the image of the training.
pub const IMAGE: &str = "mlop.image";
/// On runs and versions: namespace of the ModelVersion.
pub const NAMESPACE: &str = "mlop.namespace";
/// On runs and versions: name of the ModelVersion.
pub const NAME: &str = "mlop.name";

/// On runs and versions: digest of the training's input `name`.
pub fn input(name: &str) -> String {
    format!("mlop.input.{name}")
}

/// On runs and versions: digest of the root `kind`/`name`, where the data came from.
pub fn root(kind: &str, name: &str) -> String {
    format!("mlop.root.{kind}.{name}")
}

/// On runs and versions: the name of a metric that has `key` in MLflow, because MLflow does not accept the name itself.
pub fn metric(key: &str) -> String {
    format!("mlop.metric.{key}")
}

/// On registered models: `revision` of the Model with the uid `owner` in `namespace` claims `alias` for the version that is
/// the tag's value. The highest revision has it.
pub fn alias_claim(alias: &str, namespace: &str, owner: &str, revision: i64) -> String {
    format!("{CLAIM}{alias}.{namespace}.{owner}.{revision}")
}

/// A claim on an alias of a registered model: see [`alias_claim`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub alias: String,
    /// Namespace of the Model; none in a claim of an earlier release.
    pub namespace: Option<String>,
    pub owner: String,
    pub revision: i64,
    /// Number of the version that the alias is to name.
    pub version: String,
}

impl Claim {
    /// Key of its tag.
    pub fn key(&self) -> String {
        let Self { alias, owner, revision, .. } = self;
        match &self.namespace {
            Some(namespace) => alias_claim(alias, namespace, owner, *revision),
            None => format!("{CLAIM}{alias}.{owner}.{revision}"),
        }
    }
}

/// All claims on aliases of a registered model. Aliases, namespaces and uids contain no dots.
pub fn claims(model: &RegisteredModel) -> impl Iterator<Item = Claim> {
    model.tags.iter().filter_map(|tag| {
        let parts: Vec<&str> = tag.key.strip_prefix(CLAIM)?.split('.').collect();
        let (alias, namespace, owner, revision) = match parts[..] {
            [alias, namespace, owner, revision] => (alias, Some(namespace.to_owned()), owner, revision),
            [alias, owner, revision] => (alias, None, owner, revision),
            _ => return None,
        };
        Some(Claim {
            alias: alias.to_owned(),
            namespace,
            owner: owner.to_owned(),
            revision: revision.parse().ok()?,
            version: tag.value.clone(),
        })
    })
}
