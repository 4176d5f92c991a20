//! An MLflow server, as far as pods and checks need it.

use super::pointer::Pointer;
use mlop_api::{
    Digest, Reason,
    result::{Failure, Registered, ResultDocument},
    task::{AliasWork, RegisterWork},
};
use std::collections::BTreeMap;

/// The registered models of a server by name.
pub type Mlflow = BTreeMap<String, RegisteredModel>;

/// A registered model.
#[derive(Clone, Debug, Default)]
pub struct RegisteredModel {
    /// Input digests of the versions in the order of their numbers; none for a deleted version.
    pub versions: Vec<Option<Digest>>,
    /// The claims on aliases by alias and owner.
    pub claims: BTreeMap<(String, String), Pointer>,
    /// The numbers of the versions that aliases name.
    pub aliases: BTreeMap<String, String>,
}

impl RegisteredModel {
    /// The number of a version.
    pub fn number(&self, version: &Digest) -> Option<usize> {
        self.versions.iter().position(|known| known.as_ref() == Some(version)).map(|index| index + 1)
    }

    /// The number of a version, registered unless it is known.
    pub fn register(&mut self, version: &Digest) -> usize {
        self.number(version).unwrap_or_else(|| {
            self.versions.push(Some(version.clone()));
            self.versions.len()
        })
    }

    /// A person deletes all versions and their aliases.
    pub fn delete_versions(&mut self) {
        self.versions.fill(None);
        self.aliases.clear();
    }

    /// Gives an alias to a version, but never back to a lower revision. Returns whether a claim has changed.
    fn claim(&mut self, work: &AliasWork, version: &str) -> Result<bool, Failure> {
        let alias = &work.alias;
        let others = self.claims.keys().filter(|(name, owner)| *name == alias.name && *owner != alias.owner);
        if work.check && others.count() > 0 {
            return Err(Failure::terminal(Reason::AliasTaken, "another Model has the alias"));
        }
        let revision = alias.activation.revision;
        let own = self.claims.iter().filter(|((_, owner), _)| *owner == alias.owner);
        let highest = own.max_by_key(|(_, claim)| claim.revision).map(|(_, claim)| claim.clone());
        let wanted = Pointer { revision, content: version.to_owned() };
        let is_lost = |claim: &Pointer| {
            let number: usize = claim.content.parse().unwrap_or_default();
            self.versions.get(number.wrapping_sub(1)).is_none_or(Option::is_none)
        };
        if let Some(claim) = highest.filter(|claim| {
            claim.revision > revision || (claim.revision == revision && *claim != wanted && !is_lost(claim))
        }) {
            let message = format!("revision {} is active already", claim.revision);
            return Err(Failure::superseded(Some(claim.revision), message));
        }
        let key = (alias.name.clone(), alias.owner.clone());
        let is_new = self.claims.get(&key) != Some(&wanted);
        let former: Vec<_> = self.claims.keys().filter(|(_, owner)| *owner == alias.owner).cloned().collect();
        for (name, owner) in former.into_iter().filter(|former| *former != key) {
            self.claims.remove(&(name.clone(), owner));
            self.aliases.remove(&name);
        }
        self.claims.retain(|(name, owner), _| *name != alias.name || *owner == alias.owner);
        self.claims.insert(key, wanted);
        Ok(is_new)
    }
}

/// How the registry knows version `number` of `work`.
pub fn registered(work: &RegisterWork, number: usize) -> Registered {
    Registered {
        registry: work.registry.clone(),
        name: work.registered_model.clone(),
        version: number.to_string(),
        reference: format!("models:/{}/{number}", work.registered_model),
        alias: None,
    }
}

/// Carries out the work of an alias pod. Returns its result and whether a claim has changed.
pub fn activate(server: &mut Mlflow, work: &AliasWork) -> (ResultDocument, bool) {
    let model = server.entry(work.registered_model.clone()).or_default();
    let mut result = ResultDocument::default();
    let mut version = work.version.clone();
    if let Some(register) = &work.register {
        if model.number(&register.input_digest).is_none() {
            result.repaired = Some("the version was gone".to_owned());
        }
        let number = model.register(&register.input_digest);
        version = number.to_string();
        result.registered = Some(registered(register, number));
    }
    let is_new = match model.claim(work, &version) {
        Ok(is_new) => is_new,
        Err(failure) => return (ResultDocument::failed(failure), false),
    };
    let shown = model.aliases.insert(work.alias.name.clone(), version.clone());
    if !is_new && shown != Some(version) && result.repaired.is_none() {
        result.repaired = Some(format!("the alias was {shown:?}"));
    }
    (result, is_new)
}
