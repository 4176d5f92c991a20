//! Values that many states share: hashed once, and compared by that hash.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::{
    collections::HashMap,
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    ops::Deref,
    sync::{Arc, Mutex},
};

/// An immutable object with a 64-bit hash of its JSON form, by which it is compared.
pub struct Shared<T> {
    value: Arc<T>,
    json: Arc<Value>,
    hash: u64,
}

impl<T: DeserializeOwned> Shared<T> {
    /// `source` as a `T`: itself, or a projection of it.
    pub fn of(source: &impl Serialize) -> Self {
        let json = serde_json::to_value(source).expect("objects have a JSON form");
        let value = serde_json::from_value(json.clone()).expect("it fits the type");
        Self { value: Arc::new(value), hash: hash(&json.to_string()), json: Arc::new(json) }
    }
}

impl<T> Shared<T> {
    pub fn arc(&self) -> Arc<T> {
        Arc::clone(&self.value)
    }

    pub fn json(&self) -> &Value {
        &self.json
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self { value: Arc::clone(&self.value), json: Arc::clone(&self.json), hash: self.hash }
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl<T> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl<T> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.json)
    }
}

fn hash(value: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Results of a pure function by the hash of its arguments.
pub struct Memo<V>(Mutex<HashMap<u64, V>>);

impl<V: Clone> Memo<V> {
    pub fn get(&self, arguments: impl Hash, make: impl FnOnce() -> V) -> V {
        let mut known = self.0.lock().expect("no reconcile panics");
        known.entry(hash(&arguments)).or_insert_with(make).clone()
    }

    pub fn find(&self, arguments: impl Hash) -> Option<V> {
        self.0.lock().expect("no reconcile panics").get(&hash(&arguments)).cloned()
    }

    pub fn len(&self) -> usize {
        self.0.lock().expect("no reconcile panics").len()
    }
}

impl<V> Default for Memo<V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}
