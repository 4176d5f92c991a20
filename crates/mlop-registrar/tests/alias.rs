//! An alias that only moves up.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]

mod support;

use mlop_api::{
    Reason,
    result::{Failure, ResultDocument},
};
use mlop_registrar::{
    alias,
    mlflow::{Mlflow, Pair},
};
use support::{At, Cut, Fake, alias_work};

/// A server with the model `m` and its versions 1 to 4.
async fn server(mlflow: Fake) -> Fake {
    let model = Mlflow::new(mlflow.clone());
    model.create_registered_model("m").await.unwrap();
    for _ in 0..4 {
        model.create_version("m", "s3://b/k", "run0", &[]).await.unwrap();
    }
    mlflow
}

async fn activate(mlflow: &Fake, version: &str, revision: i64) -> Result<(), Failure> {
    alias::activate(&Mlflow::new(mlflow.clone()), &alias_work("m", version, revision)).await.map(drop)
}

#[tokio::test]
async fn alias_follows_revisions_and_not_versions() {
    let mlflow = server(Fake::default()).await;
    activate(&mlflow, "1", 1).await.unwrap();
    activate(&mlflow, "3", 2).await.unwrap();
    activate(&mlflow, "1", 3).await.unwrap();
    assert_eq!(mlflow.alias("m", "champion").unwrap(), "1");
    let tags = mlflow.state.lock().unwrap().models["m"].tags.clone();
    assert_eq!(
        tags.into_iter().collect::<Vec<_>>(),
        [("mlop.alias.champion.demo.uid.3".to_owned(), "1".to_owned())]
    );
}

#[tokio::test]
async fn late_revision_loses_and_repeated_one_succeeds() {
    let mlflow = server(Fake::default()).await;
    activate(&mlflow, "2", 10).await.unwrap();
    activate(&mlflow, "2", 10).await.unwrap();
    for (version, revision) in [("3", 9), ("3", 10)] {
        let failure = activate(&mlflow, version, revision).await.unwrap_err();
        assert_eq!((failure.reason, failure.retryable), (Reason::ActivationSuperseded, false));
        assert!(failure.message.contains("revision 10 gave the alias"), "{}", failure.message);
    }
    assert_eq!(mlflow.alias("m", "champion").unwrap(), "2");
}

#[tokio::test]
async fn recreated_model_takes_over_the_alias() {
    let mlflow = server(Fake::default()).await;
    activate(&mlflow, "2", 10).await.unwrap();
    let mut recreated = alias_work("m", "3", 1);
    recreated.alias.owner = "another".into();
    alias::activate(&Mlflow::new(mlflow.clone()), &recreated).await.unwrap();
    assert_eq!(mlflow.alias("m", "champion").unwrap(), "3");
    let tags = mlflow.state.lock().unwrap().models["m"].tags.clone();
    assert_eq!(
        tags.into_iter().collect::<Vec<_>>(),
        [("mlop.alias.champion.demo.another.1".to_owned(), "3".to_owned())]
    );
}

#[tokio::test]
async fn alias_moved_by_hand_is_put_back() {
    let mlflow = server(Fake::default()).await;
    activate(&mlflow, "2", 1).await.unwrap();
    Mlflow::new(mlflow.clone()).set_alias("m", "champion", "4").await.unwrap();
    activate(&mlflow, "2", 1).await.unwrap();
    assert_eq!(mlflow.alias("m", "champion").unwrap(), "2");
}

/// The result of looking after the alias of version `version` for the Model `owner`.
async fn check(mlflow: &Fake, owner: &str, version: &str, revision: i64) -> Result<Option<String>, Failure> {
    let mut work = alias_work("m", version, revision);
    work.alias.owner = owner.into();
    work.check = true;
    alias::activate(&Mlflow::new(mlflow.clone()), &work).await.map(|result| result.repaired)
}

#[tokio::test]
async fn check_puts_the_alias_back_and_says_so() {
    let mlflow = server(Fake::default()).await;
    activate(&mlflow, "2", 1).await.unwrap();
    assert_eq!(check(&mlflow, "uid", "2", 1).await.unwrap(), None);
    let client = Mlflow::new(mlflow.clone());
    client.set_alias("m", "champion", "4").await.unwrap();
    client.set_alias("m", "theirs", "4").await.unwrap();
    let moved = check(&mlflow, "uid", "2", 1).await.unwrap().unwrap();
    assert_eq!(moved, "the alias champion had been moved to version 4");
    client.delete_alias("m", "champion").await.unwrap();
    let deleted = check(&mlflow, "uid", "2", 1).await.unwrap().unwrap();
    assert_eq!(deleted, "the alias champion had been deleted");
    assert_eq!(mlflow.alias("m", "champion").unwrap(), "2");
    assert_eq!(mlflow.alias("m", "theirs").unwrap(), "4", "an alias of others stays");
    assert_eq!(check(&mlflow, "uid", "2", 1).await.unwrap(), None);
}

