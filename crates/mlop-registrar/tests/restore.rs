//! Versions that MLflow has lost are registered again.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]

mod support;

use mlop_api::{
    result::{Failure, ResultDocument},
    task::{AliasWork, RegisterWork},
};
use mlop_artifact::manifest::TreeSummary;
use mlop_registrar::{mlflow::Mlflow, restore, transport::Transport};
use support::{At, Cut, Fake, alias_work, provenance, register, register_work, subject};

/// Checks the alias of `work`, whose version has the number `version` in its status.
fn check(work: &RegisterWork, version: &str) -> AliasWork {
    AliasWork {
        check: true,
        register: Some(Box::new(work.clone())),
        ..alias_work(&work.registered_model, version, 1)
    }
}

async fn activate<T: Transport>(line: T, work: &AliasWork) -> Result<ResultDocument, Failure> {
    let tree = TreeSummary { provenance: provenance(), ..TreeSummary::default() };
    restore::activate(&Mlflow::new(line), &subject(), work, async |_| Ok(tree), || 1_795_234_596_176).await
}

#[tokio::test]
async fn version_is_registered_again_when_mlflow_has_lost_it() {
    let work = register_work("http://mlflow", "lost");
    let model = work.registered_model.clone();
    let delete_version = async |mlflow: &Fake| {
        Mlflow::new(mlflow.clone()).delete_version(&model, "1").await.unwrap();
    };
    let delete_model = async |mlflow: &Fake| {
        mlflow.state.lock().unwrap().models.clear();
    };
    let empty_server = async |mlflow: &Fake| {
        *mlflow.state.lock().unwrap() = support::State::default();
        // Another model has the number meanwhile.
        register(
            mlflow.clone(),
            &RegisterWork { input_digest: mlop_api::Digest::of_bytes(b"other"), ..work.clone() },
        )
        .await
        .unwrap();
    };
    for (situation, number) in [("version", "2"), ("model", "1"), ("server", "2")] {
        let mlflow = Fake::default();
        register(mlflow.clone(), &work).await.unwrap();
        let healthy = activate(mlflow.clone(), &check(&work, "1")).await.unwrap();
        assert_eq!((healthy.repaired, healthy.registered.unwrap().version.as_str()), (None, "1"));
        match situation {
            "version" => delete_version(&mlflow).await,
            "model" => delete_model(&mlflow).await,
            _ => empty_server(&mlflow).await,
        }
        let result = activate(mlflow.clone(), &check(&work, "1")).await.unwrap();
        assert_eq!(result.registered.unwrap().version, number, "{situation}");
        assert!(result.repaired.unwrap().contains("registered again"), "{situation}");
        assert_eq!(mlflow.alias(&model, "champion").unwrap(), number, "{situation}");
        let again = activate(mlflow.clone(), &check(&work, "1")).await.unwrap();
        assert_eq!(
            (again.repaired, again.registered.unwrap().version.as_str()),
            (None, number),
            "{situation}"
        );
    }
}

#[tokio::test]
async fn killed_restoration_is_completed_without_a_second_version() {
    for at in [At::Request, At::Answer] {
        for after in 1.. {
            let work = register_work("http://mlflow", "killed");
            let mlflow = Fake::default();
            register(mlflow.clone(), &work).await.unwrap();
            activate(mlflow.clone(), &check(&work, "1")).await.unwrap();
            Mlflow::new(mlflow.clone()).delete_version(&work.registered_model, "1").await.unwrap();
            let killed = activate(Cut::new(mlflow.clone(), after, at), &check(&work, "1")).await;
            activate(mlflow.clone(), &check(&work, "1")).await.unwrap();
            assert_eq!(mlflow.versions(&work.registered_model), [2], "cut at {at:?} {after}");
            assert_eq!(mlflow.alias(&work.registered_model, "champion").unwrap(), "2");
            if killed.is_ok() {
                assert!(after > 10, "{after}");
                break;
            }
        }
    }
}
