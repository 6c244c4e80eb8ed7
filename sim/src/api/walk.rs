//! Walks over values by the meaning of their fields, as structured-merge-diff does: which places a value states, where
//! two values differ, their union, and a value without some places.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::fields::FieldSet;
use super::kinds::{Relation, Typ, item_step, items};

/// Where two values differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Comparison {
    pub added: FieldSet,
    pub modified: FieldSet,
    pub removed: FieldSet,
}

/// Where `new` differs from `old`.
pub(super) fn compare(typ: Typ<'_>, old: Option<&Value>, new: Option<&Value>) -> Comparison {
    let mut walk = Compare { found: Comparison::default(), path: Vec::new() };
    walk.visit(typ, old, new);
    walk.found
}

struct Compare {
    found: Comparison,
    path: Vec<String>,
}

impl Compare {
    fn visit(&mut self, typ: Typ<'_>, old: Option<&Value>, new: Option<&Value>) {
        // Two values that are one and the same differ nowhere below either.
        if old == new {
            return;
        }
        let Some(children) = children_of_both(typ, old, new) else {
            match (old, new) {
                (None, _) => self.found.added.insert(&self.path),
                (_, None) => self.found.removed.insert(&self.path),
                (old, new) if old != new => self.found.modified.insert(&self.path),
                _ => {}
            }
            return;
        };
        for (step, child, old, new) in children {
            self.path.push(step);
            self.visit(child, old, new);
            self.path.pop();
        }
        match (old, new) {
            (None, _) => self.found.added.insert(&self.path),
            (_, None) => self.found.removed.insert(&self.path),
            _ => {}
        }
    }
}

type Pair<'t, 'v> = (String, Typ<'t>, Option<&'v Value>, Option<&'v Value>);

/// The places directly below two values; none if they are compared as one.
fn children_of_both<'t, 'v>(typ: Typ<'t>, old: Option<&'v Value>, new: Option<&'v Value>) -> Option<Vec<Pair<'t, 'v>>> {
    let (a, b) = (children(typ, old)?, children(typ, new)?);
    if a.is_empty() && b.is_empty() {
        return None;
    }
    if let (Some(old), Some(new)) = (old, new)
        && old.is_array() != new.is_array()
        && !old.is_null()
        && !new.is_null()
    {
        return None;
    }
    let steps: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let pair = |step: &String| {
        let (old, new) = (a.get(step), b.get(step));
        let typ = new.or(old).map_or(Typ::Unknown, |(typ, _)| *typ);
        (step.clone(), typ, old.map(|(_, value)| *value), new.map(|(_, value)| *value))
    };
    Some(steps.into_iter().map(pair).collect())
}

/// The places directly below a value; nothing and null have none. None if the value is one place.
fn children<'t, 'v>(typ: Typ<'t>, value: Option<&'v Value>) -> Option<BTreeMap<String, (Typ<'t>, &'v Value)>> {
    match value {
        None | Some(Value::Null) => Some(BTreeMap::new()),
        Some(value @ Value::Object(fields)) if typ.relation(value) == Relation::Granular => {
            let below = fields.iter().map(|(name, value)| (format!("f:{name}"), (typ.field(name), value)));
            Some(below.collect())
        }
        Some(value @ Value::Array(list)) => {
            let relation = typ.relation(value);
            if relation == Relation::Atomic {
                return None;
            }
            Some(items(&relation, list)?.into_iter().map(|(step, item)| (step, (typ.item(), item))).collect())
        }
        Some(_) => None,
    }
}

/// The places that a value states.
pub(super) fn stated(typ: Typ<'_>, value: &Value) -> FieldSet {
    let below = children(typ, Some(value)).filter(|below| !below.is_empty());
    let Some(below) = below else {
        // Nobody owns a list of items that has none.
        let is_member = !value.is_array() || typ.relation(value) == Relation::Atomic;
        return FieldSet { is_member, below: BTreeMap::new() };
    };
    let is_list = value.is_array();
    let mut set = FieldSet::default();
    for (step, (child, value)) in below {
        let mut inner = stated(child, value);
        let is_named = step.strip_prefix("f:").is_some_and(|name| typ.is_named(name));
        inner.is_member |= is_list || !is_named;
        if !inner.is_empty() {
            set.below.insert(step, inner);
        }
    }
    set
}

/// The set with every field of a structure that has something below.
pub(super) fn with_named(typ: Typ<'_>, set: &FieldSet) -> FieldSet {
    let mut ensured = FieldSet { is_member: set.is_member, below: BTreeMap::new() };
    for (step, below) in &set.below {
        let (child, is_named) = match step.strip_prefix("f:") {
            Some(name) => (typ.field(name), typ.is_named(name)),
            None => (typ.item(), false),
        };
        let mut inner = with_named(child, below);
        inner.is_member |= is_named;
        ensured.below.insert(step.clone(), inner);
    }
    ensured
}

/// The value without the places of a set.
pub(super) fn without(typ: Typ<'_>, value: &Value, set: &FieldSet) -> Value {
    match value {
        Value::Object(fields) if typ.relation(value) == Relation::Granular => {
            let kept = fields.iter().filter_map(|(name, value)| {
                let kept = keep(typ.field(name), value, set.below.get(&format!("f:{name}")))?;
                Some((name.clone(), kept))
            });
            Value::Object(kept.collect())
        }
        Value::Array(list) => match items(&typ.relation(value), list) {
            Some(items) => {
                items.into_iter().filter_map(|(step, item)| keep(typ.item(), item, set.below.get(&step))).collect()
            }
            None => value.clone(),
        },
        _ => value.clone(),
    }
}

fn keep(typ: Typ<'_>, value: &Value, set: Option<&FieldSet>) -> Option<Value> {
    let Some(set) = set else {
        return Some(value.clone());
    };
    if set.is_member {
        return None;
    }
    let kept = without(typ, value, set);
    let emptied = |value: &Value| match value {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    };
    (!emptied(&kept) || emptied(value)).then_some(kept)
}

/// The live value with what a configuration states put over it; an explicit null removes a single value.
pub(super) fn merge(typ: Typ<'_>, live: Option<&Value>, stated: &Value) -> Value {
    let relation = typ.relation(stated);
    match (stated, live) {
        (Value::Object(config), _) if relation == Relation::Granular => {
            let mut fields = live.and_then(Value::as_object).cloned().unwrap_or_default();
            for (name, value) in config {
                if value.is_null() {
                    // Nothing stated about a map or a list of items leaves what others put there.
                    let stays = children(typ.field(name), fields.get(name)).is_some_and(|below| !below.is_empty());
                    if !stays {
                        fields.insert(name.clone(), Value::Null);
                    }
                    continue;
                }
                let merged = merge(typ.field(name), fields.get(name), value);
                fields.insert(name.clone(), merged);
            }
            Value::Object(fields)
        }
        (Value::Array(config), Some(Value::Array(live))) if relation != Relation::Atomic => {
            match (items(&relation, live), items(&relation, config)) {
                (Some(live), Some(config)) => Value::Array(merge_lists(typ.item(), &live, &config)),
                _ => stated.clone(),
            }
        }
        (Value::Array(config), _) => config.iter().map(|item| merge(typ.item(), None, item)).collect(),
        (Value::Object(config), _) => {
            let stated = config.iter().filter(|(_, value)| !value.is_null());
            Value::Object(stated.map(|(name, value)| (name.clone(), value.clone())).collect::<Map<_, _>>())
        }
        _ => stated.clone(),
    }
}

type Item<'v> = (String, &'v Value);

