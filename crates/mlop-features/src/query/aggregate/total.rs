//! `sum` and `avg`: totals that never wrap, never round in between, and forget values that have left.

use super::exact::ExactSum;
use crate::types;
use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray},
        datatypes::{
            DataType, Decimal128Type, Decimal256Type, DurationMicrosecondType, DurationMillisecondType,
            DurationNanosecondType, DurationSecondType, Float64Type, Int64Type, TimeUnit, UInt64Type, i256,
            validate_decimal_precision_and_scale, validate_decimal256_precision,
        },
    },
    common::{Result, exec_datafusion_err, exec_err},
    logical_expr::{Accumulator, EmitTo, GroupsAccumulator, function::AccumulatorArgs},
    scalar::ScalarValue,
};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Which total is made of which terms.
#[derive(Clone, Debug)]
pub struct Shape {
    /// The expression as the query has it.
    name: String,
    terms: DataType,
    result: DataType,
    is_mean: bool,
    is_distinct: bool,
}

impl Shape {
    /// The total that `arguments` of `sum` or `avg` ask for; none for types that the engine's own functions handle.
    pub fn of(function: &str, arguments: &AccumulatorArgs<'_>) -> Option<Self> {
        let terms = arguments.expr_fields.first()?.data_type().clone();
        let is_mean = function == "avg";
        let (supported, is_distinct) = (supports(&terms, is_mean), arguments.is_distinct);
        let bits = matches!(terms, DataType::Int64 | DataType::UInt64 | DataType::Float64);
        (supported && (bits || !is_distinct)).then(|| Self {
            // The engine's name for a column of values that it made distinct.
            name: arguments.name.replace("(alias1)", "(DISTINCT)"),
            terms,
            result: arguments.return_type().clone(),
            is_mean,
            is_distinct,
        })
    }

    pub fn is_distinct(&self) -> bool {
        self.is_distinct
    }
}

/// Whether totals of `terms` are made here.
pub fn supports(terms: &DataType, is_mean: bool) -> bool {
    match terms {
        DataType::Float64 => true,
        DataType::Int64 | DataType::UInt64 | DataType::Duration(_) => !is_mean,
        DataType::Decimal128(..) | DataType::Decimal256(..) => !is_mean,
        _ => false,
    }
}

/// One term of a total.
#[derive(Clone, Copy, Debug)]
enum Term {
    Whole(i64),
    Unsigned(u64),
    Double(f64),
    Decimal(i256),
}

impl Term {
    /// Equal for equal terms.
    fn bits(self) -> u64 {
        match self {
            Self::Whole(number) => number.cast_unsigned(),
            Self::Unsigned(number) => number,
            Self::Double(number) if number.is_nan() => f64::NAN.to_bits(),
            // Zero and minus zero are equal.
            Self::Double(number) => (number + 0.0).to_bits(),
            Self::Decimal(number) => number.to_parts().0 as u64,
        }
    }
}

/// Calls `each` with the place and value of every term of `array` that is not null.
fn terms(array: &ArrayRef, mut each: impl FnMut(usize, Term) -> Result<()>) -> Result<()> {
    macro_rules! visit {
        ($kind:ty, $term:expr) => {{
            let values = array.as_primitive::<$kind>();
            for (place, value) in values.iter().enumerate() {
                if let Some(value) = value {
                    each(place, $term(value))?;
                }
            }
            Ok(())
        }};
    }
    match array.data_type() {
        DataType::Int64 => visit!(Int64Type, Term::Whole),
        DataType::UInt64 => visit!(UInt64Type, Term::Unsigned),
        DataType::Float64 => visit!(Float64Type, Term::Double),
        DataType::Duration(TimeUnit::Second) => visit!(DurationSecondType, Term::Whole),
        DataType::Duration(TimeUnit::Millisecond) => visit!(DurationMillisecondType, Term::Whole),
        DataType::Duration(TimeUnit::Microsecond) => visit!(DurationMicrosecondType, Term::Whole),
        DataType::Duration(TimeUnit::Nanosecond) => visit!(DurationNanosecondType, Term::Whole),
        DataType::Decimal128(..) => visit!(Decimal128Type, |value| Term::Decimal(i256::from_i128(value))),
        DataType::Decimal256(..) => visit!(Decimal256Type, Term::Decimal),
        other => exec_err!("there are no totals of {other}"),
    }
}

/// The sum of the terms so far.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Sum {
    Whole(i128),
    Double(ExactSum),
    /// Low and high part of a 256-bit number.
    Decimal(u128, i128),
}

/// A running total.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Total {
    count: i64,
    sum: Sum,
}

