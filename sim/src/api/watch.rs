//! Watches: what a client is told that follows a kind.

use std::sync::Arc;

use interlock_core::admission::User;
use serde_json::{Value, json};

use super::error::ApiError;
use super::log::{Event, EventType};
use super::registry::KindInfo;
use super::select::Selector;
use super::{Access, Api, meta};

/// Where a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// With the objects that exist, each as if it were just created (a streamed list). A bookmark says where they end.
    Now,
    /// After this resourceVersion.
    Version(u64),
}

/// What a watch tells.
#[derive(Clone, Debug, PartialEq)]
pub enum WatchEvent {
    /// The object is new, or begins to be selected.
    Added(Arc<Value>),
    /// The object was written.
    Modified(Arc<Value>),
    /// The object is gone, or is no longer selected: its last selected state.
    Deleted(Arc<Value>),
    /// Nothing happened up to the resourceVersion of this object, which has nothing else.
    Bookmark(Arc<Value>),
}

/// What a watch told so far.
#[derive(Clone, Debug)]
pub struct Watched {
    /// In the order in which it happened.
    pub events: Vec<WatchEvent>,
    /// The resourceVersion from which the watch goes on.
    pub rv: u64,
}

impl Api {
    /// WATCH by a user, in a namespace or in all: everything up to now. The caller asks again from [`Watched::rv`], which
    /// is what a bookmark would tell.
    ///
    /// # Errors
    /// 403, 404 of the kind, or 410 when the log no longer reaches back so far.
    pub fn watch(
        &self,
        user: &User,
        (group, version, kind): (&str, &str, &str),
        namespace: Option<&str>,
        selector: &Selector,
        since: Since,
    ) -> Result<Watched, ApiError> {
        let info = self.registry.find(group, version, kind)?;
        let within = namespace.unwrap_or_default();
        let access = Access { user, verb: "watch", info, subresource: None, namespace: within, name: "" };
        self.authorizer.check(&access)?;
        selector.check(info)?;
        let events = match since {
            Since::Now => {
                let found = self.store.list(&info.group_kind(), namespace).filter(|object| selector.matches(object));
                let end = WatchEvent::Bookmark(Arc::new(end_of_list(info, self.rv)));
                found.cloned().map(WatchEvent::Added).chain([end]).collect()
            }
            Since::Version(rv) => {
                let kind = info.group_kind();
                let is_there = |event: &&Event| namespace.is_none_or(|place| meta::namespace(&event.object) == place);
                let events = self.events_since(rv, Some(&kind))?;
                events.filter(is_there).filter_map(|event| told(selector, event)).collect()
            }
        };
        Ok(Watched { events, rv: self.rv })
    }
}

fn told(selector: &Selector, event: &Event) -> Option<WatchEvent> {
    let was = event.before.as_ref().is_some_and(|before| selector.matches(before));
    let is = event.change != EventType::Deleted && selector.matches(&event.object);
    match (was, is) {
        (false, false) => None,
        (false, true) => Some(WatchEvent::Added(Arc::clone(&event.object))),
        (true, true) => Some(WatchEvent::Modified(Arc::clone(&event.object))),
        (true, false) if event.change == EventType::Deleted => Some(WatchEvent::Deleted(Arc::clone(&event.object))),
        (true, false) => {
            let mut last = event.before.as_deref()?.clone();
            meta::keep(&mut last, &event.object, "resourceVersion");
            Some(WatchEvent::Deleted(Arc::new(last)))
        }
    }
}

fn end_of_list(info: &KindInfo, rv: u64) -> Value {
    json!({"apiVersion": info.api_version(), "kind": info.kind, "metadata": {
        "annotations": {"k8s.io/initial-events-end": "true"}, "resourceVersion": rv.to_string(),
    }})
}
