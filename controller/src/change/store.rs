//! The before-state in Secrets of Interlock's namespace: compressed, immutable, at most 512 KiB a chunk, read back.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use interlock_core::{
    change::{INTERLOCK_NAMESPACE, before::BeforeState, facts::RequestFacts},
    object::ObjectId,
    port::{DryRun, Identity, Port, PortError, Precondition},
};
use interlock_crds::RunRecord;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{Context, internal};
use crate::index::Garbage;

/// Plans in memory, by digest: each write of a run needs the same one. They are what was read back, never what was meant to
/// be stored. Most are kept packed, since a tree takes twenty times the space; those that were asked for last also as they are.
#[derive(Debug, Default)]
pub struct Plans(Mutex<Shelf>);

#[derive(Debug, Default)]
struct Shelf {
    plans: BTreeMap<String, Kept>,
    /// By when they were asked for last.
    by_use: BTreeMap<u64, String>,
    uses: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Kept {
    packed: Box<[u8]>,
    plan: Option<Arc<BeforeState>>,
    used: u64,
    /// When the server showed it last.
    read: Timestamp,
}

impl Plans {
    /// The plan of this digest.
    pub fn get(&self, digest: &str) -> Option<Arc<BeforeState>> {
        let mut shelf = self.shelf();
        let kept = shelf.plans.get(digest)?;
        let plan = match &kept.plan {
            Some(plan) => Arc::clone(plan),
            None => Arc::new(BeforeState::from_bytes(&unpack(&kept.packed).ok()?, digest).ok()?),
        };
        shelf.touch(digest, &plan);
        Some(plan)
    }

    /// The plan of this digest, if the server showed it at `since` or later.
    pub fn read_since(&self, digest: &str, since: Timestamp) -> Option<Arc<BeforeState>> {
        let is_recent = self.shelf().plans.get(digest).is_some_and(|kept| kept.read >= since);
        is_recent.then(|| self.get(digest)).flatten()
    }

    /// Keeps a plan that the server showed at `read`: not more than [`MAX_KEPT`] bytes of them packed, and [`AT_HAND`] as they
    /// are.
    pub fn keep(&self, digest: &str, plan: &Arc<BeforeState>, read: Timestamp) {
        let is_kept = self.shelf().read_again(digest, plan, read);
        let packed = || plan.to_bytes().ok().and_then(|(bytes, _)| pack(&bytes).ok());
        let Some(packed) = (!is_kept).then(packed).flatten() else { return };
        let mut shelf = self.shelf();
        shelf.remove(digest);
        shelf.bytes += packed.len();
        let kept = Kept { packed: packed.into_boxed_slice(), plan: None, used: 0, read };
        shelf.plans.insert(digest.to_owned(), kept);
        shelf.touch(digest, plan);
        while shelf.bytes > MAX_KEPT {
            let Some(oldest) = shelf.by_use.first_key_value().map(|(_, digest)| digest.clone()) else { break };
            shelf.remove(&oldest);
        }
    }