/// Both lists keep their order as far as they agree; where they do not, the configuration's counts.
fn merge_lists(typ: Typ<'_>, live: &[Item<'_>], config: &[Item<'_>]) -> Vec<Value> {
    let of = |list: &[Item<'_>]| list.iter().map(|(step, _)| step.clone()).collect::<BTreeSet<_>>();
    let (in_live, in_config) = (of(live), of(config));
    let mut shared = config.iter().map(|(step, _)| step).filter(|step| in_live.contains(*step)).peekable();
    let by_step: BTreeMap<&String, &Value> = live.iter().map(|(step, value)| (step, *value)).collect();
    let mut merged = Vec::with_capacity(live.len() + config.len());
    let (mut left, mut right) = (live.iter().peekable(), config.iter().peekable());
    loop {
        match (left.peek(), right.peek()) {
            (None, None) => return merged,
            (Some((step, _)), Some((wanted, _)))
                if step != wanted && in_config.contains(step) && shared.peek().is_some_and(|next| *next != step) =>
            {
                left.next();
                continue;
            }
            (Some((step, value)), _) if !in_config.contains(step) => {
                merged.push((*value).clone());
                left.next();
                continue;
            }
            _ => {}
        }
        let Some((step, value)) = right.next() else {
            // What remains of the live list was merged already.
            left.next();
            continue;
        };
        if left.peek().is_some_and(|(other, _)| other == step) {
            left.next();
        }
        if shared.peek() == Some(&step) {
            shared.next();
        }
        merged.push(merge(typ, by_step.get(step).copied(), value));
    }
}

/// Why a list cannot be read as what its schema says, if there is such a one.
pub(super) fn malformed(typ: Typ<'_>, value: &Value, path: &str) -> Option<String> {
    match value {
        Value::Object(fields) if typ.relation(value) == Relation::Granular => {
            fields.iter().find_map(|(name, value)| malformed(typ.field(name), value, &format!("{path}.{name}")))
        }
        Value::Array(list) => {
            let relation = typ.relation(value);
            let mut seen = BTreeSet::new();
            for (index, item) in list.iter().enumerate().filter(|_| relation != Relation::Atomic) {
                match (item_step(&relation, item), &relation) {
                    (None, Relation::ListMap(keys)) => {
                        let keys: Vec<String> = keys.iter().map(|(key, _)| format!("\"{key}\"")).collect();
                        return Some(format!(
                            "{path}: element {index}: associative list with keys has an element that omits all key \
                             fields [{}] (and doesn't have default values for any key fields)",
                            keys.join(" ")
                        ));
                    }
                    (Some(step), _) if !seen.insert(step.clone()) => {
                        return Some(format!("{path}: duplicate entries for key {}", super::fields::shown(&step)));
                    }
                    _ => {}
                }
            }
            list.iter().enumerate().find_map(|(index, item)| {
                let step =
                    item_step(&relation, item).map_or_else(|| format!("[{index}]"), |step| super::fields::shown(&step));
                malformed(typ.item(), item, &format!("{path}{step}"))
            })
        }
        _ => None,
    }
}
