//! Troubles of a cluster that last for minutes. `cargo xtask test --only life` runs them.
//!
//! The tests of `alone` stop what all namespaces share, so they run one after the other. The others run side by side.

mod alone;
mod backup;
mod release;
mod shared;
mod upgrade;
