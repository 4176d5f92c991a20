//! A reconcile that panics or hangs affects no other object.

use super::server::{Server, accept, context, forecast};
use crate::{
    Cache, Error, Key, Plan, Reconciler,
    condition::{ConditionStatus, Conditions},
    runtime::{client::ANSWER_TIMEOUT, context::Context, controller::Controller, workqueue::Workqueue},
    testing::{Forecast, NS},
};
use jiff::Timestamp;
use mlop_api::{Reason, contract::condition_type::READY, status::IntentStatus};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tower::timeout::error::Elapsed;

/// Reports Ready. The names `hangs`, `panics` and `unanswered` select a failure.
struct Fragile;

impl Reconciler for Fragile {
    type Resource = Forecast;
    type Status = IntentStatus;
    type Observed = Arc<Forecast>;

    async fn observe(&self, _: &Context, object: Arc<Forecast>) -> Result<Arc<Forecast>, Error> {
        if object.metadata.name.as_deref() == Some("hangs") {
            std::future::pending::<()>().await;
        }
        if object.metadata.name.as_deref() == Some("unanswered") {
            tokio::time::sleep(ANSWER_TIMEOUT).await;
            return Err(Error::api("create Pod a", kube::Error::Service(Box::new(Elapsed::new()))));
        }
        Ok(object)
    }

    fn plan(object: &Arc<Forecast>, now: Timestamp) -> Plan<IntentStatus> {
        assert!(object.metadata.name.as_deref() != Some("panics"), "requested by the name");
        let mut status = IntentStatus::default();
        Conditions::new(&mut status.conditions, 1, now).set(READY, ConditionStatus::True, Reason::Ready, "");
        Plan::report(status)
    }
}

/// The conditions that are written within `seconds` while objects of these `names` are created, one a second.
async fn written(names: &[&str], seconds: u64) -> Vec<String> {
    let (server, client) = Server::start(accept);
    let (cx, _leads) = context(client, BTreeMap::new());
    let (cache, queue) = (Arc::new(Cache::<Forecast>::default()), Arc::new(Workqueue::default()));
    let run = Controller::new(Fragile, cx, Arc::clone(&cache), Arc::clone(&queue)).run();
    let creations = async {
        for name in names {
            let mut object = forecast();
            object.metadata.name = Some((*name).to_owned());
            object.status = Some(IntentStatus::default());
            cache.put_written(object);
            queue.enqueue(Key::new(NS, *name));
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let both = async { tokio::join!(run, creations) };
    tokio::time::timeout(Duration::from_secs(seconds), both).await.unwrap_err();
    let mut written = Vec::new();
    for sent in server.sent() {
        let name = sent.path.rsplit('/').nth(1).unwrap_or_default();
        for condition in sent.body["status"]["conditions"].as_array().into_iter().flatten() {
            let text = |field: &str| condition[field].as_str().unwrap_or_default();
            written.push(format!("{name}: {}={} {}", text("type"), text("reason"), text("message")));
        }
    }
    written
}

fn has(written: &[String], start: &str, words: &str) -> bool {
    written.iter().any(|condition| condition.starts_with(start) && condition.contains(words))
}

#[tokio::test(start_paused = true)]
async fn panic_stalls_only_its_object() {
    let written = written(&["panics", "works"], 5).await;
    assert!(has(&written, "panics: Stalled=Panicked", "requested by the name"), "{written:?}");
    assert!(has(&written, "works: Ready=Ready", ""), "the controller continues: {written:?}");
}

#[tokio::test(start_paused = true)]
async fn hanging_reconcile_times_out_and_blocks_no_other_object() {
    let soon = written(&["hangs", "works"], 5).await;
    assert!(has(&soon, "works: Ready=Ready", "") && !has(&soon, "hangs: ", ""), "{soon:?}");
    let late = written(&["hangs"], 40).await;
    assert!(has(&late, "hangs: Reconciling=", "longer than 30 s"), "{late:?}");
}

#[tokio::test(start_paused = true)]
async fn object_without_answers_is_reported_when_it_is_alone() {
    let soon = written(&["unanswered"], 30).await;
    assert!(!has(&soon, "unanswered: ", ""), "that may be an outage: {soon:?}");
    let late = written(&["unanswered"], 90).await;
    assert!(has(&late, "unanswered: Reconciling=ApiError", "an admission webhook may be silent"), "{late:?}");
}
