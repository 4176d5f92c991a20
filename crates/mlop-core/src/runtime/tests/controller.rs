//! When a controller reconciles an object again, and its writes.

use super::server::{Server, accept, context, forecast, refuse};
use crate::{
    Action, Cache, Error, Key, Plan, Reconciler,
    condition::{ConditionStatus, Conditions},
    headline,
    runtime::{context::Context, controller::Controller, workqueue::Workqueue},
    testing::{Forecast, NOW, NS, at},
};
use jiff::{SignedDuration, Timestamp};
use mlop_api::{
    Reason,
    contract::condition_type::{READY, RECONCILING},
    status::IntentStatus,
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::Instant;

type Outcome = Result<Plan<IntentStatus>, Error>;

/// Returns prepared outcomes, then idle plans, and records when it was called.
#[derive(Default)]
pub(super) struct Script {
    outcomes: Mutex<VecDeque<Outcome>>,
    calls: Arc<Mutex<Vec<Instant>>>,
}

impl Script {
    pub(super) fn new(outcomes: impl IntoIterator<Item = Outcome>) -> (Self, Arc<Mutex<Vec<Instant>>>) {
        let script = Self { outcomes: Mutex::new(outcomes.into_iter().collect()), ..Default::default() };
        let calls = Arc::clone(&script.calls);
        (script, calls)
    }
}

impl Reconciler for Script {
    type Resource = Forecast;
    type Status = IntentStatus;
    type Observed = Plan<IntentStatus>;

    async fn observe(&self, _: &Context, _: Arc<Forecast>) -> Outcome {
        self.calls.lock().unwrap().push(Instant::now());
        self.outcomes.lock().unwrap().pop_front().unwrap_or_else(|| Ok(Plan::idle()))
    }

    fn plan(observed: &Plan<IntentStatus>, _: Timestamp) -> Plan<IntentStatus> {
        observed.clone()
    }
}

fn ready() -> IntentStatus {
    let mut status = IntentStatus::default();
    Conditions::new(&mut status.conditions, 1, at(NOW)).set(READY, ConditionStatus::True, Reason::Ready, "");
    headline::present("Forecast a", &mut status);
    status
}

/// The seconds at which the object is reconciled within two minutes of one change, and the server.
async fn reconciles(object: Forecast, outcomes: Vec<Outcome>) -> (Vec<u64>, Arc<Server>) {
    let (server, client) = Server::start(accept);
    let (cx, _leads) = context(client, BTreeMap::new());
    let (cache, queue) = (Arc::new(Cache::<Forecast>::default()), Arc::new(Workqueue::default()));
    cache.put_written(object);
    queue.enqueue(Key::new(NS, "a"));
    let (script, calls) = Script::new(outcomes);
    let begin = Instant::now();
    let run = Controller::new(script, cx, cache, queue).run();
    tokio::time::timeout(Duration::from_secs(120), run).await.unwrap_err();
    let seconds = calls.lock().unwrap().iter().map(|at| at.duration_since(begin).as_secs()).collect();
    (seconds, server)
}

#[tokio::test(start_paused = true)]
async fn status_is_written_only_when_it_differs() {
    let object = Forecast { status: Some(ready()), ..forecast() };
    let (_, server) = reconciles(object.clone(), vec![Ok(Plan::report(ready()))]).await;
    assert_eq!(server.sent(), []);
    let other = IntentStatus { summary: Some("other".to_owned()), ..ready() };
    let (_, server) = reconciles(object, vec![Ok(Plan::report(other))]).await;
    assert_eq!(server.methods(), ["PATCH"]);
}

#[tokio::test(start_paused = true)]
async fn status_without_its_headline_is_completed() {
    let status = IntentStatus { headline: None, ..ready() };
    let object = Forecast { status: Some(status), ..forecast() };
    let (_, server) = reconciles(object, vec![Ok(Plan::idle())]).await;
    assert_eq!(server.sent()[0].body["status"]["headline"]["reason"], "Ready");
}

#[tokio::test(start_paused = true)]
async fn object_is_reconciled_again_at_its_requeue_time() {
    let plan = Plan::idle().with_action(Action::RequeueAt(at(NOW + 60)));
    assert_eq!(reconciles(forecast(), vec![Ok(plan)]).await.0, [0, 60]);
    assert_eq!(reconciles(forecast(), vec![Ok(Plan::idle())]).await.0, [0]);
}

#[tokio::test(start_paused = true)]
async fn failed_reconcile_is_repeated_with_a_growing_delay() {
    let refused = || Err(Error::Refused { reason: Reason::QuotaExceeded, message: "exceeded quota".into() });
    let (seconds, server) =
        reconciles(Forecast { status: Some(ready()), ..forecast() }, (0..4).map(|_| refused()).collect())
            .await;
    let delays: Vec<u64> = seconds.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(delays.len(), 4, "{seconds:?}");
    assert!(delays.is_sorted() && delays.last() > delays.first(), "{delays:?}");
    let reported = server.sent().into_iter().flat_map(|sent| conditions(&sent.body));
    assert_eq!(
        reported.collect::<Vec<_>>()[..2],
        [format!("{READY}=Ready"), format!("{RECONCILING}=QuotaExceeded")]
    );
}

#[tokio::test(start_paused = true)]
async fn backoff_does_not_grow_with_events() {
    let (_, client) = Server::start(accept);
    let (cx, _leads) = context(client, BTreeMap::new());
    let (cache, queue) = (Arc::new(Cache::<Forecast>::default()), Arc::new(Workqueue::default()));
    cache.put_written(forecast());
    let refused = || Err(Error::Refused { reason: Reason::QuotaExceeded, message: "exceeded quota".into() });
    let (script, calls) = Script::new((0..200).map(|_| refused()));
    let run = Controller::new(script, cx, cache, Arc::clone(&queue)).run();
    let events = async {
        for _ in 0..40 {
            queue.enqueue(Key::new(NS, "a"));
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let before = calls.lock().unwrap().len();
        tokio::time::sleep(Duration::from_secs(60)).await;
        calls.lock().unwrap().len() - before
    };
    tokio::select! {
        () = run => unreachable!("a controller never ends"),
        later = events => assert!(later > 0, "20 s of failures delay the next reconcile by more than a minute"),
    }
}

/// Reconciles `a` with a request that gets no answer, and all others without one every second.
struct OneHangs;

impl Reconciler for OneHangs {
    type Resource = Forecast;
    type Status = IntentStatus;
    type Observed = ();

    async fn observe(&self, _: &Context, object: Arc<Forecast>) -> Result<(), Error> {
        if object.metadata.name.as_deref() != Some("a") {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
        Err(Error::api("create Pod a-1", kube::Error::Service("no answer".into())))
    }

    fn plan((): &(), now: Timestamp) -> Plan<IntentStatus> {
        Plan::idle().requeue_at(now + SignedDuration::from_millis(100))
    }
}

#[tokio::test(start_paused = true)]
async fn object_whose_requests_get_no_answer_says_so() {
    let (server, client) = Server::start(accept);
    let (cx, _leads) = context(client, BTreeMap::new());
    let (cache, queue) = (Arc::new(Cache::<Forecast>::default()), Arc::new(Workqueue::default()));
    let mut other = forecast();
    other.metadata.name = Some("b".to_owned());
    for object in
        [Forecast { status: Some(ready()), ..forecast() }, Forecast { status: Some(ready()), ..other }]
    {
        queue.enqueue(Key::new(NS, object.metadata.name.as_deref().unwrap()));
        cache.put_written(object);
    }
    let run = Controller::new(OneHangs, cx, cache, queue).run();
    tokio::time::timeout(Duration::from_secs(120), run).await.unwrap_err();
    let sent = server.sent();
    let told = sent.iter().find(|sent| sent.path.ends_with("/a/status")).expect("a report");
    assert!(conditions(&told.body).contains(&format!("{RECONCILING}=ApiError")), "{}", told.body);
}

fn conditions(body: &Value) -> Vec<String> {
    let conditions = body["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let text = |condition: &Value, field: &str| condition[field].as_str().unwrap_or_default().to_owned();
    conditions.iter().map(|c| format!("{}={}", text(c, "type"), text(c, "reason"))).collect()
}

#[tokio::test(start_paused = true)]
async fn object_is_not_reconciled_without_the_lease() {
    let (server, client) = Server::start(|_| refuse(500, "", "unexpected"));
    let (cx, leads) = context(client, BTreeMap::new());
    leads.send_replace(None);
    let (cache, queue) = (Arc::new(Cache::<Forecast>::default()), Arc::new(Workqueue::default()));
    cache.put_written(forecast());
    queue.enqueue(Key::new(NS, "a"));
    let (script, calls) = Script::new([]);
    let run = Controller::new(script, cx, cache, queue).run();
    tokio::time::timeout(Duration::from_secs(60), run).await.unwrap_err();
    assert!(calls.lock().unwrap().is_empty() && server.sent().is_empty());
}
