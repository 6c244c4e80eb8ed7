//! Where one object is stored. An object that nobody has looked at for a while is kept as text: the tree of a
//! ChangeRequest takes forty thousand bytes, its text five thousand.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use serde_json::Value;

/// One object.
#[derive(Debug)]
pub(super) struct Slot {
    tree: OnceLock<Arc<Value>>,
    text: Option<Box<[u8]>>,
    /// Whether somebody looked since it was last asked to rest.
    was_read: AtomicBool,
}

impl Slot {
    pub fn new(object: Arc<Value>) -> Self {
        Self { tree: OnceLock::from(object), text: None, was_read: AtomicBool::new(true) }
    }

    /// The object, which then is kept at hand.
    pub fn get(&self) -> &Arc<Value> {
        self.was_read.store(true, Ordering::Relaxed);
        self.tree.get_or_init(|| self.parsed())
    }

    /// The object, for somebody who looks at many of them once.
    pub fn glance(&self) -> Arc<Value> {
        self.tree.get().cloned().unwrap_or_else(|| self.parsed())
    }

    fn parsed(&self) -> Arc<Value> {
        // What was written from a tree can be read into one.
        Arc::new(self.text.as_deref().and_then(|text| serde_json::from_slice(text).ok()).unwrap_or_default())
    }

    /// Nobody will look for a while, if nobody has since this was said last. Whoever holds the object meanwhile may
    /// compare it with what is stored by its address, so that it stays then.
    pub fn rest(&mut self) {
        if std::mem::take(self.was_read.get_mut()) {
            return;
        }
        let Some(tree) = self.tree.get().filter(|tree| Arc::strong_count(tree) == 1) else {
            return;
        };
        if self.text.is_none() && !has_fraction(tree) {
            self.text = serde_json::to_vec(&**tree).ok().map(Vec::into_boxed_slice);
        }
        if self.text.is_some() {
            self.tree = OnceLock::new();
        }
    }
}

impl Clone for Slot {
    fn clone(&self) -> Self {
        Self { tree: self.tree.clone(), text: self.text.clone(), was_read: AtomicBool::new(true) }
    }
}

/// Fractions may be read as a neighbour of what was written.
fn has_fraction(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(items) => items.iter().any(has_fraction),
        Value::Object(fields) => fields.values().any(has_fraction),
        Value::Null | Value::Bool(_) | Value::String(_) => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    fn resting(slot: &Slot) -> bool {
        slot.tree.get().is_none()
    }

    #[test]
    fn what_nobody_looks_at_rests_and_is_the_same_afterwards() {
        let object = json!({"metadata": {"name": "ü\"\n", "labels": {}}, "list": [1, -2, true, null, u64::MAX]});
        let mut slot = Slot::new(Arc::new(object.clone()));
        slot.rest();
        assert!(!resting(&slot), "it was stored a moment ago");
        slot.rest();
        assert!(resting(&slot));
        assert_eq!(*slot.glance(), object);
        assert!(resting(&slot), "a glance does not keep it at hand");
        assert_eq!(**slot.get(), object);
        slot.rest();
        assert!(!resting(&slot), "it was read meanwhile");
        slot.rest();
        assert!(resting(&slot));
    }

    #[test]
    fn what_somebody_holds_stays_the_same_allocation() {
        let mut slot = Slot::new(Arc::new(json!({})));
        let held = Arc::clone(slot.get());
        slot.rest();
        slot.rest();
        assert!(Arc::ptr_eq(&held, slot.get()));
    }

    #[test]
    fn an_object_with_a_fraction_does_not_rest() {
        let mut slot = Slot::new(Arc::new(json!({"weight": 0.1})));
        slot.rest();
        slot.rest();
        assert!(!resting(&slot));
    }
}
