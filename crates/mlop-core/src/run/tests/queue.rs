//! Attempts that wait for a queue.

use super::*;
use crate::{run::Queue, testing::NS};
use k8s_openapi::api::core::v1::ResourceRequirements;
use mlop_api::{
    queue::{Admission, QueueStatus, RunQueue, TrainingQueue, WaitingRun},
    status::RunStatus,
};

/// A kind whose runs are for a queue.
struct Queued;

/// What the runs want, and the queue if it exists.
#[derive(Clone, Default)]
struct Related {
    wanted: Option<RunQueue>,
    found: Option<TrainingQueue>,
}

impl Run for Queued {
    type Resource = ForecastRun;
    type Related = Related;
    const MEDIA_TYPE: &'static str = MEDIA_TREE;

    fn queue(observed: &Observed<Self>) -> Option<Queue<'_>> {
        let Related { wanted, found } = &observed.related;
        Some(Queue { wanted: wanted.as_ref()?, found: found.as_ref() })
    }

    fn attempt(observed: &Observed<Self>, metadata: ObjectMeta, _: Subject) -> Result<Pod, Blocked> {
        let limit = observed.object.spec.execution.retry.limit;
        let resources: ResourceRequirements =
            serde_json::from_value(json!({"requests": {"cpu": limit.to_string()}})).unwrap();
        let container =
            Container { name: "worker".to_owned(), resources: Some(resources), ..Default::default() };
        let spec = PodSpec { containers: vec![container], ..Default::default() };
        Ok(Pod { metadata, spec: Some(spec), status: None })
    }
}

/// A run that is for the queue `q`, which has seen nothing of it.
fn run() -> RunCase<Queued> {
    let mut case = RunCase::new("delay-1", &json!(ForecastRunSpec::default()));
    let queue = json!({
        "apiVersion": "mlop.dev/v1alpha1", "kind": "TrainingQueue", "metadata": {"name": "q"},
        "spec": {"resources": [{"name": "cpu", "quota": "4"}]}, "status": {"observedGeneration": 1},
    });
    case.related = Related {
        wanted: Some(RunQueue { name: "q".into(), priority: 0, suspended: false }),
        found: serde_json::from_value(queue).unwrap(),
    };
    case
}

impl RunCase<Queued> {
    fn with(mut self, change: impl Fn(&mut Related)) -> Self {
        change(&mut self.related);
        self
    }

    /// The queue names these runs, in their order.
    fn waits(self, names: &[&str]) -> Self {
        let waiting = |name: &&str| WaitingRun { namespace: NS.into(), run: (*name).to_owned() };
        let waiting: Vec<_> = names.iter().map(waiting).collect();
        self.with(|related| {
            let status =
                QueueStatus { observed_generation: Some(1), waiting: waiting.clone(), ..Default::default() };
            related.found.as_mut().unwrap().status = Some(status);
        })
    }

    /// The queue answers what the run asks for now.
    fn answered(mut self, refused: Option<&str>) -> Self {
        let mut status = self.status();
        let request = status.queued.clone().unwrap();
        status.admission = Some(Admission {
            queue: request.queue,
            since: request.since,
            resources: request.resources,
            at: refused.is_none().then(|| at(NOW).into()),
            refused: refused.map(str::to_owned),
        });
        self.object.status = Some(status);
        self
    }

    fn suspended(self, suspended: bool) -> Self {
        self.with(|related| related.wanted.as_mut().unwrap().suspended = suspended)
    }
}

fn asked() -> RunCase<Queued> {
    run().reconciled()
}

#[test]
fn attempt_waits_for_the_admission_of_its_queue() {
    let larger = |case: RunCase<Queued>| case.edited(|spec| spec.execution.retry.limit = 4);
    let rows = vec![
        ("it asks", run(), "Unknown/Queued 0 attempts"),
        ("it is admitted", asked().answered(None), "Unknown/Running 0 attempts create Pod delay-1-1"),
        ("it is refused", asked().answered(Some("no")), "Unknown/QueueRefused Stalled 0 attempts"),
        ("another size is asked for again", larger(asked().answered(None)), "Unknown/Queued 0 attempts"),
        (
            "there is no queue of this name",
            run().with(|related| related.found = None),
            "Unknown/QueueNotFound Stalled 0 attempts",
        ),
        (
            "the queue that has admitted it is gone",
            asked().answered(None).with(|related| related.found = None),
            "Unknown/Running 0 attempts create Pod delay-1-1",
        ),
        ("its intent is suspended", asked().suspended(true), "Unknown/Suspended 0 attempts"),
        ("it is for no queue", run().with(|related| related.wanted = None), "quiet create Pod delay-1-1"),
        (
            "it is cancelled while it waits",
            cancelled(asked()),
            "False/Cancelled Stalled 0 attempts event Cancelled",
        ),
    ];
    check(rows);
}

