//! The types of a UNION's branches: they must be the same, since the engine would make texts of numbers.

use crate::types;
use datafusion::{
    common::tree_node::TreeNodeRecursion,
    error::Result,
    logical_expr::{LogicalPlan, Union},
};

/// The flaw of the first UNION of `plan` whose branches differ.
///
/// # Errors
/// When the plan cannot be walked.
pub fn flaw(plan: &LogicalPlan) -> Result<Option<String>> {
    let mut flaw = None;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Union(union) = node {
            flaw = differs(union);
        }
        Ok(if flaw.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(flaw)
}

fn differs(union: &Union) -> Option<String> {
    let (first, others) = union.inputs.split_first()?;
    others.iter().find_map(|other| {
        let pairs = first.schema().fields().iter().zip(other.schema().fields());
        pairs.into_iter().find_map(|(one, two)| {
            let (one_type, two_type) = (one.data_type(), two.data_type());
            let same = one_type.is_null()
                || two_type.is_null()
                || one_type == two_type
                || types::stored(one_type).is_some_and(|kind| types::stored(two_type) == Some(kind));
            (!same).then(|| {
                format!(
                    "spec.sql: the SELECTs of a UNION differ: column {:?} is {} in one and {} in another: CAST one of them",
                    one.name(),
                    types::sql(one_type),
                    types::sql(two_type)
                )
            })
        })
    })
}