impl Total {
    fn new(shape: &Shape) -> Self {
        let sum = match shape.terms {
            DataType::Float64 => Sum::Double(ExactSum::default()),
            DataType::Decimal128(..) | DataType::Decimal256(..) => Sum::Decimal(0, 0),
            _ => Sum::Whole(0),
        };
        Self { count: 0, sum }
    }

    /// Adds `term`, or takes it out.
    fn change(&mut self, term: Term, add: bool) -> Result<()> {
        self.count += if add { 1 } else { -1 };
        let sign = if add { 1 } else { -1 };
        match (&mut self.sum, term) {
            // Beyond 128 bits only after 2^64 terms.
            (Sum::Whole(sum), Term::Whole(term)) => *sum += sign * i128::from(term),
            (Sum::Whole(sum), Term::Unsigned(term)) => *sum += sign * i128::from(term),
            (Sum::Double(sum), Term::Double(term)) if add => sum.add(term),
            (Sum::Double(sum), Term::Double(term)) => sum.subtract(term),
            (Sum::Decimal(low, high), Term::Decimal(term)) => {
                let sum = i256::from_parts(*low, *high);
                let sum = if add { sum.checked_add(term) } else { sum.checked_sub(term) };
                (*low, *high) = sum.ok_or_else(|| exec_datafusion_err!("a sum exceeds 256 bits"))?.to_parts();
            }
            _ => return exec_err!("a total has terms of two types"),
        }
        Ok(())
    }

    fn merge(&mut self, other: &Self) -> Result<()> {
        self.count += other.count;
        match (&mut self.sum, &other.sum) {
            (Sum::Whole(sum), Sum::Whole(more)) => *sum += more,
            (Sum::Double(sum), Sum::Double(more)) => sum.merge(more),
            (Sum::Decimal(low, high), Sum::Decimal(more_low, more_high)) => {
                let sum = i256::from_parts(*low, *high).checked_add(i256::from_parts(*more_low, *more_high));
                (*low, *high) = sum.ok_or_else(|| exec_datafusion_err!("a sum exceeds 256 bits"))?.to_parts();
            }
            _ => return exec_err!("a total has terms of two types"),
        }
        Ok(())
    }

    fn value(&self, shape: &Shape) -> Result<ScalarValue> {
        if self.count == 0 {
            return ScalarValue::try_from(&shape.result);
        }
        let exceeds = |sum: &dyn std::fmt::Display| {
            exec_datafusion_err!("{}: the sum {sum} exceeds {}", shape.name, types::sql(&shape.result))
        };
        Ok(match &self.sum {
            Sum::Double(sum) if shape.is_mean => ScalarValue::from(self.mean(sum)),
            Sum::Double(sum) => ScalarValue::from(sum.value()),
            Sum::Whole(sum) => {
                let signed = || i64::try_from(*sum).map(Some).map_err(|_| exceeds(sum));
                match shape.result {
                    DataType::UInt64 => ScalarValue::from(u64::try_from(*sum).map_err(|_| exceeds(sum))?),
                    DataType::Duration(TimeUnit::Second) => ScalarValue::DurationSecond(signed()?),
                    DataType::Duration(TimeUnit::Millisecond) => ScalarValue::DurationMillisecond(signed()?),
                    DataType::Duration(TimeUnit::Microsecond) => ScalarValue::DurationMicrosecond(signed()?),
                    DataType::Duration(TimeUnit::Nanosecond) => ScalarValue::DurationNanosecond(signed()?),
                    _ => ScalarValue::Int64(signed()?),
                }
            }
            Sum::Decimal(low, high) => {
                let sum = i256::from_parts(*low, *high);
                match shape.result {
                    DataType::Decimal128(precision, scale) => {
                        validate_decimal_precision_and_scale::<Decimal128Type>(precision, scale)?;
                        validate_decimal256_precision(sum, precision, scale).map_err(|_| exceeds(&sum))?;
                        ScalarValue::Decimal128(sum.to_i128(), precision, scale)
                    }
                    DataType::Decimal256(precision, scale) => {
                        validate_decimal256_precision(sum, precision, scale).map_err(|_| exceeds(&sum))?;
                        ScalarValue::Decimal256(Some(sum), precision, scale)
                    }
                    ref other => return exec_err!("{}: a sum of decimals is no {other}", shape.name),
                }
            }
        })
    }

    #[allow(clippy::cast_precision_loss, reason = "a count of rows beyond 2^53 does not occur")]
    fn mean(&self, sum: &ExactSum) -> f64 {
        sum.value() / self.count as f64
    }

    fn to_bytes(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|error| exec_datafusion_err!("writing a total: {error}"))
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self> {
        serde_json::from_slice(bytes).map_err(|error| exec_datafusion_err!("reading a total: {error}"))
    }
}

