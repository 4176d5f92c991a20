//! The memory of Redis, for messages and for refusing a Redis that deletes rows.

use super::connection::Connection;
use redis::{FromRedisValue, Value};
use std::fmt;

/// What `INFO memory` says. Everything is unknown where a user may not ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Bytes in use.
    used: Option<u64>,
    /// Bytes that may be used; none: all that the machine has.
    max: Option<u64>,
    /// Which keys are deleted when the memory is full.
    pub policy: String,
}

impl Memory {
    pub async fn read(redis: &mut Connection) -> Self {
        let info = redis::cmd("INFO").arg("memory").query_async(redis).await;
        info.map(Self::of).unwrap_or_default()
    }

    /// The memory of the server. Of the nodes of a cluster it is the one that evicts, or the fullest.
    fn of(info: Value) -> Self {
        let text = |info| String::from_redis_value(info).map(|info| Self::parse(&info)).unwrap_or_default();
        match info {
            Value::Map(nodes) => {
                let nodes = nodes.into_iter().map(|(_, info)| text(info));
                nodes.max_by_key(|node| (node.evicts(), node.used)).unwrap_or_default()
            }
            info => text(info),
        }
    }

    fn parse(info: &str) -> Self {
        let field = |name: &str| {
            let lines = info.lines().filter_map(|line| line.trim_end().split_once(':'));
            lines.filter(|(key, _)| *key == name).map(|(_, value)| value).next()
        };
        let number = |name: &str| field(name).and_then(|value| value.parse().ok());
        Self {
            used: number("used_memory"),
            max: number("maxmemory").filter(|max| *max > 0),
            policy: field("maxmemory_policy").unwrap_or_default().to_owned(),
        }
    }

    /// Whether keys that never expire may be deleted to make room. The keys of views never expire.
    pub fn evicts(&self) -> bool {
        self.max.is_some() && self.policy.starts_with("allkeys")
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        match (self.used, self.max) {
            (Some(used), Some(max)) => {
                write!(
                    f,
                    "{:.1} MiB are in use without this view, of {:.1} MiB (maxmemory)",
                    mib(used),
                    mib(max)
                )
            }
            _ => f.write_str("its maxmemory is not known"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_evicts_only_under_a_limit() {
        for (limit, policy, evicts) in [
            ("0", "allkeys-lru", false),
            ("1048576", "allkeys-lru", true),
            ("1048576", "allkeys-random", true),
            ("1048576", "volatile-lru", false),
            ("1048576", "noeviction", false),
        ] {
            let info = format!(
                "# Memory\r\nused_memory:524288\r\nmaxmemory:{limit}\r\nmaxmemory_policy:{policy}\r\n"
            );
            assert_eq!(Memory::parse(&info).evicts(), evicts, "{limit} {policy}");
        }
        let info = "used_memory:524288\r\nmaxmemory:1048576\r\n";
        assert_eq!(
            Memory::parse(info).to_string(),
            "0.5 MiB are in use without this view, of 1.0 MiB (maxmemory)"
        );
        assert!(!Memory::parse("").evicts());
    }
}
