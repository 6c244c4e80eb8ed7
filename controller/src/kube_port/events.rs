//! Events (events.k8s.io/v1): what people read in `kubectl describe`.
//!
//! Written by one task in the background, so that a change never waits for them; those that tell something once are written
//! at once, under a name of their own. What repeats within some minutes is counted in one Event's series. The recorder of
//! kube-runtime is not used, because it takes two different messages with the same reason for one, and reads the machine's
//! clock.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use interlock_core::port::{Note, PortError};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::clock::Clock;

const CONTROLLER: &str = "interlock.dev/controller";
/// As the API server bounds them.
const NOTE_BYTES: usize = 1024;
const WORD_BYTES: usize = 128;
/// Repetitions within this time belong to one series.
const SERIES: Duration = Duration::from_mins(6);
/// A series is written at most this often.
const REWRITE: Duration = Duration::from_secs(30);
/// So many notes may wait to be written; more are dropped, as they are a courtesy.
const WAITING: usize = 512;
/// Stands at the end of a text that was cut.
const MORE: char = '…';
const LIMIT: Duration = Duration::from_secs(5);

struct Entry {
    regarding: Value,
    note: Note,
}

/// Takes notes and never waits.
#[derive(Clone)]
pub(super) struct Events {
    queue: mpsc::Sender<Entry>,
    client: kube::Client,
    clock: Clock,
    instance: String,
}

impl Events {
    /// Starts the task that writes; it ends when the last clone is gone.
    pub(super) fn start(client: kube::Client, clock: Clock, instance: &str) -> Self {
        let (queue, entries) = mpsc::channel(WAITING);
        let instance = shorten(instance, WORD_BYTES);
        tokio::spawn(write_all(client.clone(), clock.clone(), instance.clone(), entries));
        Self { queue, client, clock, instance }
    }

    /// Writes the Event of this name and waits for it, but not for long. One that is there already stays as it is.
    pub(super) async fn once(&self, regarding: &Value, note: &Note, name: &str) {
        let (Some(regarding), Some(now)) = (reference(regarding), self.clock.now()) else { return };
        let namespace = namespace_of(&regarding).to_owned();
        let event = event(&namespace, name, &regarding, note, &self.instance, now);
        send(&self.client, Write::Create { namespace, event }).await;
    }

    pub(super) fn note(&self, regarding: &Value, note: &Note) {
        let Some(regarding) = reference(regarding) else { return };
        if self.queue.try_send(Entry { regarding, note: note.clone() }).is_err() {
            tracing::debug!(reason = note.reason, "an Event was dropped: too many wait to be written");
        }
    }
}

async fn write_all(client: kube::Client, clock: Clock, instance: String, mut entries: mpsc::Receiver<Entry>) {
    let mut book = Book::default();
    while let Some(entry) = entries.recv().await {
        // Without the time no Event can be made: the field is required.
        let Some(now) = clock.now() else { continue };
        let Some(write) = book.take(&entry.regarding, &entry.note, &instance, now, Instant::now()) else { continue };
        send(&client, write).await;
    }
}

async fn send(client: &kube::Client, write: Write) {
    let (method, path, content_type, body) = match write {
        Write::Create { namespace, event } => (
            http::Method::POST,
            format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events"),
            "application/json",
            event,
        ),
        Write::Count { namespace, name, series } => (
            http::Method::PATCH,
            format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events/{name}"),
            "application/merge-patch+json",
            json!({"series": series}),
        ),
    };
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header(http::header::CONTENT_TYPE, content_type)
        .body(body.to_string().into_bytes());
    let Ok(request) = request else { return };
    match tokio::time::timeout(LIMIT, client.request_text(request)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => match super::error::port_error(error) {
            PortError::AlreadyExists(_) => {}
            reason => tracing::debug!(%reason, "an Event could not be written"),
        },
        Err(_) => tracing::debug!("an Event could not be written in time"),
    }
}

/// The namespace of an Event: one about a cluster-scoped object lies in `default`, as the API server demands.
fn namespace_of(regarding: &Value) -> &str {
    let namespace = regarding.get("namespace").and_then(Value::as_str);
    namespace.filter(|namespace| !namespace.is_empty()).unwrap_or("default")
}

fn event(namespace: &str, name: &str, regarding: &Value, note: &Note, instance: &str, now: Timestamp) -> Value {
    json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": namespace},
        "eventTime": micro(now),
        "type": if note.warning { "Warning" } else { "Normal" },
        "reason": shorten(&note.reason, WORD_BYTES),
        "action": shorten(&note.action, WORD_BYTES),
        "note": shorten(&note.message, NOTE_BYTES),
        "regarding": regarding,
        "reportingController": CONTROLLER,
        "reportingInstance": instance,
    })
}

#[derive(Debug, PartialEq)]
enum Write {
    Create { namespace: String, event: Value },
    Count { namespace: String, name: String, series: Value },
}

