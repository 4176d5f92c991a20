//! Artifacts in the object store, and what every mlop worker shares.
//!
//! An artifact is a manifest and the objects that it lists. Its digest is the SHA-256 of the manifest's canonical
//! JSON, and the manifest holds the SHA-256 of every object: who knows the digest can verify every byte.
//!
//! | module | gives |
//! |---|---|
//! | [`store`] | an object store as a worker uses it: bounded, with errors that are [results](mlop_api::result::Failure) |
//! | [`manifest`] | what tables and trees consist of, and reading that with verification |
//! | [`table`] | upload and download of a table's Parquet parts |
//! | [`tree`] | upload and download of a directory |
//! | [`directory`] | a directory that user code writes, read without leaving it |
//! | [`secret`] | the keys of a mounted Secret |
//! | [`patience`] | repeating requests to a store that does not answer |
//! | [`distinct`] | an estimate of how many different values a column has |
//! | [`mean`] | the mean of numbers, also of huge ones |
//! | [`worker`] | the frame of every worker's `main`: task in, result out |
//!
//! Everything is written by conditional create and the manifest last. So an upload that was interrupted is
//! finished by doing it again, and nothing that is published ever changes.

pub mod directory;
pub mod distinct;
pub mod environment;
mod error;
mod impatient;
pub mod listener;
pub mod manifest;
pub mod mean;
pub mod path;
pub mod patience;
mod progress;
pub mod secret;
pub mod store;
pub mod table;
mod transfer;
pub mod tree;
pub mod worker;

pub use error::untrusted;
pub use transfer::Fingerprint;
