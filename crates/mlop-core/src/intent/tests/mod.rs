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
