//! Who takes part: user names, what people are called, and when they are on holiday.

use std::collections::BTreeMap;

use interlock_core::admission::User;
use interlock_crds::{Person, PersonSpec};
use jiff::Timestamp;
use serde_json::Value;

use super::{
    BadInput,
    folder::Folder,
    format::{PersonFile, Span},
    report::Entry,
};
use crate::{people::user, port::service_account};

/// Everybody who takes part.
#[derive(Clone, Debug, Default)]
pub(super) struct Cast {
    /// What people are called, by identity.
    called: BTreeMap<String, String>,
    /// First identity of each Person, by the name of the object.
    by_name: BTreeMap<String, String>,
    groups: BTreeMap<String, Vec<String>>,
    away: BTreeMap<String, Vec<Span>>,
}

impl Cast {
    /// The Persons of a folder and those whom a scenario names.
    pub fn new(folder: &Folder, people: &BTreeMap<String, PersonFile>, start: Timestamp) -> Result<Self, BadInput> {
        let mut cast = Self::default();
        for source in folder.own("Person") {
            let person: Person = serde_json::from_value(source.object.clone())
                .map_err(|error| BadInput(format!("{}: {error}", source.place)))?;
            let name = person.metadata.name.clone().unwrap_or_default();
            if let Some(first) = person.spec.identities.first() {
                cast.by_name.insert(name.clone(), first.clone());
            }
            let called = called(&name, &person.spec);
            cast.called.extend(person.spec.identities.iter().map(|identity| (identity.clone(), called.clone())));
        }
        for (name, file) in people {
            let user = cast.by_name.get(name).cloned().unwrap_or_else(|| name.clone());
            cast.called.entry(user.clone()).or_insert_with(|| name.clone());
            cast.groups.insert(user.clone(), file.groups.clone());
            for span in &file.away {
                let bounds = span.from.resolve(start, start).zip(span.to.resolve(start, start));
                let bounds = bounds.filter(|(from, to)| from < to).ok_or_else(|| {
                    BadInput(format!("people, {name}: a holiday ends after it begins; write another `to`"))
                })?;
                cast.away.entry(user.clone()).or_default().push(bounds);
            }
        }
        Ok(cast)
    }

    /// The user who is meant: a user name, or the name of a Person. None if nobody is called so.
    pub fn user(&self, name: &str) -> Option<User> {
        if name.starts_with("system:serviceaccount:") {
            return Some(service_account(name));
        }
        let name = match self.by_name.get(name) {
            // A Person whose name is an identity of its own is that one.
            Some(first) if !self.called.contains_key(name) => first,
            _ => name,
        };
        self.called.contains_key(name).then(|| self.as_reported(name))
    }

    /// The user of this exact name, known or not.
    pub fn as_reported(&self, name: &str) -> User {
        if name.starts_with("system:serviceaccount:") {
            return service_account(name);
        }
        let groups: Vec<_> = self.groups.get(name).into_iter().flatten().map(String::as_str).collect();
        user(name, &groups)
    }

    /// Until when a user is on holiday at an instant.
    pub fn away_until(&self, user: &str, at: Timestamp) -> Option<Timestamp> {
        let spans = self.away.get(user)?;
        spans.iter().filter(|(from, to)| *from <= at && at < *to).map(|(_, to)| *to).max()
    }

    /// What a user is called: by the name of their Person, or in short.
    pub fn called<'a>(&'a self, user: &'a str) -> &'a str {
        match self.called.get(user) {
            Some(called) => called,
            None => user.strip_prefix("system:serviceaccount:").unwrap_or(user),
        }
    }

    /// What the Person of this name is called.
    pub fn person<'a>(&'a self, name: &'a str) -> &'a str {
        self.by_name.get(name).map_or(name, |user| self.called(user))
    }

    /// A text in which people are called by their names. Longer user names first, since one may begin as another.
    pub fn with_names(&self, text: &str) -> String {
        let mut users: Vec<_> = self.called.iter().filter(|(user, called)| user != called).collect();
        users.sort_by_key(|(user, _)| std::cmp::Reverse(user.len()));
        let mut text = text.to_owned();
        for (user, called) in users {
            if user.contains(['@', ':']) && text.contains(user.as_str()) {
                text = text.replace(user.as_str(), called);
            }
        }
        text.replace("system:serviceaccount:", "")
    }

    /// The same of a line.
    pub fn in_entry(&self, mut entry: Entry) -> Entry {
        entry.text = self.with_names(&entry.text);
        entry
    }
}

/// `陈洁 Chen Jie`, in the languages in which the name is given.
fn called(name: &str, spec: &PersonSpec) -> String {
    let names: Vec<_> = [&spec.display_name.zh, &spec.display_name.en].into_iter().flatten().cloned().collect();
    if names.is_empty() { name.to_owned() } else { names.join(" ") }
}

/// A text at a JSON pointer.
pub(super) fn text_at<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
