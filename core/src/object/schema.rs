//! The meaning of fields: which lists are maps or sets, and which strings are quantities.
//!
//! The table behind it (`schema_table.rs`) is generated from the OpenAPI documents of Kubernetes by
//! [`schema_gen`](super::schema_gen), as types that refer to each other: the pod template has one entry, wherever it
//! appears. `status` is left out, since no change writes it.

use std::fmt;

use super::{
    id::GroupKind,
    path::{Path, Segment},
    schema_table::{KINDS, OBJECT_META},
};

/// A type of the Kubernetes API: the fields whose meaning is more than plain JSON, in order of their names.
pub struct Type {
    /// The OpenAPI name.
    pub name: &'static str,
    /// Field name and meaning.
    pub fields: &'static [(&'static str, Shape)],
}

/// What a field means.
#[derive(Clone, Copy)]
pub enum Shape {
    /// Nothing is known: objects merge field by field, lists are one value.
    Free,
    /// An object whose fields have their own meanings.
    Struct(&'static Type),
    /// An object that is written and compared as one value, such as a label selector.
    AtomicStruct(&'static Type),
    /// A map with free keys. An empty map is the same as none.
    Map(&'static Shape),
    /// A map that is written as one value, such as the selector of a Service.
    AtomicMap,
    /// A list that is written as one value. An empty list is the same as none.
    List(&'static Shape),
    /// A list without order whose members occur once. An empty set is the same as none.
    Set,
    /// A list of objects that are told apart by their keys. An empty list is the same as none.
    ListMap {
        /// The fields that tell items apart.
        keys: &'static [&'static str],
        /// Whether the order of items has a meaning: environment variables and validation expressions refer to earlier
        /// ones, init containers and webhooks run one after the other.
        ordered: bool,
        /// The meaning of an item.
        item: &'static Shape,
    },
    /// A `resource.Quantity`: `1000m` is `1`.
    Quantity,
    /// A number or a string; 80 and "80" are two values (a port number and a port name).
    IntOrString,
    /// A string with a default: leaving it out is the same as writing this.
    Defaulted(&'static str),
}

/// Custom resources: only their metadata is known.
static UNKNOWN: Type = Type { name: "unknown", fields: &[("metadata", Shape::Struct(&OBJECT_META))] };

impl Shape {
    /// The meaning of a whole object. Kinds outside the table are free but for their metadata.
    pub fn of_kind(kind: &GroupKind) -> Self {
        let found = KINDS.binary_search_by(|(group, name, _)| (*group, *name).cmp(&(&kind.group, &kind.kind)));
        let known = found.ok().and_then(|position| KINDS.get(position));
        Self::Struct(known.map_or(&UNKNOWN, |(_, _, of)| *of))
    }

    /// The meaning of the place at a path.
    pub fn at(kind: &GroupKind, path: &Path) -> Self {
        path.segments().iter().fold(Self::of_kind(kind), Self::step)
    }

    /// The meaning one step further.
    #[must_use]
    pub fn step(self, segment: &Segment) -> Self {
        match segment {
            Segment::Key(name) => self.field(name),
            Segment::Select { .. } | Segment::SetItem(_) | Segment::Index(_) => self.item(),
            Segment::Order => Self::Free,
        }
    }

    /// The meaning of a field, or of the value of a map's key.
    #[must_use]
    pub fn field(self, name: &str) -> Self {
        match self {
            Self::Struct(of) | Self::AtomicStruct(of) => {
                let found = of.fields.binary_search_by(|(field, _)| (*field).cmp(name));
                found.ok().and_then(|position| of.fields.get(position)).map_or(Self::Free, |(_, shape)| *shape)
            }
            Self::Map(values) => *values,
            _ => Self::Free,
        }
    }

    /// The meaning of a list's items.
    #[must_use]
    pub fn item(self) -> Self {
        match self {
            Self::List(item) | Self::ListMap { item, .. } => *item,
            _ => Self::Free,
        }
    }

    /// Whether objects of this shape differ field by field, rather than as a whole.
    pub(super) fn is_granular(self) -> bool {
        matches!(self, Self::Free | Self::Struct(_) | Self::Map(_))
    }
}

// By hand, since types may refer to themselves.
impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Free => f.write_str("Free"),
            Self::Struct(of) => write!(f, "Struct({})", of.name),
            Self::AtomicStruct(of) => write!(f, "AtomicStruct({})", of.name),
            Self::Map(values) => write!(f, "Map({values:?})"),
            Self::AtomicMap => f.write_str("AtomicMap"),
            Self::List(items) => write!(f, "List({items:?})"),
            Self::Set => f.write_str("Set"),
            Self::ListMap { keys, ordered, item } => {
                write!(f, "ListMap(keys {keys:?}, ordered {ordered}, {item:?})")
            }
            Self::Quantity => f.write_str("Quantity"),
            Self::IntOrString => f.write_str("IntOrString"),
            Self::Defaulted(default) => write!(f, "Defaulted({default})"),
        }
    }
}
