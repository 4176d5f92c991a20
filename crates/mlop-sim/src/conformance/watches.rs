//! Watches: their start, their events and their end.

use std::{pin::Pin, time::Duration};

use futures::{Stream, StreamExt, TryStreamExt};
use kube::{
    ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, WatchEvent, WatchParams},
};
use serde_json::json;
use tokio::time::{Instant, timeout};

use super::{
    bench::{Bench, Failure, Outcome, TIMEOUT, version},
    check::{Check, ensure, list},
};

pub(super) fn checks() -> Vec<Check> {
    list![
        watches_show_changes_after_a_version,
        watches_from_zero_begin_with_current_objects,
        watches_follow_a_label_selector,
        deletion_events_show_the_last_state,
        watches_of_an_old_version_expire,
        watches_send_bookmark_and_end_at_timeout,
        watches_can_begin_with_a_list,
        watches_can_show_metadata_alone,
    ]
}

type Events = Pin<Box<dyn Stream<Item = Result<WatchEvent<DynamicObject>, Failure>> + Send>>;

impl Bench {
    /// A watch from version `from`, of the widgets with one label value.
    async fn watch(&self, label: &str, from: &str) -> Result<Events, Failure> {
        self.watch_with(WatchParams::default().labels(&format!("watched={label}")).timeout(30), from).await
    }

    async fn watch_with(&self, params: WatchParams, from: &str) -> Result<Events, Failure> {
        Ok(Box::pin(self.widgets().watch(&params, from).await?.map_err(Failure::from)))
    }

    async fn watched(&self, suffix: &str) -> Result<DynamicObject, Failure> {
        let mut widget = self.widget(suffix, json!({"size": 1}));
        widget["metadata"]["labels"] = json!({"watched": self.tag()});
        self.post(&widget).await
    }

    fn tag(&self) -> String {
        self.check.chars().take(60).collect()
    }

    async fn now(&self) -> Result<String, Failure> {
        let list = self.widgets().list(&ListParams::default().limit(1)).await?;
        Ok(list.metadata.resource_version.unwrap_or_default())
    }
}

/// The next event as `TYPE suffix`. The suffix is the part of the name after its last dash.
async fn next(events: &mut Events) -> Result<String, Failure> {
    let event = timeout(TIMEOUT, events.next()).await?.ok_or("the watch ended")??;
    let show = |kind: &str, object: &DynamicObject| {
        let name = object.name_any();
        format!("{kind} {}", name.rsplit('-').next().unwrap_or_default())
    };
    Ok(match &event {
        WatchEvent::Added(object) => show("ADDED", object),
        WatchEvent::Modified(object) => show("MODIFIED", object),
        WatchEvent::Deleted(object) => show("DELETED", object),
        WatchEvent::Bookmark(bookmark) => {
            let initial = bookmark.metadata.annotations.contains_key("k8s.io/initial-events-end");
            if initial { "BOOKMARK initial".into() } else { "BOOKMARK".into() }
        }
        WatchEvent::Error(status) => format!("ERROR {} {}", status.code, status.reason),
    })
}

async fn expect(events: &mut Events, wanted: &[&str]) -> Outcome {
    for wanted in wanted {
        let event = next(events).await?;
        ensure!(event == *wanted, "{event} instead of {wanted}");
    }
    Ok(())
}

async fn watches_show_changes_after_a_version(bench: Bench) -> Outcome {
    let before = bench.watched("a").await?;
    bench.watched("b").await?;
    let mut events = bench.watch(&bench.tag(), &version(&before)).await?;
    let patch = Patch::Merge(json!({"spec": {"size": 2}}));
    bench.widgets().patch(&bench.name("a"), &PatchParams::default(), &patch).await?;
    bench.widgets().patch(&bench.name("a"), &PatchParams::default(), &patch).await?;
    bench.widgets().delete(&bench.name("a"), &DeleteParams::default()).await?;
    expect(&mut events, &["ADDED b", "MODIFIED a", "DELETED a"]).await
}

