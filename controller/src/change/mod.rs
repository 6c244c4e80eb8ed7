//! ChangeRequests: observe, decide, act, record.
//!
//! [`reconcile`] is one pass over one change. It reads what is known, asks the core, does what follows and writes the
//! status if it differs. Whatever it holds in memory only saves calls: after a crash the next pass finds the same answer
//! from the objects.

mod act;
mod memo;
mod observe;
mod prepare;
mod record;
mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use base64::Engine as _;
use interlock_core::{
    change::{
        Next,
        decide::{self, Decision},
        facts::{BaseState, Preflight},
        sealed,
    },
    object::ObjectId,
    port::{Note, Port, PortError},
    rollout::RefusedWrite,
    seal::SealKey,
};
use interlock_crds::{ChangePhase, ChangeRequestStatus};
use jiff::{SignedDuration, Timestamp};

pub use memo::Memo;
pub use observe::{Observed, cached_one as observe_one, from_index, plan_facts, plan_key};
pub use store::{Plans, plan, remove as remove_before, sweep as sweep_before};

use crate::{
    backup::{Begun, Images},
    index::{ChangeKey, Index, LiveChange},
    rollout::Released,
};

/// Keys of this installation.
#[derive(Debug)]
pub struct Keys {
    /// Seals votes, bases, runs and ends.
    pub seal: SealKey,
    /// Keys the hash over staged values; its id is recorded with each hash.
    pub mac: MacKey,
}

/// Key of the hash over staged values.
pub struct MacKey {
    /// Identifies the key.
    pub id: String,
    /// 32 random bytes.
    pub secret: Vec<u8>,
}

impl std::fmt::Debug for MacKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MacKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What every pass needs.
#[derive(Debug)]
pub struct Context<P> {
    /// The cluster.
    pub port: P,
    /// What is known of it.
    pub index: Arc<RwLock<Index>>,
    /// Keys of this installation.
    pub keys: Keys,
    /// Uid of the kube-system namespace.
    pub cluster: String,
    /// What saves calls.
    pub memos: Mutex<BTreeMap<ChangeKey, Memo>>,
    /// Before-states of runs under way.
    pub plans: Plans,
    /// Held while a change enters Running.
    pub starting: tokio::sync::Mutex<()>,
    /// Images of the pods of backups.
    pub images: Images,
    /// Hooks of backups that this process began.
    pub hooks: Begun,
    /// By BackupPolicy the run whose Job was last seen to be gone. Losing it costs a call.
    pub tidied: Mutex<BTreeMap<String, String>>,
    /// Rollouts of which something that only tells people how far they got is not recorded yet, and since when.
    pub unrecorded: Mutex<BTreeMap<String, Timestamp>>,
    /// By Rollout the write that was refused last, so that its status says so. Losing it costs a try.
    pub refused: Mutex<BTreeMap<String, RefusedWrite>>,
    /// Rollouts of which what was told turned out to be behind: they are read from the server next time.
    pub doubted: Mutex<BTreeSet<String>>,
    /// What Rollouts release, worked out before.
    pub released: Released,
}

impl<P: Port> Context<P> {
    /// A context with nothing remembered.
    pub fn new(port: P, index: Arc<RwLock<Index>>, keys: Keys, cluster: String) -> Self {
        let (memos, plans) = (Mutex::new(BTreeMap::new()), Plans::default());
        Self {
            port,
            index,
            keys,
            cluster,
            memos,
            plans,
            starting: tokio::sync::Mutex::new(()),
            unrecorded: Mutex::default(),
            refused: Mutex::default(),
            doubted: Mutex::default(),
            released: Released::default(),
            images: Images::default(),
            hooks: Begun::default(),
            tidied: Mutex::default(),
        }
    }

    /// The same with these images.
    #[must_use]
    pub fn with_images(self, images: Images) -> Self {
        Self { images, ..self }
    }

