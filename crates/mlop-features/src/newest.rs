//! Picks the newest row of each entity from a sorted table.
//!
//! A table of features is sorted by entity, then time, then everything else, with nulls first. So the newest row of an
//! entity is the last one before another entity begins, and one row is all that has to be remembered.

use arrow::{
    array::{ArrayRef, BooleanArray, RecordBatch},
    compute::{SortOptions, filter_record_batch},
    error::ArrowError,
    row::{OwnedRow, RowConverter, SortField},
};
use mlop_api::{Reason, result::Failure};

/// Finds the last row of each run of rows with the same entity.
pub struct Newest {
    /// Columns of the entity, then the column of the time.
    columns: Vec<usize>,
    entities: RowConverter,
    order: RowConverter,
    last: Option<Last>,
}

/// The last row that was seen: the newest of its entity so far.
struct Last {
    entity: OwnedRow,
    place: OwnedRow,
    row: RecordBatch,
}

impl Newest {
    /// For tables with this `schema`, with the entity in the columns `entities` and the time in `timestamp`.
    ///
    /// # Errors
    /// For types that have no order.
    pub fn new(
        schema: &arrow::datatypes::Schema,
        entities: &[usize],
        timestamp: usize,
    ) -> Result<Self, Failure> {
        let columns: Vec<_> = entities.iter().copied().chain([timestamp]).collect();
        let options = SortOptions { descending: false, nulls_first: true };
        let fields: Vec<_> = columns
            .iter()
            .filter_map(|&column| schema.fields().get(column))
            .map(|field| SortField::new_with_options(field.data_type().clone(), options))
            .collect();
        let converter = |fields: &[SortField]| RowConverter::new(fields.to_vec()).map_err(unreadable);
        let (entities, order) =
            (converter(fields.get(..entities.len()).unwrap_or(&fields))?, converter(&fields)?);
        Ok(Self { columns, entities, order, last: None })
    }

    /// The rows that `batch`, the next part of the table, shows to be the newest of their entity.
    ///
    /// # Errors
    /// `InputCorrupt` when the table is not sorted.
    pub fn push(&mut self, batch: &RecordBatch) -> Result<Vec<RecordBatch>, Failure> {
        let rows = batch.num_rows();
        if rows == 0 {
            return Ok(Vec::new());
        }
        let columns: Vec<ArrayRef> =
            self.columns.iter().filter_map(|&column| batch.columns().get(column).cloned()).collect();
        let entities = columns.get(..self.columns.len().saturating_sub(1)).unwrap_or_default();
        let entities = self.entities.convert_columns(entities).map_err(unreadable)?;
        let order = self.order.convert_columns(&columns).map_err(unreadable)?;
        let mut newest = Vec::new();
        if let Some(last) = self.last.take() {
            check(last.place.row() <= order.row(0))?;
            if last.entity.row() != entities.row(0) {
                newest.push(last.row);
            }
        }
        let mut ends = Vec::with_capacity(rows);
        for row in 1..rows {
            check(order.row(row - 1) <= order.row(row))?;
            ends.push(entities.row(row - 1) != entities.row(row));
        }
        // Whether the last row ends its run is known only when the next batch comes.
        ends.push(false);
        newest.push(filter_record_batch(batch, &BooleanArray::from(ends)).map_err(unreadable)?);
        self.last = Some(Last {
            entity: entities.row(rows - 1).owned(),
            place: order.row(rows - 1).owned(),
            row: batch.slice(rows - 1, 1),
        });
        Ok(newest)
    }

    /// The last row of the table.
    pub fn finish(self) -> Option<RecordBatch> {
        self.last.map(|last| last.row)
    }
}

fn check(sorted: bool) -> Result<(), Failure> {
    if sorted {
        return Ok(());
    }
    Err(Failure::terminal(
        Reason::InputCorrupt,
        "the table is not sorted by entity and time: it is no snapshot of a FeatureView with these columns",
    ))
}

fn unreadable(error: ArrowError) -> Failure {
    Failure::terminal(Reason::InputCorrupt, format!("reading the table: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::{
        array::{AsArray, Int64Array, create_array},
        datatypes::Int64Type,
    };
    use std::sync::Arc;

    /// Rows are numbered in the column `v`.
    fn table(e: ArrayRef, t: ArrayRef) -> RecordBatch {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..e.len() as i64));
        RecordBatch::try_from_iter([("e", e), ("t", t), ("v", numbers)]).unwrap()
    }

    fn newest(batches: &[RecordBatch]) -> Result<Vec<i64>, Failure> {
        let mut newest = Newest::new(&batches[0].schema(), &[0], 1)?;
        let mut found = Vec::new();
        for batch in batches {
            found.extend(newest.push(batch)?);
        }
        found.extend(newest.finish());
        let values = |batch: &RecordBatch| batch["v"].as_primitive::<Int64Type>().values().to_vec();
        Ok(found.iter().flat_map(values).collect())
    }

    #[test]
    fn newest_row_is_found_across_batches() {
        let e = vec![None, Some("a"), Some("a"), Some("a"), Some("b"), Some("c"), Some("c")];
        let t = vec![Some(9), None, Some(1), Some(1), Some(0), Some(1), Some(2)];
        let table = table(create_array!(Utf8, e), create_array!(Int64, t));
        for first in 0..=7 {
            for second in first..=7 {
                let pieces = [
                    table.slice(0, first),
                    table.slice(first, second - first),
                    table.slice(second, 7 - second),
                ];
                assert_eq!(newest(&pieces).unwrap(), [0, 3, 4, 6], "{first} {second}");
            }
        }
    }

    #[test]
    fn table_is_refused_when_it_is_not_sorted() {
        for (e, t) in [(vec!["b", "a"], vec![1, 1]), (vec!["a", "a"], vec![2, 1])] {
            let table = table(create_array!(Utf8, e), create_array!(Int64, t));
            assert_eq!(newest(std::slice::from_ref(&table)).unwrap_err().reason, Reason::InputCorrupt);
            assert!(newest(&[table.slice(0, 1), table.slice(1, 1)]).is_err());
        }
    }
}
