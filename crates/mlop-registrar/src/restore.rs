//! The alias of a version that MLflow may have lost: somebody deleted it there, or the server has a new database.

use crate::{alias, mlflow::Mlflow, register, transport::Transport};
use mlop_api::{
    result::{Failure, Registered, ResultDocument},
    task::{AliasWork, Input, RegisterWork, Subject},
};
use mlop_artifact::manifest::TreeSummary;

/// Gives the alias to the version, which is registered again if MLflow does not have it. Versions are told apart by the
/// tag with their input digest: numbers start again in a new database. The result says how MLflow knows the version.
///
/// `read` reads the registered tree's summary; `now` gives milliseconds since 1970.
///
/// # Errors
/// As [`register`](register::register) and [`activate`](alias::activate).
pub async fn activate<T: Transport>(
    mlflow: &Mlflow<T>,
    subject: &Subject,
    work: &AliasWork,
    read: impl AsyncFnOnce(&Input) -> Result<TreeSummary, Failure>,
    now: impl Fn() -> i64,
) -> Result<ResultDocument, Failure> {
    let Some(register) = &work.register else { return alias::activate(mlflow, work).await };
    let (registered, restored) = match register::find(mlflow, register).await? {
        Some(version) => (Some(register::registered(register, version)), None),
        None => {
            let registered = register_again(mlflow, subject, work, register, read, now).await?;
            let text = registered.as_ref().map(|registered| {
                format!("the version was gone and is registered again as version {}", registered.version)
            });
            (registered, text)
        }
    };
    let version = registered.as_ref().map_or_else(|| work.version.clone(), |it| it.version.clone());
    let result = alias::activate(mlflow, &AliasWork { version, ..work.clone() }).await?;
    Ok(ResultDocument { registered, repaired: restored.or(result.repaired), ..result })
}

async fn register_again<T: Transport>(
    mlflow: &Mlflow<T>,
    subject: &Subject,
    work: &AliasWork,
    register: &RegisterWork,
    read: impl AsyncFnOnce(&Input) -> Result<TreeSummary, Failure>,
    now: impl Fn() -> i64,
) -> Result<Option<Registered>, Failure> {
    let tree = read(&register.model).await?;
    let subject = Subject { name: work.run.clone(), ..subject.clone() };
    Ok(register::register(mlflow, &subject, register, &tree, now).await?.registered)
}