    /// HMAC-SHA-256 of `bytes` under this installation's key, with the key's id: equal bytes are told without being kept.
    pub(crate) fn hmac(&self, bytes: &[u8]) -> String {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &self.keys.mac.secret);
        let tag = ring::hmac::sign(&key, bytes);
        format!("{}:{}", self.keys.mac.id, base64::engine::general_purpose::STANDARD.encode(tag.as_ref()))
    }

    /// Asks the index.
    pub fn ask<T>(&self, question: impl FnOnce(&Index) -> T) -> T {
        question(&self.index.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts a change that this process just wrote into the index, before the watch tells of it.
    fn learn(&self, stored: serde_json::Value) {
        if let Ok(change) = serde_json::from_value::<interlock_crds::ChangeRequest>(stored) {
            self.index.write().unwrap_or_else(PoisonError::into_inner).change_learnt(&change);
        }
    }

    /// Puts a Rollout that this process just wrote into the index, before the watch tells of it.
    pub(crate) fn learn_rollout(&self, stored: serde_json::Value) {
        if let Ok(rollout) = serde_json::from_value::<interlock_crds::Rollout>(stored) {
            self.index.write().unwrap_or_else(PoisonError::into_inner).rollout_learnt(&rollout);
        }
    }

    fn memo<T>(&self, key: &str, use_it: impl FnOnce(&mut Memo) -> T) -> T {
        let mut memos = self.memos.lock().unwrap_or_else(PoisonError::into_inner);
        use_it(memos.entry(key.to_owned()).or_default())
    }

    /// Looks at what is remembered, if anything is.
    fn recall<T>(&self, key: &str, look: impl FnOnce(&mut Memo) -> T) -> Option<T> {
        let mut memos = self.memos.lock().unwrap_or_else(PoisonError::into_inner);
        memos.get_mut(key).map(look)
    }

    /// Has changes of these objects wake the change. Whether that was not so before.
    fn watch(&self, key: &str, objects: &[ObjectId]) -> bool {
        let new = self.memo(key, |memo| {
            let new = memo.watched != objects;
            memo.watched = objects.to_vec();
            new
        });
        if new {
            self.port.watch(key, objects);
        }
        new && !objects.is_empty()
    }

    fn forget(&self, key: &str) {
        self.memos.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        self.port.watch(key, &[]);
    }
}

/// What a pass came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing to do until something happens, or until the instant.
    Wait(Option<Timestamp>),
    /// The same, but objects of which nobody tells are to be read again at `again`.
    Reread {
        /// When to read them.
        again: Timestamp,
        /// When there is something to do anyway.
        until: Option<Timestamp>,
    },
    /// Another pass soon: a call failed for a passing reason.
    Retry(String),
}

/// Passes in one go; each either changes something or ends it.
const MAX_ROUNDS: usize = 12;
/// A dry run that was refused is tried again after so long: rights and quotas are not watched.
const PREFLIGHT_RETRY: SignedDuration = SignedDuration::from_secs(30);
/// A base that no longer holds is read again after so long: somebody may put the objects right.
const BASE_RETRY: SignedDuration = SignedDuration::from_secs(60);

/// One pass over the change `key`.
pub async fn reconcile<P: Port>(context: &Context<P>, key: &str) -> Outcome {
    if !context.port.may_write() {
        return Outcome::Wait(None);
    }
    let Some(live) = context.ask(|index| index.live(key)) else {
        context.forget(key);
        return Outcome::Wait(None);
    };
    let Some(now) = context.port.now() else {
        return Outcome::Retry("the API server's time is not known".to_owned());
    };
    match pass(context, key, &live, now).await {
        Ok(outcome) => outcome,
        Err(error) => {
            tracing::warn!(change = key, %error, "the pass ended early");
            if matches!(error, PortError::Conflict(_)) {
                context.memo(key, |memo| memo.written = None);
            }
            Outcome::Retry(error.to_string())
        }
    }
}

