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

    /// What stands before the entity key of each row.
    pub fn rows(&self, generation: &Generation) -> Vec<u8> {
        format!("{}{}:e:", self.0, generation.0).into_bytes()
    }
}

/// The name of a loaded revision.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation(pub String);

impl Generation {
    /// Two tables under one revision do not mix, even if that should never happen.
    pub fn new(revision: i64, digest: &Digest) -> Self {
        Self(format!("{revision}-{}", digest.short(12)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_carry_namespace_view_and_revision() {
        let keys = ViewKeys::new(&ViewKey { namespace: "prod".into(), name: "delays".into() });
        let generation = Generation::new(7, &Digest::of_bytes(b""));
        assert_eq!(keys.pointer(), "mlop:{prod/delays}:pointer");
        assert_eq!(keys.meta(&generation), "mlop:{prod/delays}:7-e3b0c44298fc:meta");
        assert_eq!(keys.rows(&generation), b"mlop:{prod/delays}:7-e3b0c44298fc:e:");
    }
}
