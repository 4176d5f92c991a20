//! Records model versions in MLflow and moves their aliases.
//!
//! MLflow has neither transactions nor compare-and-set, and a pod may be killed between any two requests, or run
//! twice at once. What makes the outcome the same nevertheless:
//!
//! - Everything that is created carries the tag [`INPUT_DIGEST`](tags::INPUT_DIGEST) from the first moment (tags are
//!   part of the create call), so that the next attempt finds it.
//! - MLflow itself numbers the versions of a model. Of several versions with our tag the lowest is the one that
//!   counts, for every observer; its run is the run that counts. The others are deleted by the attempt that sees them.
//! - Every attempt logs the same values to the run, timestamps included, and MLflow takes equal values twice without
//!   keeping them twice.
//!
//! | module | gives |
//! |---|---|
//! | [`transport`] | one request and its answer |
//! | [`mlflow`] | the calls of MLflow's REST API that are used here, and their errors |
//! | [`probe`] | whether a server answers and accepts us |
//! | [`register`] | a version, exactly once |
//! | [`alias`] | an alias that only moves to higher revisions |
//! | [`restore`] | the alias of a version that MLflow may have lost |

pub mod alias;
pub mod mlflow;
mod names;
pub mod probe;
pub mod register;
pub mod restore;
pub mod tags;
pub mod transport;
