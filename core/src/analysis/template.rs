//! Placeholders in queries, addresses and Job templates: `{{workload}}`, `{{namespace}}`, `{{track}}`, `{{hash}}`.
//!
//! Values are names of objects, but nothing here relies on that: in PromQL a placeholder stands inside a string and its
//! value is escaped for that string (and for the regular expression, if the string is one), so that no value can end
//! the string and add a query of its own.

use std::fmt::Write as _;

use serde_json::Value;

/// Which version is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Track {
    /// The new one.
    Canary,
    /// The old one.
    Stable,
}

impl Track {
    /// As the label `interlock.dev/track` has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Canary => "canary",
            Self::Stable => "stable",
        }
    }
}

/// What an analysis is about: the values of the placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Name of the workload.
    pub workload: String,
    /// Its namespace.
    pub namespace: String,
    /// pod-template-hash of the new version.
    pub canary_hash: String,
    /// pod-template-hash of the old version.
    pub stable_hash: String,
}

impl Subject {
    fn value(&self, placeholder: Placeholder, track: Track) -> &str {
        match (placeholder, track) {
            (Placeholder::Workload, _) => &self.workload,
            (Placeholder::Namespace, _) => &self.namespace,
            (Placeholder::Track, track) => track.name(),
            (Placeholder::Hash, Track::Canary) => &self.canary_hash,
            (Placeholder::Hash, Track::Stable) => &self.stable_hash,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Placeholder {
    Workload,
    Namespace,
    Track,
    Hash,
}

/// Why a template cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A name that means nothing here.
    #[error(
        "{{{{{0}}}}} is no placeholder: there are {{{{workload}}}}, {{{{namespace}}}}, {{{{track}}}} and {{{{hash}}}}"
    )]
    Unknown(String),
    /// Two braces are opened and not closed.
    #[error("a placeholder that begins with {{{{ is not closed with }}}}")]
    Unclosed,
    /// A placeholder in PromQL outside a string.
    #[error("{{{{{0}}}}} must stand inside quotes, as in app=\"{{{{{0}}}}}\"")]
    Unquoted(String),
    /// A placeholder in a string that knows no escapes.
    #[error("{{{{{0}}}}} must not stand between backquotes, where nothing can be escaped: use double quotes")]
    Backquoted(String),
    /// A string that does not end.
    #[error("a string in the query is not closed")]
    UnclosedString,
    /// A value that has no place in an address.
    #[error("{0:?} cannot be part of an address")]
    NotForAddress(String),
}

/// A template is text and placeholders by turns.
enum Piece<'a> {
    Text(&'a str),
    Placeholder(Placeholder, &'a str),
}

fn pieces(template: &str) -> Result<Vec<Piece<'_>>, TemplateError> {
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some((text, after)) = rest.split_once("{{") {
        let (inner, after) = after.split_once("}}").ok_or(TemplateError::Unclosed)?;
        let name = inner.trim();
        let placeholder = match name {
            "workload" => Placeholder::Workload,
            "namespace" => Placeholder::Namespace,
            "track" => Placeholder::Track,
            "hash" => Placeholder::Hash,
            _ => return Err(TemplateError::Unknown(super::shorten(name, 60))),
        };
        pieces.push(Piece::Text(text));
        pieces.push(Piece::Placeholder(placeholder, name));
        rest = after;
    }
    pieces.push(Piece::Text(rest));
    Ok(pieces)
}

/// The query for one version.
pub fn promql(template: &str, subject: &Subject, track: Track) -> Result<String, TemplateError> {
    let mut query = String::with_capacity(template.len());
    let mut place = Place::default();
    for piece in pieces(template)? {
        match piece {
            Piece::Text(text) => {
                place.pass(text);
                query.push_str(text);
            }
            Piece::Placeholder(placeholder, name) => {
                let value = subject.value(placeholder, track);
                match place.string {
                    Some('`') => return Err(TemplateError::Backquoted(name.to_owned())),
                    Some(_) if place.is_regex => escape(&mut query, &quote_regex(value)),
                    Some(_) => escape(&mut query, value),
                    None if place.is_comment => {}
                    None => return Err(TemplateError::Unquoted(name.to_owned())),
                }
            }
        }
    }
    if place.string.is_some() { Err(TemplateError::UnclosedString) } else { Ok(query) }
}

