//! Which rows of a table can be online: those with an entity and a time that is not in the future.
//!
//! The future begins after the data time, the creation of the snapshot. It is part of the data, so that the same snapshot
//! puts the same rows online whenever it is activated.

use crate::text::count;
use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch},
    compute::filter_record_batch,
    datatypes::{DataType, Date32Type, Schema, TimestampMicrosecondType},
    error::ArrowError,
};
use jiff::Timestamp;
use std::{fmt, ops::AddAssign};

const DAY_MICROS: i64 = 86_400_000_000;

/// Chooses the rows that can be online.
#[derive(Clone, Debug)]
pub struct Servable {
    /// Places of the entity columns.
    entities: Vec<usize>,
    /// Place of the column with the time.
    timestamp: usize,
    /// The data time; none: no row is in the future.
    as_of: Option<Timestamp>,
}

/// Numbers of rows that cannot be online.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Rows without a part of their entity, or without a time.
    pub nameless: u64,
    /// Rows dated after the data time.
    pub later: u64,
}

impl AddAssign for LeftOut {
    fn add_assign(&mut self, more: Self) {
        self.nameless += more.nameless;
        self.later += more.later;
    }
}

impl LeftOut {
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nameless = count(self.nameless, "row without entity or time", "rows without entity or time");
        let later = count(self.later, "row of the future", "rows of the future");
        match (self.nameless, self.later) {
            (_, 0) => write!(f, "not online: {nameless}"),
            (0, _) => write!(f, "not online: {later}"),
            _ => write!(f, "not online: {nameless}, {later}"),
        }
    }
}

impl Servable {
    pub fn new(entities: Vec<usize>, timestamp: usize, as_of: Option<Timestamp>) -> Self {
        Self { entities, timestamp, as_of }
    }

    /// # Errors
    /// When `schema` lacks a column.
    pub fn of(
        schema: &Schema,
        entities: &[String],
        timestamp: &str,
        as_of: Option<Timestamp>,
    ) -> Result<Self, ArrowError> {
        let entities = entities.iter().map(|name| schema.index_of(name)).collect::<Result<_, _>>()?;
        Ok(Self::new(entities, schema.index_of(timestamp)?, as_of))
    }

    /// The rows of `batch` that can be online, and the numbers of the others.
    ///
    /// # Errors
    /// When the rows cannot be copied.
    pub fn choose(&self, batch: &RecordBatch) -> Result<(RecordBatch, LeftOut), ArrowError> {
        let (chosen, left_out) = self.mask(batch);
        if left_out.is_empty() {
            return Ok((batch.clone(), left_out));
        }
        Ok((filter_record_batch(batch, &chosen)?, left_out))
    }

    /// Counts the rows of `batch` that cannot be online.
    pub fn count(&self, batch: &RecordBatch) -> LeftOut {
        self.mask(batch).1
    }

    fn mask(&self, batch: &RecordBatch) -> (BooleanArray, LeftOut) {
        let column = |place: usize| batch.columns().get(place);
        let mut left_out = LeftOut::default();
        let limit = self.as_of.map_or(i64::MAX, Timestamp::as_microsecond);
        let chosen = (0..batch.num_rows()).map(|row| {
            let nameless = self.entities.iter().any(|place| column(*place).is_none_or(|it| it.is_null(row)));
            match column(self.timestamp).and_then(|times| micros(times, row)) {
                Some(time) if !nameless => {
                    left_out.later += u64::from(time > limit);
                    time <= limit
                }
                _ => {
                    left_out.nameless += 1;
                    false
                }
            }
        });
        (chosen.collect::<Vec<_>>().into(), left_out)
    }
}

/// Microseconds since 1970 of a time or date.
fn micros(times: &ArrayRef, row: usize) -> Option<i64> {
    if times.is_null(row) {
        return None;
    }
    match times.data_type() {
        DataType::Date32 => {
            Some(i64::from(times.as_primitive::<Date32Type>().value(row)).saturating_mul(DAY_MICROS))
        }
        DataType::Timestamp(..) => {
            times.as_primitive_opt::<TimestampMicrosecondType>().map(|times| times.value(row))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Date32Array, TimestampMicrosecondArray, create_array};
    use std::sync::Arc;

    fn chosen(times: ArrayRef, as_of: Option<&str>) -> (usize, LeftOut) {
        let entities = create_array!(Utf8, vec![Some("a"), None, Some("b"), Some("c")]) as ArrayRef;
        let batch = RecordBatch::try_from_iter([("e", entities), ("t", times)]).unwrap();
        let as_of = as_of.map(|time| time.parse().unwrap());
        let servable = Servable::of(&batch.schema(), &["e".to_owned()], "t", as_of).unwrap();
        let (rows, left_out) = servable.choose(&batch).unwrap();
        (rows.num_rows(), left_out)
    }

    #[test]
    fn row_is_skipped_without_entity_or_in_the_future() {
        let times = TimestampMicrosecondArray::from(vec![Some(0), Some(1), None, Some(1_000_001)]);
        let times: ArrayRef = Arc::new(times.with_timezone("UTC"));
        let days: ArrayRef = Arc::new(Date32Array::from(vec![Some(0), Some(9), None, Some(1)]));
        let left_out = |nameless, later| LeftOut { nameless, later };
        for (times, as_of, expected) in [
            (&times, None, (2, left_out(2, 0))),
            (&times, Some("1970-01-01T00:00:01Z"), (1, left_out(2, 1))),
            (&times, Some("1970-01-01T00:00:01.000001Z"), (2, left_out(2, 0))),
            (&days, Some("1970-01-01T23:00:00Z"), (1, left_out(2, 1))),
            (&days, Some("1970-01-02T00:00:00Z"), (2, left_out(2, 0))),
        ] {
            assert_eq!(chosen(Arc::clone(times), as_of), expected, "{as_of:?}");
        }
        assert_eq!(
            left_out(2, 1).to_string(),
            "not online: 2 rows without entity or time, 1 row of the future"
        );
    }
}
