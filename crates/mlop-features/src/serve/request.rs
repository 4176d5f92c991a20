//! What clients ask for, in Feast's form.

use super::error::ApiError;
use crate::feast::EntityValue;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor},
};
use std::{collections::BTreeMap, fmt, marker::PhantomData};

/// Largest number of entities in a request.
pub const ROWS_MAX: usize = 10_000;
/// Largest number of features in a request.
pub const FEATURES_MAX: usize = 1_000;
/// Largest number of entity columns in a request.
pub const COLUMNS_MAX: usize = 32;
/// Largest number of values in an answer.
pub const VALUES_MAX: usize = 200_000;

/// The body of `POST /get-online-features`.
#[derive(Debug, Deserialize)]
pub struct Request {
    #[serde(default)]
    features: Bounded<String, FEATURES_MAX>,
    /// The values of each entity column. They have the same length.
    #[serde(default)]
    entities: Columns,
    /// Call features `view__feature` in the answer.
    #[serde(default)]
    full_feature_names: bool,
    #[serde(default)]
    feature_service: Option<String>,
}

/// A request that makes sense in itself.
#[derive(Debug)]
pub struct Wanted {
    pub features: Vec<Feature>,
    pub entities: BTreeMap<String, Vec<Key>>,
    pub rows: usize,
}

/// A feature of a view, and its name in the answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Feature {
    pub view: String,
    pub name: String,
    pub shown: String,
}

/// A part of an entity as JSON writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    Number(i64),
    Text(String),
}

impl Key {
    pub fn into_value(self) -> EntityValue {
        match self {
            Self::Number(number) => EntityValue::Int64(number),
            Self::Text(text) => EntityValue::Text(text),
        }
    }
}

impl Wanted {
    /// Number of values in the answer: those of the features, and the entities that are repeated.
    pub fn values(&self) -> usize {
        (self.rows * self.features.len()).max(1)
    }
}

impl Request {
    pub fn parse(body: &[u8]) -> Result<Wanted, ApiError> {
        let request: Self = serde_json::from_slice(body)
            .map_err(|error| ApiError::bad_request(format!("the body is no request: {error}")))?;
        request.checked()
    }

    fn checked(self) -> Result<Wanted, ApiError> {
        if let Some(service) = self.feature_service {
            let message = format!(
                "there is no feature service {service:?}: name features as \"view:feature\" in \"features\""
            );
            return Err(ApiError::bad_request(message));
        }
        let entities = self.entities.0;
        let lengths: BTreeMap<_, _> = entities.iter().map(|(name, keys)| (keys.len(), name)).collect();
        let rows = match (lengths.first_key_value(), lengths.last_key_value()) {
            (None, _) | (Some((0, _)), _) | (_, None) => {
                return Err(ApiError::bad_request(
                    "\"entities\" must have at least one column with one value",
                ));
            }
            (Some((fewest, short)), Some((most, long))) if fewest != most => {
                let message =
                    format!("entity columns differ in length: {short:?} has {fewest}, {long:?} has {most}");
                return Err(ApiError::bad_request(message));
            }
            (_, Some((rows, _))) => *rows,
        };
        let features = features(self.features.0, self.full_feature_names)?;
        if let Some(feature) = features.iter().find(|feature| entities.contains_key(&feature.shown)) {
            return Err(ambiguous(&feature.shown));
        }
        if rows * features.len() > VALUES_MAX {
            let message = format!(
                "{rows} entities times {} features are more than {VALUES_MAX} values",
                features.len()
            );
            return Err(ApiError::new(axum::http::StatusCode::PAYLOAD_TOO_LARGE, message));
        }
        Ok(Wanted { features, entities, rows })
    }
}

fn features(references: Vec<String>, full: bool) -> Result<Vec<Feature>, ApiError> {
    if references.is_empty() {
        return Err(ApiError::bad_request("\"features\" must name at least one \"view:feature\""));
    }
    let mut features: Vec<Feature> = Vec::with_capacity(references.len());
    for reference in references {
        let Some((view, name)) =
            reference.split_once(':').filter(|(view, name)| !view.is_empty() && !name.is_empty())
        else {
            return Err(ApiError::bad_request(format!("{reference:?} is not of the form \"view:feature\"")));
        };
        let shown = if full { format!("{view}__{name}") } else { name.to_owned() };
        features.push(Feature { view: view.to_owned(), name: name.to_owned(), shown });
    }
    let mut shown: Vec<&str> = features.iter().map(|feature| feature.shown.as_str()).collect();
    shown.sort_unstable();
    match shown.array_windows().find(|[one, next]| one == next) {
        Some([twice, _]) => Err(ambiguous(twice)),
        None => Ok(features),
    }
}

fn ambiguous(name: &str) -> ApiError {
    ApiError::bad_request(format!(
        "the answer would have two columns {name:?}: ask for each once, or set \"full_feature_names\""
    ))
}

/// The entity columns by their names. A value that is no key is refused with its place.
#[derive(Debug, Default)]
struct Columns(BTreeMap<String, Vec<Key>>);

impl<'de> Deserialize<'de> for Columns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfColumns;
        impl<'de> Visitor<'de> for OfColumns {
            type Value = Columns;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with a list for each entity column")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Columns, A::Error> {
                let mut columns = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    if columns.len() == COLUMNS_MAX {
                        return Err(A::Error::custom(format!(
                            "there are more than {COLUMNS_MAX} entity columns"
                        )));
                    }
                    if columns.contains_key(&name) {
                        return Err(A::Error::custom(format!("entity column {name:?} is there twice")));
                    }
                    let keys = map.next_value_seed(OfColumn(&name))?;
                    columns.insert(name, keys);
                }
                Ok(Columns(columns))
            }
        }
        deserializer.deserialize_map(OfColumns)
    }
}