/// Where in a PromQL text one is.
#[derive(Default)]
struct Place {
    /// The quote that opened the string in which one is.
    string: Option<char>,
    /// The string is a regular expression: it follows `=~` or `!~`.
    is_regex: bool,
    is_comment: bool,
    /// The next character is escaped.
    escaped: bool,
    /// The last characters outside strings that are no blanks.
    before: [char; 2],
}

impl Place {
    fn pass(&mut self, text: &str) {
        for c in text.chars() {
            match self.string {
                Some(_) if self.escaped => self.escaped = false,
                Some(quote) if quote != '`' && c == '\\' => self.escaped = true,
                Some(quote) if c == quote => (self.string, self.before) = (None, ['"', '"']),
                Some(_) => {}
                None if self.is_comment => self.is_comment = c != '\n',
                None if c == '#' => self.is_comment = true,
                None if matches!(c, '"' | '\'' | '`') => {
                    self.is_regex = matches!(self.before, ['=' | '!', '~']);
                    self.string = Some(c);
                }
                None if c.is_whitespace() => {}
                None => self.before = [self.before[1], c],
            }
        }
    }
}

/// The lengths in seconds of all ranges in a query, such as `[5m]` and `[1h:30s]` (an hour). What is written otherwise is
/// left to the server.
pub fn ranges(query: &str) -> Vec<i64> {
    let mut place = Place::default();
    let mut outside = String::new();
    for c in query.chars() {
        if place.string.is_none() && !place.is_comment {
            outside.push(c);
        }
        place.pass(c.encode_utf8(&mut [0; 4]));
    }
    let inside = outside.split('[').skip(1).filter_map(|rest| rest.split([']', ':']).next());
    inside.filter_map(seconds).collect()
}

/// A duration of PromQL in whole seconds, rounded up.
fn seconds(text: &str) -> Option<i64> {
    let mut rest = text.trim();
    let mut milliseconds = 0_i64;
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, after) = rest.split_at(unit_at);
        let unit_end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let factor = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            "y" => 31_536_000_000,
            _ => return None,
        };
        milliseconds = milliseconds.saturating_add(number.parse::<i64>().ok()?.saturating_mul(factor));
        rest = after;
    }
    Some(milliseconds.saturating_add(999) / 1_000)
}

/// Escapes for a string in double or single quotes.
fn escape(into: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' | '"' | '\'' => into.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(into, "\\U{:08x}", u32::from(c));
            }
            c => into.push(c),
        }
    }
}

/// The regular expression that matches `value` and nothing else.
fn quote_regex(value: &str) -> String {
    value.chars().fold(String::with_capacity(value.len()), |mut quoted, c| {
        if r"\.+*?()|[]{}^$".contains(c) {
            quoted.push('\\');
        }
        quoted.push(c);
        quoted
    })
}

/// The address for the new version. Only characters that mean nothing in an address are let in.
pub fn address(template: &str, subject: &Subject) -> Result<String, TemplateError> {
    let plain = |value: &str| value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    let mut address = String::with_capacity(template.len());
    for piece in pieces(template)? {
        match piece {
            Piece::Text(text) => address.push_str(text),
            Piece::Placeholder(placeholder, _) => {
                let value = subject.value(placeholder, Track::Canary);
                if !plain(value) {
                    return Err(TemplateError::NotForAddress(super::shorten(value, 60)));
                }
                address.push_str(value);
            }
        }
    }
    Ok(address)
}

/// A copy of `template` in which every string, but no key, is filled in for the new version.
pub fn json(template: &Value, subject: &Subject) -> Result<Value, TemplateError> {
    Ok(match template {
        Value::String(text) => {
            let mut filled = String::with_capacity(text.len());
            for piece in pieces(text)? {
                filled.push_str(match piece {
                    Piece::Text(text) => text,
                    Piece::Placeholder(placeholder, _) => subject.value(placeholder, Track::Canary),
                });
            }
            Value::String(filled)
        }
        Value::Array(items) => Value::Array(items.iter().map(|item| json(item, subject)).collect::<Result<_, _>>()?),
        Value::Object(fields) => {
            let filled = fields.iter().map(|(key, value)| Ok((key.clone(), json(value, subject)?)));
            Value::Object(filled.collect::<Result<_, _>>()?)
        }
        other => other.clone(),
    })
}
