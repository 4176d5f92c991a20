//! Windows that slide, without taking anything out of a rounded result.
//!
//! Taking a value out of a mean of doubles leaves traces: NaN never leaves, and a huge value takes the digits of all
//! others with it. So the rows of a window are kept in two parts. Each row of the older part has the state of all rows from it to the end of that part; the newer
//! part has one state. A row that leaves takes its state along, and a result is the merger of two states. When the
//! older part is empty, the newer one becomes the older one, which costs each row once.

use datafusion::{
    arrow::{
        array::{ArrayRef, new_empty_array},
        compute::concat,
        datatypes::{FieldRef, Schema},
    },
    common::{Result, exec_datafusion_err},
    logical_expr::{Accumulator, AggregateUDF, function::AccumulatorArgs},
    physical_expr::{PhysicalExpr, PhysicalSortExpr},
    scalar::ScalarValue,
};
use std::sync::Arc;

/// Makes accumulators of one aggregate.
#[derive(Debug)]
struct Factory {
    function: Arc<AggregateUDF>,
    return_field: FieldRef,
    schema: Schema,
    ignore_nulls: bool,
    order_bys: Vec<PhysicalSortExpr>,
    is_reversed: bool,
    name: String,
    is_distinct: bool,
    exprs: Vec<Arc<dyn PhysicalExpr>>,
    expr_fields: Vec<FieldRef>,
}

impl Factory {
    fn make(&self) -> Result<Box<dyn Accumulator>> {
        self.function.accumulator(AccumulatorArgs {
            return_field: Arc::clone(&self.return_field),
            schema: &self.schema,
            ignore_nulls: self.ignore_nulls,
            order_bys: &self.order_bys,
            is_reversed: self.is_reversed,
            name: &self.name,
            is_distinct: self.is_distinct,
            exprs: &self.exprs,
            expr_fields: &self.expr_fields,
        })
    }
}

/// An aggregate over a sliding window. Its state does not change by being read.
#[derive(Debug)]
pub struct Sliding {
    factory: Factory,
    /// States of the older rows, the oldest row's last.
    older: Vec<Vec<ScalarValue>>,
    /// Arguments of the newer rows.
    newer: Vec<Vec<ArrayRef>>,
    newest: Box<dyn Accumulator>,
}

impl Sliding {
    pub fn new(function: Arc<AggregateUDF>, arguments: &AccumulatorArgs<'_>) -> Result<Self> {
        let factory = Factory {
            function,
            return_field: Arc::clone(&arguments.return_field),
            schema: arguments.schema.clone(),
            ignore_nulls: arguments.ignore_nulls,
            order_bys: arguments.order_bys.to_vec(),
            is_reversed: arguments.is_reversed,
            name: arguments.name.to_owned(),
            is_distinct: arguments.is_distinct,
            exprs: arguments.exprs.to_vec(),
            expr_fields: arguments.expr_fields.to_vec(),
        };
        let newest = factory.make()?;
        Ok(Self { factory, older: Vec::new(), newer: Vec::new(), newest })
    }

    /// Makes the newer part the older one.
    fn turn(&mut self) -> Result<()> {
        let mut suffix = self.factory.make()?;
        for batch in std::mem::take(&mut self.newer).iter().rev() {
            let rows = batch.first().map_or(0, |array| array.len());
            for row in (0..rows).rev() {
                let row: Vec<_> = batch.iter().map(|array| array.slice(row, 1)).collect();
                suffix.update_batch(&row)?;
                self.older.push(suffix.state()?);
            }
        }
        self.newest = self.factory.make()?;
        Ok(())
    }
}

impl Accumulator for Sliding {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.newest.update_batch(values)?;
        // A slice would keep its whole batch in memory.
        let copies = values
            .iter()
            .map(|array| Ok(concat(&[array.as_ref(), new_empty_array(array.data_type()).as_ref()])?));
        self.newer.push(copies.collect::<Result<_>>()?);
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for _ in 0..values.first().map_or(0, |array| array.len()) {
            if self.older.is_empty() {
                self.turn()?;
            }
            self.older.pop().ok_or_else(|| exec_datafusion_err!("a row left a window it was not in"))?;
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut whole = self.factory.make()?;
        let newest = self.newest.state()?;
        for state in self.older.last().into_iter().chain([&newest]) {
            let state = state.iter().map(|value| value.to_array_of_size(1)).collect::<Result<Vec<_>>>()?;
            whole.merge_batch(&state)?;
        }
        whole.evaluate()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.newest.state()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.newest.merge_batch(states)
    }

    fn size(&self) -> usize {
        let state = self.older.first().map_or(0, |state| state.iter().map(ScalarValue::size).sum());
        let rows = self.newer.iter().flatten().map(|array| array.get_array_memory_size()).sum::<usize>();
        size_of_val(self) + self.newest.size() + self.older.len() * state + rows
    }
}