struct Series {
    namespace: String,
    name: String,
    count: u32,
    noted: Instant,
    written: Instant,
}

/// What was written lately.
#[derive(Default)]
struct Book {
    lately: HashMap<String, Series>,
}

impl Book {
    fn take(
        &mut self,
        regarding: &Value,
        note: &Note,
        instance: &str,
        now: Timestamp,
        instant: Instant,
    ) -> Option<Write> {
        self.lately.retain(|_, series| instant.saturating_duration_since(series.noted) < SERIES);
        let key = json!([regarding, note.warning, note.reason, note.action, note.message]).to_string();
        if let Some(series) = self.lately.get_mut(&key) {
            series.count += 1;
            series.noted = instant;
            if instant.saturating_duration_since(series.written) < REWRITE {
                return None;
            }
            series.written = instant;
            return Some(Write::Count {
                namespace: series.namespace.clone(),
                name: series.name.clone(),
                series: json!({"count": series.count, "lastObservedTime": micro(now)}),
            });
        }
        let namespace = namespace_of(regarding);
        let of = regarding.get("name").and_then(Value::as_str).unwrap_or_default();
        // The instant makes the name unique among processes, the count of entries within one.
        let name = format!("{}.{:x}{:04x}", shorten(of, 200), now.as_nanosecond(), self.lately.len() & 0xffff);
        let event = event(namespace, &name, regarding, note, instance, now);
        let series = Series { namespace: namespace.to_owned(), name, count: 1, noted: instant, written: instant };
        let write = Write::Create { namespace: namespace.to_owned(), event };
        self.lately.insert(key, series);
        Some(write)
    }
}

/// The object reference of an object; without its version, so that repetitions are recognised.
fn reference(object: &Value) -> Option<Value> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    Some(json!({
        "apiVersion": text("/apiVersion")?,
        "kind": text("/kind")?,
        "namespace": text("/metadata/namespace").unwrap_or_default(),
        "name": text("/metadata/name")?,
        "uid": text("/metadata/uid").unwrap_or_default(),
    }))
}

fn micro(at: Timestamp) -> String {
    format!("{at:.6}")
}

/// At most `limit` bytes, cut between characters.
fn shorten(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let cut = &text[..text.floor_char_boundary(limit.saturating_sub(MORE.len_utf8()))];
    // In a name only its own characters may stand.
    if text.contains(' ') { format!("{cut}{MORE}") } else { cut.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(message: &str) -> Note {
        Note { warning: true, reason: "GateClosed".into(), action: "Wait".into(), message: message.into() }
    }

    fn change() -> Value {
        reference(&json!({
            "apiVersion": "interlock.dev/v1alpha1", "kind": "ChangeRequest",
            "metadata": {"name": "teller-2-4-0", "namespace": "teller", "uid": "u7", "resourceVersion": "8"}
        }))
        .expect("reference")
    }

    #[test]
    fn a_repetition_is_counted_and_another_message_is_another_event() {
        let (mut book, start) = (Book::default(), Instant::now());
        let now: Timestamp = "2026-11-23T06:00:00.123456789Z".parse().expect("time");
        let mut take = |message: &str, after: u64| {
            book.take(&change(), &note(message), "pod-1", now, start + Duration::from_secs(after))
        };
        let Some(Write::Create { namespace, event }) = take("window opens 22:00", 0) else {
            panic!("the first is created")
        };
        assert_eq!(namespace, "teller");
        assert_eq!(event["eventTime"], "2026-11-23T06:00:00.123456Z");
        assert_eq!((&event["type"], &event["note"]), (&json!("Warning"), &json!("window opens 22:00")));
        assert_eq!(event["regarding"]["uid"], "u7");
        assert!(matches!(take("approval is missing", 1), Some(Write::Create { .. })));
        assert_eq!(take("window opens 22:00", 2), None, "not rewritten at once");
        let Some(Write::Count { name, series, .. }) = take("window opens 22:00", 40) else {
            panic!("the third is counted")
        };
        assert_eq!(name, event["metadata"]["name"].as_str().expect("name"));
        assert_eq!(series["count"], 3);
        assert!(matches!(take("window opens 22:00", 1000), Some(Write::Create { .. })), "a new series");
    }

    #[test]
    fn an_event_about_a_cluster_scoped_object_lies_in_default_and_long_texts_are_cut() {
        let system = reference(&json!({
            "apiVersion": "interlock.dev/v1alpha1", "kind": "System", "metadata": {"name": "teller", "uid": "u8"}
        }));
        let long = "柜面 ".repeat(600);
        let now: Timestamp = "2026-11-23T06:00:00Z".parse().expect("time");
        let write = Book::default().take(&system.expect("reference"), &note(&long), "pod-1", now, Instant::now());
        let Some(Write::Create { namespace, event }) = write else { panic!("created") };
        assert_eq!(namespace, "default");
        let text = event["note"].as_str().expect("note");
        assert!(text.len() <= 1024 && text.ends_with('…'));
    }
}
