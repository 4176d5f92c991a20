//! Termination messages, which pods write, also those with user code, and operators read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mlop_api::result::{LIMIT, ResultDocument};

fuzz_target!(|text: &str| {
    let Ok(document) = ResultDocument::from_message(text) else { return };
    assert!(document.metrics.len() <= 64 && document.summary.iter().all(|s| s.chars().count() <= 256));
    let message = document.to_message();
    if message.len() > LIMIT {
        // Only fields that are never truncated can exceed the limit.
        assert!(document.registered.is_some() || document.error.is_some(), "{message}");
        return;
    }
    let again = ResultDocument::from_message(&message).expect("a written result can be read");
    assert_eq!(again.to_message(), message);
    assert_eq!((again.digest, again.checkpoint), (document.digest, document.checkpoint));
});
