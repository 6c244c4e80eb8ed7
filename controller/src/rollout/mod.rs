//! Rollouts: observe, decide, record, act.
//!
//! [`reconcile`] is one pass over one Rollout. The status, with the writes that it announces, is recorded before the first
//! of them; what was written shows in the objects. What is remembered between passes only saves calls: how long people have
//! not been told of something that only tells them how far it got, and which Rollouts have to be read from the server.

mod act;
mod measuring;
mod observe;

use std::sync::{Arc, PoisonError};

use interlock_core::{
    change::gradual::FINALIZER,
    port::{Port, PortError},
    rollout::{RefusedWrite, decide::RolloutDecision, measure, notes},
};
use interlock_crds::{Rollout, RolloutPhase, RolloutStatus};
use jiff::{SignedDuration, Timestamp};

use observe::Observed;
pub use observe::Released;

use crate::change::{Context, Outcome};

/// Decisions in one pass: each but the last writes something.
const MAX_ROUNDS: usize = 8;
/// How long counts and messages may be behind, so that each pod that becomes ready does not cost a write.
const BEHIND: SignedDuration = SignedDuration::from_secs(5);
/// What each release whose difference waits adds to that, so that all of them together make two such writes a second at most.
const BEHIND_EACH: SignedDuration = SignedDuration::from_millis(500);
/// But no more than this part of the plan's deadline, which counts from the progress that is recorded.
const OF_DEADLINE: i32 = 4;
/// Before the `namespace/name` of a Rollout that waits for objects; no namespace has a colon in its name.
const WAITER: &str = "rollout:";

/// The Rollout that waits under this name for objects; none if a change does.
pub fn key_of_waiter(waiter: &str) -> Option<&str> {
    waiter.strip_prefix(WAITER)
}

/// One pass over the Rollout `key`.
pub async fn reconcile<P: Port>(context: &Context<P>, key: &str) -> Outcome {
    if !context.port.may_write() {
        return Outcome::Wait(None);
    }
    let waiter = format!("{WAITER}{key}");
    let Some(known) = context.ask(|index| index.rollout(key)) else {
        forget(context, key, &waiter);
        return Outcome::Wait(None);
    };
    if is_over(&known) && context.ask(|index| index.has_ended(&known.spec.change_request.uid)) {
        forget(context, key, &waiter);
        return Outcome::Wait(None);
    }
    let Some(now) = context.port.now() else {
        return Outcome::Retry("the API server's time is not known".to_owned());
    };
    match pass(context, key, &waiter, known, now).await {
        Ok(outcome) => outcome,
        Err(error) => {
            tracing::warn!(rollout = key, %error, "the pass ended early");
            observe::doubt(context, key, &waiter);
            Outcome::Retry(error.to_string())
        }
    }
}

/// Nothing is waited for any more. A difference that was put off slows the others down no longer.
fn forget<P: Port>(context: &Context<P>, key: &str, waiter: &str) {
    context.unrecorded.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    context.refused.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    context.port.watch(waiter, &[]);
}

/// Which write was refused last, or that the last ones passed.
fn learn<P>(context: &Context<P>, key: &str, observed: &mut Observed, refused: Option<RefusedWrite>) {
    if observed.refused != refused {
        let mut known = context.refused.lock().unwrap_or_else(PoisonError::into_inner);
        match refused.clone() {
            Some(refused) => known.insert(key.to_owned(), refused),
            None => known.remove(key),
        };
        observed.refused = refused;
    }
}

/// Until when the difference can wait, if it only tells people how far the release got.
fn put_off<P>(
    context: &Context<P>,
    key: &str,
    decision: &RolloutDecision,
    observed: &Observed,
    now: Timestamp,
) -> Option<Timestamp> {
    let recorded = observed.status();
    let mut unrecorded = context.unrecorded.lock().unwrap_or_else(PoisonError::into_inner);
    let waits = decision.status != *recorded && !decision.release && !decision.must_record(recorded);
    let since = if waits { *unrecorded.entry(key.to_owned()).or_insert(now) } else { Timestamp::MIN };
    let among_all = BEHIND_EACH * i32::try_from(unrecorded.len()).unwrap_or(i32::MAX);
    let behind = BEHIND.max(among_all.min(observed.rollout.spec.plan.progress_deadline.signed() / OF_DEADLINE));
    let until = since.checked_add(behind).ok().filter(|until| *until > now);
    if until.is_none() {
        unrecorded.remove(key);
    }
    until
}

