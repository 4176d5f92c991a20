//! Values of features and times of rows: the protobuf messages `feast.types.Value` and `google.protobuf.Timestamp`.

use super::{
    Malformed,
    wire::{Reader, Wire, put_bytes, put_tag, put_varint},
};
use jiff::Timestamp;
use serde::{Serialize, Serializer, ser::SerializeSeq};

/// Fields of `feast.types.Value`: one for each type. A list has the field of its elements plus [`LIST`].
const STRING: u32 = 2;
const INT64: u32 = 4;
const DOUBLE: u32 = 5;
const FLOAT: u32 = 6;
const BOOL: u32 = 7;
const UNIX_TIMESTAMP: u32 = 8;
const LIST: u32 = 10;

/// A feature's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Int64(i64),
    Float(f32),
    Double(f64),
    Text(String),
    /// Seconds since 1970: Feast has no finer time for a feature.
    UnixTimestamp(i64),
    /// Values of one type, without [`Value::Null`] and lists.
    List(Vec<Value>),
}

impl Value {
    /// Memory outside of the value itself in bytes.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::List(values) => values.iter().map(|value| size_of::<Self>() + value.heap_bytes()).sum(),
            _ => 0,
        }
    }

    /// The bytes that Feast keeps; none for [`Value::Null`].
    ///
    /// # Errors
    /// A list that holds a null, a list, or values of several types has no such form.
    pub fn encode(&self) -> Result<Vec<u8>, Malformed> {
        let mut out = Vec::new();
        match self {
            Self::Null => {}
            Self::List(values) => match values.first() {
                // Which of the list fields is set cannot be seen from its empty content, nor does a reader need it.
                None => put_bytes(&mut out, LIST + DOUBLE, &[]),
                Some(first) => put_bytes(&mut out, LIST + first.field()?, &list(values)?),
            },
            scalar => {
                let field = scalar.field()?;
                put_tag(&mut out, field, wire(field));
                scalar.put(&mut out);
            }
        }
        Ok(out)
    }

    /// Reads what [`encode`](Self::encode) or Feast wrote.
    ///
    /// # Errors
    /// When the bytes are no such message, or of a type that mlop does not write.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.is_empty() {
            return Ok(Self::Null);
        }
        let mut reader = Reader::new(bytes);
        let (field, wire_type) = reader.tag()?;
        let value = if (LIST + STRING..=LIST + UNIX_TIMESTAMP).contains(&field) {
            Self::List(read_list(field - LIST, reader.bytes()?)?)
        } else if wire_type == wire(field) {
            read(field, &mut reader)?
        } else {
            return Err(Malformed("a value has another type than its field"));
        };
        if reader.is_empty() { Ok(value) } else { Err(Malformed("bytes after the value")) }
    }

    fn field(&self) -> Result<u32, Malformed> {
        match self {
            Self::Text(_) => Ok(STRING),
            Self::Int64(_) => Ok(INT64),
            Self::Double(_) => Ok(DOUBLE),
            Self::Float(_) => Ok(FLOAT),
            Self::Bool(_) => Ok(BOOL),
            Self::UnixTimestamp(_) => Ok(UNIX_TIMESTAMP),
            Self::Null => Err(Malformed("a list holds a null")),
            Self::List(_) => Err(Malformed("a list holds a list")),
        }
    }

    /// Appends the value of a scalar without its tag.
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null | Self::List(_) => {}
            Self::Bool(flag) => out.push(u8::from(*flag)),
            Self::Int64(number) | Self::UnixTimestamp(number) => put_varint(out, *number as u64),
            Self::Float(number) => out.extend_from_slice(&number.to_le_bytes()),
            Self::Double(number) => out.extend_from_slice(&number.to_le_bytes()),
            Self::Text(text) => {
                put_varint(out, text.len() as u64);
                out.extend_from_slice(text.as_bytes());
            }
        }
    }
}

/// How a scalar of this field is written.
fn wire(field: u32) -> Wire {
    match field {
        STRING => Wire::Bytes,
        DOUBLE => Wire::Fixed64,
        FLOAT => Wire::Fixed32,
        _ => Wire::Varint,
    }
}

/// The content of a list message: texts one by one, everything else packed.
fn list(values: &[Value]) -> Result<Vec<u8>, Malformed> {
    let mut packed = Vec::new();
    let field = values.first().map_or(Ok(DOUBLE), Value::field)?;
    for value in values {
        if value.field()? != field {
            return Err(Malformed("a list holds values of several types"));
        }
        if field == STRING {
            put_tag(&mut packed, 1, Wire::Bytes);
        }
        value.put(&mut packed);
    }
    if field == STRING {
        return Ok(packed);
    }
    let mut out = Vec::with_capacity(packed.len() + 4);
    put_bytes(&mut out, 1, &packed);
    Ok(out)
}

fn read_list(field: u32, bytes: &[u8]) -> Result<Vec<Value>, Malformed> {
    let mut reader = Reader::new(bytes);
    let mut values = Vec::new();
    while !reader.is_empty() {
        if reader.tag()? != (1, Wire::Bytes) {
            return Err(Malformed("a list has an unknown field"));
        }
        if field == STRING {
            values.push(read(STRING, &mut reader)?);
            continue;
        }
        let mut packed = Reader::new(reader.bytes()?);
        while !packed.is_empty() {
            values.push(read(field, &mut packed)?);
        }
    }
    Ok(values)
}

