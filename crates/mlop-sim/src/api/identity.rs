//! Uids and name suffixes of new objects. They are counted instead of random, so that simulations are reproducible.

/// The characters of generated name suffixes, as on the real server.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Issues unique uids and suffixes.
#[derive(Debug, Default)]
pub(crate) struct Identities {
    issued: u64,
}

impl Identities {
    pub(crate) fn uid(&mut self) -> String {
        format!("00000000-0000-4000-8000-{:012x}", self.next())
    }

    /// A suffix of five characters for a generated name.
    pub(crate) fn suffix(&mut self) -> String {
        let mut rest = self.next();
        let digit = |rest: &mut u64| {
            let index = usize::try_from(*rest % ALPHABET.len() as u64).unwrap_or_default();
            *rest /= ALPHABET.len() as u64;
            ALPHABET.get(index).map_or('b', |byte| char::from(*byte))
        };
        (0..5).map(|_| digit(&mut rest)).collect()
    }

    fn next(&mut self) -> u64 {
        self.issued += 1;
        self.issued
    }
}
