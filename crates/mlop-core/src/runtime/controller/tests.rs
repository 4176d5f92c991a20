//! How failures reach the status.

use super::*;
use crate::condition::{ConditionStatus, get};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn conditions(rows: &[(&str, ConditionStatus, Reason)]) -> Vec<Condition> {
    let mut list = Vec::new();
    for (kind, status, reason) in rows {
        Conditions::new(&mut list, 1, at(1)).set(kind, *status, *reason, "m");
    }
    list
}

fn words(list: &[Condition]) -> String {
    list.iter().map(|c| format!("{}={}/{}", c.type_, c.status, c.reason)).collect::<Vec<_>>().join(" ")
}

#[test]
fn overlay_keeps_a_good_state_visible() {
    let ready = (condition_type::READY, ConditionStatus::True, Reason::Ready);
    let open = (condition_type::READY, ConditionStatus::Unknown, Reason::Running);
    let rows = [
        (vec![ready], false, "Ready=True/Ready Reconciling=True/ApiError"),
        (vec![ready], true, "Ready=True/Ready Stalled=True/ApiError"),
        (vec![open], false, "Ready=Unknown/ApiError Reconciling=True/ApiError"),
        (vec![], false, "Reconciling=True/ApiError"),
    ];
    for (before, stalled, want) in rows {
        let mut list = conditions(&before);
        overlay(&mut list, 1, at(2), Reason::ApiError, stalled, "m");
        assert_eq!(words(&list), want);
    }
}

#[test]
fn overlay_of_a_refused_pod_takes_up_to_date_away() {
    let current = (condition_type::UP_TO_DATE, ConditionStatus::True, Reason::UpToDate);
    let rows = [
        (Reason::QuotaExceeded, "UpToDate=Unknown/QuotaExceeded Reconciling=True/QuotaExceeded"),
        (Reason::ApiError, "UpToDate=True/UpToDate Reconciling=True/ApiError"),
    ];
    for (reason, want) in rows {
        let mut list = conditions(&[current]);
        overlay(&mut list, 1, at(2), reason, false, "m");
        assert_eq!(words(&list), want);
    }
}

#[test]
fn overlay_twice_changes_nothing() {
    let mut list = conditions(&[(condition_type::READY, ConditionStatus::Unknown, Reason::Running)]);
    overlay(&mut list, 1, at(2), Reason::ApiError, false, "m");
    let first = list.clone();
    overlay(&mut list, 1, at(9), Reason::ApiError, false, "m");
    assert_eq!(list, first);
    assert!(get(&list, condition_type::STALLED).is_none());
}

#[test]
fn panic_message_quotes_text_payloads() {
    let text = |payload: Box<dyn std::any::Any + Send>| panic_message(payload.as_ref());
    assert!(text(Box::new("a")).ends_with(": a"));
    assert!(text(Box::new("b".to_owned())).ends_with(": b"));
    assert!(text(Box::new(1)).ends_with(": "));
}