fn read(field: u32, reader: &mut Reader<'_>) -> Result<Value, Malformed> {
    Ok(match field {
        STRING => {
            let text = std::str::from_utf8(reader.bytes()?).map_err(|_| Malformed("a text is not UTF-8"))?;
            Value::Text(text.to_owned())
        }
        INT64 => Value::Int64(reader.varint()? as i64),
        DOUBLE => Value::Double(f64::from_le_bytes(reader.fixed()?)),
        FLOAT => Value::Float(f32::from_le_bytes(reader.fixed()?)),
        BOOL => Value::Bool(reader.varint()? != 0),
        UNIX_TIMESTAMP => Value::UnixTimestamp(reader.varint()? as i64),
        _ => return Err(Malformed("a value of a type that mlop does not use")),
    })
}

/// Values in a response: as protobuf's JSON form writes them, but 64-bit integers as numbers, like Feast's server.
impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(flag) => serializer.serialize_bool(*flag),
            Self::Int64(number) | Self::UnixTimestamp(number) => serializer.serialize_i64(*number),
            Self::Float(number) if number.is_finite() => serializer.serialize_f32(*number),
            Self::Float(number) => serializer.serialize_str(not_finite(f64::from(*number))),
            Self::Double(number) if number.is_finite() => serializer.serialize_f64(*number),
            Self::Double(number) => serializer.serialize_str(not_finite(*number)),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(values) => {
                let mut list = serializer.serialize_seq(Some(values.len()))?;
                for value in values {
                    list.serialize_element(value)?;
                }
                list.end()
            }
        }
    }
}

fn not_finite(number: f64) -> &'static str {
    if number.is_nan() {
        "NaN"
    } else if number > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
}

/// `time` as `google.protobuf.Timestamp`.
pub fn encode_time(time: Timestamp) -> Vec<u8> {
    // The message wants nanoseconds that count forward, also before 1970.
    let nanos = time.as_nanosecond();
    let (seconds, nanos) = (nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000));
    let mut out = Vec::new();
    for (field, number) in [(1, seconds as u64), (2, nanos as u64)] {
        if number != 0 {
            put_tag(&mut out, field, Wire::Varint);
            put_varint(&mut out, number);
        }
    }
    out
}

/// Reads what [`encode_time`] wrote.
///
/// # Errors
/// When the bytes are no such message.
pub fn decode_time(bytes: &[u8]) -> Result<Timestamp, Malformed> {
    let (mut reader, mut seconds, mut nanos) = (Reader::new(bytes), 0, 0);
    while !reader.is_empty() {
        match reader.tag()? {
            (1, Wire::Varint) => seconds = reader.varint()? as i64,
            (2, Wire::Varint) => nanos = reader.varint()? as i32,
            _ => return Err(Malformed("a time has an unknown field")),
        }
    }
    Timestamp::new(seconds, nanos).map_err(|_| Malformed("a time is out of range"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: &Value, hexadecimal: &str) {
        let bytes = value.encode().unwrap();
        assert_eq!(hex::encode(&bytes), hexadecimal);
        assert_eq!(Value::decode(&bytes).as_ref(), Ok(value));
    }

    /// Written by Feast 0.67 into Redis.
    #[test]
    fn values_are_those_of_feast() {
        check(&Value::Double(1501.5), "290000000000769740");
        check(&Value::Int64(1001), "20e907");
        check(&Value::Text("RO".into()), "1202524f");
        check(&Value::Bool(true), "3801");
        check(&Value::List(vec![Value::Float(0.5), Value::Float(1.5)]), "82010a0a080000003f0000c03f");
        check(&Value::UnixTimestamp(1_795_235_280), "40d0bb84d806");
        check(&Value::Null, "");
        check(&Value::Int64(42), "202a");
    }

    #[test]
    fn defaults_and_negatives_are_written_out() {
        check(&Value::Int64(0), "2000");
        check(&Value::Int64(-1), "20ffffffffffffffffff01");
        check(&Value::Bool(false), "3800");
        check(&Value::Text(String::new()), "1200");
        check(&Value::List(vec![Value::Text("a".into()), Value::Text(String::new())]), "62050a01610a00");
        check(&Value::List(vec![Value::Int64(1), Value::Int64(300)]), "72050a0301ac02");
    }

    #[test]
    fn times_are_those_of_feast() {
        let time: Timestamp = "2026-11-21T04:23:00Z".parse().unwrap();
        assert_eq!(hex::encode(encode_time(time)), "08a4b984d806");
        for text in ["1970-01-01T00:00:00Z", "1969-12-31T23:59:59.5Z", "2026-11-21T04:23:00.000001Z"] {
            let time: Timestamp = text.parse().unwrap();
            assert_eq!(decode_time(&encode_time(time)), Ok(time), "{text}");
        }
    }

    #[test]
    fn value_is_refused_when_feast_has_no_form_for_it() {
        for values in
            [vec![Value::Null], vec![Value::Int64(1), Value::Double(1.0)], vec![Value::List(vec![])]]
        {
            assert!(Value::List(values.clone()).encode().is_err(), "{values:?}");
        }
        for bytes in ["00", "29", "20e9", "1205524f", "120152ff", "9a0100", "20000000", "0801"] {
            assert!(Value::decode(&hex::decode(bytes).unwrap()).is_err(), "{bytes}");
        }
    }

    #[test]
    fn json_writes_a_number_as_text_when_it_is_not_finite() {
        let values = [
            Value::Double(f64::NAN),
            Value::Float(f32::NEG_INFINITY),
            Value::Float(0.1),
            Value::Double(12.0),
            Value::Null,
            Value::List(vec![Value::Int64(i64::MAX)]),
        ];
        assert_eq!(
            serde_json::to_string(&values).unwrap(),
            r#"["NaN","-Infinity",0.1,12.0,null,[9223372036854775807]]"#
        );
    }
}
