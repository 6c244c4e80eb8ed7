//! Whether a write does only what was approved.

use std::{collections::BTreeSet, fmt};

use serde_json::Value;

use super::{
    allocated::Allocated,
    diff::Fields,
    id::GroupKind,
    list::{self, Item},
    meaning::{present, same},
    path::{Path, Segment},
    schema::Shape,
    strip::without_template_generation,
};

/// The longest rendering of a value in a violation, in characters.
const RENDERED: usize = 120;

/// One place that a write may not leave as it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Where.
    pub path: Path,
    /// What the write would leave there, shortened.
    pub found: String,
    /// What is approved there, shortened.
    pub expected: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} would be {}, but {} is approved", self.path, self.found, self.expected)
    }
}

/// Whether every place that an update changes gets the value that is expected there, which is what a dry run of the
/// approved content gave. A place that stays as it is needs no permission; an object or item that the update adds must
/// be there as a whole.
///
/// What the API server writes into metadata and status is ignored, but `uid` must stay; see [`permitted_create`] for
/// values that the server allocates.
///
/// # Errors
/// Every place that is not permitted.
pub fn permitted_update(kind: &GroupKind, old: &Value, new: &Value, expected: &Value) -> Result<(), Vec<Violation>> {
    let plain = |object| without_template_generation(kind, object);
    let (old, new, expected) = (&*plain(old), &*plain(new), &*plain(expected));
    let mut check = Check::new(kind, new, &[old, expected]);
    check.identity(new, old);
    check.identity(new, expected);
    check.uid(old, new);
    check.place(Shape::of_kind(kind), Three { old: Some(old), new: Some(new), expected: Some(expected) }, false);
    check.result()
}

/// Whether a new object is what was approved: nothing more and nothing less, but for values that the API server itself
/// allocates, which may differ from those of the dry run: a Service's addresses and node ports, a Job's selector and
/// labels, a pod's token volume, a namespace's finalizer and name label.
///
/// # Errors
/// Every place that is not permitted.
pub fn permitted_create(kind: &GroupKind, new: &Value, expected: &Value) -> Result<(), Vec<Violation>> {
    let plain = |object| without_template_generation(kind, object);
    let (new, expected) = (&*plain(new), &*plain(expected));
    let mut check = Check::new(kind, new, &[expected]);
    check.identity(new, expected);
    check.place(Shape::of_kind(kind), Three { old: None, new: Some(new), expected: Some(expected) }, true);
    check.result()
}

/// A value as one short line for a person; the content of Secrets is never shown.
pub fn render_short(kind: &GroupKind, value: Option<&Value>) -> String {
    render(kind.is("", "Secret"), value)
}

fn render(is_secret: bool, value: Option<&Value>) -> String {
    let text = match value {
        None | Some(Value::Null) => return "absent".to_owned(),
        Some(_) if is_secret => return "(hidden)".to_owned(),
        Some(value) => value.to_string(),
    };
    match text.char_indices().nth(RENDERED) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// One place in the three states.
#[derive(Clone, Copy)]
struct Three<'a> {
    old: Option<&'a Value>,
    new: Option<&'a Value>,
    expected: Option<&'a Value>,
}

struct Check<'a> {
    kind: &'a GroupKind,
    is_secret: bool,
    allocated: Allocated<'a>,
    path: Path,
    violations: Vec<Violation>,
}

impl<'a> Check<'a> {
    fn new(kind: &'a GroupKind, new: &'a Value, others: &[&Value]) -> Self {
        // Whatever the caller takes the objects for, the content of a Secret is not shown.
        let states_secret = |state: &Value| state.get("kind").and_then(Value::as_str) == Some("Secret");
        Self {
            kind,
            is_secret: kind.is("", "Secret") || states_secret(new) || others.iter().copied().any(states_secret),
            allocated: Allocated::of(kind, new),
            path: Path::root(),
            violations: Vec::new(),
        }
    }

    /// All states must be of one object, and of the kind by whose schema they are read.
    fn identity(&mut self, new: &Value, other: &Value) {
        let names = [("/metadata/name", ["metadata", "name"]), ("/metadata/namespace", ["metadata", "namespace"])];
        for (pointer, keys) in names {
            let (new, other) = (new.pointer(pointer), other.pointer(pointer));
            let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
            if text(new) != text(other) {
                self.violate_at(Path::of_keys(keys), new, other);
            }
        }
        if let Some(stray) = [new, other].into_iter().find(|state| GroupKind::of(state).as_ref() != Ok(self.kind)) {
            let wanted = Value::String(self.kind.to_string());
            self.violate_at(Path::of_keys(["kind"]), stray.get("kind"), Some(&wanted));
        }
    }

    fn uid(&mut self, old: &Value, new: &Value) {
        let (old, new) = (old.pointer("/metadata/uid"), new.pointer("/metadata/uid"));
        if !same(Shape::Free, old, new) {
            self.violate_at(Path::of_keys(["metadata", "uid"]), new, old);
        }
    }

