//! Requests: whole ones, or made from columns with the names and types that the server expects.

use super::{Metadata, Tensor};
use crate::columns::{self, Column};
use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use serde_json::Value;

/// Most values of an input in an example.
const SAMPLES_MAX: usize = 16;

/// The body of a request for a prediction.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// A request of the protocol, sent as it is.
    Request(Value),
    /// Of a file, which may have further columns, such as a label.
    Rows(Vec<Column>),
    /// Written by hand.
    Columns(Vec<Column>),
}

impl Body {
    /// Reads a file: a request `{"inputs": ...}`, a JSON list of rows, or CSV with a header.
    ///
    /// # Errors
    /// It is none of them.
    pub fn read(text: &str) -> Result<Self> {
        let text = text.trim_start_matches('\u{feff}');
        match text.trim_start().chars().next() {
            Some('{') => {
                let request: Value = serde_json::from_str(text).context("not JSON")?;
                if request.get("inputs").is_none() {
                    bail!(
                        "a JSON object must be a request of the Open Inference Protocol, with inputs; rows are a list of objects"
                    );
                }
                Ok(Self::Request(request))
            }
            Some('[') => {
                let rows: Vec<_> = serde_json::from_str(text).context("not a JSON list of objects")?;
                Ok(Self::Rows(columns::of_objects(&rows)))
            }
            Some(_) => Ok(Self::Rows(columns::of_csv(text)?)),
            None => bail!("empty: want a request, a JSON list of rows, or CSV with a header"),
        }
    }

    /// The request that is sent, and the names of the columns of a file that are not inputs of the model.
    ///
    /// # Errors
    /// A column that was written by hand is not an input of the model, or a value does not fit its type.
    pub fn into_request(self, metadata: &Metadata) -> Result<(Value, Vec<String>)> {
        let is_other = |column: &Column| metadata.inputs.iter().all(|input| input.name != column.name);
        let (columns, left_out) = match self {
            Self::Request(request) => return Ok((request, Vec::new())),
            Self::Rows(mut columns) => {
                let others = columns.extract_if(.., |column| is_other(column)).map(|column| column.name);
                let others = others.collect();
                (columns, others)
            }
            Self::Columns(columns) => (columns, Vec::new()),
        };
        Ok((serde_json::to_value(request(metadata, &columns)?)?, left_out))
    }
}

/// A request of the protocol.
#[derive(Clone, Debug, Serialize)]
struct Request {
    /// Content types, without which MLServer would take columns for separate arrays.
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Value>,
    inputs: Vec<Input>,
}

/// The values of an input.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Input {
    name: String,
    shape: Vec<usize>,
    datatype: String,
    data: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Value>,
}

/// The request for `columns`. An input that has no column is left out: it may be optional, which only the server knows.
///
/// # Errors
/// A column is not an input of the model, or a value does not fit its type.
fn request(metadata: &Metadata, columns: &[Column]) -> Result<Request> {
    if metadata.inputs.is_empty() {
        bail!("the model has no signature, so its inputs are not known; send a whole request with -f");
    }
    let names = || metadata.inputs.iter().map(|input| input.name.as_str()).collect::<Vec<_>>().join(", ");
    if let Some(other) = columns.iter().find(|it| metadata.inputs.iter().all(|input| input.name != it.name)) {
        bail!("the model has no input {:?}; it has {}", other.name, names());
    }
    if columns.is_empty() {
        bail!("the rows have none of the model's inputs: {}", names());
    }
    let rows = columns::rows(columns)?;
    let given = metadata.inputs.iter().filter_map(|tensor| {
        let column = columns.iter().find(|column| column.name == tensor.name)?;
        Some(input(tensor, column, rows))
    });
    Ok(Request { parameters: metadata.parameters.clone(), inputs: given.collect::<Result<_>>()? })
}

