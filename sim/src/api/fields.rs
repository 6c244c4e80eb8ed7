//! Sets of fields, in the form of `FieldsV1`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// A set of places in an object. A node is a place; steps are written `f:name`, `k:{"name":"a"}`, `v:"a"`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FieldSet {
    /// Whether the place itself is in the set.
    pub is_member: bool,
    /// The places below, by their step; none of them is without members.
    pub below: BTreeMap<String, FieldSet>,
}

impl FieldSet {
    /// Reads `FieldsV1`.
    pub fn parse(fields: &Value) -> Self {
        let mut set = Self::default();
        for (step, below) in fields.as_object().into_iter().flatten() {
            if step == "." {
                set.is_member = true;
                continue;
            }
            let mut child = Self::parse(below);
            child.is_member |= child.below.is_empty();
            set.below.insert(step.clone(), child);
        }
        set
    }

    /// Writes `FieldsV1`.
    pub fn to_value(&self) -> Value {
        let mut fields = Map::new();
        if self.is_member && !self.below.is_empty() {
            fields.insert(".".to_owned(), Value::Object(Map::new()));
        }
        for (step, below) in &self.below {
            fields.insert(step.clone(), below.to_value());
        }
        Value::Object(fields)
    }

    pub fn is_empty(&self) -> bool {
        !self.is_member && self.below.is_empty()
    }

    /// Adds a place.
    pub fn insert(&mut self, path: &[String]) {
        match path.split_first() {
            None => self.is_member = true,
            Some((first, rest)) => self.below.entry(first.clone()).or_default().insert(rest),
        }
    }

    /// The union of two sets.
    pub fn union(mut self, other: &Self) -> Self {
        self.add(other);
        self
    }

    /// Adds what is in the other set.
    pub fn add(&mut self, other: &Self) {
        self.is_member |= other.is_member;
        for (step, below) in &other.below {
            match self.below.get_mut(step) {
                Some(child) => child.add(below),
                None => {
                    self.below.insert(step.clone(), below.clone());
                }
            }
        }
    }

    /// Takes out what is in the other set.
    pub fn subtract(&mut self, other: &Self) {
        self.is_member &= !other.is_member;
        for (step, below) in &other.below {
            if let Some(child) = self.below.get_mut(step) {
                child.subtract(below);
                if child.is_empty() {
                    self.below.remove(step);
                }
            }
        }
    }

    /// What is in both.
    pub fn intersection(&self, other: &Self) -> Self {
        let shared = self.below.iter().filter_map(|(step, below)| {
            let both = below.intersection(other.below.get(step)?);
            (!both.is_empty()).then(|| (step.clone(), both))
        });
        Self { is_member: self.is_member && other.is_member, below: shared.collect() }
    }

    /// What is in this set and not in the other.
    pub fn difference(mut self, other: &Self) -> Self {
        self.subtract(other);
        self
    }

    /// Without a place and everything below it.
    pub fn remove_tree(&mut self, path: &[&str]) {
        let Some((first, rest)) = path.split_first() else {
            *self = Self::default();
            return;
        };
        if let Some(child) = self.below.get_mut(*first) {
            child.remove_tree(rest);
            if child.is_empty() {
                self.below.remove(*first);
            }
        }
    }

    /// The members as people read them, `.spec.replicas`.
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect("", &mut paths);
        paths
    }

    fn collect(&self, path: &str, into: &mut Vec<String>) {
        // Members come before what is below any of them.
        for (step, below) in &self.below {
            if below.is_member {
                into.push(format!("{path}{}", shown(step)));
            }
        }
        for (step, below) in &self.below {
            below.collect(&format!("{path}{}", shown(step)), into);
        }
    }
}

/// A step as people read it.
pub(super) fn shown(step: &str) -> String {
    if let Some(name) = step.strip_prefix("f:") {
        return format!(".{name}");
    }
    if let Some(value) = step.strip_prefix("v:") {
        return format!("[={value}]");
    }
    let keys = step.strip_prefix("k:").and_then(|keys| serde_json::from_str::<Map<String, Value>>(keys).ok());
    let keys = keys.unwrap_or_default();
    let keys: Vec<String> = keys.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("[{}]", keys.join(","))
}