    /// Nobody needs it any more.
    pub fn forget(&self, digest: &str) {
        self.shelf().remove(digest);
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelf {
    /// It was asked for just now.
    fn touch(&mut self, digest: &str, plan: &Arc<BeforeState>) {
        self.uses += 1;
        let Some(kept) = self.plans.get_mut(digest) else { return };
        self.by_use.remove(&kept.used);
        kept.used = self.uses;
        kept.plan = Some(Arc::clone(plan));
        self.by_use.insert(self.uses, digest.to_owned());
        let left = self.by_use.iter().rev().nth(AT_HAND).map(|(_, digest)| digest.clone());
        if let Some(left) = left.and_then(|digest| self.plans.get_mut(&digest)) {
            left.plan = None;
        }
    }

    /// One that is kept was read once more; whether it is.
    fn read_again(&mut self, digest: &str, plan: &Arc<BeforeState>, read: Timestamp) -> bool {
        let Some(kept) = self.plans.get_mut(digest) else { return false };
        kept.read = read;
        self.touch(digest, plan);
        true
    }

    fn remove(&mut self, digest: &str) {
        if let Some(kept) = self.plans.remove(digest) {
            self.bytes -= kept.packed.len();
            self.by_use.remove(&kept.used);
        }
    }
}

/// Most bytes of packed plans in memory.
const MAX_KEPT: usize = 8 * 1024 * 1024;
/// Plans that are in memory as they are: more than are looked at at the same time.
const AT_HAND: usize = 24;
/// A plan that was read is taken to be stored for so long while there is nothing to do but to wait for a release.
const RECENT: SignedDuration = SignedDuration::from_mins(5);
/// Most bytes of one Secret, before base64.
const CHUNK: usize = 512 * 1024;
/// Most bytes of a before-state, uncompressed: what 200 objects of 1 MiB could come to.
const MAX_BYTES: u64 = 256 * 1024 * 1024;
/// Type of the Secrets.
const TYPE: &str = "interlock.dev/before-state";

fn name(uid: &str, digest: &str, index: u32) -> String {
    let short = digest.trim_start_matches("sha256:").get(..16).unwrap_or("none");
    format!("before-{uid}-{short}-{index}")
}

fn id(name: &str) -> ObjectId {
    ObjectId {
        group: String::new(),
        version: "v1".to_owned(),
        kind: "Secret".to_owned(),
        namespace: Some(INTERLOCK_NAMESPACE.to_owned()),
        name: name.to_owned(),
    }
}

/// Stores the plan and reads it back. Returns its digest and the number of chunks. Storing it again changes nothing.
pub async fn save<P: Port>(
    context: &Context<P>,
    request: &RequestFacts,
    plan: &BeforeState,
) -> Result<(String, u32), PortError> {
    let (bytes, digest) = plan.to_bytes().map_err(internal)?;
    let digest = digest.to_string();
    let packed = pack(&bytes).map_err(internal)?;
    let chunks: Vec<&[u8]> = packed.chunks(CHUNK).collect();
    for (index, chunk) in chunks.iter().enumerate() {
        let secret = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": name(&request.uid, &digest, index as u32),
                "namespace": INTERLOCK_NAMESPACE,
                "labels": {"interlock.dev/change-uid": request.uid, "app.kubernetes.io/managed-by": "interlock"},
                "annotations": {"interlock.dev/change": format!("{}/{}", request.namespace, request.name)},
            },
            "type": TYPE,
            "immutable": true,
            "data": {"chunk": BASE64.encode(chunk)},
        });
        match context.port.create(&Identity::Controller, "interlock-controller", &secret, DryRun::No).await {
            Ok(_) | Err(PortError::AlreadyExists(_)) => {}
            Err(error) => return Err(error),
        }
    }
    let count = chunks.len() as u32;
    let read = read(context, &request.uid, &digest, count).await?;
    if read != *plan {
        return Err(PortError::Unavailable("the stored before-state differs from what was written".to_owned()));
    }
    keep(context, &digest, &Arc::new(read));
    Ok((digest, count))
}

fn keep<P: Port>(context: &Context<P>, digest: &str, read: &Arc<BeforeState>) {
    context.plans.keep(digest, read, context.port.now().unwrap_or(Timestamp::MIN));
}

fn pack(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes)?;
    encoder.finish()
}

