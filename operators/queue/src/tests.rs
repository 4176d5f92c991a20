//! Decisions on queues. A row is a situation of the queue `q`, which has 4 cores, and its plan in one line.

use crate::training_queue::{Observed, TrainingQueueReconciler};
use mlop_api::queue::{QueueStatus, TrainingQueue};
use mlop_core::{
    Plan, Reconciler,
    resource::QueuedRun,
    testing::{NOW, at},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};

/// A queue, its runs and its namespaces.
#[derive(Clone)]
struct Case {
    queue: TrainingQueue,
    runs: Vec<QueuedRun>,
    namespaces: BTreeMap<String, BTreeMap<String, String>>,
    now: i64,
    /// Counts the writes of runs.
    version: u64,
}

fn time(second: i64) -> Value {
    json!(mlop_api::Time::from(at(NOW + second)))
}

fn case() -> Case {
    let queue = json!({
        "apiVersion": "mlop.dev/v1alpha1", "kind": "TrainingQueue",
        "metadata": {"name": "q", "uid": "q", "generation": 1, "resourceVersion": "1"},
        "spec": {"resources": [{"name": "cpu", "quota": "4"}]},
    });
    let labels = |team: &str| BTreeMap::from([("team".to_owned(), team.to_owned())]);
    Case {
        queue: serde_json::from_value(queue).unwrap(),
        runs: Vec::new(),
        namespaces: [("a".to_owned(), labels("a")), ("b".to_owned(), labels("b"))].into(),
        now: 0,
        version: 10,
    }
}

impl Case {
    /// The run of this name asks for so many cores at this second after [`NOW`].
    fn asks(mut self, name: &str, cpu: u32, second: i64) -> Self {
        self.version += 1;
        let (namespace, run) = name.split_once('/').unwrap();
        let run = json!({
            "metadata": {
                "namespace": namespace, "name": run, "uid": name, "resourceVersion": self.version.to_string(),
            },
            "spec": {"queue": {"name": "q", "priority": 0}},
            "status": {"queued": {
                "queue": "q", "since": time(second), "resources": [{"name": "cpu", "quantity": cpu.to_string()}],
            }},
        });
        self.runs.push(serde_json::from_value(run).unwrap());
        self
    }

    fn change(mut self, name: &str, change: impl Fn(&mut QueuedRun)) -> Self {
        self.version += 1;
        let run = self.runs.iter_mut().find(|run| run.metadata.uid.as_deref() == Some(name)).unwrap();
        change(run);
        run.metadata.resource_version = Some(self.version.to_string());
        self
    }

    /// The run asks for nothing any more.
    fn ends(self, name: &str) -> Self {
        self.change(name, |run| run.status.queued = None)
    }

    /// The run is gone.
    fn gone(mut self, name: &str) -> Self {
        self.runs.retain(|run| run.metadata.uid.as_deref() != Some(name));
        self
    }

    fn quota(mut self, quota: &str) -> Self {
        self.queue.spec.resources[0].quota = quota.parse().unwrap();
        *self.queue.metadata.generation.as_mut().unwrap() += 1;
        self
    }

    fn selects(mut self, team: &str) -> Self {
        self.queue.spec.namespaces = serde_json::from_value(json!({"matchLabels": {"team": team}})).unwrap();
        self
    }

    fn plan(&self) -> Plan<QueueStatus> {
        let observed = Observed {
            object: Arc::new(self.queue.clone()),
            runs: self.runs.iter().cloned().map(Arc::new).collect(),
            labels: self.namespaces.clone(),
        };
        TrainingQueueReconciler::plan(&observed, at(NOW + self.now))
    }

    fn carried_out(mut self, plan: &Plan<QueueStatus>) -> Self {
        for apply in &plan.applies {
            let name = apply.object["metadata"]["uid"].as_str().unwrap().to_owned();
            let admission = serde_json::from_value(apply.object["status"]["admission"].clone()).unwrap();
            let admission: Option<_> = admission;
            self = self.change(&name, |run| run.status.admission.clone_from(&admission));
        }
        if let Some(status) = &plan.status {
            self.queue.status = Some(status.clone());
        }
        self
    }

    /// The situation after all plans, the last of which writes nothing.
    fn settled(mut self) -> Self {
        for _ in 0..10 {
            let plan = self.plan();
            if plan.is_quiet() {
                return self;
            }
            self = self.carried_out(&plan);
        }
        panic!("reconciling does not end: {:#?}", self.plan());
    }

    /// The runs that know that they are admitted or refused, and the counts of the status.
    fn words(&self) -> String {
        let told = self.runs.iter().filter_map(|run| {
            let (answer, request) = (run.status.admission.as_ref()?, run.status.queued.as_ref()?);
            let how = if answer.refused.is_some() { "refused" } else { "admitted" };
            answer.answers(request).then(|| format!("{} {how}", run.metadata.name.as_deref().unwrap()))
        });
        let told = told.collect::<Vec<_>>().join(", ");
        let status = self.queue.status.clone().unwrap();
        let used = status.usage[0].used.to_string();
        format!("{told}; {} admitted, {} pending, {used} used", status.admitted, status.pending)
    }
}

