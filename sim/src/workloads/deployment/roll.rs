//! Replicas move from old versions to the new one.

use serde_json::Value;

use super::super::{read, rounding::Bounds};
use super::status::News;
use super::versions::{self, Versions};
use super::{asked_of, reported};
use crate::api::{Api, ApiError};

/// A paused Deployment only follows its number of replicas, as long as one version runs.
pub(super) fn hold(api: &mut Api, deployment: &Value, versions: &Versions) -> Result<(), ApiError> {
    let mut active = versions.all().filter(|set| read::replicas(set) > 0);
    let latest = versions.new.as_ref().or(versions.old.last());
    let one = match (active.next(), active.next()) {
        (None, _) => latest,
        (Some(only), None) => Some(only),
        (Some(_), Some(_)) => None,
    };
    one.map_or(Ok(()), |set| versions::scale(api, deployment, set, read::replicas(deployment)).map(drop))
}

/// Strategy `Recreate`: old pods are gone before new ones come.
pub(super) fn recreate(
    api: &mut Api,
    deployment: &Value,
    versions: &Versions,
    news: &mut News,
) -> Result<(), ApiError> {
    let mut is_stopping = false;
    for set in &versions.old {
        is_stopping |= versions::scale(api, deployment, set, 0)?;
    }
    let left = reported(&versions.old, "/status/replicas") + reported(&versions.old, "/status/terminatingReplicas");
    if is_stopping || left > 0 {
        return Ok(());
    }
    let new = versions::ensure_new(api, deployment, versions, news)?;
    versions::scale(api, deployment, &new, read::replicas(deployment)).map(drop)
}

/// Strategy `RollingUpdate`: never more pods than the surge allows, never fewer available ones than may be missing.
pub(super) fn roll(api: &mut Api, deployment: &Value, mut versions: Versions, news: &mut News) -> Result<(), ApiError> {
    let new = versions::ensure_new(api, deployment, &versions, news)?;
    let wanted = versions::room_for_new(deployment, &versions, read::replicas(&new));
    if versions::scale(api, deployment, &new, wanted)? {
        return Ok(());
    }
    versions.new = Some(new);
    shrink_old(api, deployment, &versions)
}

fn shrink_old(api: &mut Api, deployment: &Value, versions: &Versions) -> Result<(), ApiError> {
    let needed = read::replicas(deployment) - Bounds::of(deployment).unavailable;
    let missing_new = versions.new.iter().map(|new| read::replicas(new) - read::count(new, AVAILABLE)).sum::<i64>();
    // More than this may never go at once, whatever is available: the new pods may all fail.
    let most = asked_of(versions.all()) - needed - missing_new;
    if most <= 0 {
        return Ok(());
    }
    let mut sizes: Vec<i64> = versions.old.iter().map(|set| read::replicas(set)).collect();
    let mut gone = 0;
    for (set, size) in versions.old.iter().zip(&mut sizes) {
        // Pods that do not serve cost nothing.
        let broken = (*size - read::count(set, AVAILABLE)).clamp(0, most - gone);
        *size -= broken;
        gone += broken;
    }
    let mut spare = reported(versions.all(), AVAILABLE) - needed;
    for size in &mut sizes {
        let going = (*size).min(spare.min(most - gone)).max(0);
        *size -= going;
        spare -= going;
        gone += going;
    }
    for (set, size) in versions.old.iter().zip(sizes) {
        versions::scale(api, deployment, set, size)?;
    }
    Ok(())
}

const AVAILABLE: &str = "/status/availableReplicas";
