//! The engine's aggregate functions, made exact and repeatable.
//!
//! | function | difference |
//! |---|---|
//! | `sum`, `avg` | [`total`]: integers that do not fit are an error, doubles are summed without rounding |
//! | `var*`, `stddev*`, `covar*`, `corr`, `regr_*` over sliding windows | [`sliding`]: nothing is taken out of a result |
//! | `min`, `max` of floating-point numbers | [`extreme`]: NaN is the greatest value, in any order of rows |
//! | all | names that tell casts apart, so that `sum(v)` and `sum(CAST(v AS DOUBLE))` are two columns |

mod exact;
mod extreme;
mod sliding;
mod total;

use datafusion::{
    arrow::datatypes::{DataType, Field, FieldRef},
    common::{Result, plan_err, tree_node::TreeNode},
    functions_aggregate::all_default_aggregate_functions,
    logical_expr::{
        Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, Expr, GroupsAccumulator, ReversedUDAF,
        SetMonotonicity, Signature,
        expr::{AggregateFunctionParams, WindowFunctionParams},
        function::{AccumulatorArgs, AggregateFunctionSimplification, StateFieldsArgs},
        utils::{AggregateOrderSensitivity, format_state_name},
    },
    scalar::ScalarValue,
};
use extreme::{Extreme, Extremes, Side};
use sliding::Sliding;
use std::{cmp::Ordering, fmt::Display, sync::Arc};
use total::{Shape, TotalAccumulator, Totals, supports};

/// The aggregate functions that a query may call.
pub fn functions() -> impl Iterator<Item = AggregateUDF> {
    all_default_aggregate_functions().into_iter().map(|inner| AggregateUDF::new_from_impl(Reliable(inner)))
}

/// An aggregate function of the engine with exact and repeatable results.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Reliable(Arc<AggregateUDF>);

impl Reliable {
    fn shape(&self, arguments: &AccumulatorArgs<'_>) -> Option<Shape> {
        matches!(self.name(), "sum" | "avg").then(|| Shape::of(self.name(), arguments)).flatten()
    }

    fn side(&self, arguments: &AccumulatorArgs<'_>) -> Option<Side> {
        let wanted = match self.name() {
            "min" => Ordering::Less,
            "max" => Ordering::Greater,
            _ => return None,
        };
        let kind = arguments.return_type();
        kind.is_floating().then(|| Side { wanted, kind: kind.clone() })
    }

    /// Whether the function rounds, so that a value cannot be taken out of its result.
    fn rounds(&self) -> bool {
        ["var", "stddev", "covar", "corr", "regr"].iter().any(|family| self.name().starts_with(family))
    }
}

/// `name` with the casts that the engine leaves out of names.
fn with_casts(name: String, arguments: &[Expr]) -> Result<String> {
    let mut casts = false;
    for argument in arguments {
        casts |= argument.exists(|part| Ok(matches!(part, Expr::Cast(_) | Expr::TryCast(_))))?;
    }
    Ok(if casts { format!("{name} of {}", list(arguments)) } else { name })
}

