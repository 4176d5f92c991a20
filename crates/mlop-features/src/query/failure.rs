//! The meaning of the engine's errors for a run, in words for who wrote the SQL.

use arrow::error::ArrowError;
use datafusion::{
    common::{Column, SchemaError},
    error::DataFusionError,
};
use mlop_api::{Reason, result::Failure};

/// Most characters of a message of the engine.
const WORDS_MAX: usize = 600;
/// Most columns that a message names.
const COLUMNS_MAX: usize = 40;
/// The prefixes of the engine's messages.
const PREFIXES: [&str; 15] = [
    "Internal error: ",
    "Error during planning: ",
    "This feature is not implemented: ",
    "SQL error: ",
    "ParserError(\"",
    "TokenizerError(\"",
    "sql parser error: ",
    "Execution error: ",
    "Optimizer rule ",
    "Arrow error: ",
    "Compute error: ",
    "Cast error: ",
    "Arithmetic overflow: ",
    "Parser error: ",
    "Invalid argument error: ",
];
/// Catalog and schema of the inputs, which no query needs.
const CATALOG: &str = "datafusion.public.";

/// Names of types in the engine and in SQL, longer ones first.
const TYPES: [(&str, &str); 18] = [
    ("Int64Array overflow", "BIGINT overflow"),
    ("Timestamp(us)", "TIMESTAMP"),
    ("Timestamp(µs, \"UTC\")", "TIMESTAMP"),
    ("Timestamp(µs)", "TIMESTAMP"),
    ("Timestamp(ns)", "TIMESTAMP"),
    ("Timestamp(s)", "TIMESTAMP"),
    ("Interval(MonthDayNano)", "INTERVAL"),
    ("LargeUtf8", "VARCHAR"),
    ("Utf8View", "VARCHAR"),
    ("Utf8", "VARCHAR"),
    ("Float64", "DOUBLE"),
    ("Float32", "REAL"),
    ("UInt64", "BIGINT UNSIGNED"),
    ("UInt32", "INT UNSIGNED"),
    ("Int64(", "("),
    ("Int64", "BIGINT"),
    ("Int32", "INT"),
    ("Date32", "DATE"),
];

/// A query that cannot be planned cannot be run by trying again.
pub fn planning_failed(error: DataFusionError) -> Failure {
    Failure::terminal(Reason::QueryInvalid, format!("spec.sql: {}", words(&error)))
}

/// Tells a query that cannot work on these tables, or not in this memory, from a machine that failed.
pub fn execution_failed(error: DataFusionError) -> Failure {
    match error.find_root() {
        DataFusionError::ResourcesExhausted(message) => Failure::terminal(
            Reason::OutOfMemory,
            format!("spec.sql needs more memory than spec.resources.memory leaves it: {}", cut(message)),
        ),
        DataFusionError::Execution(_)
        | DataFusionError::Plan(_)
        | DataFusionError::SchemaError(..)
        | DataFusionError::NotImplemented(_) => planning_failed(error),
        DataFusionError::ArrowError(arrow, _) if is_of_the_data(arrow) => planning_failed(error),
        _ => {
            tracing::warn!(%error, "running the query failed");
            Failure::transient(Reason::WorkerFailed, format!("running spec.sql: {}", words(&error)))
        }
    }
}

fn is_of_the_data(error: &ArrowError) -> bool {
    matches!(
        error,
        ArrowError::DivideByZero
            | ArrowError::ArithmeticOverflow(_)
            | ArrowError::CastError(_)
            | ArrowError::ComputeError(_)
            | ArrowError::ParseError(_)
            | ArrowError::InvalidArgumentError(_)
    )
}

/// The error without the engine's internals.
pub fn words(error: &DataFusionError) -> String {
    match error.find_root() {
        DataFusionError::SchemaError(flaw, _) => match flaw.as_ref() {
            SchemaError::FieldNotFound { field, valid_fields } => not_found(field, valid_fields),
            SchemaError::AmbiguousReference { field } => format!(
                "column {} is in more than one input: write the input's name before it, as in t.{}",
                field.name, field.name
            ),
            _ => plain(&flaw.to_string()),
        },
        DataFusionError::ArrowError(flaw, _) if matches!(flaw.as_ref(), ArrowError::DivideByZero) => {
            "division by zero".to_owned()
        }
        DataFusionError::Internal(_) => {
            "the SQL engine cannot do this; the worker's log says more. Write the query in another way"
                .to_owned()
        }
        root => plain(&root.strip_backtrace()),
    }
}

fn plain(message: &str) -> String {
    let mut text = message.lines().next().unwrap_or_default();
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix)) {
        text = rest.strip_suffix("\")").unwrap_or(rest);
    }
    if text.contains("require unique expression names") {
        let advice =
            "two columns differ only by a CAST, or are the same: compute the CAST in a WITH query first";
        return advice.to_owned();
    }
    let (text, _) = text.split_once(", errors: ").unwrap_or((text, ""));
    let (text, _) = text.split_once(" + IntervalMonthDayNano").unwrap_or((text, ""));
    let text = TYPES.iter().fold(text.replace(CATALOG, ""), |text, (engine, sql)| text.replace(engine, sql));
    let text =
        text.replace("failed to match any signature", "does not take arguments of these types: CAST them");
    cut(&text)
}

fn cut(text: &str) -> String {
    text.chars().take(WORDS_MAX).collect()
}

/// A column that is not there, with the columns that are.
fn not_found(wanted: &Column, known: &[Column]) -> String {
    let shown = wanted.flat_name();
    if let Some(similar) = known.iter().find(|known| known.name.eq_ignore_ascii_case(&wanted.name)) {
        return format!(
            "there is no column {shown}, but {:?}: put a name with capital letters into double quotes",
            similar.name
        );
    }
    if known.is_empty() {
        return format!("there is no column {shown}");
    }
    let names: Vec<_> = known.iter().take(COLUMNS_MAX).map(Column::flat_name).collect();
    let more = if known.len() > COLUMNS_MAX { ", ..." } else { "" };
    format!("there is no column {shown}; there are {}{more}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_free_of_internals() {
        for (error, expected) in [
            (
                DataFusionError::Plan("table 'datafusion.public.nope' not found".to_owned()),
                "table 'nope' not found",
            ),
            (
                DataFusionError::Internal("Expected a Schema { fields: [] }".to_owned()),
                "the SQL engine cannot",
            ),
            (
                DataFusionError::ArrowError(Box::new(ArrowError::CastError("no number".to_owned())), None),
                "no number",
            ),
            (
                DataFusionError::Context(
                    "rule".to_owned(),
                    Box::new(DataFusionError::Execution("x".to_owned())),
                ),
                "x",
            ),
        ] {
            let words = words(&error);
            assert!(words.starts_with(expected), "{words}");
        }
    }

    #[test]
    fn missing_column_is_reported_with_similar_names() {
        let known = [Column::new(Some("t"), "PassengerId"), Column::new(Some("t"), "Fare")];
        let told = |name: &str| not_found(&Column::from_name(name), &known);
        assert!(told("passengerid").contains("\"PassengerId\": put a name"), "{}", told("passengerid"));
        assert!(told("age").contains("there are t.PassengerId, t.Fare"), "{}", told("age"));
    }
}