fn input(tensor: &Tensor, column: &Column, rows: usize) -> Result<Input> {
    let Tensor { name, datatype, shape, .. } = tensor;
    let Some(inner) = shape.get(1..).filter(|inner| inner.iter().all(|size| *size == 1)) else {
        bail!("input {name} has the shape {shape:?}, not one value per row; send a whole request with -f");
    };
    let typed = |(row, value): (usize, &Value)| {
        typed(value, datatype)
            .with_context(|| format!("{name}, row {}: {value} does not fit {datatype}", row + 1))
    };
    let data = column.values.iter().enumerate().map(typed).collect::<Result<_>>()?;
    Ok(Input::new(tensor, [rows].into_iter().chain(inner.iter().map(|_| 1)).collect(), data))
}

impl Input {
    fn new(tensor: &Tensor, shape: Vec<usize>, data: Vec<Value>) -> Self {
        let Tensor { name, datatype, parameters, .. } = tensor.clone();
        Self { name, shape, datatype, data, parameters }
    }

    /// Values of the right type and number, but none of them means anything. None if there would be too many to read.
    pub(super) fn example(tensor: &Tensor) -> Option<Self> {
        let shape: Vec<usize> = tensor.shape.iter().map(|size| usize::try_from(*size).unwrap_or(1)).collect();
        let count = shape.iter().try_fold(1_usize, |count, size| count.checked_mul(*size))?;
        (count <= SAMPLES_MAX).then(|| Self::new(tensor, shape, vec![sample(&tensor.datatype); count]))
    }
}

pub(super) fn sample(datatype: &str) -> Value {
    match datatype {
        "BYTES" => "text".into(),
        "BOOL" => true.into(),
        _ if datatype.contains("INT") => 1.into(),
        _ => 1.5.into(),
    }
}

