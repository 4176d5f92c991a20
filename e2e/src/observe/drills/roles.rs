//! Permissions that are taken away.

use serde_json::Value;

/// The ClusterRole without `verb` on `resource`; `None` if it does not have it.
pub(super) fn without(mut role: Value, resource: &str, verb: &str) -> Option<Value> {
    let rules = role.get_mut("rules")?.as_array_mut()?;
    let mut kept = Vec::new();
    let mut found = false;
    for rule in rules.drain(..) {
        if !has(&rule, "resources", resource) || !has(&rule, "verbs", verb) {
            kept.push(rule);
            continue;
        }
        found = true;
        // The other resources keep the verb, and the resource keeps the other verbs.
        kept.extend(
            [remove(rule.clone(), "resources", resource), remove(only(rule, resource), "verbs", verb)]
                .into_iter()
                .flatten(),
        );
    }
    *rules = kept;
    found.then_some(role)
}

fn has(rule: &Value, field: &str, word: &str) -> bool {
    rule.get(field).and_then(Value::as_array).is_some_and(|words| words.iter().any(|it| it == word))
}

/// The rule without the word; `None` if no word is left.
fn remove(mut rule: Value, field: &str, word: &str) -> Option<Value> {
    let words = rule.get_mut(field)?.as_array_mut()?;
    words.retain(|it| it != word);
    (!words.is_empty()).then_some(rule)
}

fn only(mut rule: Value, resource: &str) -> Value {
    if let Some(words) = rule.get_mut("resources").and_then(Value::as_array_mut) {
        words.retain(|it| it == resource);
    }
    rule
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_the_verb_on_the_resource_is_removed() {
        let role = json!({"rules": [{"resources": ["a", "b"], "verbs": ["list", "watch"]}, {"resources": ["c"], "verbs": ["list"]}]});
        assert_eq!(
            without(role.clone(), "a", "list").unwrap(),
            json!({"rules": [
                {"resources": ["b"], "verbs": ["list", "watch"]},
                {"resources": ["a"], "verbs": ["watch"]},
                {"resources": ["c"], "verbs": ["list"]},
            ]})
        );
        assert_eq!(without(role.clone(), "c", "list").unwrap()["rules"].as_array().unwrap().len(), 1);
        assert_eq!(without(role, "c", "watch"), None);
    }
}
