//! The oracle of the progress in the statuses of runs.

use mlop_api::contract::condition_type;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// Least time between two reports of the progress of one attempt. Operators decide every 15 seconds, and a request under a
/// fault arrives a little later than it was decided.
const INTERVAL: Duration = Duration::from_secs(14);

/// Remembers the last written progress of each run, by uid.
#[derive(Default)]
pub struct ProgressOracle {
    written: Mutex<BTreeMap<String, Written>>,
}

#[derive(Clone)]
struct Written {
    attempts: u64,
    progress: Value,
    has_succeeded: bool,
    at: Instant,
}

impl ProgressOracle {
    /// What is wrong with a written status of `object`: progress of another attempt, too soon after the last, or after the end.
    pub fn violation(&self, object: &str, body: &Value) -> Option<String> {
        let status = &body["status"];
        let succeeded = succeeded(status);
        let mut progress = status["progress"].clone();
        if let Some(fields) = progress.as_object_mut() {
            fields.remove("at");
        }
        let attempts = status["attempts"].as_u64().unwrap_or_default();
        let uid = body["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let before = written.get(&uid).cloned();
        let has_succeeded = succeeded == Some("True");
        let is_same = before.as_ref().is_some_and(|before| before.progress == progress);
        let at = before.as_ref().filter(|_| is_same).map_or_else(Instant::now, |before| before.at);
        written.insert(uid, Written { attempts, progress: progress.clone(), has_succeeded, at });
        drop(written);
        let wanted = if succeeded == Some("Unknown") { attempts + 1 } else { attempts };
        let attempt = progress["attempt"].as_u64();
        if attempt.is_some_and(|attempt| attempt != wanted) {
            return Some(format!("progress: {object} shows that of attempt {attempt:?} instead of {wanted}"));
        }
        let before = before.filter(|before| !is_same && !before.progress.is_null())?;
        if before.has_succeeded {
            return Some(format!("progress: {object} changes it after its end"));
        }
        let is_hasty = before.at.elapsed() < INTERVAL && before.attempts == attempts && !progress.is_null();
        is_hasty.then(|| format!("progress: {object} changes it after {:?}", before.at.elapsed()))
    }
}

/// The status of the condition `Succeeded`.
fn succeeded(status: &Value) -> Option<&str> {
    let mut conditions = status["conditions"].as_array()?.iter();
    conditions.find(|condition| condition["type"] == condition_type::SUCCEEDED)?["status"].as_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn body(succeeded: &str, attempts: u64, progress: &Value) -> Value {
        let conditions = json!([{"type": "Succeeded", "status": succeeded}]);
        json!({"metadata": {"uid": "u"}, "status": {"attempts": attempts, "progress": progress, "conditions": conditions}})
    }

    #[tokio::test(start_paused = true)]
    async fn progress_is_rare_of_its_attempt_and_final() {
        let oracle = ProgressOracle::default();
        let step = |attempt: u64, step: u64| json!({"attempt": attempt, "step": step, "at": step});
        let check = |status: &str, attempts, progress: &Value| {
            oracle.violation("x", &body(status, attempts, progress)).unwrap_or_default()
        };
        assert_eq!(check("Unknown", 0, &step(1, 1)), "");
        assert_eq!(check("Unknown", 0, &step(1, 1)), "");
        assert!(check("Unknown", 0, &step(1, 2)).contains("changes it after 0ns"));
        tokio::time::advance(INTERVAL).await;
        assert_eq!(check("Unknown", 0, &step(1, 3)), "");
        assert!(check("Unknown", 1, &step(1, 3)).contains("attempt Some(1) instead of 2"));
        assert_eq!(check("Unknown", 1, &Value::Null), "");
        assert_eq!(check("Unknown", 1, &step(2, 1)), "");
        assert_eq!(check("True", 2, &step(2, 9)), "", "the end is not delayed");
        assert!(check("True", 2, &step(2, 10)).contains("after its end"));
    }
}
