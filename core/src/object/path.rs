//! Where something stands in an object, and patterns over such places.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One step into an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Segment {
    /// A field of an object, or a key of a map.
    Key(String),
    /// The item of a list map that has these keys, such as the container named `teller`.
    Select {
        /// Every key of the list map with its value, defaults filled in.
        keys: BTreeMap<String, Value>,
    },
    /// A member of a set.
    SetItem(Value),
    /// An item of a list by its position.
    Index(usize),
    /// Not a place of its own: the order of a list map whose order means something (`env`, `initContainers`). Its value
    /// is the list of the items' keys.
    Order,
}

/// A place in an object. The empty path is the object itself.
///
/// It is shown like `/spec/template/spec/containers[name=teller]/image`; `/` and `~` within a key are written `~1` and
/// `~0` (RFC 6901).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Path(Vec<Segment>);

impl Path {
    /// The object itself.
    pub fn root() -> Self {
        Self::default()
    }

    /// A path of fields only.
    pub fn of_keys<'a>(keys: impl IntoIterator<Item = &'a str>) -> Self {
        keys.into_iter().map(|key| Segment::Key(key.to_owned())).collect()
    }

    /// The path one step further, to a field.
    #[must_use]
    pub fn key(mut self, name: impl Into<String>) -> Self {
        self.push(Segment::Key(name.into()));
        self
    }

    /// The path one step further, to the item of a list map with one string key.
    #[must_use]
    pub fn item(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.push(Segment::Select { keys: BTreeMap::from([(key.into(), Value::String(value.into()))]) });
        self
    }

    /// Goes one step further.
    pub fn push(&mut self, segment: Segment) {
        self.0.push(segment);
    }

    /// Goes one step back.
    pub fn pop(&mut self) -> Option<Segment> {
        self.0.pop()
    }

    /// The steps from the object to the place.
    pub fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// The last step; none for the object itself.
    pub fn last(&self) -> Option<&Segment> {
        self.0.last()
    }

    /// The path without its last step; none for the object itself.
    pub fn parent(&self) -> Option<Self> {
        self.0.split_last().map(|(_, parents)| Self(parents.to_vec()))
    }

    /// Whether this place is `other` or lies within it.
    pub fn is_within(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }

    /// Whether the path consists of exactly these fields.
    pub fn is_keys(&self, keys: &[&str]) -> bool {
        self.0.len() == keys.len()
            && self.0.iter().zip(keys).all(|(segment, key)| matches!(segment, Segment::Key(name) if name == key))
    }
}

impl FromIterator<Segment> for Path {
    fn from_iter<I: IntoIterator<Item = Segment>>(segments: I) -> Self {
        Self(segments.into_iter().collect())
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("/");
        }
        self.0.iter().try_for_each(|segment| segment.fmt(f))
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(name) => write!(f, "/{}", escape(name)),
            Self::Index(index) => write!(f, "/{index}"),
            Self::SetItem(value) => write!(f, "[={}]", plain(value)),
            Self::Order => f.write_str("[order]"),
            Self::Select { keys } => {
                f.write_str("[")?;
                for (position, (key, value)) in keys.iter().enumerate() {
                    let comma = if position == 0 { "" } else { "," };
                    write!(f, "{comma}{}={}", escape(key), escape(&plain(value)))?;
                }
                f.write_str("]")
            }
        }
    }
}

fn escape(text: &str) -> String {
    text.replace('~', "~0").replace('/', "~1")
}

fn unescape(text: &str) -> String {
    text.replace("~1", "/").replace("~0", "~")
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A pattern over paths, such as `/spec/template/spec/containers/*/image`: `*` stands for exactly one step of any kind
/// but [`Segment::Order`], and `containers[name=teller]` for one item of a list map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern(Vec<Wanted>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    Any,
    Key(String),
    Select(BTreeMap<String, String>),
}

/// Why a text is no path pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Patterns start at the object.
    #[error("a path pattern starts with a slash")]
    NoLeadingSlash,
    /// A step is empty, as in `/spec//image` or a trailing slash.
    #[error("the path pattern has an empty step")]
    EmptyStep,
    /// A selection is not written `[key=value]` or `[key=value,key=value]`.
    #[error("\"{0}\" is not a selection like [name=teller]")]
    Selection(String),
}

impl PathPattern {
    /// Whether the pattern stands for exactly this path.
    pub fn matches(&self, path: &Path) -> bool {
        self.0.len() == path.0.len() && self.covers(path)
    }

    /// Whether the pattern stands for this path or for a place around it.
    pub fn covers(&self, path: &Path) -> bool {
        self.0.len() <= path.0.len() && self.0.iter().zip(&path.0).all(|(wanted, segment)| wanted.matches(segment))
    }
}

impl Wanted {
    fn matches(&self, segment: &Segment) -> bool {
        match (self, segment) {
            (Self::Any, segment) => *segment != Segment::Order,
            (Self::Key(wanted), Segment::Key(name)) => wanted == name,
            (Self::Key(wanted), Segment::Index(index)) => *wanted == index.to_string(),
            (Self::Select(wanted), Segment::Select { keys }) => {
                wanted.iter().all(|(key, value)| keys.get(key).is_some_and(|found| plain(found) == *value))
            }
            _ => false,
        }
    }
}

impl FromStr for PathPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let steps = text.strip_prefix('/').ok_or(PatternError::NoLeadingSlash)?;
        let mut wanted = Vec::new();
        if !steps.is_empty() {
            for step in steps.split('/') {
                parse_step(step, &mut wanted)?;
            }
        }
        Ok(Self(wanted))
    }
}

fn parse_step(step: &str, wanted: &mut Vec<Wanted>) -> Result<(), PatternError> {
    if step.is_empty() {
        return Err(PatternError::EmptyStep);
    }
    if step == "*" {
        wanted.push(Wanted::Any);
        return Ok(());
    }
    let Some((name, selection)) = step.split_once('[') else {
        wanted.push(Wanted::Key(unescape(step)));
        return Ok(());
    };
    wanted.push(if name == "*" { Wanted::Any } else { Wanted::Key(unescape(name)) });
    let malformed = || PatternError::Selection(format!("[{selection}"));
    let inner = selection.strip_suffix(']').filter(|inner| !inner.contains(['[', ']'])).ok_or_else(malformed)?;
    let mut keys = BTreeMap::new();
    for pair in inner.split(',') {
        let (key, value) = pair.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or_else(malformed)?;
        keys.insert(unescape(key), unescape(value));
    }
    wanted.push(Wanted::Select(keys));
    Ok(())
}
