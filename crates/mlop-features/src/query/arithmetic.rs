//! Arithmetic that fails instead of wrapping, and says which expression failed.
//!
//! The engine adds, subtracts, multiplies and negates integers modulo 2^64, and its errors of other arithmetic and of
//! casts name no expression. A rule of the analyzer puts a function of this module into the place of each such
//! expression, after its types were coerced. Constants folded at planning and values computed per row go through it.

use super::distinct;
use crate::types;
use datafusion::{
    arrow::{
        compute::kernels::numeric::neg,
        datatypes::{DataType, Field, FieldRef, Schema},
        record_batch::{RecordBatch, RecordBatchOptions},
    },
    common::{
        DFSchema, Result,
        config::ConfigOptions,
        exec_err,
        tree_node::{Transformed, TreeNode},
    },
    error::DataFusionError,
    logical_expr::{
        BinaryExpr, ColumnarValue, Expr, ExprSchemable, LogicalPlan, Operator, ReturnFieldArgs,
        ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, expr::ScalarFunction,
        expr_rewriter::NamePreserver, type_coercion::binary::BinaryTypeCoercer, utils::merge_schema,
    },
    optimizer::AnalyzerRule,
    physical_expr::{
        PhysicalExpr,
        expressions::{BinaryExpr as Binary, CastExpr, Column},
    },
    scalar::ScalarValue,
};
use std::sync::Arc;

/// Most characters of an expression in a message.
const SHOWN_MAX: usize = 120;

/// Replaces arithmetic and casts of a plan by [`Checked`] ones, and gives lists of distinct values an order.
#[derive(Debug)]
pub struct MakeReliable;

impl AnalyzerRule for MakeReliable {
    fn name(&self) -> &str {
        "make_reliable"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        Ok(plan.transform_up_with_subqueries(check_plan)?.data)
    }
}

fn check_plan(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let mut schema = merge_schema(&plan.inputs());
    if let LogicalPlan::TableScan(scan) = &plan {
        schema.merge(&DFSchema::try_from_qualified_schema(scan.table_name.clone(), &scan.source.schema())?);
    }
    let names = NamePreserver::new(&plan);
    let checked = plan.map_expressions(|expression| {
        let name = names.save(&expression);
        let checked = expression.transform_down(|expression| {
            check(expression, &schema)?.transform_data(|expression| Ok(distinct::ordered(expression)))
        })?;
        Ok(checked.update_data(|expression| name.restore(expression)))
    })?;
    if checked.transformed { checked.map_data(LogicalPlan::recompute_schema) } else { Ok(checked) }
}

fn check(expression: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let shown = || cut(&shown(&expression));
    let (operation, arguments) = match &expression {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_arithmetic(*op) => {
            let types = (left.get_type(schema)?, right.get_type(schema)?);
            if types.0.is_floating() && types.1.is_floating() {
                return Ok(Transformed::no(expression));
            }
            (Operation::Binary(*op), vec![left.as_ref().clone(), right.as_ref().clone()])
        }
        Expr::Negative(inner) if !inner.get_type(schema)?.is_floating() => {
            (Operation::Negative, vec![inner.as_ref().clone()])
        }
        Expr::Cast(cast) if can_fail(&cast.expr.get_type(schema)?, cast.field.data_type()) => {
            (Operation::Cast(cast.field.data_type().clone()), vec![cast.expr.as_ref().clone()])
        }
        _ => return Ok(Transformed::no(expression)),
    };
    let function = Checked {
        signature: Signature::any(arguments.len(), Volatility::Immutable),
        operation,
        shown: shown(),
    };
    let function = Arc::new(ScalarUDF::new_from_impl(function));
    Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction::new_udf(function, arguments))))
}

fn is_arithmetic(operator: Operator) -> bool {
    use Operator::{Divide, Minus, Modulo, Multiply, Plus};
    matches!(operator, Plus | Minus | Multiply | Divide | Modulo)
}

/// Whether a cast of scalars can meet a value that the target cannot hold.
fn can_fail(from: &DataType, to: &DataType) -> bool {
    use DataType::{Boolean, Null};
    let text = |kind: &DataType| kind.is_string();
    match (from, to) {
        (from, to) if from == to => false,
        (Null | Boolean, _) => false,
        (_, to) if text(to) => false,
        (from, to) if to.is_floating() => text(from),
        (from, to) if from.is_integer() && to.is_integer() => {
            let signed = |kind: &DataType| kind.is_signed_integer();
            let wider = from.primitive_width() < to.primitive_width();
            !(wider && (signed(to) || !signed(from)))
        }
        (_, to) => to.is_primitive() || *to == Boolean,
    }
}

