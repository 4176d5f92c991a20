//! Requests to a model server in the Open Inference Protocol (V2), and its answers, without a client.

mod body;
mod render;

pub use body::Body;
pub use render::{answer, inputs};

use crate::{output::brief, snapshot::Object};
use anyhow::{Context as _, Result, bail};
use http::StatusCode;
use mlop_api::{status::Serving, text::printable};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Digits of a digest that a version of a server has.
const SHORT: usize = 12;

/// Longest answer in a message, in characters.
const WORDS_MAX: usize = 1_000;

/// The model's metadata, as its server tells them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Metadata {
    pub name: String,
    #[serde(default)]
    pub inputs: Vec<Tensor>,
    #[serde(default)]
    pub outputs: Vec<Tensor>,
    /// For MLServer the content type, `pd` if the inputs are the columns of a table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Value>,
}

/// An input or output of a model.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tensor {
    pub name: String,
    pub datatype: String,
    /// -1 is any size.
    #[serde(default)]
    pub shape: Vec<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Value>,
}

/// The answer to a request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Answer {
    /// First digits of the digest, from servers that mlop configures.
    #[serde(default)]
    pub model_version: Option<String>,
    pub outputs: Vec<Output>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Output {
    pub name: String,
    pub datatype: String,
    pub shape: Vec<usize>,
    pub data: Vec<Value>,
}

/// The address of requests to a ModelDeployment.
///
/// # Errors
/// It does not serve yet.
pub fn address(object: &Object) -> Result<&str> {
    object.status.url.as_deref().with_context(|| {
        format!("{} does not serve yet; `kubectl mlop why {}` says why", object.id, object.id.argument())
    })
}

/// The path of the model's metadata, next to that of its predictions.
///
/// # Errors
/// The path is not that of a model server.
pub fn metadata_path(infer_path: &str) -> Result<&str> {
    infer_path.strip_suffix("/infer").with_context(|| {
        format!("{infer_path:?} is not a path of the Open Inference Protocol: it does not end with /infer")
    })
}

/// Reads a body of the server.
///
/// # Errors
/// The server refuses the request, in its own words, or answers with something else.
pub fn read<T: for<'de> Deserialize<'de>>(status: StatusCode, body: &str) -> Result<T> {
    if !status.is_success() {
        bail!("the model server refuses the request: {status}: {}", printable(&reason(body)));
    }
    serde_json::from_str(body).with_context(|| {
        format!("unexpected answer of the model server: {}", brief(&printable(body), WORDS_MAX))
    })
}

/// The words of an error: a field of JSON, or the exception at the end of a traceback.
fn reason(body: &str) -> String {
    let json: Option<Value> = serde_json::from_str(body).ok();
    if let Some(json) = json {
        let field = ["error", "detail"].iter().find_map(|name| json.get(name));
        return match field {
            Some(Value::String(text)) => text.clone(),
            Some(field) => field.to_string(),
            None => json.to_string(),
        };
    }
    // Below the last frame of a traceback are its line of code, indented by four, and the exception.
    let lines: Vec<&str> = body.trim_end().lines().collect();
    let frame = lines.iter().rposition(|line| line.starts_with("  File "));
    let below = lines.iter().skip(frame.map_or(0, |frame| frame + 1)).copied();
    let exception: Vec<&str> = below.skip_while(|line| frame.is_some() && line.starts_with("    ")).collect();
    exception.join("\n")
}

/// The version that answered, as the status of the deployment names it: `version 2 (447e7d489336)`.
pub fn version(serving: &[Serving], answered: Option<&str>) -> String {
    let served = match answered {
        Some(digits) => serving.iter().find(|it| it.digest.hex().starts_with(digits)),
        None => serving.first(),
    };
    match (served, answered) {
        (Some(Serving { version: Some(version), digest, .. }), _) => {
            format!("version {version} ({})", digest.short(SHORT))
        }
        (Some(Serving { digest, .. }), _) => format!("version {}", digest.short(SHORT)),
        (None, Some(digits)) => format!("version {digits}"),
        (None, None) => "an unknown version".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reason_is_the_exception_of_a_traceback() {
        let traceback = "Traceback (most recent call last):\n  File \"a.py\", line 1, in f\n    f()\n    ^^^\n\
            ValueError: no such thing:\n  x  y\n0 1  2\n\nDuring handling:\n\nTraceback (most recent call last):\n  \
            File \"b.py\", line 2, in g\n    raise\nmlflow.exceptions.MlflowException: Model is missing inputs ['x'].\n  \
            hint\n";
        let rows = [
            (traceback, "mlflow.exceptions.MlflowException: Model is missing inputs ['x'].\n  hint"),
            (r#"{"error": "Model delay not found"}"#, "Model delay not found"),
            (r#"{"detail": [{"msg": "bad"}]}"#, r#"[{"msg":"bad"}]"#),
            ("upstream connect error\n", "upstream connect error"),
            ("", ""),
        ];
        for (body, want) in rows {
            assert_eq!(reason(body), want, "{body}");
        }
        let error = read::<Metadata>(StatusCode::NOT_FOUND, r#"{"error": "gone"}"#).unwrap_err().to_string();
        assert_eq!(error, "the model server refuses the request: 404 Not Found: gone");
    }

    #[test]
    fn metadata_is_next_to_predictions() {
        assert_eq!(metadata_path("/v2/models/delay/infer").unwrap(), "/v2/models/delay");
        assert!(metadata_path("/invocations").is_err());
    }

    #[test]
    fn version_is_the_one_that_answered() {
        let serving = |digit: &str, version: Option<&str>| Serving {
            digest: format!("sha256:{}", digit.repeat(64)).try_into().unwrap(),
            model_version: "delay-1".to_owned(),
            version: version.map(str::to_owned),
            ready_replicas: 1,
        };
        let both = [serving("a", Some("2")), serving("b", Some("1")), serving("c", None)];
        let rows = [
            (Some("aaaaaaaaaaaa"), "version 2 (aaaaaaaaaaaa)"),
            (Some("bbbbbbbbbbbb"), "version 1 (bbbbbbbbbbbb)"),
            (Some("cccccccccccc"), "version cccccccccccc"),
            (Some("dddddddddddd"), "version dddddddddddd"),
            (None, "version 2 (aaaaaaaaaaaa)"),
        ];
        for (answered, want) in rows {
            assert_eq!(version(&both, answered), want, "{answered:?}");
        }
        assert_eq!(version(&[], None), "an unknown version");
    }
}
