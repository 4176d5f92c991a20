//! Objects against the OpenAPI schema of a custom resource definition, without an API server.
use anyhow::{Result, bail, ensure};
use serde_json::Value;

/// Fields are known and have their type, and none is missing.
pub fn check(schema: &Value, value: &Value, path: &str) -> Result<()> {
    let free = schema["x-kubernetes-preserve-unknown-fields"] == true;
    let either = schema["x-kubernetes-int-or-string"] == true;
    let wanted = schema["type"].as_str().unwrap_or_default();
    let fits = match wanted {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        _ => true,
    };
    ensure!(fits || either, "{path} is not of type {wanted}: {value}");
    if let Some(allowed) = schema["enum"].as_array() {
        ensure!(allowed.contains(value), "{path} is {value}, not one of {}", schema["enum"]);
    }
    for field in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        ensure!(value.get(field).is_some(), "{path}.{field} is missing");
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        check(&schema["items"], item, &format!("{path}[{index}]"))?;
    }
    for (name, field) in value.as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let known = schema["properties"]
            .get(name)
            .or_else(|| schema["additionalProperties"].as_object().map(|_| &schema["additionalProperties"]));
        match known {
            Some(known) => check(known, field, &path)?,
            None if free => {}
            None => bail!("{path} is not a field"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn wrong_objects_are_refused() {
        let schema = json!({
            "type": "object",
            "required": ["name"],
            "properties": {
                "name": {"type": "string", "enum": ["a", "b"]},
                "ports": {"type": "array", "items": {"type": "object", "properties": {
                    "port": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
                }}},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            },
        });
        let good = json!({"name": "a", "ports": [{"port": 1}, {"port": "http"}], "labels": {"x": "y"}, "free": {"z": 1}});
        assert!(check(&schema, &good, "spec").is_ok());
        for (wrong, message) in [
            (json!({}), "spec.name is missing"),
            (json!({"name": "c"}), r#"spec.name is "c", not one of ["a","b"]"#),
            (json!({"name": "a", "port": 1}), "spec.port is not a field"),
            (json!({"name": "a", "ports": [{"prot": 1}]}), "spec.ports[0].prot is not a field"),
            (json!({"name": "a", "labels": {"x": 1}}), "spec.labels.x is not of type string: 1"),
            (json!({"name": "a", "ports": {}}), "spec.ports is not of type array: {}"),
        ] {
            assert_eq!(check(&schema, &wrong, "spec").unwrap_err().to_string(), message);
        }
    }
}