async fn watches_from_zero_begin_with_current_objects(bench: Bench) -> Outcome {
    bench.watched("a").await?;
    bench.watched("b").await?;
    let mut events = bench.watch(&bench.tag(), "0").await?;
    let mut first = [next(&mut events).await?, next(&mut events).await?];
    first.sort();
    ensure!(first == ["ADDED a", "ADDED b"], "the watch begins with {first:?}");
    bench.watched("c").await?;
    expect(&mut events, &["BOOKMARK initial", "ADDED c"]).await
}

async fn watches_follow_a_label_selector(bench: Bench) -> Outcome {
    let mut events = bench.watch(&bench.tag(), &bench.now().await?).await?;
    bench.watched("a").await?;
    for label in ["other", bench.tag().as_str()] {
        let patch = Patch::Merge(json!({"metadata": {"labels": {"watched": label}}}));
        bench.widgets().patch(&bench.name("a"), &PatchParams::default(), &patch).await?;
    }
    expect(&mut events, &["ADDED a", "DELETED a", "ADDED a"]).await
}

async fn deletion_events_show_the_last_state(bench: Bench) -> Outcome {
    let widget = bench.watched("a").await?;
    let mut events = bench.watch(&bench.tag(), &version(&widget)).await?;
    bench.widgets().delete(&bench.name("a"), &DeleteParams::default()).await?;
    let event = timeout(TIMEOUT, events.next()).await?.ok_or("the watch ended")??;
    let WatchEvent::Deleted(last) = event else { return Err("the event is not a deletion".into()) };
    ensure!(last.data["spec"] == widget.data["spec"], "the spec is {}", last.data["spec"]);
    ensure!(version(&last).parse::<u64>()? > version(&widget).parse()?, "the version is {}", version(&last));
    Ok(())
}

async fn watches_of_an_old_version_expire(bench: Bench) -> Outcome {
    let mut events = bench.watch(&bench.tag(), "1").await?;
    expect(&mut events, &["ERROR 410 Expired"]).await
}

async fn watches_send_bookmark_and_end_at_timeout(bench: Bench) -> Outcome {
    bench.watched("a").await?;
    let start = Instant::now();
    let params = WatchParams::default().labels(&format!("watched={}", bench.tag())).timeout(6);
    let mut events = bench.watch_with(params, &bench.now().await?).await?;
    bench.create("unwatched", json!({})).await?;
    expect(&mut events, &["BOOKMARK"]).await?;
    let rest = timeout(TIMEOUT, events.collect::<Vec<_>>()).await?;
    ensure!(
        rest.iter().all(|event| matches!(event, Ok(WatchEvent::Bookmark(_)))),
        "the last events are {rest:?}"
    );
    let lasted = start.elapsed();
    ensure!(
        lasted >= Duration::from_secs(5) && lasted < Duration::from_secs(15),
        "the watch lasted {lasted:?}"
    );
    Ok(())
}

async fn watches_can_begin_with_a_list(bench: Bench) -> Outcome {
    bench.watched("a").await?;
    let params =
        WatchParams::default().labels(&format!("watched={}", bench.tag())).timeout(30).initial_events();
    let mut events = bench.watch_with(params, "").await?;
    expect(&mut events, &["ADDED a", "BOOKMARK initial"]).await?;
    bench.watched("b").await?;
    expect(&mut events, &["ADDED b"]).await
}

async fn watches_can_show_metadata_alone(bench: Bench) -> Outcome {
    let widget = bench.watched("a").await?;
    let params = WatchParams::default().labels(&format!("watched={}", bench.tag())).timeout(30);
    let events = bench.widgets().watch_metadata(&params, "0").await?;
    let event = timeout(TIMEOUT, Box::pin(events).next()).await?.ok_or("the watch ended")??;
    let WatchEvent::Added(object) = event else { return Err("the event is not an addition".into()) };
    ensure!(object.uid() == widget.uid(), "the uid is {:?}", object.uid());
    ensure!(
        object.types.is_some_and(|types| types.kind == "PartialObjectMetadata"),
        "the event has more than metadata"
    );
    Ok(())
}
