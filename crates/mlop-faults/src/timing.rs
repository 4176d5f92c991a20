//! Durations that faults, processes and checks share.

use std::time::Duration;

/// How long refusals and outages last.
pub const OUTAGE: Duration = Duration::from_secs(20);
/// How long two instances of an operator believe that they lead.
pub const SECOND_LEADER: Duration = Duration::from_secs(60);
/// How long a user needs to recreate a deleted object.
pub const RECREATION: Duration = Duration::from_secs(5);