async fn pass<P: Port>(
    context: &Context<P>,
    key: &str,
    live: &Arc<LiveChange>,
    now: Timestamp,
) -> Result<Outcome, PortError> {
    let mut observed = observe::cached(context, key, live, now);
    let mut checked_live = false;
    let mut fresh_base = false;
    for _ in 0..MAX_ROUNDS {
        let decision = decide::decide(&observed.facts(context), now);
        match decision.next.clone() {
            // What is remembered stays until the watch tells of the end too: till then the index knows less.
            Next::Ended => return Ok(Outcome::Wait(None)),
            Next::ReadBase => {
                read_base(context, key, &mut observed).await;
                fresh_base = true;
                if let BaseState::Unreadable(why) = observed.base.clone() {
                    tracing::info!(change = key, why, "the live objects could not be read");
                    let mut status = decision.status;
                    status.message = Some(decide::bounded(&format!("the live objects could not be read: {why}"), 2048));
                    record::status(context, &mut observed, status).await?;
                    return Ok(Outcome::Retry(why));
                }
            }
            // What is pinned is what stands there now, not what was read for an earlier answer.
            Next::PinBase(_) if !fresh_base => {
                read_base(context, key, &mut observed).await;
                fresh_base = true;
            }
            Next::PinBase(record) => {
                let sealed = sealed::seal_base(&context.keys.seal, &observed.request.uid, record).map_err(internal)?;
                observed.request.status.base = Some(sealed);
                observed.request.sealed.base = true;
            }
            Next::Wait => return wait(context, key, &mut observed, decision, now).await,
            Next::Finish(phase, message) => {
                finish(context, &mut observed, decision.status, phase, &message, now).await?;
                return Ok(Outcome::Wait(None));
            }
            Next::Start(_) if !checked_live => {
                observed = observe::live(context, key, &observed, now).await?;
                checked_live = true;
                fresh_base = true;
            }
            Next::Start(start) => match prepare::prepare(context, &observed, &start, now).await? {
                prepare::Prepared::Refused(message) => {
                    let retry_at = now.checked_add(PREFLIGHT_RETRY).unwrap_or(now);
                    observed.preflight = Preflight::Refused { message, retry_at };
                    let preflight = observed.preflight.clone();
                    context.memo(key, |memo| memo.remember_preflight(&observed.request, preflight));
                }
                prepare::Prepared::Ready(ready) => {
                    return act::start(context, key, &mut observed, decision.status, *ready, now).await;
                }
            },
            Next::Run => return act::go_on(context, key, &mut observed, decision.status, now).await,
        }
    }
    Ok(Outcome::Retry("the change did not settle in one pass".to_owned()))
}

async fn read_base<P: Port>(context: &Context<P>, key: &str, observed: &mut Observed) {
    (observed.base, observed.objects) = observe::base(context, observed).await;
    let base = observed.base.clone();
    context.memo(key, |memo| memo.remember_base(&observed.request, base));
}

async fn wait<P: Port>(
    context: &Context<P>,
    key: &str,
    observed: &mut Observed,
    decision: Decision,
    now: Timestamp,
) -> Result<Outcome, PortError> {
    let stale_base = decision
        .status
        .gates
        .iter()
        .any(|g| g.name == "Precondition" && matches!(g.reason.as_str(), "BaseChanged" | "SecretsChanged"));
    let until = decision.wake_at;
    if stale_base {
        context.memo(key, Memo::forget_base);
    }
    record::status(context, observed, decision.status).await?;
    let again = now.checked_add(BASE_RETRY).unwrap_or(now);
    Ok(if stale_base { Outcome::Reread { again, until } } else { Outcome::Wait(until) })
}

async fn finish<P: Port>(
    context: &Context<P>,
    observed: &mut Observed,
    mut status: ChangeRequestStatus,
    phase: ChangePhase,
    message: &str,
    now: Timestamp,
) -> Result<(), PortError> {
    let uid = observed.request.uid.clone();
    let sealed =
        sealed::seal_finish(&context.keys.seal, &uid, phase, now, decide::bounded(message, 2048)).map_err(internal)?;
    status.phase = phase;
    status.message = Some(decide::bounded(message, 2048));
    status.waiting_for = None;
    status.next_transition = None;
    status.finished = Some(sealed);
    if let Some(run) = &status.run {
        context.plans.forget(&run.before_digest);
    }
    record::status(context, observed, status).await?;
    context.watch(&observed.key(), &[]);
    let note = Note {
        warning: phase != ChangePhase::Succeeded,
        reason: format!("{phase:?}"),
        action: "Finish".to_owned(),
        message: message.to_owned(),
    };
    tracing::info!(change = observed.key(), ?phase, message, "the change ended");
    context.port.note(&observed.reference(), &note).await;
    Ok(())
}

fn internal(error: impl std::fmt::Display) -> PortError {
    PortError::Unavailable(error.to_string())
}
