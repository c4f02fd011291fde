//! What people and programs say in texts: HTTP queries and calls, base64, tokens, secrets, addresses, names.

use std::str::FromStr as _;

use networkdb_cli::settings::values::{HttpAddress, ListenAddress, label, log_filter};
use networkdb_http::access::Tokens;
use networkdb_http::diagnostic::{Call, PATHS};
use networkdb_http::query::Query;
use networkdb_http::value_text::{from_base64, to_base64};
use transport::{ClusterName, Fingerprint, KeySet, Secret};
use wire::NodeName;

use crate::input::Input;

/// Reads `bytes` as each kind of text; panics if something is read otherwise the second time, or if an error shows what
/// was in a file of secrets.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let kind = input.byte();
    let bytes = input.rest();
    let text = String::from_utf8_lossy(bytes);
    match kind % 4 {
        0 => calls(&text),
        1 => base64(bytes),
        2 => secrets(&text),
        _ => values(&text),
    }
}

fn calls(text: &str) {
    let (path, query) = text.split_once('?').unwrap_or(("", text));
    let query = Query::parse(query);
    for path in PATHS.iter().copied().chain([path]) {
        if let Err(reply) = Call::parse(path, &query) {
            let _ = reply.render(networkdb_http::reply::Spelling::of(&query));
        }
    }
}

fn base64(bytes: &[u8]) {
    assert_eq!(from_base64(to_base64(bytes).as_bytes()).as_deref(), Ok(bytes));
    match from_base64(bytes) {
        Ok(value) => assert_eq!(from_base64(to_base64(&value).as_bytes()), Ok(value)),
        Err(error) => assert!(error.0 <= bytes.len(), "{error}"),
    }
}

fn secrets(text: &str) {
    let errors = [
        Tokens::parse(text).err().map(|error| error.to_string()),
        KeySet::parse(text).err().map(|error| error.to_string()),
        Secret::parse(text).err().map(|error| error.to_string()),
    ];
    for error in errors.into_iter().flatten() {
        // As long as what the shortest of tokens is, and longer than any word of our own.
        for word in text.split_whitespace().filter(|word| word.len() >= 24) {
            assert!(!error.contains(word), "{error}");
        }
    }
    if let Ok(secret) = Secret::parse(text) {
        let shown = secret.fingerprint().to_string();
        assert_eq!(Fingerprint::from_str(&shown).ok(), Some(secret.fingerprint()));
    }
}

fn values(text: &str) {
    let _ = (ListenAddress::from_str(text), HttpAddress::from_str(text), label(text), log_filter(text));
    let _ = Fingerprint::from_str(text);
    if let Ok(name) = NodeName::new(text) {
        assert_eq!(name.as_str(), text);
    }
    if let Ok(name) = ClusterName::new(text) {
        assert_eq!(name.as_str(), text);
    }
}
