//! What is to be looked at, now and later.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::read::seconds_after;
use crate::api::Key;

/// Keys that changed, and keys that wait for an instant.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue {
    dirty: BTreeSet<Key>,
    at: BTreeMap<Key, Timestamp>,
    order: BTreeSet<(Timestamp, Key)>,
    failures: BTreeMap<Key, u32>,
}

impl Queue {
    /// Something about the key changed.
    pub fn add(&mut self, key: Key) {
        self.dirty.insert(key);
    }

    /// Something about each of the keys changed.
    pub fn add_all(&mut self, keys: impl IntoIterator<Item = Key>) {
        self.dirty.extend(keys);
    }

    /// Everything that is to be looked at now, in order; the queue is empty afterwards but for later instants.
    pub fn take(&mut self, now: Timestamp) -> BTreeSet<Key> {
        while let Some((_, key)) = self.order.first().filter(|(at, _)| *at <= now).cloned() {
            self.forget(&key);
            self.dirty.insert(key);
        }
        std::mem::take(&mut self.dirty)
    }

    /// The key was looked at and has something to do at an instant, or nothing by time alone.
    pub fn settle(&mut self, key: &Key, due: Option<Timestamp>, now: Timestamp) {
        self.failures.remove(key);
        self.forget(key);
        if let Some(due) = due {
            // Nobody waits for the present: that would never end.
            self.wake(key, due.max(now.saturating_add(SignedDuration::from_millis(1)).unwrap_or(due)));
        }
    }

    /// A write of the key failed: it is tried again, later each time.
    pub fn fail(&mut self, key: &Key, now: Timestamp) {
        let failures = self.failures.entry(key.clone()).or_default();
        let delay = 1_i64 << (*failures).min(9);
        *failures += 1;
        self.forget(key);
        self.wake(key, seconds_after(now, delay));
    }

    /// The next instant that somebody waits for.
    pub fn next(&self) -> Option<Timestamp> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Whether something is to be looked at now.
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    fn wake(&mut self, key: &Key, at: Timestamp) {
        self.at.insert(key.clone(), at);
        self.order.insert((at, key.clone()));
    }

    fn forget(&mut self, key: &Key) {
        if let Some(at) = self.at.remove(key) {
            self.order.remove(&(at, key.clone()));
        }
    }
}
