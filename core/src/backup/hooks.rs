//! Hooks around the copying: each is announced before it is begun, so that no crash begins it twice.
//!
//! What a hook answered is known only to the controller that ran it. If that one crashed, the hook counts as failed when its
//! time is over: whether it took effect is not known.

use interlock_crds::{Hook, HookErrorRule, HookRecord};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::slots::plus;

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
