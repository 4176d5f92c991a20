//! Tables of decisions. One row is a situation, built with [`intent`], and the summary of its plan.
//!
//! Every row is carried out and decided again. The second plan must be quiet; a row whose plan needs another step says
//! so with `then`.

mod activations;
mod builder;
mod decisions;
mod late_results;
mod retained;

use builder::*;

/// Rows of a table: the situation in words, the case, and the summary of its plan.
type Rows = Vec<(&'static str, Case, &'static str)>;

/// Checks that every row has its summary, and that reconciling it ends.
#[track_caller]
fn check(rows: Rows) {
    let mut wrong = String::new();
    for (situation, case, want) in rows {
        let plan = case.plan();
        let next = case.carried_out(&plan);
        let second = next.plan();
        let mut got = summary(&case, &plan);
        if !second.is_quiet() {
            got.push_str(&format!(" then {}", summary(&next, &second)));
            next.carried_out(&second).reconciled();
        }
        if got != want {
            wrong.push_str(&format!("{situation}\n  want {want}\n  got  {got}\n"));
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}
