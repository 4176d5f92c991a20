//! Values under names as users write them: `hour=17,6`, or the rows of a file.

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// Values of one name, one per row. Those that were not written as JSON are texts.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    pub name: String,
    pub values: Vec<Value>,
    /// Whether the values have the types that their user meant.
    pub is_json: bool,
}

impl Column {
    /// Reads `NAME=VALUE,VALUE`, or `NAME=[JSON, JSON]` for values with commas and for numbers that are texts.
    ///
    /// # Errors
    /// What is missing or wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let named = text.split_once('=').map(|(name, values)| (name.trim(), values));
        let Some((name, values)) = named.filter(|(name, _)| !name.is_empty()) else {
            return Err("want NAME=VALUE, or NAME=VALUE,VALUE for several rows".to_owned());
        };
        let is_json = values.trim_start().starts_with('[');
        let values = if is_json {
            serde_json::from_str(values).map_err(|error| format!("not a JSON list: {error}"))?
        } else {
            values.split(',').map(|value| Value::from(value.trim())).collect()
        };
        Ok(Self { name: name.to_owned(), values, is_json })
    }
}

/// The number of rows.
///
/// # Errors
/// There are no values, a name is there twice, or the columns differ in length.
pub fn rows(columns: &[Column]) -> Result<usize> {
    let mut names = BTreeSet::new();
    if let Some(twice) = columns.iter().find(|column| !names.insert(&column.name)) {
        bail!("{} is there twice: separate the values of several rows by commas", twice.name);
    }
    let Some(first) = columns.first() else { bail!("there are no values") };
    if let Some(other) = columns.iter().find(|column| column.values.len() != first.values.len()) {
        bail!(
            "every row needs each value: {} has {}, {} has {}",
            first.name,
            first.values.len(),
            other.name,
            other.values.len()
        );
    }
    match first.values.len() {
        0 => bail!("there are no rows"),
        rows => Ok(rows),
    }
}

/// The columns of a CSV text with a header. Empty values are null.
///
/// # Errors
/// A row has more or fewer values than the header.
pub fn of_csv(text: &str) -> Result<Vec<Column>> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let names = reader.headers().context("the header of the CSV")?.clone();
    let empty = |name: &str| Column { name: name.trim().to_owned(), values: Vec::new(), is_json: false };
    let mut columns: Vec<Column> = names.iter().map(empty).collect();
    for record in reader.records() {
        let record = record.context("a row of the CSV")?;
        for (column, value) in columns.iter_mut().zip(&record) {
            column.values.push(if value.is_empty() { Value::Null } else { value.into() });
        }
    }
    Ok(columns)
}

/// The columns of JSON rows, `[{"hour": 17}, ...]`. A key that a row lacks is null.
pub fn of_objects(rows: &[Map<String, Value>]) -> Vec<Column> {
    let mut names: Vec<&String> = Vec::new();
    for name in rows.iter().flat_map(Map::keys) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let values = |name: &String| rows.iter().map(|row| row.get(name).cloned().unwrap_or_default()).collect();
    names.into_iter().map(|name| Column { name: name.clone(), values: values(name), is_json: true }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn column_is_a_list_of_texts_or_json() {
        let rows = [
            ("hour=17", "hour [\"17\"]"),
            ("hour=17, 6", "hour [\"17\",\"6\"]"),
            ("tag=", "tag [\"\"]"),
            ("filter=a=b", "filter [\"a=b\"]"),
            (r#"city=["Washington, DC","5"]"#, r#"city ["Washington, DC","5"]"#),
            ("n=[1, null]", "n [1,null]"),
            ("hour", "want NAME=VALUE, or NAME=VALUE,VALUE for several rows"),
            ("=5", "want NAME=VALUE, or NAME=VALUE,VALUE for several rows"),
            ("n=[1", "not a JSON list: EOF while parsing a list at line 1 column 2"),
        ];
        for (text, want) in rows {
            let found = match Column::parse(text) {
                Ok(column) => format!("{} {}", column.name, Value::from(column.values)),
                Err(error) => error,
            };
            assert_eq!(found, want, "{text}");
        }
    }

    #[test]
    fn columns_of_rows_have_the_same_length() {
        let columns = |texts: &[&str]| texts.iter().map(|it| Column::parse(it).unwrap()).collect::<Vec<_>>();
        let rows: [(&[&str], &str); 5] = [
            (&["a=1,2", "b=3,4"], "2"),
            (&["a=1,2", "b=3"], "every row needs each value: a has 2, b has 1"),
            (&["a=1", "a=2"], "a is there twice: separate the values of several rows by commas"),
            (&["a=[]"], "there are no rows"),
            (&[], "there are no values"),
        ];
        for (texts, want) in rows {
            let found = super::rows(&columns(texts)).map_or_else(|e| e.to_string(), |rows| rows.to_string());
            assert_eq!(found, want, "{texts:?}");
        }
    }

    #[test]
    fn csv_and_json_rows_are_the_same_columns() {
        let of_csv = of_csv("hour,city\n17,\"a,b\"\n,c\n").unwrap();
        let rows = json!([{"hour": "17", "city": "a,b"}, {"city": "c"}]);
        let mut of_json = of_objects(&serde_json::from_value::<Vec<_>>(rows).unwrap());
        of_json.sort_by(|a, b| b.name.cmp(&a.name));
        assert!(of_json.iter().all(|column| column.is_json) && !of_csv.iter().any(|column| column.is_json));
        let values = |columns: &[Column]| {
            columns.iter().map(|it| (it.name.clone(), it.values.clone())).collect::<Vec<_>>()
        };
        assert_eq!(values(&of_csv), values(&of_json));
        assert!(super::of_csv("a,b\n1\n").unwrap_err().to_string().contains("a row of the CSV"));
    }
}
