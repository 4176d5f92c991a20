//! Names and uids for new objects, counted rather than random.

use serde_json::{Value, json};

use crate::{
    object::{Object, text},
    resource::{Generation, ResourceType},
    server::Server,
};

impl Server {
    /// Gives an object that asks for it a name of its own.
    pub(crate) fn generate_name(&mut self, object: &mut Value) {
        let base = text(&object.meta()["generateName"]).to_string();
        if object.name().is_empty() && !base.is_empty() {
            let suffix = self.suffix();
            object.meta_mut().insert("name".into(), json!(format!("{base}{suffix}")));
        }
    }

    /// Five characters of the real server's alphabet, different every time.
    pub(crate) fn suffix(&mut self) -> String {
        const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        let mut rest = self.next_id();
        let digit = |rest: &mut u64| {
            let index = usize::try_from(*rest % ALPHABET.len() as u64).unwrap_or_default();
            *rest /= ALPHABET.len() as u64;
            ALPHABET.get(index).map_or('b', |byte| char::from(*byte))
        };
        (0..5).map(|_| digit(&mut rest)).collect()
    }

    fn next_id(&mut self) -> u64 {
        self.issued += 1;
        self.issued
    }

    /// Sets what every new object gets: uid, time of creation, generation.
    pub(crate) fn stamp_new(&mut self, ty: &ResourceType, object: &mut Value) {
        let uid = format!("00000000-0000-4000-8000-{:012x}", self.next_id());
        let now = self.clock.now_seconds().to_string();
        let meta = object.meta_mut();
        for field in
            ["deletionTimestamp", "deletionGracePeriodSeconds", "managedFields", "selfLink", "generation"]
        {
            meta.remove(field);
        }
        meta.insert("uid".into(), json!(uid));
        meta.insert("creationTimestamp".into(), json!(now));
        if ty.generation != Generation::Never {
            meta.insert("generation".into(), json!(1));
        }
    }
}
