//! Objects as texts to compare with files.

use crate::resource::ChildObject;
use mlop_api::labels;
use serde::Serialize;

/// `object` as YAML, with the task of a pod as a document of its own instead of a JSON text.
pub fn golden(object: &impl Serialize) -> String {
    let mut object = serde_json::to_value(object).unwrap();
    for path in ["/metadata", "/spec/template/metadata"] {
        let annotations = object.pointer_mut(&format!("{path}/annotations"));
        if let Some(task) = annotations.and_then(|annotations| annotations.get_mut(labels::TASK)) {
            *task = serde_json::from_str(task.as_str().unwrap()).unwrap();
        }
    }
    serde_saphyr::to_string(&object).unwrap()
}

/// The existing child that `golden` is the text of.
pub fn live(golden: &str) -> ChildObject {
    serde_saphyr::from_str(golden).unwrap()
}
