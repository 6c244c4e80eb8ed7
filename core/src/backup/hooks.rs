//! Hooks around the copying: each is announced before it is begun, so that no crash begins it twice.
//!
//! What a hook answered is known only to the controller that ran it. If that one crashed, the hook counts as failed when its
//! time is over: whether it took effect is not known.

use interlock_crds::{Analysis, ExecHook, Hook, HookErrorRule, HookRecord};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::slots::plus;
use crate::{
    analysis::{Answer, Exec, Observation, Question, Slot, Subject},
    port::Identity,
};

/// Most bytes that are kept of what a command wrote to its standard error.
pub const MAX_STDERR_BYTES: usize = 400;
/// What stands in names of credentials.
const SENSITIVE: [&str; 7] = ["password", "passwd", "secret", "token", "credential", "apikey", "api_key"];

/// How a hook ended, as the controller that ran it saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookDone {
    /// Name of the hook.
    pub name: String,
    /// Whether it is one of those after the copying.
    pub after: bool,
    /// Nothing if it did what it should, else what went wrong; never what it wrote.
    pub problem: Option<String>,
}

/// What follows for a list of hooks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookStep {
    /// All have ended, and none that matters failed.
    Complete,
    /// This one is to be run now; it was just announced, and its time is over at that instant.
    Run(String, Timestamp),
    /// One is running, until then at the latest.
    Wait(Timestamp),
    /// One that matters failed: the sentence.
    Failed(String),
}

/// Takes the hooks of one list in order. A failed one ends the list only before the copying: afterwards all are run.
pub fn advance(
    hooks: &[Hook],
    after: bool,
    records: &mut Vec<HookRecord>,
    done: &[HookDone],
    now: Timestamp,
) -> HookStep {
    for hook in hooks {
        let Some(record) = records.iter_mut().find(|record| record.after == after && record.name == hook.name) else {
            let record = HookRecord {
                name: hook.name.clone(),
                after,
                started_at: Time(now),
                finished_at: None,
                succeeded: None,
                message: None,
            };
            records.push(record);
            return HookStep::Run(hook.name.clone(), plus(now, hook.timeout.signed()));
        };
        let over = plus(record.started_at.0, hook.timeout.signed());
        if record.finished_at.is_none() {
            let problem = match done.iter().find(|done| done.after == after && done.name == hook.name) {
                Some(done) => done.problem.clone(),
                None if now < over => return HookStep::Wait(over),
                None => {
                    Some(format!("it did not end within {}, or the controller restarted while it ran", hook.timeout))
                }
            };
            record.finished_at = Some(Time(now));
            record.succeeded = Some(problem.is_none());
            record.message = problem.map(|problem| problem.chars().take(512).collect());
        }
        if record.succeeded == Some(false) && !after && hook.on_error == HookErrorRule::Fail {
            let why = record.message.as_deref().unwrap_or("it failed");
            return HookStep::Failed(format!("hook {} failed, so nothing was copied: {why}", hook.name));
        }
    }
    HookStep::Complete
}

/// What is asked for a hook: an HTTP request, or a command in a pod. `key` tells this request from every other.
pub fn question(hook: &Hook, key: String, identity: Identity, namespace: &str, now: Timestamp) -> Option<Question> {
    let mut analysis = json!({"name": hook.name});
    if let Some(http) = &hook.http {
        let mut metric = json!({"url": http.url, "method": http.method, "expectStatus": [], "timeout": hook.timeout});
        if let (Some(secret), Some(metric)) = (&http.secret_ref, metric.as_object_mut()) {
            metric.insert("secretRef".to_owned(), json!(secret));
        }
        if let Some(analysis) = analysis.as_object_mut() {
            analysis.insert("http".to_owned(), metric);
        }
    }
    let analysis: Analysis = serde_json::from_value(analysis).ok()?;
    let exec = hook.exec.as_ref().map(|exec| Exec { hook: exec.clone(), timeout: hook.timeout });
    let nothing = || String::new();
    let subject = Subject {
        workload: nothing(),
        namespace: namespace.to_owned(),
        canary_hash: nothing(),
        stable_hash: nothing(),
    };
    let slot = Slot { number: 1, due: now, samples: None, of: Some(1) };
    Some(Question { key, identity, namespace: namespace.to_owned(), analysis, slot, subject, exec })
}

