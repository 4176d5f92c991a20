//! The kinds of mlop under the names that users type: kind, plural, short name, in any case.

use kube::core::ApiResource;
use mlop_api::kinds::{Class, Kind, Visitor, for_each, is_cluster_scoped};
use std::sync::LazyLock;

/// A kind of mlop.
#[derive(Clone, Debug)]
pub struct KindInfo {
    pub kind: String,
    pub class: Class,
    pub resource: ApiResource,
    /// Position in the chain: kinds of earlier stages have lower ones.
    pub stage: usize,
    /// Whether its objects belong to no namespace, and so to no chain.
    pub is_cluster_scoped: bool,
    short_names: &'static [&'static str],
}

impl KindInfo {
    /// The first short name, as in `kubectl get tjob`.
    pub fn short_name(&self) -> &str {
        self.short_names.first().copied().unwrap_or(&self.resource.plural)
    }

    fn is_called(&self, word: &str) -> bool {
        let is = |name: &str| name.eq_ignore_ascii_case(word);
        is(&self.kind) || is(&self.resource.plural) || self.short_names.iter().any(|name| is(name))
    }
}

static KINDS: LazyLock<Vec<KindInfo>> = LazyLock::new(|| {
    struct Infos(Vec<KindInfo>);
    impl Visitor for Infos {
        fn visit<K: Kind>(&mut self) {
            self.0.push(KindInfo {
                kind: K::kind(&()).into_owned(),
                class: K::CLASS,
                resource: ApiResource::erase::<K>(&()),
                stage: self.0.len(),
                is_cluster_scoped: is_cluster_scoped(&K::kind(&())),
                short_names: K::shortnames(),
            });
        }
    }
    let mut infos = Infos(Vec::new());
    for_each(&mut infos);
    infos.0
});

/// All kinds, stage by stage.
pub fn all() -> &'static [KindInfo] {
    &KINDS
}

/// The kinds whose objects belong to a namespace.
pub fn namespaced() -> impl Iterator<Item = &'static KindInfo> {
    all().iter().filter(|kind| !kind.is_cluster_scoped)
}

/// The kind that a user calls `word`.
pub fn called(word: &str) -> Option<&'static KindInfo> {
    all().iter().find(|info| info.is_called(word))
}

/// The kind of this exact name.
pub fn info(kind: &str) -> Option<&'static KindInfo> {
    all().iter().find(|info| info.kind == kind)
}

/// Position of `kind` in the chain; kinds that are not mlop's come first.
pub fn stage(kind: &str) -> usize {
    info(kind).map_or(0, |info| info.stage + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kind_is_found_by_each_of_its_names() {
        for word in ["TrainingJob", "trainingjob", "trainingjobs", "tjob", "TJOB"] {
            assert_eq!(called(word).map(|info| info.kind.as_str()), Some("TrainingJob"), "{word}");
        }
        assert!(called("job").is_none());
    }

    #[test]
    fn stages_follow_the_chain() {
        let chain = ["Forecast", "Dataset", "FeatureView", "TrainingJob", "Model", "ModelDeployment"];
        assert!(chain.is_sorted_by_key(|kind| stage(kind)));
    }
}