fn list(items: &[impl Display]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl AggregateUDFImpl for Reliable {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn aliases(&self) -> &[String] {
        self.0.aliases()
    }

    fn schema_name(&self, params: &AggregateFunctionParams) -> Result<String> {
        with_casts(self.0.schema_name(params)?, &params.args)
    }

    fn human_display(&self, params: &AggregateFunctionParams) -> Result<String> {
        self.0.human_display(params)
    }

    fn window_function_schema_name(&self, params: &WindowFunctionParams) -> Result<String> {
        with_casts(self.0.window_function_schema_name(params)?, &params.args)
    }

    fn display_name(&self, params: &AggregateFunctionParams) -> Result<String> {
        self.0.display_name(params)
    }

    fn window_function_display_name(&self, params: &WindowFunctionParams) -> Result<String> {
        self.0.window_function_display_name(params)
    }

    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.0.return_type(types)
    }

    fn return_field(&self, fields: &[FieldRef]) -> Result<FieldRef> {
        self.0.return_field(fields)
    }

    fn is_nullable(&self) -> bool {
        self.0.is_nullable()
    }

    fn accumulator(&self, arguments: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        match self.shape(&arguments) {
            Some(shape) => Ok(Box::new(TotalAccumulator::new(shape))),
            None => match self.side(&arguments) {
                Some(side) => Ok(Box::new(Extreme::new(side))),
                None => self.0.accumulator(arguments),
            },
        }
    }

    fn state_fields(&self, arguments: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let is_mean = self.name() == "avg";
        let terms = arguments.input_fields.first().map(|field| field.data_type());
        let bits = matches!(terms, Some(DataType::Int64 | DataType::UInt64 | DataType::Float64));
        if matches!(self.name(), "sum" | "avg")
            && terms.is_some_and(|terms| supports(terms, is_mean))
            && (bits || !arguments.is_distinct)
        {
            let name = format_state_name(arguments.name, "total");
            return Ok(vec![Arc::new(Field::new(name, DataType::Binary, true))]);
        }
        self.0.state_fields(arguments)
    }

    fn groups_accumulator_supported(&self, arguments: AccumulatorArgs<'_>) -> bool {
        match self.shape(&arguments) {
            Some(shape) => !shape.is_distinct(),
            None => self.side(&arguments).is_some() || self.0.groups_accumulator_supported(arguments),
        }
    }

    fn create_groups_accumulator(
        &self,
        arguments: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        match self.shape(&arguments) {
            Some(shape) => Ok(Box::new(Totals::new(shape))),
            None => match self.side(&arguments) {
                Some(side) => Ok(Box::new(Extremes::new(side))),
                None => self.0.create_groups_accumulator(arguments),
            },
        }
    }

    fn create_sliding_accumulator(&self, arguments: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        if let Some(shape) = self.shape(&arguments) {
            return Ok(Box::new(TotalAccumulator::new(shape)));
        }
        if self.rounds() || self.side(&arguments).is_some() {
            let function = Arc::new(AggregateUDF::new_from_impl(Self(Arc::clone(&self.0))));
            return Ok(Box::new(Sliding::new(function, &arguments)?));
        }
        let accumulator = self.0.create_sliding_accumulator(arguments)?;
        if !accumulator.supports_retract_batch() {
            return plan_err!(
                "{}() has no value for a window that slides: let the window begin with UNBOUNDED PRECEDING",
                self.name()
            );
        }
        Ok(accumulator)
    }

    fn with_beneficial_ordering(
        self: Arc<Self>,
        beneficial_ordering: bool,
    ) -> Result<Option<Arc<dyn AggregateUDFImpl>>> {
        let inner = self.0.as_ref().clone().with_beneficial_ordering(beneficial_ordering)?;
        Ok(inner.map(|inner| Arc::new(Self(Arc::new(inner))) as Arc<dyn AggregateUDFImpl>))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.0.order_sensitivity()
    }

    fn simplify(&self) -> Option<AggregateFunctionSimplification> {
        self.0.simplify()
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        match self.0.reverse_udf() {
            ReversedUDAF::Reversed(inner) => {
                ReversedUDAF::Reversed(Arc::new(AggregateUDF::new_from_impl(Self(inner))))
            }
            same => same,
        }
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.0.coerce_types(types)
    }

    fn is_descending(&self) -> Option<bool> {
        self.0.is_descending()
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        self.0.default_value(data_type)
    }

    fn supports_null_handling_clause(&self) -> bool {
        self.0.supports_null_handling_clause()
    }

    fn supports_within_group_clause(&self) -> bool {
        self.0.supports_within_group_clause()
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.0.documentation()
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.0.inner().set_monotonicity(data_type)
    }
}
