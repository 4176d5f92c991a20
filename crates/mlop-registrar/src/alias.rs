//! An alias that only moves to higher revisions.
//!
//! MLflow's aliases are last-write-wins. So each revision first *claims* the alias with a tag of its own on the
//! registered model, which no other revision overwrites; the highest claim has the alias, for every observer. The run
//! that set the alias looks once more, and corrects it when a higher claim has appeared meanwhile.
//!
//! The claims also tell which aliases a Model had before: they end when it has another one. And they tell which namespace
//! was first: a Model leaves an alias alone that a Model of another namespace has claimed. Which of the Models of one
//! namespace has it is the operator's decision.

use crate::{
    mlflow::{MISSING, Mlflow, Pair, RegisteredModel},
    tags::{self, Claim},
    transport::Transport,
};
use mlop_api::{
    Reason,
    result::{Failure, ResultDocument},
    task::{Alias, AliasWork},
};

/// Looks at a registered model in one attempt: each further one means that a higher revision came in between.
const LOOKS_MAX: usize = 5;

/// Points the alias at the version, unless a higher revision has it or a Model of another namespace has claimed it. With
/// `check`, an alias that any other Model has claimed stays.
///
/// # Errors
/// [`Reason::ActivationSuperseded`], terminal, when a higher revision has it; [`Reason::AliasTaken`], terminal, when
/// another Model has; [`Reason::TrackingUnreachable`], retryable; [`Reason::TrackingRefused`] with MLflow's words, for
/// example when model or version do not exist.
pub async fn activate<T: Transport>(mlflow: &Mlflow<T>, work: &AliasWork) -> Result<ResultDocument, Failure> {
    Activation { mlflow, work }.run().await
}

struct Activation<'a, T> {
    mlflow: &'a Mlflow<T>,
    work: &'a AliasWork,
}

