//! Patterns.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex};

use regex::Regex;

/// Patterns compile slowly and are few. None if it is none.
pub(crate) fn compiled(pattern: &str) -> Option<Regex> {
    static COMPILED: LazyLock<Mutex<BTreeMap<String, Option<Regex>>>> = LazyLock::new(Mutex::default);
    let mut compiled = COMPILED.lock().ok()?;
    if let Some(known) = compiled.get(pattern) {
        return known.clone();
    }
    let regex = Regex::new(pattern).ok();
    compiled.insert(pattern.to_owned(), regex.clone());
    regex
}