#[test]
fn queue_admits_and_refuses() {
    let two = || case().asks("a/x", 3, -2).asks("a/y", 2, -1);
    let selected = |team| case().selects(team).asks("a/x", 1, -1);
    let rows = [
        ("nobody asks", case(), "; 0 admitted, 0 pending, 0 used"),
        ("room for one of two", two(), "x admitted; 1 admitted, 1 pending, 3 used"),
        ("the first ends", two().settled().ends("a/x"), "y admitted; 1 admitted, 0 pending, 2 used"),
        ("the first is gone", two().settled().gone("a/x"), "y admitted; 1 admitted, 0 pending, 2 used"),
        ("more than the quota", case().asks("a/x", 5, -1), "x refused; 0 admitted, 0 pending, 0 used"),
        (
            "the quota is raised",
            case().asks("a/x", 5, -1).settled().quota("5"),
            "x admitted; 1 admitted, 0 pending, 5 used",
        ),
        (
            "the quota is raised, and in use",
            case().asks("a/y", 1, -2).asks("a/x", 5, -1).settled().quota("5"),
            "y admitted; 1 admitted, 1 pending, 1 used",
        ),
        (
            "the quota is lowered below what is in use",
            two().settled().quota("2"),
            "x admitted; 1 admitted, 1 pending, 3 used",
        ),
        ("a namespace that is selected", selected("a"), "x admitted; 1 admitted, 0 pending, 1 used"),
        ("a namespace that is not selected", selected("b"), "x refused; 0 admitted, 0 pending, 0 used"),
        (
            "a namespace that no cache has seen",
            Case { namespaces: BTreeMap::new(), ..selected("a") },
            "; 0 admitted, 0 pending, 0 used",
        ),
        (
            "an admitted run asks for another size",
            two().settled().change("a/x", |run| {
                run.status.queued.as_mut().unwrap().resources[0].quantity = "1".parse().unwrap();
            }),
            "x admitted, y admitted; 2 admitted, 0 pending, 3 used",
        ),
        (
            "the queue is made again",
            Case { queue: case().queue, ..two().settled() },
            "x admitted; 1 admitted, 1 pending, 3 used",
        ),
        (
            "an admitted run is being deleted",
            two().settled().change("a/x", |run| {
                run.metadata.deletion_timestamp =
                    serde_json::from_value(json!("2026-11-21T10:00:00Z")).unwrap();
            }),
            "x admitted; 1 admitted, 1 pending, 3 used",
        ),
    ];
    for (situation, case, want) in rows {
        assert_eq!(case.settled().words(), want, "{situation}");
    }
}

/// A decision is in the status of the queue before its run is told.
#[test]
fn reservation_is_written_before_the_answer() {
    let case = case().asks("a/x", 3, -1);
    let decided = case.plan();
    assert!(decided.applies.is_empty(), "{decided:#?}");
    assert_eq!(decided.status.as_ref().unwrap().reservations.len(), 1);
    let told = case.carried_out(&decided).plan();
    assert_eq!(told.applies.len(), 1);
    assert_eq!(told.applies[0].object["status"]["admission"]["queue"], "q");
    assert_eq!(told.status, None, "one write of the queue for an admission");
}

/// The state of a cache that lags says nothing about a reservation.
#[test]
fn reservation_outlives_an_older_state_of_its_run() {
    let before = case().asks("a/x", 3, -1);
    let decided = before.clone().settled();
    let lagging = Case {
        runs: before
            .ends("a/x")
            .runs
            .into_iter()
            .map(|mut run| {
                run.metadata.resource_version = Some("1".into());
                run
            })
            .collect(),
        ..decided
    };
    let lagging = lagging.asks("b/y", 2, -1).settled();
    assert_eq!(lagging.words(), "; 1 admitted, 1 pending, 3 used");
}

#[test]
fn waiting_run_costs_no_writes() {
    let case = case().asks("a/x", 3, -2).asks("a/y", 2, -1).settled();
    for seconds in [1, 60, 3_600] {
        assert!(Case { now: seconds, ..case.clone() }.plan().is_quiet(), "{seconds} s later");
    }
}

#[test]
fn refusal_says_what_to_do() {
    let refused = |case: Case| {
        let admission = case.settled().runs[0].status.admission.clone();
        admission.and_then(|admission| admission.refused).unwrap()
    };
    assert_eq!(
        refused(case().asks("a/x", 5, -1)),
        "it needs 5 cpu, and the whole quota of TrainingQueue q is 4: lower spec.resources or spec.workers.replicas, \
         or name another queue in spec.queue"
    );
    assert_eq!(
        refused(case().selects("b").asks("a/x", 1, -1)),
        "TrainingQueue q does not select the namespace a: name another queue in spec.queue, or ask the platform team \
         to label the namespace as spec.namespaces of the queue says"
    );
}
