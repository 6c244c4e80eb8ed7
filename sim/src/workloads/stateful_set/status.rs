//! What a StatefulSet tells about itself.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::pods::{self, Census};
use super::super::{read, revisions, writes};
use super::NAME;
use crate::api::{Api, ApiError};

/// Writes the status if it differs; answers when the next pod becomes available.
pub(super) fn write(api: &mut Api, set: &Value, update: &str) -> Result<Option<Timestamp>, ApiError> {
    let all = writes::pods(api, set);
    let census = Census::of(&all, read::count(set, "/spec/minReadySeconds"), api.now());
    // Pods count here until they are gone.
    let replicas = all.iter().filter(|pod| !pods::has_ended(pod)).count() as i64;
    let ready = all.iter().filter(|pod| !pods::has_ended(pod) && pods::is_ready(pod)).count() as i64;
    let wanted = read::replicas(set);
    let told = Some(read::text(set, "/status/currentRevision")).filter(|current| !current.is_empty());
    let updated = revisions::count_of(&all, update);
    let is_rolling = read::text(set, "/spec/updateStrategy/type") != "OnDelete";
    let is_done = is_rolling && updated == wanted && ready == wanted && replicas == wanted;
    let current = if is_done { update } else { told.unwrap_or(update) };

    let mut status = json!({
        "observedGeneration": read::count(set, "/metadata/generation"),
        "replicas": replicas,
        "availableReplicas": census.available,
        "currentRevision": current,
        "updateRevision": update,
        "collisionCount": 0,
    });
    writes::set_count(&mut status, "readyReplicas", ready);
    writes::set_count(&mut status, "currentReplicas", revisions::count_of(&all, current));
    writes::set_count(&mut status, "updatedReplicas", updated);
    writes::put_status(api, NAME, set, status)?;
    Ok(census.next)
}