fn unpack(packed: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    GzDecoder::new(packed).take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

async fn read<P: Port>(context: &Context<P>, uid: &str, digest: &str, chunks: u32) -> Result<BeforeState, PortError> {
    let mut packed = Vec::new();
    for index in 0..chunks {
        let name = name(uid, digest, index);
        let secret = context.port.live_get(&Identity::Controller, &id(&name)).await?.ok_or_else(|| {
            PortError::NotFound(format!("Secret {INTERLOCK_NAMESPACE}/{name} with the before-state is gone; restore it from a backup of that namespace"))
        })?;
        let chunk = secret.pointer("/data/chunk").and_then(Value::as_str).unwrap_or_default();
        packed.extend(BASE64.decode(chunk).map_err(internal)?);
    }
    let bytes = unpack(&packed).map_err(internal)?;
    BeforeState::from_bytes(&bytes, digest).map_err(PortError::Invalid)
}

/// The plan of a run, read unless it is in memory; fails unless it is the one that was sealed. Its Secrets are immutable, and
/// the digest says what they hold.
pub async fn plan<P: Port>(context: &Context<P>, uid: &str, run: &RunRecord) -> Result<Arc<BeforeState>, PortError> {
    if let Some(kept) = context.plans.get(&run.before_digest) {
        return Ok(kept);
    }
    stored_plan(context, uid, run).await
}

/// The plan of a run as it is stored, whatever is in memory: without it a change could not go back after the next crash, and that
/// is told while somebody can still do something.
pub async fn stored_plan<P: Port>(
    context: &Context<P>,
    uid: &str,
    run: &RunRecord,
) -> Result<Arc<BeforeState>, PortError> {
    let read = read(context, uid, &run.before_digest, run.before_chunks).await;
    if read.as_ref().is_err_and(|error| !error.is_transient()) {
        // That it is gone is not to be overlooked again because it was there a short time ago.
        context.plans.forget(&run.before_digest);
    }
    let read = Arc::new(read?);
    keep(context, &run.before_digest, &read);
    Ok(read)
}

/// The plan of a run, if it was seen to be stored a short time ago.
pub fn recent_plan<P: Port>(context: &Context<P>, run: &RunRecord, now: Timestamp) -> Option<Arc<BeforeState>> {
    context.plans.read_since(&run.before_digest, now.checked_sub(RECENT).ok()?)
}

/// Removes the before-state of a change that is gone.
pub async fn remove<P: Port>(port: &P, garbage: &Garbage) -> Result<(), PortError> {
    for index in 0..garbage.chunks {
        let id = id(&name(&garbage.uid, &garbage.digest, index));
        port.delete(&Identity::Controller, &id, &Precondition::default(), false, DryRun::No).await?;
    }
    Ok(())
}

/// Removes before-states whose change is gone although nobody saw it go: it was deleted while no controller ran.
/// `is_known` says whether a change of this uid exists.
pub async fn sweep<P: Port>(port: &P, is_known: impl Fn(&str) -> bool) -> Result<usize, PortError> {
    let mut removed = 0;
    for secret in port.live_list("", "v1", "Secret", Some(INTERLOCK_NAMESPACE)).await? {
        let text = |pointer: &str| secret.pointer(pointer).and_then(Value::as_str);
        let uid =
            secret.pointer("/metadata/labels").and_then(|l| l.get("interlock.dev/change-uid")).and_then(Value::as_str);
        let (Some(TYPE), Some(uid), Some(name)) = (text("/type"), uid, text("/metadata/name")) else { continue };
        if !is_known(uid) {
            port.delete(&Identity::Controller, &id(name), &Precondition::of(&secret), false, DryRun::No).await?;
            removed += 1;
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_recent_as_long_as_the_server_showed_it_lately() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        let plans = Plans::default();
        let plan = Arc::new(BeforeState {
            format: 1,
            change_uid: "u".to_owned(),
            change_digest: String::new(),
            entries: Vec::new(),
            rollout_plan: None,
        });
        let digest = plan.to_bytes().expect("bytes").1.to_string();
        assert_eq!(plans.read_since(&digest, Timestamp::MIN), None, "it was never read");
        plans.keep(&digest, &plan, at(10));
        assert_eq!(plans.read_since(&digest, at(10)), Some(Arc::clone(&plan)));
        assert_eq!(plans.read_since(&digest, at(11)), None);
        assert_eq!(plans.get(&digest), Some(Arc::clone(&plan)), "it is the same, however old");
        plans.keep(&digest, &plan, at(20));
        assert_eq!(plans.read_since(&digest, at(11)), Some(plan));
        plans.forget(&digest);
        assert_eq!(plans.read_since(&digest, at(11)), None);
    }
}
