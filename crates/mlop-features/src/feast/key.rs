//! Names of rows and of features inside a row.

/// The value of one entity column.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EntityValue {
    Int64(i64),
    Text(String),
}

/// Feast's `ValueType` numbers.
const TYPE_STRING: u32 = 2;
const TYPE_INT64: u32 = 4;

/// The key of the row of one entity: Feast's entity key, version 3, and the project.
///
/// `entity` holds the entity columns with their values, sorted by the columns' names.
pub fn entity_key<'a>(
    entity: impl Iterator<Item = (&'a str, &'a EntityValue)> + Clone,
    project: &str,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    put_u32(&mut out, entity.clone().count() as u32);
    for (name, _) in entity.clone() {
        put_u32(&mut out, TYPE_STRING);
        put_sized(&mut out, name.as_bytes());
    }
    for (_, value) in entity {
        match value {
            EntityValue::Int64(number) => {
                put_u32(&mut out, TYPE_INT64);
                put_sized(&mut out, &number.to_le_bytes());
            }
            EntityValue::Text(text) => {
                put_u32(&mut out, TYPE_STRING);
                put_sized(&mut out, text.as_bytes());
            }
        }
    }
    out.extend_from_slice(project.as_bytes());
    out
}

/// The field of a row that holds `feature` of `view`.
pub fn field(view: &str, feature: &str) -> [u8; 4] {
    murmur3(format!("{view}:{feature}").as_bytes()).to_le_bytes()
}

/// The field of a row that holds the time since which it is true.
pub fn timestamp_field(view: &str) -> String {
    format!("_ts:{view}")
}

fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_sized(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u32(out, bytes.len() as u32);
    out.extend_from_slice(bytes);
}

/// MurmurHash3, the 32-bit variant for x86, with seed 0.
fn murmur3(bytes: &[u8]) -> u32 {
    const C1: u32 = 0xcc9e_2d51;
    const C2: u32 = 0x1b87_3593;
    let mix = |block: u32| block.wrapping_mul(C1).rotate_left(15).wrapping_mul(C2);
    let (blocks, tail) = bytes.as_chunks::<4>();
    let mut hash = 0u32;
    for block in blocks {
        hash = (hash ^ mix(u32::from_le_bytes(*block)))
            .rotate_left(13)
            .wrapping_mul(5)
            .wrapping_add(0xe654_6b64);
    }
    let rest = tail.iter().rev().fold(0, |rest, &byte| rest << 8 | u32::from(byte));
    hash ^= mix(rest);
    hash ^= bytes.len() as u32;
    hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by Feast 0.67 into Redis.
    #[test]
    fn keys_are_those_of_feast() {
        let user = EntityValue::Int64(1001);
        assert_eq!(
            hex::encode(entity_key([("user_id", &user)].into_iter(), "fraud")),
            "010000000200000007000000757365725f69640400000008000000e9030000000000006672617564"
        );
        let (merchant, user) = (EntityValue::Text("acme".into()), EntityValue::Int64(1));
        assert_eq!(
            hex::encode(entity_key([("merchant", &merchant), ("user_id", &user)].into_iter(), "fraud")),
            "0200000002000000080000006d65726368616e740200000007000000757365725f6964020000000400000061636d65\
             040000000800000001000000000000006672617564"
        );
    }

    #[test]
    fn fields_are_those_of_feast() {
        for (view, feature, expected) in [
            ("user_stats", "amount_avg", "c2d7e782"),
            ("user_stats", "tx_count", "208cecde"),
            ("user_stats", "country", "9bcce6e3"),
            ("user_stats", "is_vip", "b8752a5c"),
            ("user_stats", "emb", "cff970e1"),
            ("user_stats", "last_seen", "d1f27523"),
            ("user_merchant", "n", "f02fb9da"),
        ] {
            assert_eq!(hex::encode(field(view, feature)), expected, "{view}:{feature}");
        }
        assert_eq!(timestamp_field("user_stats"), "_ts:user_stats");
    }
}
