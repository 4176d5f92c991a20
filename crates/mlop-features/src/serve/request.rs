//! What clients ask for, in Feast's form.

use super::error::ApiError;
use crate::feast::EntityValue;
use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor},
};
use std::{collections::BTreeMap, fmt, marker::PhantomData};

/// Largest number of entities in a request.
pub const ROWS_MAX: usize = 10_000;
/// Largest number of features in a request.
pub const FEATURES_MAX: usize = 1_000;
/// Largest number of values in an answer.
pub const VALUES_MAX: usize = 200_000;

/// The body of `POST /get-online-features`.
#[derive(Debug, Deserialize)]
pub struct Request {
    #[serde(default)]
    features: Bounded<String, FEATURES_MAX>,
    /// The values of each entity column; they have the same length.
    #[serde(default)]
    entities: BTreeMap<String, Bounded<Key, ROWS_MAX>>,
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
        let entities: BTreeMap<_, _> = self.entities.into_iter().map(|(name, keys)| (name, keys.0)).collect();
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

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfKey;
        impl Visitor<'_> for OfKey {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a 64-bit integer or a string")
            }
            fn visit_i64<E: Error>(self, number: i64) -> Result<Key, E> {
                Ok(Key::Number(number))
            }
            fn visit_u64<E: Error>(self, number: u64) -> Result<Key, E> {
                i64::try_from(number)
                    .map(Key::Number)
                    .map_err(|_| E::custom(format!("{number} exceeds 64 bits")))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Key, E> {
                Ok(Key::Text(text.to_owned()))
            }
            fn visit_string<E: Error>(self, text: String) -> Result<Key, E> {
                Ok(Key::Text(text))
            }
        }
        deserializer.deserialize_any(OfKey)
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
    fn features_have_the_names_that_were_asked_for() {
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
    fn senseless_requests_are_told_why() {
        let many = format!(r#"{{"features":["v:a"],"entities":{{"id":[{}0]}}}}"#, "0,".repeat(ROWS_MAX));
        let wide = format!(
            r#"{{"features":[{}"v:x"],"entities":{{"id":[{}0]}}}}"#,
            (0..100).map(|n| format!("\"v:{n}\",")).collect::<String>(),
            "0,".repeat(5_000)
        );
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
            (r#"{"features":["v:a"],"entities":{"id":[1.5]}}"#, "64-bit integer or a string"),
            (r#"{"features":["v:a"],"entities":{"id":[null]}}"#, "64-bit integer or a string"),
            (r#"{"features":["v:a"],"entities":{"id":[18446744073709551615]}}"#, "64 bits"),
            (&many, "more than 10000 elements"),
            (&wide, "200000 values"),
        ] {
            let error = Request::parse(body.as_bytes()).unwrap_err();
            assert!(error.status.is_client_error(), "{error:?}");
            assert!(error.message.contains(words), "{words}: {error:?}");
        }
    }
}
