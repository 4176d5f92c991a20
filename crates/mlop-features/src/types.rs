//! The types that features, entities and timestamps may have.
//!
//! A query can yield any of DataFusion's types. A table holds few of them, each one kind of value under one name, so
//! that an upgrade of the engine (which likes to change how it holds texts, say) does not change a table's digest,
//! and every value has a form in the online store.

use arrow::datatypes::{DataType, Field, TimeUnit};
use std::sync::Arc;

/// The type under which values of `from` are kept; none if they cannot be kept.
pub fn stored(from: &DataType) -> Option<DataType> {
    match from {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            let item = stored_scalar(item.data_type()).filter(|item| !is_time(item))?;
            Some(DataType::List(Arc::new(Field::new("item", item, true))))
        }
        scalar => stored_scalar(scalar),
    }
}

fn stored_scalar(from: &DataType) -> Option<DataType> {
    Some(match from {
        DataType::Boolean => DataType::Boolean,
        from if from.is_integer() => DataType::Int64,
        DataType::Float16 | DataType::Float32 => DataType::Float32,
        DataType::Float64 => DataType::Float64,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::Dictionary(_, value) => return stored_scalar(value),
        DataType::Timestamp(..) => timestamp(),
        DataType::Date32 | DataType::Date64 => DataType::Date32,
        _ => return None,
    })
}

/// The one type of timestamps: microseconds since 1970 in UTC.
pub fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// Whether a stored type says when a row became true.
pub fn is_time(stored: &DataType) -> bool {
    matches!(stored, DataType::Timestamp(..) | DataType::Date32)
}

/// Whether values of a stored type can be keys of an entity: they compare exactly, and Feast has keys of this type.
pub fn is_entity(stored: &DataType) -> bool {
    matches!(stored, DataType::Utf8 | DataType::Int64)
}

/// The name of a stored type in manifests and messages.
pub fn name(stored: &DataType) -> String {
    match stored {
        DataType::Boolean => "bool".to_owned(),
        DataType::Int64 => "int64".to_owned(),
        DataType::Float64 => "float64".to_owned(),
        DataType::Utf8 => "string".to_owned(),
        DataType::Timestamp(..) => "timestamp".to_owned(),
        DataType::Date32 => "date".to_owned(),
        other => other.to_string(),
    }
}

/// The name of any type in SQL.
pub fn sql(kind: &DataType) -> String {
    let word = match kind {
        DataType::Boolean => "BOOLEAN",
        DataType::Int8 => "TINYINT",
        DataType::Int16 => "SMALLINT",
        DataType::Int32 => "INT",
        DataType::Int64 => "BIGINT",
        DataType::UInt8 => "TINYINT UNSIGNED",
        DataType::UInt16 => "SMALLINT UNSIGNED",
        DataType::UInt32 => "INT UNSIGNED",
        DataType::UInt64 => "BIGINT UNSIGNED",
        DataType::Float16 | DataType::Float32 => "REAL",
        DataType::Float64 => "DOUBLE",
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "VARCHAR",
        DataType::Timestamp(..) => "TIMESTAMP",
        DataType::Date32 | DataType::Date64 => "DATE",
        DataType::Time32(_) | DataType::Time64(_) => "TIME",
        DataType::Interval(_) | DataType::Duration(_) => "INTERVAL",
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "BYTEA",
        DataType::Null => "NULL",
        DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => {
            return format!("DECIMAL({precision},{scale})");
        }
        DataType::List(item) | DataType::LargeList(item) => return format!("{}[]", sql(item.data_type())),
        DataType::Dictionary(_, value) => return sql(value),
        other => return other.to_string(),
    };
    word.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_type_is_stored_as_itself() {
        for from in [DataType::Int8, DataType::UInt64, DataType::Utf8View, DataType::Date64, timestamp()] {
            let once = stored(&from).unwrap();
            assert_eq!(stored(&once).as_ref(), Some(&once), "{from}");
        }
    }

    #[test]
    fn lists_hold_scalars_without_times() {
        let list = |item| DataType::new_large_list(item, false);
        assert_eq!(stored(&list(DataType::Float32)), Some(DataType::new_list(DataType::Float32, true)));
        assert_eq!(stored(&list(timestamp())), None);
        assert_eq!(stored(&list(list(DataType::Int64))), None);
    }

    #[test]
    fn types_without_an_online_form_are_not_stored() {
        for from in [DataType::Null, DataType::Binary, DataType::Decimal128(10, 2)] {
            assert_eq!(stored(&from), None, "{from}");
        }
    }
}
