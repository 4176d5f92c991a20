//! `min` and `max` of floating-point numbers, where NaN is greater than every other value.
//!
//! The engine's own depend on the order of the rows once a NaN is among them.

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, BooleanArray, Float64Array},
        compute::cast,
        datatypes::DataType,
    },
    common::{Result, cast::as_float64_array, exec_datafusion_err},
    logical_expr::{Accumulator, EmitTo, GroupsAccumulator},
    scalar::ScalarValue,
};
use std::{cmp::Ordering, sync::Arc};

/// Whether the least or the greatest value is looked for, and its type.
#[derive(Clone, Debug)]
pub struct Side {
    pub wanted: Ordering,
    pub kind: DataType,
}

impl Side {
    /// Replaces `best` by `value` if that is further on this side.
    fn choose(&self, best: &mut Option<f64>, value: f64) {
        // The sign of NaN differs between processors.
        let value = if value.is_nan() { f64::NAN } else { value };
        if best.is_none_or(|best| value.total_cmp(&best) == self.wanted) {
            *best = Some(value);
        }
    }

    fn array(&self, values: &[Option<f64>]) -> Result<ArrayRef> {
        Ok(cast(&Float64Array::from(values.to_vec()), &self.kind)?)
    }
}

fn doubles(arrays: &[ArrayRef]) -> Result<Float64Array> {
    let array = arrays.first().ok_or_else(|| exec_datafusion_err!("an extreme has no argument"))?;
    Ok(as_float64_array(&cast(array, &DataType::Float64)?)?.clone())
}

/// The extreme of one group or window.
#[derive(Debug)]
pub struct Extreme {
    side: Side,
    best: Option<f64>,
}

impl Extreme {
    pub fn new(side: Side) -> Self {
        Self { side, best: None }
    }
}

impl Accumulator for Extreme {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        doubles(values)?.iter().flatten().for_each(|value| self.side.choose(&mut self.best, value));
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        ScalarValue::try_from_array(&self.side.array(&[self.best])?, 0)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}

/// The extremes of all groups of an aggregation.
pub struct Extremes {
    side: Side,
    best: Vec<Option<f64>>,
}

impl Extremes {
    pub fn new(side: Side) -> Self {
        Self { side, best: Vec::new() }
    }
}

impl GroupsAccumulator for Extremes {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total_groups: usize,
    ) -> Result<()> {
        if self.best.len() < total_groups {
            self.best.resize(total_groups, None);
        }
        for (row, (value, group)) in doubles(values)?.iter().zip(groups).enumerate() {
            let passes = filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
            if let (true, Some(value), Some(best)) = (passes, value, self.best.get_mut(*group)) {
                self.side.choose(best, value);
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], total_groups: usize) -> Result<()> {
        self.update_batch(values, groups, None, total_groups)
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        self.side.array(&emit.take_needed(&mut self.best))
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(emit)?])
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let passes =
            |row| filter.is_none_or(|filter: &BooleanArray| filter.is_valid(row) && filter.value(row));
        let values = doubles(values)?;
        let values: Vec<_> =
            values.iter().enumerate().map(|(row, value)| value.filter(|_| passes(row))).collect();
        Ok(vec![Arc::new(self.side.array(&values)?)])
    }

    fn size(&self) -> usize {
        self.best.capacity() * size_of::<Option<f64>>()
    }
}
