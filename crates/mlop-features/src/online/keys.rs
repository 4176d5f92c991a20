//! Names of keys.

use mlop_api::{Digest, task::ViewKey};

/// The keys of one view.
#[derive(Clone, Debug)]
pub struct ViewKeys(String);

impl ViewKeys {
    pub fn new(view: &ViewKey) -> Self {
        Self(format!("mlop:{{{}/{}}}:", view.namespace, view.name))
    }

    pub fn pointer(&self) -> String {
        format!("{}pointer", self.0)
    }

    pub fn generations(&self) -> String {
        format!("{}generations", self.0)
    }

    pub fn meta(&self, generation: &Generation) -> String {
        format!("{}{}:meta", self.0, generation.0)
    }

    pub fn index(&self, generation: &Generation) -> String {
        format!("{}{}:index", self.0, generation.0)
    }

    /// Prefix of the entity key of each row.
    pub fn rows(&self, generation: &Generation) -> Vec<u8> {
        format!("{}{}:e:", self.0, generation.0).into_bytes()
    }
}

/// Name of a generation: a table, with the schema that readers need.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation(pub String);

impl Generation {
    /// No table: the view has left under `revision`.
    pub fn none(revision: i64) -> Self {
        Self(format!("{revision}-left"))
    }

    /// The table `digest` with the schema `meta`: an edit of the ttl makes another generation of the same revision.
    pub fn new(revision: i64, digest: &Digest, meta: &str) -> Self {
        Self(format!("{revision}-{}", Digest::of_bytes(format!("{digest}{meta}").as_bytes()).short(12)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_carry_namespace_view_and_revision() {
        let keys = ViewKeys::new(&ViewKey { namespace: "prod".into(), name: "delays".into() });
        let generation = Generation("7-abc".into());
        assert_eq!(keys.pointer(), "mlop:{prod/delays}:pointer");
        assert_eq!(keys.meta(&generation), "mlop:{prod/delays}:7-abc:meta");
        assert_eq!(keys.rows(&generation), b"mlop:{prod/delays}:7-abc:e:");
    }

    #[test]
    fn generation_differs_by_revision_table_and_schema() {
        let (one, two) = (Digest::of_bytes(b"1"), Digest::of_bytes(b"2"));
        let generation = Generation::new(7, &one, "{}");
        assert_eq!(generation, Generation::new(7, &one, "{}"));
        for other in
            [Generation::new(8, &one, "{}"), Generation::new(7, &two, "{}"), Generation::new(7, &one, "[]")]
        {
            assert_ne!(generation, other);
        }
    }
}