/// The expression as SQL writes it.
fn shown(expression: &Expr) -> String {
    let operand = |operand: &Expr| match operand {
        Expr::BinaryExpr(_) => format!("({})", shown(operand)),
        _ => shown(operand),
    };
    match expression {
        Expr::Alias(alias) => shown(&alias.expr),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            format!("{} {op} {}", operand(left), operand(right))
        }
        Expr::Negative(inner) => format!("-{}", operand(inner)),
        Expr::Cast(cast) => format!("CAST({} AS {})", shown(&cast.expr), types::sql(cast.field.data_type())),
        Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(span)), _) => {
            let parts =
                [(i64::from(span.months), "month"), (i64::from(span.days), "day"), (span.nanoseconds, "ns")];
            let parts = parts.iter().filter(|(count, _)| *count != 0);
            let parts: Vec<_> = parts.map(|(count, unit)| format!("{count} {unit}")).collect();
            format!("INTERVAL '{}'", parts.join(" "))
        }
        other => other.human_display().to_string(),
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// An operation that fails instead of wrapping.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Checked {
    signature: Signature,
    operation: Operation,
    /// The expression as the query has it.
    shown: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Operation {
    Binary(Operator),
    Negative,
    Cast(DataType),
}

impl ScalarUDFImpl for Checked {
    fn name(&self) -> &str {
        "checked"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match (&self.operation, types) {
            (Operation::Cast(to), _) => Ok(to.clone()),
            (Operation::Negative, [kind]) => Ok(kind.clone()),
            (Operation::Binary(operator), [left, right]) => {
                BinaryTypeCoercer::new(left, operator, right).get_result_type()
            }
            _ => exec_err!("{} has {} operands", self.shown, types.len()),
        }
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let types: Vec<_> = arguments.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let nullable = arguments.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name(), self.return_type(&types)?, nullable)))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalars = arguments.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
        let rows = if scalars { 1 } else { arguments.number_rows };
        let fields = arguments.arg_fields.iter().zip(&arguments.args).enumerate();
        let fields = fields
            .map(|(place, (field, value))| {
                Field::new(place.to_string(), value.data_type(), true).with_metadata(field.metadata().clone())
            })
            .collect::<Vec<_>>();
        let columns = arguments.args.iter().map(|value| value.to_array(rows)).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?;
        let value = self.evaluate(&batch).map_err(|error| self.failed(&error))?;
        match (scalars, value) {
            (true, ColumnarValue::Array(array)) => {
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?))
            }
            (_, value) => Ok(value),
        }
    }
}

impl Checked {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let operand =
            |place: usize| Arc::new(Column::new(&place.to_string(), place)) as Arc<dyn PhysicalExpr>;
        match &self.operation {
            Operation::Binary(operator) => {
                Binary::new(operand(0), *operator, operand(1)).with_fail_on_overflow(true).evaluate(batch)
            }
            Operation::Negative => {
                let value = operand(0).evaluate(batch)?.into_array(batch.num_rows())?;
                Ok(ColumnarValue::Array(neg(&value)?))
            }
            Operation::Cast(to) => CastExpr::new(operand(0), to.clone(), None).evaluate(batch),
        }
    }

    fn failed(&self, error: &DataFusionError) -> DataFusionError {
        DataFusionError::Execution(format!("{}: {}", self.shown, super::failure::words(error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::datatypes::TimeUnit;

    #[test]
    fn casts_that_can_fail_are_checked() {
        use DataType::{Boolean, Date32, Float32, Float64, Int8, Int64, Timestamp, UInt8, UInt64, Utf8};
        let time = Timestamp(TimeUnit::Microsecond, None);
        for (from, to, expected) in [
            (Int64, Int8, true),
            (Int64, UInt64, true),
            (UInt64, Int64, true),
            (UInt8, Int64, false),
            (Int8, Int64, false),
            (Int8, UInt64, true),
            (Float64, Int64, true),
            (Int64, Float64, false),
            (Float64, Float32, false),
            (Utf8, Float64, true),
            (Utf8, Boolean, true),
            (Int64, Utf8, false),
            (Date32, time.clone(), true),
            (Utf8, time, true),
        ] {
            assert_eq!(can_fail(&from, &to), expected, "{from} to {to}");
        }
    }
}
