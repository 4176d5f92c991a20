//! Tables of the reports of a Dataset about the scans of its source.

use crate::dataset::DatasetIntent;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::core::v1::{Pod, PodStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::ResourceExt;
use mlop_api::{
    Digest, Quantity, Reason,
    common::Metric,
    contract::condition_type,
    dataset::{Dataset, DatasetVersion, NEWEST, ObjectStore},
    result::{Failure, ResultDocument},
    status::IntentStatus,
};
use mlop_core::{
    Action, Plan,
    children::profile::Profile,
    condition,
    intent::{Intent, Observed, plan},
    resource::PodView,
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};

const NOW: i64 = 1_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// The ObjectStore `files` with this Ready condition.
fn store(status: &str, reason: &str) -> ObjectStore {
    serde_json::from_value(json!({
        "apiVersion": "mlop.dev/v1alpha1", "kind": "ObjectStore",
        "metadata": {"name": "files", "namespace": "default", "uid": "s", "generation": 1},
        "spec": {"endpoint": "http://s3:9000", "bucket": "files"},
        "status": {"conditions": [{"type": "Ready", "status": status, "reason": reason, "message": "m",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
    }))
    .unwrap()
}

fn dataset() -> Dataset {
    serde_json::from_value(json!({
        "apiVersion": "mlop.dev/v1alpha1", "kind": "Dataset",
        "metadata": {"name": "flights", "namespace": "default", "uid": "d", "generation": 1},
        "spec": {
            "source": {"objects": {"store": "files", "prefix": "in/"}, "format": {"csv": {}}},
            "columns": [{"name": "a", "type": "string"}],
            "store": "files",
            "refresh": {"interval": "1h"},
        },
    }))
    .unwrap()
}

/// A Dataset in one situation.
struct Case {
    dataset: Dataset,
    store: Option<ObjectStore>,
    runs: Vec<Arc<DatasetVersion>>,
    pods: Vec<Arc<PodView>>,
    now: i64,
}

fn case() -> Case {
    let store = Some(store("True", "Ready"));
    Case { dataset: dataset(), store, runs: Vec::new(), pods: Vec::new(), now: NOW }
}

impl Case {
    fn store(self, status: &str, reason: &str) -> Self {
        Self { store: Some(store(status, reason)), ..self }
    }
    /// The store of the source and of the output has `spec.readOnly`.
    fn read_only(mut self) -> Self {
        self.store.as_mut().unwrap().spec.read_only = true;
        self
    }
    fn at(self, seconds: i64) -> Self {
        Self { now: NOW + seconds, ..self }
    }
    fn edited(mut self, edit: impl Fn(&mut Dataset)) -> Self {
        edit(&mut self.dataset);
        self
    }

    /// The newest version could not be made, since an object had changed after the scan.
    fn changed_meanwhile(mut self) -> Self {
        let letter = json!({"run": "flights-2", "inputDigest": Digest::of_bytes(b"2"), "reason": "SourceChanged",
            "message": "in/a.csv has changed", "attempts": 1, "at": "2026-01-01T00:00:00Z"});
        let letters = &mut self.dataset.status.as_mut().unwrap().dead_letters;
        letters.push(serde_json::from_value(letter).unwrap());
        self
    }

    fn plan(&self) -> Plan<IntentStatus> {
        let stores = self.store.clone().map(|store| (store.name_any(), Arc::new(store)));
        let observed = Observed::<DatasetIntent> {
            object: Arc::new(self.dataset.clone()),
            inputs: Vec::new(),
            runs: self.runs.clone(),
            pods: self.pods.clone(),
            cycle: None,
            profile: Profile::default(),
            operator: "mlop-ingestion".to_owned(),
            worker_image: "worker:1".to_owned(),
            related: stores.into_iter().collect::<BTreeMap<_, _>>(),
        };
        DatasetIntent::amend(&observed, plan(&observed, at(self.now)), at(self.now))
    }

    /// Carries out the plan. Its run succeeds at once.
    fn reconciled(mut self) -> Self {
        let plan = self.plan();
        if plan.status.is_some() {
            self.dataset.status = plan.status;
        }
        for create in plan.creates {
            let mut object = create.object;
            object["metadata"]["uid"] = object["metadata"]["name"].clone();
            object["metadata"]["generation"] = json!(1);
            object["metadata"]["creationTimestamp"] = json!(Time(at(self.now)));
            if create.kind.kind == "Pod" {
                let metadata = serde_json::from_value::<Pod>(object).unwrap().metadata;
                self.pods.push(Arc::new(PodView {
                    metadata,
                    status: PodStatus::default(),
                    ..PodView::default()
                }));
            } else {
                object["status"] = json!({
                    "output": {"digest": Digest::of_bytes(b"t"), "store": "files", "uri": "s3://files/t", "mediaType": "m"},
                    "attempts": 1,
                    "conditions": [{"type": "Succeeded", "status": "True", "reason": "Succeeded", "message": "",
                        "observedGeneration": 1, "lastTransitionTime": Time(at(self.now))}],
                });
                self.runs.push(Arc::new(serde_json::from_value(object).unwrap()));
            }
        }
        for delete in plan.deletes {
            self.pods.retain(|pod| pod.name_any() != delete.name);
        }
        self
    }

    /// A scan is created, and has this state.
    fn scan(self, state: Value) -> Self {
        let mut case = self.reconciled();
        let mut pod = Arc::unwrap_or_clone(case.pods.pop().unwrap());
        let scheduled =
            json!({"type": "PodScheduled", "status": "True", "lastTransitionTime": Time(at(case.now))});
        let container = json!({"name": "worker", "image": "worker:1", "imageID": "", "ready": false,
            "restartCount": 0, "state": state});
        let phase = if state["terminated"].is_null() { "Pending" } else { "Succeeded" };
        pod.status = serde_json::from_value(
            json!({"phase": phase, "conditions": [scheduled], "containerStatuses": [container]}),
        )
        .unwrap();
        case.pods.push(Arc::new(pod));
        case
    }

    /// Its first version is in use, an hour and more after its scan.
    fn used(self) -> Self {
        self.scan(listed(NOW + 1)).at(2).reconciled().reconciled().at(3_700)
    }

    /// The conditions and the writes in words.
    fn words(&self) -> String {
        let plan = self.plan();
        let before = || self.dataset.status.clone().unwrap_or_default();
        let status = plan.status.clone().unwrap_or_else(before);
        let kinds = [
            condition_type::READY,
            condition_type::UP_TO_DATE,
            condition_type::RECONCILING,
            condition_type::STALLED,
        ];
        let conditions = kinds.iter().filter_map(|kind| condition::get(&status.conditions, kind));
        let mut words: Vec<_> =
            conditions.map(|c| format!("{}={}/{}", c.type_, c.status, c.reason)).collect();
        words.extend(plan.creates.iter().map(|create| format!("+{}", create.kind.kind)));
        words.join(" ")
    }
}

fn ended(result: &ResultDocument, second: i64) -> Value {
    let code = i32::from(result.error.is_some());
    json!({"terminated": {"exitCode": code, "message": result.to_message(), "finishedAt": Time(at(second))}})
}

fn listed(second: i64) -> Value {
    ended(&ResultDocument { digest: Some(Digest::of_bytes(b"l")), ..ResultDocument::default() }, second)
}

fn failed(failure: Failure, second: i64) -> Value {
    ended(&ResultDocument::failed(failure), second)
}

fn wrong_image() -> Value {
    json!({"waiting": {"reason": "ErrImagePull", "message": "no such image"}})
}

/// A Dataset whose first version is in use, an hour and more after its scan.
fn in_use() -> Case {
    case().used()
}

#[test]
fn dataset_reports_why_its_source_is_not_looked_at() {
    let away = |second| failed(Failure::transient(Reason::StoreUnreachable, "no answer"), second);
    let denied = |second| failed(Failure::terminal(Reason::StoreDenied, "wrong keys"), second);
    let rows: Vec<(&str, Case, &str)> = vec![
        ("new", case(), "Ready=Unknown/Scanning UpToDate=Unknown/Scanning +Pod"),
        (
            "created suspended",
            case().edited(|dataset| dataset.spec.suspend = true),
            "Ready=Unknown/Suspended UpToDate=Unknown/Suspended",
        ),
        (
            "no such store",
            Case { store: None, ..case() },
            "Ready=Unknown/ConnectionNotReady UpToDate=Unknown/ConnectionNotReady Reconciling=True/ConnectionNotReady",
        ),
        (
            "the store is not ready",
            case().store("False", "BucketNotFound"),
            "Ready=Unknown/ConnectionNotReady UpToDate=Unknown/ConnectionNotReady Reconciling=True/ConnectionNotReady",
        ),
        (
            "the store of the output is read-only",
            case().read_only(),
            "Ready=False/InvalidSpec UpToDate=Unknown/InvalidSpec Stalled=True/InvalidSpec",
        ),
        (
            "a wrong image before the first version",
            case().scan(wrong_image()),
            "Ready=Unknown/ImagePull UpToDate=Unknown/ImagePull Reconciling=True/ImagePull",
        ),
        (
            "the store does not answer",
            case().scan(away(NOW)),
            "Ready=Unknown/StoreUnreachable UpToDate=Unknown/StoreUnreachable Reconciling=True/StoreUnreachable",
        ),
        (
            "the store refuses the keys",
            case().scan(denied(NOW)),
            "Ready=False/StoreDenied UpToDate=Unknown/StoreDenied Stalled=True/StoreDenied",
        ),
        (
            "the first listing",
            case().scan(listed(NOW)),
            "Ready=Unknown/Scanning UpToDate=Unknown/Scanning +DatasetVersion",
        ),
        (
            "a version is published before the next scan",
            case().scan(listed(NOW + 1)).at(2).reconciled().at(3_700),
            "Ready=True/Ready UpToDate=True/UpToDate",
        ),
        ("in use", in_use(), "Ready=True/Ready UpToDate=True/UpToDate +Pod"),
        (
            "in use, and the store is not ready",
            in_use().store("False", "StoreDenied"),
            "Ready=True/Ready UpToDate=Unknown/ConnectionNotReady",
        ),
        (
            "in use, and an edit of the memory while the store is not ready",
            in_use().store("False", "StoreDenied").edited(|dataset| {
                dataset.metadata.generation = Some(2);
                dataset.spec.resources.memory = Quantity::gibi(2);
            }),
            "Ready=True/Ready UpToDate=Unknown/ConnectionNotReady",
        ),
        (
            "in use, and the scan cannot start",
            in_use().scan(wrong_image()),
            "Ready=True/Ready UpToDate=Unknown/ImagePull",
        ),
        (
            "in use, and the scan fails",
            in_use().scan(away(NOW + 3_700)),
            "Ready=True/Ready UpToDate=Unknown/ScanFailing",
        ),
        (
            "in use, the scan has failed, and the next one starts",
            in_use().scan(away(NOW + 3_700)).at(3_720),
            "Ready=True/Ready UpToDate=Unknown/ScanFailing +Pod",
        ),
        (
            "in use, the scan has failed, and the next one runs",
            in_use().scan(away(NOW + 3_700)).at(3_720).reconciled().at(3_721),
            "Ready=True/Ready UpToDate=Unknown/ScanFailing",
        ),
        (
            "in use, and an object of the newest listing has changed",
            in_use().scan(listed(NOW + 3_700)).changed_meanwhile(),
            "Ready=True/Ready UpToDate=True/UpToDate +Pod",
        ),
        (
            "in use, and the scan finds the same",
            in_use().scan(listed(NOW + 3_700)),
            "Ready=True/Ready UpToDate=True/UpToDate",
        ),
        (
            "in use, and suspended",
            in_use().edited(|dataset| dataset.spec.suspend = true),
            "Ready=True/Ready UpToDate=True/UpToDate",
        ),
    ];
    for (situation, case, want) in rows {
        assert_eq!(case.words(), want, "{situation}");
        // A run that has succeeded is published by the second reconcile.
        let settled = case.reconciled().reconciled();
        let again = Case { now: settled.now + 1, ..settled }.plan();
        assert!(again.status.is_none(), "{situation}: the third reconcile reports {again:#?}");
    }
}

#[test]
fn version_of_a_file_that_is_back_is_made_again() {
    let dead = |ended: i64| {
        let mut case = case().scan(listed(NOW + 1)).at(2).reconciled();
        let run = Arc::make_mut(&mut case.runs[0]);
        let status = json!({
            "attempts": 1, "finishedAt": Time(at(ended)),
            "failure": {"attempt": 1, "reason": "SourceChanged", "message": "in/a.csv has changed", "retryable": false,
                "at": Time(at(ended))},
            "conditions": [{"type": "Succeeded", "status": "False", "reason": "SourceChanged", "message": "in/a.csv has changed",
                "observedGeneration": 1, "lastTransitionTime": Time(at(ended))}],
        });
        run.status = Some(serde_json::from_value(status).unwrap());
        case.at(3_700)
    };
    let rows = [
        ("the scan before it failed saw the file", dead(NOW + 10), false),
        ("a scan right after it saw the file", dead(NOW + 3_690).scan(listed(NOW + 3_700)), false),
        ("a later scan saw the file as it was", dead(NOW + 10).scan(listed(NOW + 3_700)), true),
    ];
    for (situation, case, want) in rows {
        let run = case.runs[0].name_any();
        assert_eq!(case.plan().deletes.iter().any(|delete| delete.name == run), want, "{situation}");
    }
}

#[test]
fn version_that_grows_too_old_is_reported() {
    let fresh = "Ready=True/Ready UpToDate=True/UpToDate";
    let stale = "Ready=True/Ready UpToDate=False/RuleViolated";
    let of_age = |seconds: i64| {
        let rule = json!({"freshness": {"column": "at", "maxAge": "2h"}});
        let ruled =
            case().edited(|dataset| dataset.spec.rules = serde_json::from_value(rule.clone()).unwrap());
        let mut case = ruled.used();
        let newest = Metric::new(NEWEST, (case.now - seconds) as f64);
        let run = Arc::make_mut(&mut case.runs[0]);
        run.status.as_mut().unwrap().output.as_mut().unwrap().metrics.push(newest.clone());
        case.dataset.status.as_mut().unwrap().metrics.push(newest);
        case.scan(listed(NOW + 3_700))
    };
    let pinned = || {
        let case = of_age(7_200);
        let first = case.runs[0].name_any();
        case.edited(|dataset| dataset.spec.pin = Some(first.clone()))
    };
    let rows: Vec<(&str, Case, &str)> = vec![
        ("young enough", of_age(7_190), fresh),
        ("too old", of_age(7_200), stale),
        ("too old, and it was before", of_age(7_200).reconciled().at(3_800), stale),
        ("too old, as its pin wants", pinned(), "Ready=True/Ready UpToDate=True"),
    ];
    for (situation, case, want) in rows {
        assert!(case.words().starts_with(want), "{situation}: {}", case.words());
        let settled = case.reconciled();
        let again = Case { now: settled.now + 1, ..settled }.plan();
        assert!(again.status.is_none(), "{situation}: the next reconcile reports {again:#?}");
    }
    let young = of_age(7_190);
    assert_eq!(young.plan().action, Action::RequeueAt(at(young.now + 10)));
    let cause = of_age(7_200).reconciled().dataset.status.unwrap().cause.unwrap();
    assert_eq!((cause.kind.as_str(), cause.reason.as_str()), ("Dataset", "RuleViolated"));
    assert!(cause.message.contains("maxAge 2h"), "{}", cause.message);
}

#[test]
fn failing_scan_is_the_cause_beyond_ordinary_work() {
    let away = |second| failed(Failure::transient(Reason::StoreUnreachable, "no answer"), second);
    let empty = |second| failed(Failure::terminal(Reason::SourceEmpty, "no object matches"), second);
    let thrice = || {
        let again = |case: Case, seconds| case.at(seconds).scan(away(NOW + seconds));
        [3_720, 3_760].into_iter().fold(in_use().scan(away(NOW + 3_700)), again)
    };
    let rows: Vec<(&str, Case, Option<&str>)> = vec![
        ("new", case(), None),
        ("suspended", case().edited(|dataset| dataset.spec.suspend = true), None),
        (
            "no such store",
            Case { store: None, ..case() },
            Some("Dataset flights: ConnectionNotReady: ObjectStore files does not exist"),
        ),
        ("the store is being probed", case().store("Unknown", "Probing"), None),
        (
            "the store refuses",
            case().store("False", "StoreDenied"),
            Some("ObjectStore files: StoreDenied: m"),
        ),
        (
            "a wrong image",
            case().scan(wrong_image()),
            Some("Dataset flights: ImagePull: image worker:1 of container worker: no such image"),
        ),
        (
            "nothing at the prefix",
            case().scan(empty(NOW)),
            Some("Dataset flights: SourceEmpty: no object matches"),
        ),
        ("the first scan has failed once", case().scan(away(NOW)), None),
        ("in use, and a scan has failed once", in_use().scan(away(NOW + 3_700)), None),
        (
            "in use, and a scan has failed three times",
            thrice(),
            Some("Dataset flights: ScanFailing: looking at the source failed: no answer"),
        ),
        (
            "in use, and the fourth scan runs",
            thrice().at(3_900).reconciled().at(3_901),
            Some("Dataset flights: ScanFailing: looking at the source failed: no answer"),
        ),
        (
            "in use, and the store refuses",
            in_use().store("False", "StoreDenied"),
            Some("ObjectStore files: StoreDenied: m"),
        ),
    ];
    for (situation, case, want) in rows {
        let settled = case.reconciled().dataset.status.unwrap_or_default();
        let told = settled.cause.map(|it| format!("{} {}: {}: {}", it.kind, it.name, it.reason, it.message));
        assert_eq!(told.as_deref(), want, "{situation}");
    }
}

#[test]
fn scans_of_an_interval_are_an_hour_apart() {
    let case = in_use().scan(listed(NOW + 3_700));
    let wait = SignedDuration::from_secs(3_600);
    let Action::RequeueAt(next) = case.plan().action else { panic!("the next scan is due some time") };
    assert!(next > at(case.now) && next <= at(case.now) + wait);
}