/// The total of one group or window.
#[derive(Debug)]
pub struct TotalAccumulator {
    shape: Shape,
    total: Total,
    /// How often each term is there, by its bits. Only of DISTINCT.
    seen: HashMap<u64, i64>,
}

impl TotalAccumulator {
    pub fn new(shape: Shape) -> Self {
        let total = Total::new(&shape);
        Self { shape, total, seen: HashMap::new() }
    }

    fn change(&mut self, array: &ArrayRef, add: bool) -> Result<()> {
        let Self { shape, total, seen } = self;
        terms(array, |_, term| {
            if !shape.is_distinct {
                return total.change(term, add);
            }
            let times = seen.entry(term.bits()).or_default();
            *times += if add { 1 } else { -1 };
            match *times {
                0 => {
                    seen.remove(&term.bits());
                    total.change(term, false)
                }
                1 if add => total.change(term, true),
                _ => Ok(()),
            }
        })
    }
}

fn only(arrays: &[ArrayRef]) -> Result<&ArrayRef> {
    arrays.first().ok_or_else(|| exec_datafusion_err!("a total has no argument"))
}

/// The arrays that the states of totals hold.
fn states(array: &ArrayRef) -> impl Iterator<Item = Option<&[u8]>> {
    array.as_binary::<i32>().iter()
}

impl Accumulator for TotalAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.change(only(values)?, true)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.change(only(values)?, false)
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.total.value(&self.shape)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        if !self.shape.is_distinct {
            return Ok(vec![ScalarValue::Binary(Some(self.total.to_bytes()?))]);
        }
        let terms: Vec<_> = self.seen.keys().copied().collect();
        let bytes = serde_json::to_vec(&terms);
        Ok(vec![ScalarValue::Binary(Some(bytes.map_err(|error| exec_datafusion_err!("{error}"))?))])
    }

    fn merge_batch(&mut self, arrays: &[ArrayRef]) -> Result<()> {
        for state in states(only(arrays)?).flatten() {
            if !self.shape.is_distinct {
                self.total.merge(&Total::from_bytes(state)?)?;
                continue;
            }
            let terms: Vec<u64> =
                serde_json::from_slice(state).map_err(|error| exec_datafusion_err!("{error}"))?;
            for bits in terms {
                if self.seen.insert(bits, 1).is_none() {
                    let term = match self.shape.terms {
                        DataType::Float64 => Term::Double(f64::from_bits(bits)),
                        DataType::UInt64 => Term::Unsigned(bits),
                        _ => Term::Whole(bits.cast_signed()),
                    };
                    self.total.change(term, true)?;
                }
            }
        }
        Ok(())
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.seen.capacity() * size_of::<(u64, i64)>()
    }
}

/// The totals of all groups of an aggregation.
pub struct Totals {
    shape: Shape,
    totals: Vec<Total>,
}

impl Totals {
    pub fn new(shape: Shape) -> Self {
        Self { shape, totals: Vec::new() }
    }

    fn grow(&mut self, groups: usize) {
        if self.totals.len() < groups {
            self.totals.resize_with(groups, || Total::new(&self.shape));
        }
    }
}

impl GroupsAccumulator for Totals {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total_groups: usize,
    ) -> Result<()> {
        self.grow(total_groups);
        let passes = |row| filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
        terms(only(values)?, |row, term| {
            let total = groups.get(row).and_then(|group| self.totals.get_mut(*group));
            match total {
                Some(total) if passes(row) => total.change(term, true),
                _ => Ok(()),
            }
        })
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let totals = emit.take_needed(&mut self.totals);
        if totals.is_empty() {
            return Ok(datafusion::arrow::array::new_empty_array(&self.shape.result));
        }
        let values = totals.iter().map(|total| total.value(&self.shape)).collect::<Result<Vec<_>>>()?;
        ScalarValue::iter_to_array(values)
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        let totals = emit.take_needed(&mut self.totals);
        let states = totals.iter().map(Total::to_bytes).collect::<Result<Vec<_>>>()?;
        Ok(vec![std::sync::Arc::new(BinaryArray::from_iter_values(states))])
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], total_groups: usize) -> Result<()> {
        self.grow(total_groups);
        for (state, group) in states(only(values)?).zip(groups) {
            if let (Some(state), Some(total)) = (state, self.totals.get_mut(*group)) {
                total.merge(&Total::from_bytes(state)?)?;
            }
        }
        Ok(())
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let values = only(values)?;
        let mut each = Self::new(self.shape.clone());
        let groups: Vec<_> = (0..values.len()).collect();
        each.update_batch(std::slice::from_ref(values), &groups, filter, values.len())?;
        each.state(EmitTo::All)
    }

    fn size(&self) -> usize {
        // Most sums of doubles have four limbs.
        self.totals.capacity() * (size_of::<Total>() + 32)
    }
}