impl<T: Transport> Activation<'_, T> {
    async fn run(&self) -> Result<ResultDocument, Failure> {
        let alias = &self.work.alias.name;
        let mut model = self.look().await?;
        if let Some(later) = self.later_alias(&model) {
            return Err(self.superseded(&later));
        }
        let other = self.claims_of_others(&model).find(|_| self.work.check);
        if let Some(other) = other.or_else(|| self.claim_elsewhere(&model)) {
            return Err(self.taken(&other).await?);
        }
        let was_set = self.highest_claim(&model).is_some_and(|claim| self.is_ours(&claim));
        let is_claimed = |claim: Claim| claim.revision >= self.revision() && claim.namespace.is_some();
        if !self.highest_claim(&model).is_some_and(is_claimed) {
            model = self.claim().await?;
        }
        let mut repaired = None;
        for _ in 0..LOOKS_MAX {
            if let Some(later) = self.later_alias(&model) {
                self.give_up(&model, &self.own_claims(&model, alias)).await?;
                return Err(self.superseded(&later));
            }
            if let Some(first) = self.claim_elsewhere(&model) {
                return Err(self.withdraw(&model, &first).await?);
            }
            let Some(highest) = self.highest_claim(&model) else { break };
            let shown = version_of(&model, alias);
            if shown == Some(&highest.version) {
                return self.finish(&model, &highest, repaired).await;
            }
            repaired = was_set.then(|| match shown {
                Some(other) => format!("the alias {alias} had been moved to version {other}"),
                None => format!("the alias {alias} had been deleted"),
            });
            model = self.set(&highest).await?;
        }
        let message =
            format!("the alias {alias} of {} is being moved by others at the same time", self.model_name());
        Err(Failure::transient(Reason::TrackingRefused, message))
    }

    /// Ends when the alias shows the highest claim.
    async fn finish(
        &self,
        model: &RegisteredModel,
        highest: &Claim,
        repaired: Option<String>,
    ) -> Result<ResultDocument, Failure> {
        if !self.is_ours(highest) {
            return Err(self.superseded(highest));
        }
        let alias = &self.work.alias.name;
        let is_outdated = |claim: &Claim| !self.is_ours(claim) || claim.namespace.is_none();
        let claims = tags::claims(model).filter(|claim| claim.alias == *alias);
        for claim in claims.filter(is_outdated) {
            self.mlflow.untag_registered_model(self.model_name(), &claim.key()).await?;
        }
        let former: Vec<Claim> = self.own(model).filter(|claim| claim.alias != *alias).collect();
        self.give_up(model, &former).await?;
        let summary = Some(format!("{alias} is version {}", self.work.version));
        Ok(ResultDocument { summary, repaired, ..ResultDocument::default() })
    }

    async fn look(&self) -> Result<RegisteredModel, Failure> {
        self.mlflow.registered_model(self.model_name()).await?.ok_or_else(|| {
            gone(format!("the registered model {:?} does not exist in MLflow", self.model_name()))
        })
    }

    async fn claim(&self) -> Result<RegisteredModel, Failure> {
        let Alias { name, namespace, owner, activation } = &self.work.alias;
        let key = tags::alias_claim(name, namespace, owner, activation.revision);
        self.mlflow.tag_registered_model(self.model_name(), &Pair::new(key, &self.work.version)).await?;
        self.look().await
    }

    /// Points the alias at the version of the highest claim.
    async fn set(&self, highest: &Claim) -> Result<RegisteredModel, Failure> {
        match self.mlflow.set_alias(self.model_name(), &highest.alias, &highest.version).await {
            Err(error) if error.is(MISSING) && highest.revision > self.revision() => {
                Err(self.superseded(highest))
            }
            // The version has another number since it was registered again.
            Err(error) if error.is(MISSING) && highest.version != self.work.version => self.claim().await,
            Err(error) if error.is(MISSING) => Err(gone(error.to_string())),
            outcome => {
                outcome?;
                self.look().await
            }
        }
    }

    /// Takes claims of this Model back, and deletes their aliases where they still show the claimed version.
    async fn give_up(&self, model: &RegisteredModel, claims: &[Claim]) -> Result<(), Failure> {
        for claim in claims {
            let is_shared = tags::claims(model)
                .any(|other| other.alias == claim.alias && other.owner != self.work.alias.owner);
            if version_of(model, &claim.alias) == Some(&claim.version) && !is_shared {
                match self.mlflow.delete_alias(self.model_name(), &claim.alias).await {
                    Err(error) if error.is(MISSING) => {}
                    outcome => outcome?,
                }
            }
            self.mlflow.untag_registered_model(self.model_name(), &claim.key()).await?;
        }
        Ok(())
    }

    fn model_name(&self) -> &str {
        &self.work.registered_model
    }

    fn revision(&self) -> i64 {
        self.work.alias.activation.revision
    }

    fn is_ours(&self, claim: &Claim) -> bool {
        let Alias { name, owner, .. } = &self.work.alias;
        claim.alias == *name
            && claim.owner == *owner
            && claim.revision == self.revision()
            && claim.version == self.work.version
    }

    /// The claims of this Model on any alias.
    fn own(&self, model: &RegisteredModel) -> impl Iterator<Item = Claim> {
        tags::claims(model).filter(|claim| claim.owner == self.work.alias.owner)
    }

    fn own_claims(&self, model: &RegisteredModel, alias: &str) -> Vec<Claim> {
        self.own(model).filter(|claim| claim.alias == alias).collect()
    }

    fn highest_claim(&self, model: &RegisteredModel) -> Option<Claim> {
        let claims = self.own(model).filter(|claim| claim.alias == self.work.alias.name);
        claims.max_by_key(|claim| (claim.revision, claim.namespace.is_some()))
    }

    /// A later revision by which this Model has another alias.
    fn later_alias(&self, model: &RegisteredModel) -> Option<Claim> {
        let others = self.own(model).filter(|claim| claim.alias != self.work.alias.name);
        others.filter(|claim| claim.revision > self.revision()).max_by_key(|claim| claim.revision)
    }

    fn claims_of_others(&self, model: &RegisteredModel) -> impl Iterator<Item = Claim> {
        let Alias { name, owner, .. } = &self.work.alias;
        tags::claims(model).filter(|claim| claim.alias == *name && claim.owner != *owner)
    }

    /// The claim of a Model of another namespace that has the alias: it was first, or both came at the same time and its
    /// namespace is the first in the order of the alphabet.
    fn claim_elsewhere(&self, model: &RegisteredModel) -> Option<Claim> {
        let own = &self.work.alias.namespace;
        let both = self.highest_claim(model).is_some();
        let has_it = |claim: &Claim| {
            claim.namespace.as_ref().is_some_and(|other| if both { other < own } else { other != own })
        };
        self.claims_of_others(model).filter(has_it).max_by_key(|claim| claim.revision)
    }

    /// Leaves the alias to the claim `first`, which was made at the same time. Returns the failure to report.
    async fn withdraw(&self, model: &RegisteredModel, first: &Claim) -> Result<Failure, Failure> {
        if version_of(model, &first.alias) != Some(&first.version) {
            match self.mlflow.set_alias(self.model_name(), &first.alias, &first.version).await {
                Err(error) if error.is(MISSING) => {}
                outcome => outcome?,
            }
        }
        self.give_up(model, &self.own_claims(model, &first.alias)).await?;
        self.taken(first).await
    }

    /// The failure when another Model has the alias.
    async fn taken(&self, claim: &Claim) -> Result<Failure, Failure> {
        let version = self.mlflow.version(self.model_name(), &claim.version).await?;
        let tag = |key: &str| version.as_ref()?.tags.iter().find(|tag| tag.key == key).map(|tag| &tag.value);
        let of = match (tag(tags::NAMESPACE), tag(tags::NAME)) {
            (Some(namespace), Some(name)) => format!(" (ModelVersion {name} in namespace {namespace})"),
            _ => String::new(),
        };
        let (alias, model, version) = (&claim.alias, self.model_name(), &claim.version);
        let message = format!(
            "another Model has given the alias {alias} of {model} to version {version}{of}; set spec.alias or \
             spec.registeredModel to a name of its own, or delete the tag {} of the registered model in MLflow if \
             that Model is gone",
            claim.key()
        );
        Ok(Failure::terminal(Reason::AliasTaken, message))
    }

    fn superseded(&self, highest: &Claim) -> Failure {
        let (model, version, revision) = (self.model_name(), &self.work.version, self.revision());
        let message = format!(
            "revision {} gave the alias {} of {model} to version {}; revision {revision} (version {version}) comes \
             too late",
            highest.revision, highest.alias, highest.version
        );
        Failure::superseded(Some(highest.revision), message)
    }
}

fn version_of<'a>(model: &'a RegisteredModel, alias: &str) -> Option<&'a String> {
    model.aliases.iter().find(|set| set.alias == alias).map(|set| &set.version)
}

/// The failure when MLflow has lost a version that cannot be registered again from here.
fn gone(what: String) -> Failure {
    let advice = "it was deleted there, or the server has a new database; delete the ModelVersion to register it again";
    Failure::terminal(Reason::TrackingRefused, format!("{what}: {advice}"))
}
