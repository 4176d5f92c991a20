//! A model's inputs and answers, for a terminal.

use super::{
    Answer, Metadata, Output, Tensor,
    body::{Input, sample},
};
use crate::{
    output::{Cell, Table, brief},
    snapshot::ObjectId,
};
use anyhow::Result;
use mlop_api::text::printable;
use serde_json::Value;

/// Most inputs in the example of a command line.
const EXAMPLE_MAX: usize = 4;

/// The inputs and outputs of a model, and how to send some.
///
/// # Errors
/// A request has no JSON form.
pub fn inputs(metadata: &Metadata, id: &ObjectId, version: &str) -> Result<String> {
    let name = &metadata.name;
    let mut text = format!("{id} serves {version} as the model {}\n\n", printable(name));
    if metadata.inputs.is_empty() {
        text.push_str("It has no signature, so its inputs are not known. Send a request of the Open Inference Protocol:\n");
        text.push_str(&format!("  kubectl mlop predict {} -f request.json\n", id.argument()));
        return Ok(text);
    }
    let mut table = Table::with_header(&["", "NAME", "DATATYPE", "SHAPE"]);
    for (role, tensors) in [("input", &metadata.inputs), ("output", &metadata.outputs)] {
        for Tensor { name, datatype, shape, .. } in tensors {
            let cells =
                [role.to_owned(), printable(name).into_owned(), datatype.clone(), format!("{shape:?}")];
            table.row(cells.into_iter().map(Cell::from).collect());
        }
    }
    text.push_str(&table.render());
    let command = format!("kubectl mlop predict {}", id.argument());
    let mut by_hand = command.clone();
    for Tensor { name, datatype, .. } in metadata.inputs.iter().take(EXAMPLE_MAX) {
        by_hand.push_str(&format!(" --input {}={}", printable(name), sample(datatype)));
    }
    if metadata.inputs.len() > EXAMPLE_MAX {
        by_hand.push_str(" ...");
    }
    text.push_str(&format!(
        "\nA row by hand, several rows by commas:\n  {by_hand}\n\
         Rows of a file, CSV with a header or a JSON list of objects:\n  {command} -f rows.csv\n\
         A request of the Open Inference Protocol:\n  {command} -f request.json\n{}",
        example(metadata)?
    ));
    Ok(text)
}

/// A request with one row, an input a line. Empty if an input is too large to show.
///
/// # Errors
/// It has no JSON form.
fn example(metadata: &Metadata) -> Result<String> {
    let Some(inputs) = metadata.inputs.iter().map(Input::example).collect::<Option<Vec<_>>>() else {
        return Ok(String::new());
    };
    let lines: Vec<String> = inputs.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
    let parameters = match &metadata.parameters {
        Some(parameters) => format!("\"parameters\": {}, ", serde_json::to_string(parameters)?),
        None => String::new(),
    };
    Ok(format!("For example:\n{{{parameters}\"inputs\": [\n  {}]}}\n", lines.join(",\n  ")))
}

/// The outputs as a table with one line per row.
pub fn answer(answer: &Answer, id: &ObjectId, version: &str) -> String {
    let mut text = format!("{id}, {version}\n");
    let mut names = vec!["ROW".to_owned()];
    names.extend(answer.outputs.iter().map(|output| printable(&output.name).into_owned()));
    let mut table = Table::default();
    table.row(names.into_iter().map(Cell::from).collect());
    let rows = answer.outputs.iter().map(rows).max().unwrap_or_default();
    for row in 0..rows {
        let mut cells = vec![Cell::from((row + 1).to_string())];
        cells.extend(answer.outputs.iter().map(|output| Cell::from(cell(output, row))));
        table.row(cells);
    }
    text.push_str(&table.render());
    text
}

fn rows(output: &Output) -> usize {
    output.shape.first().copied().unwrap_or(1).min(output.data.len())
}

/// The values of a row. The data is a list of all values, or of one list a row.
fn cell(output: &Output, row: usize) -> String {
    let width = output.data.len().checked_div(rows(output)).unwrap_or_default();
    let values = output.data.iter().skip(row * width).take(width);
    let shown: Vec<_> = values
        .map(|value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        })
        .collect();
    brief(&printable(&shown.join(", ")), 120)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect_file;
    use serde_json::json;

    fn id() -> ObjectId {
        ObjectId::new("ModelDeployment", "delay")
    }

    #[test]
    fn inputs_are_shown_with_ways_to_send_them() {
        let tensor =
            |name: &str, datatype: &str| json!({"name": name, "datatype": datatype, "shape": [-1, 1]});
        let metadata: Metadata = serde_json::from_value(json!({
            "name": "delay", "parameters": {"content_type": "pd"},
            "inputs": [tensor("distance", "FP64"), tensor("hour", "INT64"), tensor("carrier", "BYTES"),
                       tensor("holiday", "BOOL"), tensor("weekday", "UINT8")],
            "outputs": [{"name": "output-0", "datatype": "FP64", "shape": [-1, 2]}],
        }))
        .unwrap();
        let text = inputs(&metadata, &id(), "version 2 (447e7d489336)").unwrap();
        expect_file!["../tests/golden/predict-inputs.txt"].assert_eq(&text);
        let unsigned = Metadata { inputs: Vec::new(), ..metadata };
        assert!(inputs(&unsigned, &id(), "version 2").unwrap().contains("-f request.json"));
    }

    #[test]
    fn answer_has_a_line_per_row() {
        let output = |name: &str, shape: Value, data: Value| json!({"name": name, "datatype": "FP64", "shape": shape, "data": data});
        let found: Answer = serde_json::from_value(json!({"outputs": [
            output("flat", json!([2, 2]), json!([0.25, 0.75, 0.5, 0.5])),
            output("nested", json!([2, 2]), json!([[1, 2], [3, 4]])),
            output("label", json!([2, 1]), json!(["late\u{1b}[31m", "in time"])),
            output("once", json!([1]), json!([7])),
            output("none", json!([0]), json!([])),
        ]}))
        .unwrap();
        expect_file!["../tests/golden/predict-answer.txt"].assert_eq(&answer(&found, &id(), "version 2"));
    }
}