fn cancelled(case: RunCase<Queued>) -> RunCase<Queued> {
    case.edited(|spec| spec.execution.cancel_requested_at = Some("now".into()))
}

/// The message of the run in this situation.
fn message(case: &RunCase<Queued>) -> String {
    let status = case.reconciled_status();
    condition::get(&status.conditions, condition_type::SUCCEEDED).unwrap().message.clone()
}

impl RunCase<Queued> {
    fn reconciled_status(&self) -> RunStatus {
        self.clone().reconciled().status()
    }
}

#[test]
fn message_names_queue_position_and_need() {
    let many = |before: usize| -> Vec<String> {
        (0..before).map(|number| format!("other-{number}")).chain(["delay-1".to_owned()]).collect()
    };
    let position = |before: usize| {
        let names = many(before);
        asked().waits(&names.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let full: Vec<String> = (0..50).map(|number| format!("other-{number}")).collect();
    let rows = [
        (
            run().with(|related| related.found.as_mut().unwrap().status = None),
            "TrainingQueue q admits nothing yet: the operator mlop-queue has not seen it; is its chart installed?",
        ),
        (asked(), "waits in TrainingQueue q not yet counted; it needs 3 of 4 cpu"),
        (position(0), "waits in TrainingQueue q at position 1; it needs 3 of 4 cpu"),
        (position(9), "waits in TrainingQueue q at position 10; it needs 3 of 4 cpu"),
        (position(10), "waits in TrainingQueue q among the first 20; it needs 3 of 4 cpu"),
        (position(30), "waits in TrainingQueue q among the first 50; it needs 3 of 4 cpu"),
        (
            asked().waits(&full.iter().map(String::as_str).collect::<Vec<_>>()),
            "waits in TrainingQueue q after the first 50; it needs 3 of 4 cpu",
        ),
    ];
    for (case, want) in rows {
        assert_eq!(message(&case), want);
    }
}

/// What the run asks for: the second of its entry after [`NOW`], and the amount; none if it asks for nothing.
fn asks(case: &RunCase<Queued>) -> Option<(i64, String)> {
    let request = case.reconciled_status().queued?;
    let seconds = request.since.get().as_second() - NOW;
    Some((seconds, request.resources[0].quantity.to_string()))
}

#[test]
fn run_asks_until_it_has_ended_and_no_pod_runs() {
    let admitted = || asked().at(5).answered(None).reconciled();
    let done: fn(RunCase<Queued>) -> RunCase<Queued> = |case| case.pod(testing::terminated(&success(), NOW));
    let rows = [
        ("it waits", asked().at(5), Some((0, "3"))),
        ("it works", admitted().pod(testing::running()), Some((0, "3"))),
        ("it has succeeded", done(admitted()), None),
        ("it is cancelled, and its pod has ended", cancelled(admitted().pod(testing::running())), None),
        ("its intent is suspended while it waits", asked().suspended(true), None),
        ("it is resumed", asked().suspended(true).reconciled().suspended(false).at(7), Some((7, "3"))),
        (
            "it grows and keeps its place",
            asked().at(5).edited(|spec| spec.execution.retry.limit = 4),
            Some((0, "4")),
        ),
        (
            "it moves to another queue",
            asked().at(5).with(|related| related.wanted.as_mut().unwrap().name = "r".into()),
            Some((5, "3")),
        ),
    ];
    for (situation, case, want) in rows {
        let want = want.map(|(since, amount): (i64, &str)| (since, amount.to_owned()));
        assert_eq!(asks(&case), want, "{situation}");
    }
}

#[test]
fn cancelled_run_asks_while_its_pod_saves() {
    let working = asked().at(5).answered(None).reconciled().pod(testing::running());
    let cancelled = cancelled(working).plan();
    assert_eq!(cancelled.deletes.len(), 1);
    assert!(cancelled.status.unwrap().queued.is_some());
}