/// The keys of the entity column of this name.
struct OfColumn<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for OfColumn<'_> {
    type Value = Vec<Key>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<Key>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for OfColumn<'_> {
    type Value = Vec<Key>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {ROWS_MAX} entities as entity column {:?}", self.0)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<Key>, A::Error> {
        let mut keys = Vec::new();
        while let Some(key) = list.next_element_seed(OfKey { column: self.0, row: keys.len() })? {
            if keys.len() == ROWS_MAX {
                let message = format!("entity column {:?} has more than {ROWS_MAX} elements", self.0);
                return Err(A::Error::custom(message));
            }
            keys.push(key);
        }
        Ok(keys)
    }
}

/// The key at one place.
struct OfKey<'a> {
    column: &'a str,
    row: usize,
}

impl<'de> DeserializeSeed<'de> for OfKey<'_> {
    type Value = Key;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for OfKey<'_> {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a 64-bit integer or a string in row {} of entity column {:?}", self.row, self.column)
    }
    fn visit_i64<E: Error>(self, number: i64) -> Result<Key, E> {
        Ok(Key::Number(number))
    }
    fn visit_u64<E: Error>(self, number: u64) -> Result<Key, E> {
        i64::try_from(number).map(Key::Number).map_err(|_| {
            let Self { row, column } = self;
            E::custom(format!("{number} in row {row} of entity column {column:?} exceeds 64 bits"))
        })
    }
    fn visit_str<E: Error>(self, text: &str) -> Result<Key, E> {
        Ok(Key::Text(text.to_owned()))
    }
    fn visit_string<E: Error>(self, text: String) -> Result<Key, E> {
        Ok(Key::Text(text))
    }
}

/// A list that is refused while it is read once it has more than `MAX` elements.
#[derive(Debug)]
struct Bounded<T, const MAX: usize>(Vec<T>);

impl<T, const MAX: usize> Default for Bounded<T, MAX> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Bounded<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfList<T, const MAX: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for OfList<T, MAX> {
            type Value = Bounded<T, MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of at most {MAX} elements")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = list.next_element()? {
                    if elements.len() == MAX {
                        return Err(A::Error::custom(format!("a list has more than {MAX} elements")));
                    }
                    elements.push(element);
                }
                Ok(Bounded(elements))
            }
        }
        deserializer.deserialize_seq(OfList(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_have_the_names_of_the_request() {
        for (full, shown) in [(false, "delay"), (true, "routes__delay")] {
            let body = format!(
                r#"{{"features":["routes:delay"],"entities":{{"id":[1]}},"full_feature_names":{full}}}"#
            );
            let wanted = Request::parse(body.as_bytes()).unwrap();
            let feature = Feature { view: "routes".into(), name: "delay".into(), shown: shown.into() };
            assert_eq!((wanted.features, wanted.rows), (vec![feature], 1));
        }
    }

    #[test]
    fn senseless_request_is_refused_with_its_reason() {
        let many = format!(r#"{{"features":["v:a"],"entities":{{"id":[{}0]}}}}"#, "0,".repeat(ROWS_MAX));
        let wide = format!(
            r#"{{"features":[{}"v:x"],"entities":{{"id":[{}0]}}}}"#,
            (0..100).map(|n| format!("\"v:{n}\",")).collect::<String>(),
            "0,".repeat(5_000)
        );
        let columns = (0..33).map(|n| format!("\"c{n}\":[1]")).collect::<Vec<_>>().join(",");
        let columns = format!(r#"{{"features":["v:a"],"entities":{{{columns}}}}}"#);
        for (body, words) in [
            ("", "no request"),
            ("7", "no request"),
            (r#"{"entities":{"id":[1]}}"#, "\"features\""),
            (r#"{"features":["v:a"]}"#, "\"entities\""),
            (r#"{"features":["v:a"],"entities":{"id":[]}}"#, "\"entities\""),
            (r#"{"features":["v:a"],"entities":{"id":[1,2],"x":["a"]}}"#, "differ in length"),
            (r#"{"features":["va"],"entities":{"id":[1]}}"#, "view:feature"),
            (r#"{"features":[":a"],"entities":{"id":[1]}}"#, "view:feature"),
            (r#"{"features":["v:a","w:a"],"entities":{"id":[1]}}"#, "two columns \"a\""),
            (r#"{"features":["v:id"],"entities":{"id":[1]}}"#, "two columns \"id\""),
            (r#"{"feature_service":"s","entities":{"id":[1]}}"#, "feature service"),
            (r#"{"features":["v:a"],"entities":{"id":[7,1.5]}}"#, "string in row 1 of entity column \"id\""),
            (r#"{"features":["v:a"],"entities":{"id":[null]}}"#, "string in row 0 of entity column \"id\""),
            (r#"{"features":["v:a"],"entities":{"id":[1,true]}}"#, "string in row 1 of entity column \"id\""),
            (r#"{"features":["v:a"],"entities":{"id":7}}"#, "entity column \"id\""),
            (r#"{"features":["v:a"],"entities":{"id":[1],"id":[2]}}"#, "twice"),
            (r#"{"features":["v:a"],"entities":{"id":[18446744073709551615]}}"#, "exceeds 64 bits"),
            (&columns, "more than 32 entity columns"),
            (&many, "more than 10000 elements"),
            (&wide, "200000 values"),
        ] {
            let error = Request::parse(body.as_bytes()).unwrap_err();
            assert!(error.status.is_client_error(), "{error:?}");
            assert!(error.message.contains(words), "{words}: {error:?}");
        }
    }
}
