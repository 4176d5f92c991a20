//! What happens when an operator begins to lead.

use super::{
    controller::Script,
    server::{Server, clock, forecast},
};
use crate::{
    runtime::{context::Settings, setup::Setup},
    testing::Forecast,
};
use serde_json::json;
use std::time::Duration;
use tokio::{sync::watch, time::Instant};

#[tokio::test(start_paused = true)]
async fn new_leader_reconciles_every_object() {
    let objects = json!({"metadata": {"resourceVersion": "1"}, "items": [forecast()]});
    let (_, client) = Server::start(move |_| (200, objects.clone()));
    let mut setup = Setup::new(client, Settings::default(), clock());
    let forecasts = setup.watch::<Forecast>();
    let (script, calls) = Script::new([]);
    setup.control(script, &forecasts);
    let (leads, leading) = watch::channel(None);
    let operator = tokio::spawn(setup.run(leading));
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(calls.lock().unwrap().len(), 0, "a follower reconciles nothing");
    leads.send_replace(Some(Instant::now()));
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(calls.lock().unwrap().len(), 1);
    operator.abort();
}
