//! Hooks around the copying: each is announced before it is begun, so that no crash begins it twice.
//!
//! What a hook answered is known only to the controller that ran it. If that one crashed, the hook counts as failed when its
//! time is over: whether it took effect is not known.

use interlock_crds::{Analysis, Hook, HookErrorRule, HookRecord};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use super::slots::plus;
use crate::{
    analysis::{Answer, Observation, Question, Slot, Subject},
    port::Identity,
};

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

/// What is asked for a hook that is an HTTP request; none for another one. `key` tells this request from every other.
pub fn question(hook: &Hook, key: String, identity: Identity, namespace: &str, now: Timestamp) -> Option<Question> {
    let http = hook.http.as_ref()?;
    let mut metric = json!({"url": http.url, "method": http.method, "expectStatus": [], "timeout": hook.timeout});
    if let (Some(secret), Some(metric)) = (&http.secret_ref, metric.as_object_mut()) {
        metric.insert("secretRef".to_owned(), json!(secret));
    }
    let analysis: Analysis = serde_json::from_value(json!({"name": hook.name, "http": metric})).ok()?;
    let nothing = || String::new();
    let subject = Subject {
        workload: nothing(),
        namespace: namespace.to_owned(),
        canary_hash: nothing(),
        stable_hash: nothing(),
    };
    let slot = Slot { number: 1, due: now, samples: None, of: Some(1) };
    Some(Question { key, identity, namespace: namespace.to_owned(), analysis, slot, subject })
}

/// How a hook ended that was an HTTP request. Never what the server wrote.
pub fn done(hook: &Hook, after: bool, answer: &Answer) -> HookDone {
    let expected = hook.http.as_ref().map(|http| http.expect_status.as_slice()).unwrap_or_default();
    let problem = match answer {
        Answer::Seen(Observation::Http { status, .. }) if expected.contains(status) => None,
        Answer::Seen(Observation::Http { status, .. }) => Some(format!("its server answered with status {status}")),
        Answer::Seen(Observation::Error(why) | Observation::NoData(why)) | Answer::Impossible(why) => Some(why.clone()),
        Answer::Seen(_) => Some("the answer was no HTTP answer".to_owned()),
    };
    HookDone { name: hook.name.clone(), after, problem }
}
