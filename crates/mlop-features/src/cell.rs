//! One value of a table.

use crate::feast::Value;
use arrow::{
    array::{Array, ArrayRef, AsArray},
    datatypes::{DataType, Date32Type, Float32Type, Float64Type, Int64Type, TimestampMicrosecondType},
};
use jiff::{Timestamp, tz::TimeZone};
use mlop_api::{Reason, result::Failure};
use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
};

/// A value of one of the [stored types](crate::types).
#[derive(Clone, Debug)]
pub enum Cell {
    Null,
    Bool(bool),
    Int(i64),
    Float(f32),
    Double(f64),
    Text(String),
    /// Microseconds since 1970.
    Time(i64),
    /// Days since 1970.
    Date(i32),
    List(Vec<Cell>),
}

/// A value that a table cannot hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw(String);

impl Flaw {
    pub fn in_column(self, column: &str) -> Failure {
        Failure::terminal(Reason::QueryInvalid, format!("column {column:?} has {}", self.0))
    }
}

impl Cell {
    /// The value of `column` in `row`.
    ///
    /// # Errors
    /// For a null inside a list, and for a type that is not stored.
    pub fn read(column: &ArrayRef, row: usize) -> Result<Self, Flaw> {
        if column.is_null(row) {
            return Ok(Self::Null);
        }
        Ok(match column.data_type() {
            DataType::Boolean => Self::Bool(column.as_boolean().value(row)),
            DataType::Int64 => Self::Int(column.as_primitive::<Int64Type>().value(row)),
            DataType::Float32 => Self::Float(column.as_primitive::<Float32Type>().value(row)),
            DataType::Float64 => Self::Double(column.as_primitive::<Float64Type>().value(row)),
            DataType::Utf8 => Self::Text(column.as_string::<i32>().value(row).to_owned()),
            DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, _) => {
                Self::Time(column.as_primitive::<TimestampMicrosecondType>().value(row))
            }
            DataType::Date32 => Self::Date(column.as_primitive::<Date32Type>().value(row)),
            DataType::List(_) => {
                let items = column.as_list::<i32>().value(row);
                if items.null_count() > 0 {
                    return Err(Flaw("a null inside a list: use array_remove_all(column, NULL)".to_owned()));
                }
                Self::List((0..items.len()).map(|item| Self::read(&items, item)).collect::<Result<_, _>>()?)
            }
            other => return Err(Flaw(format!("the type {other}, which tables of features do not have"))),
        })
    }

    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Int(number) => Some(*number as f64),
            Self::Float(number) => Some(f64::from(*number)),
            Self::Double(number) => Some(*number),
            _ => None,
        }
    }

    /// The point in time, for a column that says since when a row is true.
    pub fn time(&self) -> Option<Timestamp> {
        match self {
            Self::Time(micros) => Timestamp::from_microsecond(*micros).ok(),
            Self::Date(days) => Timestamp::from_second(i64::from(*days) * 86_400).ok(),
            _ => None,
        }
    }

    /// Whether it has a place among other values of its column: lists and NaN have none.
    pub fn is_ordered(&self) -> bool {
        self.partial_cmp(self).is_some()
    }

    /// The value as a feature. Feast's times are whole seconds.
    pub fn into_feature(self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(flag) => Value::Bool(flag),
            Self::Int(number) => Value::Int64(number),
            Self::Float(number) => Value::Float(number),
            Self::Double(number) => Value::Double(number),
            Self::Text(text) => Value::Text(text),
            Self::Time(micros) => Value::UnixTimestamp(micros.div_euclid(1_000_000)),
            Self::Date(days) => Value::UnixTimestamp(i64::from(days) * 86_400),
            Self::List(cells) => Value::List(cells.into_iter().map(Self::into_feature).collect()),
        }
    }
}

impl PartialOrd for Cell {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => a.partial_cmp(b),
            (Self::Int(a), Self::Int(b)) | (Self::Time(a), Self::Time(b)) => a.partial_cmp(b),
            (Self::Date(a), Self::Date(b)) => a.partial_cmp(b),
            (Self::Float(a), Self::Float(b)) => a.partial_cmp(b),
            (Self::Double(a), Self::Double(b)) => a.partial_cmp(b),
            (Self::Text(a), Self::Text(b)) => a.partial_cmp(b),
            _ => None,
        }
    }
}

impl PartialEq for Cell {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::List(a), Self::List(b)) => a == b,
            _ => self.partial_cmp(other) == Some(Ordering::Equal),
        }
    }
}

impl Hash for Cell {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Fixed byte order: the hash of a value is part of a table's statistics.
        match self {
            Self::Null => {}
            Self::Bool(flag) => state.write(&[u8::from(*flag)]),
            Self::Int(number) | Self::Time(number) => state.write(&number.to_le_bytes()),
            Self::Date(days) => state.write(&days.to_le_bytes()),
            Self::Float(number) => state.write(&(number + 0.0).to_le_bytes()),
            Self::Double(number) => state.write(&(number + 0.0).to_le_bytes()),
            Self::Text(text) => state.write(text.as_bytes()),
            Self::List(cells) => cells.iter().for_each(|cell| cell.hash(state)),
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(flag) => flag.fmt(f),
            Self::Int(number) => number.fmt(f),
            Self::Float(number) => number.fmt(f),
            Self::Double(number) => number.fmt(f),
            Self::Text(text) => f.write_str(text),
            Self::Time(micros) => match self.time() {
                Some(time) => time.fmt(f),
                None => micros.fmt(f),
            },
            Self::Date(days) => match self.time() {
                Some(time) => time.to_zoned(TimeZone::UTC).date().fmt(f),
                None => days.fmt(f),
            },
            Self::List(cells) => f.debug_list().entries(cells.iter().map(ToString::to_string)).finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, ListArray, StringViewArray};
    use std::sync::Arc;

    #[test]
    fn times_and_dates_read_as_people_write_them() {
        assert_eq!(Cell::Time(1_795_235_280_000_001).to_string(), "2026-11-21T04:28:00.000001Z");
        assert_eq!(Cell::Date(-1).to_string(), "1969-12-31");
        assert_eq!(Cell::Date(1).time(), Some("1970-01-02T00:00:00Z".parse().unwrap()));
        assert_eq!(Cell::Time(i64::MAX).time(), None);
    }

    #[test]
    fn feature_time_is_the_second_in_which_it_begins() {
        assert_eq!(Cell::Time(-1).into_feature(), Value::UnixTimestamp(-1));
        assert_eq!(Cell::Time(1_999_999).into_feature(), Value::UnixTimestamp(1));
    }

    #[test]
    fn cell_is_refused_when_its_type_is_not_stored() {
        let list = ListArray::from_iter_primitive::<Int64Type, _, _>([Some([Some(1), None])]);
        assert!(Cell::read(&(Arc::new(list) as ArrayRef), 0).is_err());
        assert!(Cell::read(&(Arc::new(StringViewArray::from(vec!["x"])) as ArrayRef), 0).is_err());
        assert_eq!(Cell::read(&(Arc::new(Int64Array::from(vec![None])) as ArrayRef), 0), Ok(Cell::Null));
    }
}