#[tokio::test]
async fn check_leaves_an_alias_that_another_model_claimed() {
    let mlflow = server(Fake::default()).await;
    activate(&mlflow, "2", 10).await.unwrap();
    let mut other = alias_work("m", "3", 1);
    other.alias.owner = "another".into();
    alias::activate(&Mlflow::new(mlflow.clone()), &other).await.unwrap();
    let failure = check(&mlflow, "uid", "2", 10).await.unwrap_err();
    assert_eq!((failure.reason, failure.retryable), (Reason::AliasTaken, false));
    assert!(failure.message.contains("to version 3"), "{}", failure.message);
    assert_eq!(mlflow.alias("m", "champion").unwrap(), "3");
    assert_eq!(check(&mlflow, "another", "3", 1).await.unwrap(), None);
}

/// Gives the alias to `version` for the Model of `namespace`, which has a uid of the same name.
async fn activate_in(
    mlflow: &Fake,
    namespace: &str,
    version: &str,
    revision: i64,
) -> Result<ResultDocument, Failure> {
    let mut work = alias_work("m", version, revision);
    (work.alias.namespace, work.alias.owner) = (namespace.into(), namespace.into());
    alias::activate(&Mlflow::new(mlflow.clone()), &work).await
}

fn claims(mlflow: &Fake) -> Vec<String> {
    mlflow.state.lock().unwrap().models["m"].tags.keys().cloned().collect()
}

#[tokio::test]
async fn alias_stays_with_the_namespace_that_claimed_it_first() {
    let mlflow = server(Fake::default()).await;
    activate_in(&mlflow, "b", "1", 1).await.unwrap();
    for namespace in ["a", "c"] {
        let failure = activate_in(&mlflow, namespace, "3", 9).await.unwrap_err();
        assert_eq!((failure.reason, failure.retryable), (Reason::AliasTaken, false));
        assert!(failure.message.contains("delete the tag mlop.alias.champion.b.b.1 "), "{}", failure.message);
    }
    assert_eq!(mlflow.alias("m", "champion").unwrap(), "1");
    assert_eq!(claims(&mlflow), ["mlop.alias.champion.b.b.1"], "the others have written nothing");
    activate_in(&mlflow, "b", "2", 2).await.unwrap();
    Mlflow::new(mlflow.clone()).untag_registered_model("m", "mlop.alias.champion.b.b.2").await.unwrap();
    activate_in(&mlflow, "c", "3", 9).await.unwrap();
    assert_eq!(mlflow.alias("m", "champion").unwrap(), "3", "its claim was taken back by hand");
}

#[tokio::test]
async fn alias_is_free_when_its_owner_has_another_one() {
    let mlflow = server(Fake::default()).await;
    activate(&mlflow, "1", 1).await.unwrap();
    let mut renamed = alias_work("m", "1", 2);
    renamed.alias.name = "best".into();
    alias::activate(&Mlflow::new(mlflow.clone()), &renamed).await.unwrap();
    activate_in(&mlflow, "other", "3", 1).await.unwrap();
    assert_eq!(mlflow.alias("m", "champion").unwrap(), "3");
}

#[tokio::test]
async fn claim_of_an_earlier_release_gets_its_namespace() {
    let mlflow = server(Fake::default()).await;
    let client = Mlflow::new(mlflow.clone());
    client.tag_registered_model("m", &Pair::new("mlop.alias.champion.uid.4", "2")).await.unwrap();
    client.set_alias("m", "champion", "2").await.unwrap();
    assert_eq!(check(&mlflow, "uid", "2", 4).await.unwrap(), None);
    assert_eq!(claims(&mlflow), ["mlop.alias.champion.demo.uid.4"]);
}

