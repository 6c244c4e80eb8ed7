//! The before-state in Secrets of Interlock's namespace: compressed, immutable, at most 512 KiB a chunk, read back.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use interlock_core::{
    change::{INTERLOCK_NAMESPACE, before::BeforeState, facts::RequestFacts},
    object::ObjectId,
    port::{DryRun, Identity, Port, PortError, Precondition},
};
use interlock_crds::RunRecord;
use serde_json::{Value, json};

use super::{Context, internal};
use crate::index::Garbage;

/// Plans in memory, by digest: each write of a run needs the same one. They are what was read back, never what was meant to
/// be stored.
#[derive(Debug, Default)]
pub struct Plans(Mutex<BTreeMap<String, Arc<BeforeState>>>);

impl Plans {
    /// The plan of this digest.
    pub fn get(&self, digest: &str) -> Option<Arc<BeforeState>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(digest).cloned()
    }

    /// Keeps a plan, and not more than [`KEPT`] of them.
    pub fn keep(&self, digest: &str, plan: &Arc<BeforeState>) {
        let mut plans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while plans.len() >= KEPT {
            plans.pop_first();
        }
        plans.insert(digest.to_owned(), Arc::clone(plan));
    }
}

/// Plans kept in memory.
const KEPT: usize = 32;
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
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&bytes).map_err(internal)?;
    let packed = encoder.finish().map_err(internal)?;
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
    context.plans.keep(&digest, &Arc::new(read));
    Ok((digest, count))
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
    let mut bytes = Vec::new();
    GzDecoder::new(packed.as_slice()).take(MAX_BYTES).read_to_end(&mut bytes).map_err(internal)?;
    BeforeState::from_bytes(&bytes, digest).map_err(PortError::Invalid)
}

/// Reads the plan of a run; fails unless it is the one that was sealed.
pub async fn load_before<P: Port>(context: &Context<P>, uid: &str, run: &RunRecord) -> Result<BeforeState, PortError> {
    read(context, uid, &run.before_digest, run.before_chunks).await
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
