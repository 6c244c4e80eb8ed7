//! What is due when.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

/// Keys with the instant at which each is due, the next one first.
#[derive(Debug)]
pub struct Due<K> {
    of_key: BTreeMap<K, Timestamp>,
    order: BTreeSet<(Timestamp, K)>,
}

impl<K> Default for Due<K> {
    fn default() -> Self {
        Self { of_key: BTreeMap::new(), order: BTreeSet::new() }
    }
}

impl<K: Clone + Ord> Due<K> {
    /// The key is due then, instead of whenever it was due before.
    pub fn insert(&mut self, key: K, at: Timestamp) {
        self.remove(&key);
        self.order.insert((at, key.clone()));
        self.of_key.insert(key, at);
    }

    /// The key is not due any more.
    pub fn remove(&mut self, key: &K) {
        if let Some(at) = self.of_key.remove(key) {
            self.order.remove(&(at, key.clone()));
        }
    }

    /// When the next one is due.
    pub fn next(&self) -> Option<Timestamp> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Takes a key that is due now.
    pub fn take(&mut self, now: Timestamp) -> Option<K> {
        let (at, key) = self.order.pop_first()?;
        if at > now {
            self.order.insert((at, key));
            return None;
        }
        self.of_key.remove(&key);
        Some(key)
    }

    /// Everything is due so much later, or earlier.
    pub fn shift(&mut self, by: SignedDuration) {
        for at in self.of_key.values_mut() {
            *at = at.checked_add(by).unwrap_or(*at);
        }
        self.order = self.of_key.iter().map(|(key, at)| (*at, key.clone())).collect();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_due_once_at_its_last_instant() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut due = Due::default();
        due.insert("a", at(5));
        due.insert("b", at(3));
        due.insert("a", at(2));
        due.insert("c", at(1));
        due.remove(&"c");
        assert_eq!(due.next(), Some(at(2)));
        assert_eq!(due.take(at(1)), None);
        due.shift(SignedDuration::from_secs(10));
        assert_eq!((due.take(at(12)), due.take(at(12)), due.next()), (Some("a"), None, Some(at(13))));
        assert_eq!((due.take(at(13)), due.next()), (Some("b"), None));
    }
}
