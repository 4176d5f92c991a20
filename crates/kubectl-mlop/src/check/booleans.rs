//! Words that kubectl reads as booleans: it reads YAML 1.1, where `n` and `on` are among them, also as keys.

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use std::{collections::BTreeMap, fmt};

/// The words of one document that kubectl reads as booleans, as they were written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Booleans {
    /// By the path of their field.
    pub values: BTreeMap<String, String>,
    pub keys: Vec<Key>,
}

/// A key that becomes `true` or `false`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// Path of the object that has it.
    pub path: String,
    pub written: String,
    pub value: bool,
}

impl Booleans {
    /// Compares how kubectl reads a document with a reading where only `true` and `false` are booleans.
    pub(super) fn of(kubectl: &Node, strict: &Node) -> Self {
        let mut found = Self::default();
        found.add("", kubectl, strict);
        found
    }

    fn add(&mut self, path: &str, kubectl: &Node, strict: &Node) {
        match (kubectl, strict) {
            (Node::Bool(_), Node::Text(written)) => {
                self.values.insert(path.to_owned(), written.clone());
            }
            (Node::List(items), Node::List(written)) => {
                for (index, (item, written)) in items.iter().zip(written).enumerate() {
                    self.add(&format!("{path}[{index}]"), item, written);
                }
            }
            (Node::Map(fields), Node::Map(written)) => {
                for ((key, value), (written, other)) in fields.iter().zip(written) {
                    let name = written.name();
                    // `true` as a key stays the same text.
                    if let (Node::Bool(value), Node::Text(_)) = (key, written) {
                        let (path, written) = (path.to_owned(), name.clone());
                        self.keys.push(Key { path, written, value: *value });
                    }
                    let path = if path.is_empty() { name } else { format!("{path}.{name}") };
                    self.add(&path, value, other);
                }
            }
            _ => {}
        }
    }
}

/// A YAML value, as far as booleans are concerned. Keys have their types, too.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Bool(bool),
    Text(String),
    List(Vec<Self>),
    Map(Vec<(Self, Self)>),
    Other,
}

impl Node {
    /// The text of a key.
    fn name(&self) -> String {
        match self {
            Self::Bool(value) => value.to_string(),
            Self::Text(text) => text.clone(),
            _ => String::new(),
        }
    }

    /// The objects of a document: itself, or the items of a List.
    pub(super) fn objects(&self) -> Vec<&Self> {
        let Self::Map(fields) = self else { return vec![self] };
        let field = |name: &str| fields.iter().find(|(key, _)| key.name() == name).map(|(_, value)| value);
        match (field("kind"), field("items")) {
            (Some(Self::Text(kind)), Some(Self::List(items))) if kind == "List" => items.iter().collect(),
            _ => vec![self],
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Node;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a YAML value")
            }

            fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
                Ok(Node::Bool(value))
            }

            fn visit_str<E>(self, text: &str) -> Result<Node, E> {
                Ok(Node::Text(text.to_owned()))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Node, E> {
                Ok(Node::Other)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Node, E> {
                Ok(Node::Other)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
                Ok(Node::Other)
            }

            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node::Other)
            }

            fn visit_none<E>(self) -> Result<Node, E> {
                Ok(Node::Other)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Node::List(list))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Node, A::Error> {
                let mut map = Vec::new();
                while let Some(entry) = fields.next_entry()? {
                    map.push(entry);
                }
                Ok(Node::Map(map))
            }
        }
        deserializer.deserialize_any(Any)
    }
}