/// A value in a type of the protocol. Null stays: the server knows whether a value may be missing.
fn typed(value: &Value, datatype: &str) -> Option<Value> {
    let text = match value {
        Value::Null => return Some(Value::Null),
        Value::String(text) => text.as_str(),
        Value::Bool(_) if datatype != "BYTES" => return typed(&value.to_string().into(), datatype),
        Value::Number(_) if datatype != "BYTES" => return typed(&value.to_string().into(), datatype),
        _ => return None,
    };
    let text = if datatype == "BYTES" { text } else { text.trim() };
    match datatype {
        "BYTES" => Some(text.into()),
        "BOOL" => match text {
            "true" | "True" | "TRUE" | "1" => Some(true.into()),
            "false" | "False" | "FALSE" | "0" => Some(false.into()),
            _ => None,
        },
        _ if datatype.starts_with("UINT") => Some(text.parse::<u64>().ok()?.into()),
        _ if datatype.starts_with("INT") => Some(text.parse::<i64>().ok()?.into()),
        // Models of numbers learn booleans as 1 and 0.
        _ if matches!(text, "true" | "True" | "TRUE") => Some(1.0.into()),
        _ if matches!(text, "false" | "False" | "FALSE") => Some(0.0.into()),
        // A number that is not finite has no JSON.
        _ => serde_json::Number::from_f64(text.parse().ok()?).map(Value::Number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn metadata() -> Metadata {
        serde_json::from_value(json!({
            "name": "delay",
            "inputs": [
                {"name": "distance", "datatype": "FP64", "shape": [-1, 1], "parameters": {"content_type": "np"}},
                {"name": "carrier", "datatype": "BYTES", "shape": [-1], "parameters": {"content_type": "str"}},
                {"name": "image", "datatype": "UINT8", "shape": [-1, 28, 28]},
            ],
            "parameters": {"content_type": "pd"},
        }))
        .unwrap()
    }

    #[test]
    fn file_is_a_request_rows_or_csv() {
        let column = |text: &str| Column::parse(text).unwrap();
        let rows = [
            (r#" {"inputs": []}"#, Some(Body::Request(json!({"inputs": []})))),
            (r#"[{"hour": 17}, {"hour": 6}]"#, Some(Body::Rows(vec![column("hour=[17, 6]")]))),
            ("\u{feff}hour\n17\n", Some(Body::Rows(vec![column("hour=17")]))),
            (r#"{"instances": []}"#, None),
            ("[1, 2]", None),
            ("{", None),
            (" \n", None),
        ];
        for (text, want) in rows {
            assert_eq!(Body::read(text).ok(), want, "{text}");
        }
    }

    #[test]
    fn request_has_the_types_and_parameters_of_the_model() {
        let columns =
            [Column::parse("carrier=AA,7").unwrap(), Column::parse("distance=[2475, null]").unwrap()];
        let want = json!({
            "inputs": [
                {"name": "distance", "shape": [2, 1], "datatype": "FP64", "data": [2475.0, null],
                 "parameters": {"content_type": "np"}},
                {"name": "carrier", "shape": [2], "datatype": "BYTES", "data": ["AA", "7"],
                 "parameters": {"content_type": "str"}},
            ],
            "parameters": {"content_type": "pd"},
        });
        let found = request(&metadata(), &columns).unwrap();
        assert_eq!(serde_json::to_value(found).unwrap(), want);
    }

    #[test]
    fn request_is_refused_with_the_column_and_its_row() {
        let rows: [(&[&str], &str); 6] = [
            (&["distance=5,far"], "distance, row 2: \"far\" does not fit FP64"),
            (&["distance=NaN"], "distance, row 1: \"NaN\" does not fit FP64"),
            (&["range=5"], "the model has no input \"range\"; it has distance, carrier, image"),
            (
                &["image=1"],
                "input image has the shape [-1, 28, 28], not one value per row; send a whole request with -f",
            ),
            (&["distance=1,2", "carrier=AA"], "every row needs each value: distance has 2, carrier has 1"),
            (&[], "the rows have none of the model's inputs: distance, carrier, image"),
        ];
        for (texts, want) in rows {
            let columns: Vec<_> = texts.iter().map(|text| Column::parse(text).unwrap()).collect();
            assert_eq!(request(&metadata(), &columns).unwrap_err().to_string(), want, "{texts:?}");
        }
        let unsigned = Metadata { inputs: Vec::new(), ..metadata() };
        assert!(request(&unsigned, &[]).unwrap_err().to_string().contains("no signature"));
    }

    #[test]
    fn other_columns_of_a_file_are_left_out_and_named() {
        let body = Body::read("distance,late\n5,true\n").unwrap();
        let (request, left_out) = body.into_request(&metadata()).unwrap();
        assert_eq!(left_out, ["late"]);
        assert_eq!(request["inputs"].as_array().unwrap().len(), 1);
        let by_hand = Body::Columns(vec![Column::parse("late=true").unwrap()]);
        assert!(by_hand.into_request(&metadata()).is_err());
    }

    #[test]
    fn values_take_the_type_of_the_protocol() {
        let rows = [
            ("5", "FP32", Some(json!(5.0))),
            ("1e3", "FP64", Some(json!(1000.0))),
            ("-5", "INT64", Some(json!(-5))),
            ("-5", "UINT8", None),
            ("5.5", "INT32", None),
            ("True", "BOOL", Some(json!(true))),
            ("True", "FP64", Some(json!(1.0))),
            ("true", "INT64", None),
            ("0", "BOOL", Some(json!(false))),
            ("yes", "BOOL", None),
            (" 5", "BYTES", Some(json!(" 5"))),
        ];
        for (text, datatype, want) in rows {
            assert_eq!(typed(&text.into(), datatype), want, "{text} {datatype}");
        }
        assert_eq!(typed(&json!(5), "BYTES"), None);
        assert_eq!(typed(&json!(5), "INT64"), Some(json!(5)));
        assert_eq!(typed(&json!(false), "FP64"), Some(json!(0.0)));
        assert_eq!(typed(&json!(true), "BOOL"), Some(json!(true)));
        assert_eq!(typed(&json!(true), "BYTES"), None);
        assert_eq!(typed(&Value::Null, "INT64"), Some(Value::Null));
    }
}