    /// `whole`: the place is new, so that whatever is expected must be there, even where nothing was before.
    fn place(&mut self, shape: Shape, at: Three<'_>, whole: bool) {
        let permitted = (!whole && same(shape, at.old, at.new)) || same(shape, at.new, at.expected);
        if permitted || is_ignored(&self.path) || self.allocated.permits(&self.path, at.old, at.new, at.expected) {
            return;
        }
        let whole = whole || present(shape, at.old).is_none() && !may_be_partial(shape);
        let at =
            Three { old: present(shape, at.old), new: present(shape, at.new), expected: present(shape, at.expected) };
        if !self.fields(shape, at, whole) && !self.items(shape, at, whole) {
            self.violate_at(self.path.clone(), at.new, at.expected);
        }
    }

    fn fields(&mut self, shape: Shape, at: Three<'_>, whole: bool) -> bool {
        let Some((new, expected)) = Fields::of(shape, at.new).zip(Fields::of(shape, at.expected)) else {
            return false;
        };
        // A new place has no fields before; anything else that is no object is replaced as a whole.
        let old = if at.old.is_none() { Some(Fields::none()) } else { Fields::of(shape, at.old) };
        let Some(old) = old else { return false };
        let names: BTreeSet<&str> = old.keys().chain(new.keys()).chain(expected.keys()).collect();
        for name in names {
            let at = Three { old: old.get(name), new: new.get(name), expected: expected.get(name) };
            self.within(Segment::Key(name.to_owned()), |check| {
                check.place(shape.field(name), at, whole);
            });
        }
        true
    }

    fn items(&mut self, shape: Shape, at: Three<'_>, whole: bool) -> bool {
        let lists = (list::items(shape, at.old), list::items(shape, at.new), list::items(shape, at.expected));
        let (Some(old), Some(new), Some(expected)) = lists else {
            return false;
        };
        let (old_by_id, new_by_id, expected_by_id) = (list::by_id(&old), list::by_id(&new), list::by_id(&expected));
        let mut seen = BTreeSet::new();
        for item in new.iter().chain(&old).chain(&expected) {
            let id = item.id.as_str();
            if !seen.insert(id) {
                continue;
            }
            let at = Three {
                old: old_by_id.get(id).map(|item| item.value),
                new: new_by_id.get(id).map(|item| item.value),
                expected: expected_by_id.get(id).map(|item| item.value),
            };
            self.within(item.segment.clone(), |check| {
                check.place(shape.item(), at, whole);
            });
        }
        if matches!(shape, Shape::ListMap { ordered: true, .. }) && !keeps_order(&old, &new, &expected) {
            let (new, expected) = (list::order_value(&new), list::order_value(&expected));
            self.within(Segment::Order, |check| {
                check.violate_at(check.path.clone(), Some(&new), Some(&expected));
            });
        }
        true
    }

    fn within(&mut self, segment: Segment, visit: impl FnOnce(&mut Self)) {
        self.path.push(segment);
        visit(self);
        self.path.pop();
    }

    fn violate_at(&mut self, path: Path, found: Option<&Value>, expected: Option<&Value>) {
        let (found, expected) = (render(self.is_secret, found), render(self.is_secret, expected));
        self.violations.push(Violation { path, found, expected });
    }

    fn result(self) -> Result<(), Vec<Violation>> {
        if self.violations.is_empty() { Ok(()) } else { Err(self.violations) }
    }
}

/// Maps, sets and list maps are none when they are empty, so having no entry yet does not make them new.
fn may_be_partial(shape: Shape) -> bool {
    matches!(shape, Shape::Map(_) | Shape::Set | Shape::ListMap { .. })
}

/// Whether the new order is the expected one, or the old one with nothing added.
fn keeps_order(old: &[Item<'_>], new: &[Item<'_>], expected: &[Item<'_>]) -> bool {
    let (old_by_id, new_by_id, expected_by_id) = (list::by_id(old), list::by_id(new), list::by_id(expected));
    let adds_nothing = new.iter().all(|item| old_by_id.contains_key(item.id.as_str()));
    (adds_nothing && list::shared(new, &old_by_id) == list::shared(old, &new_by_id))
        || list::shared(new, &expected_by_id) == list::shared(expected, &new_by_id)
}

/// What the API server writes whatever the request says, and what [`Check::identity`] and [`Check::uid`] look at.
fn is_ignored(path: &Path) -> bool {
    const METADATA: [&str; 8] =
        ["managedFields", "resourceVersion", "generation", "creationTimestamp", "selfLink", "uid", "name", "namespace"];
    path.is_keys(&["status"])
        || path.is_keys(&["kind"])
        || METADATA.iter().any(|field| path.is_keys(&["metadata", field]))
}