/// Whether it turns round, fails, or is held for a failure now.
fn gives_up(recorded: &RolloutStatus, decided: &RolloutStatus) -> bool {
    let is_bad = |status: &RolloutStatus| matches!(status.phase, RolloutPhase::Aborting | RolloutPhase::Failed);
    is_bad(decided) && !is_bad(recorded) || decided.hold.is_some() && recorded.hold.is_none()
}

/// The API server stores no finer times: with them the status would differ from what is stored of it.
fn whole_seconds(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// Nothing more is to be done for it, whatever its change does.
fn is_over(rollout: &Rollout) -> bool {
    let at_rest = rollout.status.as_ref().is_some_and(|status| status.phase.is_at_rest());
    let kept = rollout.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER);
    at_rest && !(kept && rollout.metadata.deletion_timestamp.is_some())
}

async fn pass<P: Port>(
    context: &Context<P>,
    key: &str,
    waiter: &str,
    told: Arc<Rollout>,
    started: Timestamp,
) -> Result<Outcome, PortError> {
    let Some(mut observed) = observe::rollout(context, key, told, started).await? else {
        return Ok(Outcome::Wait(None));
    };
    if observed.run.is_none() {
        // Its change does not run, so nobody would let its writes pass: it is let go if somebody deletes it.
        forget(context, key, waiter);
        if observed.rollout.metadata.deletion_timestamp.is_some() {
            act::release(context, &observed).await?;
        }
        return Ok(Outcome::Wait(None));
    }
    let (mut measured, mut is_read) = (Vec::new(), false);
    for _ in 0..MAX_ROUNDS {
        if !context.port.may_write() {
            return Ok(Outcome::Wait(None));
        }
        let now = whole_seconds(context.port.now().unwrap_or(started));
        let live = observe::live(context, waiter, &observed).await?;
        observed.look_back(context, &live, now);
        let (decision, due) = measure::decide(&observed.facts(&live), &measured, now);
        // A release is not given up for what a watch that broke did not tell: the objects are read once more.
        if !is_read && gives_up(observed.status(), &decision.status) {
            is_read = true;
            context.port.doubt(waiter, None);
            continue;
        }
        if due.is_empty() && decision.writes.is_empty() && !decision.release && !decision.is_news(observed.status()) {
            if observed.status().phase == RolloutPhase::Pending {
                tracing::debug!(rollout = key, reasons = ?decision.reasons, "not begun yet");
            }
            return Ok(Outcome::Wait(decision.wake_at));
        }
        if due.is_empty()
            && let Some(later) = put_off(context, key, &decision, &observed, started)
        {
            return Ok(Outcome::Wait(Some(decision.wake_at.map_or(later, |at| at.min(later)))));
        }
        let notes = notes(&observed.rollout.spec.plan, observed.status(), &decision);
        let recorded = act::record(context, &mut observed, decision.status, &notes).await?;
        // Nothing is written on the word of what was told alone. What was recorded just now was recorded over it; what was
        // recorded before, and is to be written again, has to stand.
        if !recorded && !decision.writes.is_empty() && !observe::stands(context, &observed).await? {
            return Err(PortError::Conflict("the Rollout changed meanwhile".to_owned()));
        }
        // What was measured is recorded; what is due is asked for, and its answer wakes this Rollout.
        measured = due.into_iter().filter_map(|due| measuring::ask(context, waiter, &observed, due)).collect();
        if decision.release {
            act::release(context, &observed).await?;
            return Ok(Outcome::Wait(None));
        }
        match act::write(context, &observed, &decision.writes).await {
            Ok(()) if decision.writes.is_empty() => {}
            Ok(()) => learn(context, key, &mut observed, None),
            // What was told of that object was behind: it is read, and decided anew.
            Err((write, PortError::Conflict(_) | PortError::AlreadyExists(_) | PortError::NotFound(_))) => {
                context.port.doubt(waiter, Some(&write.id));
                continue;
            }
            Err((_, error)) if error.is_transient() => return Err(error),
            Err((write, error)) => {
                let is_known = observed.refused.as_ref().is_some_and(|known| known.is_of(write));
                let refused = RefusedWrite::new(write, error.to_string());
                learn(context, key, &mut observed, Some(refused));
                // Its status says so first, then it is tried once more. Of what is said of it, much may differ each time.
                if !is_known {
                    act::refused(context, &observed, &error).await;
                    continue;
                }
                return Ok(Outcome::Retry(error.to_string()));
            }
        }
        if decision.writes.is_empty() && !recorded && measured.is_empty() {
            return Ok(Outcome::Wait(decision.wake_at));
        }
    }
    Ok(Outcome::Retry("the Rollout did not settle in one pass".to_owned()))
}
