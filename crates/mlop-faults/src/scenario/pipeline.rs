//! The pipeline that the scenarios play with.

use crate::{cluster::documents, plan::Change};
use serde_json::Value;
use std::{collections::BTreeMap, sync::LazyLock};

/// The pipeline that the scenarios play with. No two references name the same connection by chance.
pub const PIPELINE: &str = include_str!("pipeline.yaml");

/// Further connections, to which restless users move parts of the pipeline.
pub const ALTERNATIVES: &str = include_str!("alternatives.yaml");

/// Changes of specs that restless users choose from.
pub static CHANGES: LazyLock<Vec<Change>> = LazyLock::new(|| {
    let text = include_str!("changes.yaml");
    let rows: BTreeMap<String, Vec<Value>> = serde_saphyr::from_str(text).expect("the changes are YAML");
    let changes = rows.into_iter().flat_map(|(object, specs)| {
        let (kind, name) = object.split_once(' ').expect("a kind and a name");
        let (kind, name) = (kind.to_owned(), name.to_owned());
        specs.into_iter().map(move |spec| Change { kind: kind.clone(), name: name.clone(), spec })
    });
    changes.collect()
});

/// The objects of the pipeline and the further connections.
pub fn objects() -> impl Iterator<Item = Value> {
    documents(ALTERNATIVES).into_iter().chain(documents(PIPELINE))
}
