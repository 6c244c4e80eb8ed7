//! The append-only log of what happened, which watches read.

use std::collections::VecDeque;
use std::sync::Arc;

use interlock_core::object::GroupKind;
use serde_json::Value;

use super::error::ApiError;

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    /// It was created.
    Added,
    /// It was written.
    Modified,
    /// It is gone.
    Deleted,
}

/// One entry of the log.
#[derive(Clone, Debug)]
pub struct Event {
    /// The resourceVersion of the entry, which its object carries too.
    pub rv: u64,
    /// What happened.
    pub change: EventType,
    /// Group and kind of the object.
    pub kind: GroupKind,
    /// The object after it happened; the last state of a deleted one.
    pub object: Arc<Value>,
    /// The object before it happened; none of a new one.
    pub before: Option<Arc<Value>>,
}

/// The log.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    entries: VecDeque<Event>,
    /// The newest resourceVersion that was dropped.
    compacted: u64,
}

impl Log {
    pub fn push(&mut self, event: Event) {
        self.entries.push_back(event);
    }

    pub fn since(&self, rv: u64) -> Result<impl Iterator<Item = &Event>, ApiError> {
        if rv < self.compacted {
            return Err(ApiError::expired(rv, self.compacted));
        }
        let first = self.entries.partition_point(|event| event.rv <= rv);
        Ok(self.entries.range(first..))
    }

    pub fn compact(&mut self, rv: u64) {
        let first = self.entries.partition_point(|event| event.rv <= rv);
        self.entries.drain(..first);
        self.compacted = self.compacted.max(rv);
    }
}
