//! Statistics of a table's columns, counted while it is written.

use crate::cell::Cell;
use arrow::{array::RecordBatch, datatypes::Schema};
use mlop_api::result::Failure;
use mlop_artifact::{distinct::Distinct, manifest::ColumnStats, mean::Mean};

/// Characters of a text that are kept as least or greatest value.
const TEXT_CHARS_MAX: usize = 64;

/// Statistics of all columns, gathered batch by batch.
pub struct Statistics(Vec<Column>);

struct Column {
    stats: ColumnStats,
    least: Option<Cell>,
    greatest: Option<Cell>,
    mean: Mean,
    distinct: Distinct,
}

impl Statistics {
    pub fn new(schema: &Schema) -> Self {
        let column = |name: &String| Column {
            stats: ColumnStats { name: name.clone(), ..ColumnStats::default() },
            least: None,
            greatest: None,
            mean: Mean::default(),
            distinct: Distinct::default(),
        };
        Self(schema.fields().iter().map(|field| column(field.name())).collect())
    }

    /// Counts the rows of `batch`.
    ///
    /// # Errors
    /// `QueryInvalid` for a value that cannot be kept: a null inside a list.
    pub fn add(&mut self, batch: &RecordBatch) -> Result<(), Failure> {
        for (column, values) in self.0.iter_mut().zip(batch.columns()) {
            for row in 0..values.len() {
                let cell = Cell::read(values, row).map_err(|flaw| flaw.in_column(&column.stats.name))?;
                column.add(cell);
            }
        }
        Ok(())
    }

    pub fn finish(self) -> Vec<ColumnStats> {
        self.0.into_iter().map(Column::finish).collect()
    }
}

impl Column {
    fn add(&mut self, cell: Cell) {
        if cell == Cell::Null {
            self.stats.nulls += 1;
            return;
        }
        self.stats.count += 1;
        self.distinct.add_hashed(&cell);
        if let Some(number) = cell.number() {
            self.mean.add(number);
        }
        if !cell.is_ordered() {
            return;
        }
        if self.least.as_ref().is_none_or(|least| cell < *least) {
            self.least = Some(cell.clone());
        }
        if self.greatest.as_ref().is_none_or(|greatest| cell > *greatest) {
            self.greatest = Some(cell);
        }
    }

    fn finish(self) -> ColumnStats {
        let text = |cell: Cell| cell.to_string().chars().take(TEXT_CHARS_MAX).collect();
        ColumnStats {
            min: self.least.map(text),
            max: self.greatest.map(text),
            mean: self.mean.get().map(|mean| mean.to_string()),
            distinct_estimate: self.distinct.estimate(),
            ..self.stats
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float64Array, StringArray, create_array};
    use std::sync::Arc;

    #[test]
    fn columns_are_counted_over_batches() {
        let batch = |x: Vec<Option<f64>>| {
            RecordBatch::try_from_iter([("x", create_array!(Float64, x) as _)]).unwrap()
        };
        let first = batch(vec![Some(1.0), None, Some(f64::NAN)]);
        let second = batch(vec![Some(4.0), Some(-2.5), Some(4.0)]);
        let mut statistics = Statistics::new(&first.schema());
        statistics.add(&first).unwrap();
        statistics.add(&second).unwrap();
        assert_eq!(
            statistics.finish(),
            [ColumnStats {
                name: "x".into(),
                count: 5,
                nulls: 1,
                min: Some("-2.5".into()),
                max: Some("4".into()),
                mean: Some("1.625".into()),
                distinct_estimate: 4,
            }]
        );
    }

    #[test]
    fn empty_column_has_no_extremes() {
        let batch = RecordBatch::try_from_iter([
            ("x", Arc::new(Float64Array::new_null(2)) as _),
            ("y", Arc::new(StringArray::from(vec!["b", "a"])) as _),
        ])
        .unwrap();
        let mut statistics = Statistics::new(&batch.schema());
        statistics.add(&batch).unwrap();
        let [x, y] = statistics.finish().try_into().unwrap();
        assert_eq!((x.count, x.nulls, x.min, x.mean, x.distinct_estimate), (0, 2, None, None, 0));
        assert_eq!((y.min.as_deref(), y.max.as_deref(), y.mean), (Some("a"), Some("b"), None));
    }
}