#[tokio::test]
async fn one_namespace_has_the_alias_when_both_come_at_once() {
    let mut told = 0;
    for seed in 0..500 {
        let mlflow = server(Fake::shuffled(seed)).await;
        let both =
            || async { tokio::join!(activate_in(&mlflow, "a", "1", 1), activate_in(&mlflow, "b", "2", 1)) };
        let (a, b) = both().await;
        assert!(a.is_ok() || b.is_ok(), "seed {seed}");
        told += [&a, &b].iter().filter(|result| result.is_err()).count();
        let has_it =
            if a.is_ok() { ("1", "mlop.alias.champion.a.a.1") } else { ("2", "mlop.alias.champion.b.b.1") };
        for _ in 0..2 {
            assert_eq!(mlflow.alias("m", "champion").as_deref(), Some(has_it.0), "seed {seed}");
            assert_eq!(claims(&mlflow), [has_it.1], "seed {seed}");
            let (a, b) = both().await;
            let failure = a.err().or(b.err()).unwrap();
            assert_eq!(failure.reason, Reason::AliasTaken, "seed {seed}");
        }
    }
    assert!(told > 250, "{told}");
}

#[tokio::test]
async fn renamed_alias_removes_the_former_one() {
    let mlflow = server(Fake::default()).await;
    activate(&mlflow, "1", 1).await.unwrap();
    let mut renamed = alias_work("m", "1", 2);
    renamed.alias.name = "best".into();
    alias::activate(&Mlflow::new(mlflow.clone()), &renamed).await.unwrap();
    assert_eq!((mlflow.alias("m", "champion"), mlflow.alias("m", "best")), (None, Some("1".into())));
    let late = activate(&mlflow, "2", 1).await.unwrap_err();
    assert_eq!((late.reason, late.superseded_by), (Reason::ActivationSuperseded, Some(2)));
    assert_eq!(mlflow.alias("m", "champion"), None, "a late pod does not bring it back");
    let tags = mlflow.state.lock().unwrap().models["m"].tags.clone();
    assert_eq!(tags.keys().collect::<Vec<_>>(), ["mlop.alias.best.demo.uid.2"]);
}

#[tokio::test]
async fn renamed_alias_leaves_one_that_others_have_moved() {
    let mlflow = server(Fake::default()).await;
    activate(&mlflow, "1", 1).await.unwrap();
    Mlflow::new(mlflow.clone()).set_alias("m", "champion", "4").await.unwrap();
    let mut renamed = alias_work("m", "1", 2);
    renamed.alias.name = "best".into();
    alias::activate(&Mlflow::new(mlflow.clone()), &renamed).await.unwrap();
    assert_eq!(mlflow.alias("m", "champion").unwrap(), "4");
}

#[tokio::test]
async fn missing_model_or_version_is_refused() {
    let mlflow = server(Fake::default()).await;
    let failure = activate(&mlflow, "77", 1).await.unwrap_err();
    assert_eq!((failure.reason, failure.retryable), (Reason::TrackingRefused, false));
    let elsewhere = alias_work("n", "1", 1);
    let failure = alias::activate(&Mlflow::new(mlflow), &elsewhere).await.unwrap_err();
    assert!(failure.message.contains("\"n\" does not exist"), "{}", failure.message);
}

#[tokio::test]
async fn killed_between_any_two_requests_a_retry_completes_it() {
    for at in [At::Request, At::Answer] {
        for after in 1.. {
            let mlflow = server(Fake::default()).await;
            activate(&mlflow, "1", 1).await.unwrap();
            let line = Mlflow::new(Cut::new(mlflow.clone(), after, at));
            if alias::activate(&line, &alias_work("m", "2", 2)).await.is_ok() {
                assert!(after > 4, "{after}");
                break;
            }
            activate(&mlflow, "2", 2).await.unwrap();
            assert_eq!(mlflow.alias("m", "champion").unwrap(), "2", "cut at {at:?} {after}");
        }
    }
}

#[tokio::test]
async fn highest_of_concurrent_revisions_has_the_alias() {
    let mut met = 0;
    for seed in 0..500 {
        let mlflow = server(Fake::shuffled(seed)).await;
        let results = tokio::join!(
            activate(&mlflow, "4", 7),
            activate(&mlflow, "1", 8),
            activate(&mlflow, "2", 9),
            activate(&mlflow, "3", 6),
        );
        assert_eq!(mlflow.alias("m", "champion").unwrap(), "2", "seed {seed}");
        results.2.unwrap();
        for lower in [results.0, results.1, results.3] {
            if let Err(failure) = lower {
                assert_eq!(failure.reason, Reason::ActivationSuperseded, "seed {seed}");
                met += 1;
            }
        }
    }
    assert!(met > 500, "{met}");
}
