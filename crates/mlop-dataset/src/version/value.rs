//! Values of a table, and their texts for people.

use super::{civil, decimal::Decimal};
use mlop_api::dataset::ColumnType;

/// A value. A text stays in its row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    Text,
    Int(i64),
    Float(f64),
    Decimal(Decimal),
    Bool(bool),
    /// Microseconds since 1970 in UTC, of the years 1 to 9999.
    Timestamp(i64),
    /// Days since 1970, of the years 1 to 9999.
    Date(i32),
}

/// A value as text. A text is not known here.
pub fn display(value: Value) -> String {
    match value {
        Value::Text => String::new(),
        Value::Int(value) => value.to_string(),
        Value::Float(value) => format!("{value:?}"),
        Value::Decimal(value) => value.to_string(),
        Value::Bool(value) => value.to_string(),
        Value::Timestamp(micros) => civil::display_timestamp(micros),
        Value::Date(days) => civil::display_date(days),
    }
}

/// A type's name in specs, manifests and messages.
pub const fn type_name(kind: ColumnType) -> &'static str {
    match kind {
        ColumnType::String => "string",
        ColumnType::Int64 => "int64",
        ColumnType::Float64 => "float64",
        ColumnType::Decimal => "decimal",
        ColumnType::Bool => "bool",
        ColumnType::Timestamp => "timestamp",
        ColumnType::Date => "date",
    }
}
