//! Names of the tags that mlop sets in MLflow.

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

/// On registered models: `revision` of `owner` claims `alias` for the version that is the tag's value. The highest
/// revision has it.
pub fn alias_claim(alias: &str, owner: &str, revision: i64) -> String {
    format!("{}{owner}.{revision}", alias_claims(alias))
}

/// The prefix of the names of all claims of `alias`.
pub fn alias_claims(alias: &str) -> String {
    format!("mlop.alias.{alias}.")
}