/// The one ready pod among those with the labels of a hook: its name and the container that is meant.
///
/// # Errors
/// There is none, or more than one: which of them is meant cannot be told.
pub fn pod_of(hook: &ExecHook, pods: &[Value]) -> Result<(String, Option<String>), String> {
    let text = |value: &Value, pointer: &str| value.pointer(pointer).and_then(Value::as_str).map(ToOwned::to_owned);
    let is_ready = |pod: &&Value| {
        let conditions = pod.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
        let mut ready = conditions.filter(|c| text(c, "/type").as_deref() == Some("Ready"));
        pod.pointer("/metadata/deletionTimestamp").is_none()
            && ready.any(|condition| text(condition, "/status").as_deref() == Some("True"))
    };
    let ready: Vec<_> = pods.iter().filter(is_ready).collect();
    let labels = labels_of(hook);
    match ready.as_slice() {
        [pod] => {
            let container = hook.container.clone().or_else(|| text(pod, "/spec/containers/0/name"));
            text(pod, "/metadata/name").map(|name| (name, container)).ok_or_else(|| "the pod has no name".to_owned())
        }
        [] => Err(format!("no ready pod has the labels {labels}; nothing was run")),
        several => Err(format!(
            "{} ready pods have the labels {labels}, and exactly one must: give labels that tell the one that is meant; nothing was run",
            several.len()
        )),
    }
}

/// The labels of a hook's pod, as a selector.
pub fn labels_of(hook: &ExecHook) -> String {
    let labels: Vec<_> = hook.pod.iter().map(|label| format!("{}={}", label.key, label.value)).collect();
    labels.join(",")
}

/// Why the executor's command was refused, and what helps.
pub fn may_not_exec(namespace: &str, executor: &str, why: &str) -> String {
    format!(
        "{executor} may not run commands in pods of namespace {namespace}: hooks with exec need the rights create and get on pods/exec, which `interlock install --print-executor NAMESPACE/NAME --with-role` prints ({why})"
    )
}

/// The end of what a command wrote to its standard error, on one line, without what looks like a credential.
pub fn shown(stderr: &str) -> String {
    let mut hide_next = false;
    let words = stderr.split_whitespace().map(|word| {
        let word: String = word.chars().filter(|c| !c.is_control()).collect();
        if std::mem::take(&mut hide_next) {
            return "***".to_owned();
        }
        let lower = word.to_lowercase();
        if let Some((scheme, rest)) = word.split_once("://") {
            return match rest.split_once('@') {
                Some((_, host)) => format!("{scheme}://***@{host}"),
                None => word,
            };
        }
        if !SENSITIVE.iter().any(|sensitive| lower.contains(sensitive)) {
            return word;
        }
        match word.split_once(['=', ':']) {
            Some((name, "")) => {
                hide_next = true;
                format!("{name}:")
            }
            Some((name, _)) => format!("{name}=***"),
            // As in `--password hunter2`.
            None => {
                hide_next = word.starts_with('-');
                word
            }
        }
    });
    let text = words.collect::<Vec<_>>().join(" ");
    let from = text.char_indices().map(|(at, _)| at).find(|at| text.len() - at <= MAX_STDERR_BYTES);
    text.get(from.unwrap_or(text.len())..).unwrap_or_default().to_owned()
}

/// How a hook ended. Never what a server wrote; of a command that failed the end of its standard error.
pub fn done(hook: &Hook, after: bool, answer: &Answer) -> HookDone {
    let expected = hook.http.as_ref().map(|http| http.expect_status.as_slice()).unwrap_or_default();
    let problem = match answer {
        Answer::Seen(Observation::Exec { exit_code: 0, .. }) if hook.exec.is_some() => None,
        Answer::Seen(Observation::Exec { exit_code, stderr }) if hook.exec.is_some() => {
            let stderr = shown(stderr);
            let told = if stderr.is_empty() { String::new() } else { format!(": {stderr}") };
            Some(format!("its command ended with {exit_code}{told}"))
        }
        Answer::Seen(Observation::Http { status, .. }) if expected.contains(status) => None,
        Answer::Seen(Observation::Http { status, .. }) => Some(format!("its server answered with status {status}")),
        Answer::Seen(Observation::Error(why) | Observation::NoData(why)) | Answer::Impossible(why) => Some(why.clone()),
        Answer::Seen(_) => Some("the answer is none to what was asked".to_owned()),
    };
    HookDone { name: hook.name.clone(), after, problem }
}
