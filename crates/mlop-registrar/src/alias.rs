//! An alias that only moves to higher revisions.
//!
//! MLflow's aliases are last-write-wins. So each revision first *claims* the alias with a tag of its own on the
//! registered model, which no other revision overwrites; the highest claim has the alias, for every observer. The run
//! that set the alias looks once more, and corrects it when a higher claim has appeared meanwhile.

use crate::{
    mlflow::{MISSING, Mlflow, Pair, RegisteredModel},
    tags,
    transport::Transport,
};
use mlop_api::{
    Reason,
    result::{Failure, ResultDocument},
    task::{Alias, AliasWork},
};

/// Looks at a registered model in one attempt: each further one means that a higher revision came in between.
const LOOKS_MAX: usize = 5;

/// Points the alias at the version, unless a higher revision has it.
///
/// # Errors
/// [`Reason::ActivationSuperseded`], terminal, when one has; [`Reason::TrackingUnreachable`], retryable;
/// [`Reason::TrackingRefused`] with MLflow's words, for example when model or version do not exist.
pub async fn activate<T: Transport>(mlflow: &Mlflow<T>, work: &AliasWork) -> Result<ResultDocument, Failure> {
    let AliasWork {
        registered_model: name, version, alias: Alias { name: alias, owner, activation }, ..
    } = work;
    let revision = &activation.revision;
    let mut model = look(mlflow, work).await?;
    let highest = claims(&model, work).into_iter().next_back();
    if highest.as_ref().is_none_or(|highest| highest.revision < *revision) {
        let claim = Pair::new(tags::alias_claim(alias, owner, *revision), version);
        mlflow.tag_registered_model(name, &claim).await?;
        model = look(mlflow, work).await?;
    }
    for _ in 0..LOOKS_MAX {
        let mut claims = claims(&model, work);
        let Some(highest) = claims.pop() else { break };
        if !model.aliases.iter().any(|set| set.alias == *alias && set.version == highest.version) {
            match mlflow.set_alias(name, alias, &highest.version).await {
                Err(error) if error.is(MISSING) => return Err(gone(error.to_string())),
                other => other?,
            }
            model = look(mlflow, work).await?;
            continue;
        }
        if highest.revision != *revision || highest.version != *version {
            return Err(superseded(work, &highest));
        }
        for outdated in outdated(&model, work) {
            mlflow.untag_registered_model(name, &outdated).await?;
        }
        let summary = Some(format!("{alias} is version {version}"));
        return Ok(ResultDocument { summary, ..ResultDocument::default() });
    }
    let message = format!("the alias {alias} of {name} is being moved by others at the same time");
    Err(Failure::transient(Reason::TrackingRefused, message))
}

async fn look<T: Transport>(mlflow: &Mlflow<T>, work: &AliasWork) -> Result<RegisteredModel, Failure> {
    mlflow.registered_model(&work.registered_model).await?.ok_or_else(|| {
        gone(format!("the registered model {:?} does not exist in MLflow", work.registered_model))
    })
}

/// The failure when MLflow has lost a registered model or version.
fn gone(what: String) -> Failure {
    let advice = "it was deleted there, or the server has a new database; delete the ModelVersion to register it again";
    Failure::terminal(Reason::TrackingRefused, format!("{what}: {advice}"))
}

/// Says that it wants the alias for a version.
struct Claim {
    revision: i64,
    version: String,
}

/// The tags of all other claims of the alias: lower ones, and those of a Model that had the name before.
fn outdated(model: &RegisteredModel, work: &AliasWork) -> Vec<String> {
    let Alias { name, owner, activation } = &work.alias;
    let ours = tags::alias_claim(name, owner, activation.revision);
    let all = model.tags.iter().map(|tag| &tag.key).filter(|key| key.starts_with(&tags::alias_claims(name)));
    all.filter(|key| **key != ours).cloned().collect()
}

/// The claims of the work's owner, highest last.
fn claims(model: &RegisteredModel, work: &AliasWork) -> Vec<Claim> {
    let prefix = format!("{}{}.", tags::alias_claims(&work.alias.name), work.alias.owner);
    let mut claims: Vec<Claim> = model
        .tags
        .iter()
        .filter_map(|tag| {
            let revision = tag.key.strip_prefix(&prefix)?.parse().ok()?;
            Some(Claim { revision, version: tag.value.clone() })
        })
        .collect();
    claims.sort_by_key(|claim| claim.revision);
    claims
}

fn superseded(work: &AliasWork, highest: &Claim) -> Failure {
    let AliasWork { registered_model, version, alias: Alias { name: alias, activation, .. }, .. } = work;
    let revision = activation.revision;
    Failure::superseded(
        Some(highest.revision),
        format!(
            "revision {} gave the alias {alias} of {registered_model} to version {}; revision {revision} (version \
             {version}) comes too late",
            highest.revision, highest.version
        ),
    )
}
