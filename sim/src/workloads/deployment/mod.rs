//! The controller of Deployments: one ReplicaSet a version, and replicas moved between them.
//!
//! Left out: proportional scaling while several versions run, and adoption of ReplicaSets that nobody controls.

mod roll;
mod status;
mod versions;

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use super::{read, writes};
use crate::api::{Api, ApiError, Key};
use versions::Versions;

const NAME: &str = "deployment-controller";
const REVISION: &str = "deployment.kubernetes.io/revision";

/// One look at a Deployment; answers when the next is due by time alone.
pub(super) fn reconcile(api: &mut Api, key: &Key) -> Result<Option<Timestamp>, ApiError> {
    let Some(deployment) = writes::live(api, key) else {
        return Ok(None);
    };
    let mut news = status::News::default();
    let outcome = advance(api, &deployment, &mut news);
    // Whatever came of it, the status tells what is there now.
    let versions = Versions::read(api, &deployment);
    let due = status::write(api, &deployment, &versions, &news)?;
    outcome?;
    if !read::flag(&deployment, "/spec/paused") && status::is_complete(&deployment, &versions) {
        versions::forget_oldest(api, &deployment, &versions)?;
    }
    Ok(due)
}

fn advance(api: &mut Api, deployment: &Value, news: &mut status::News) -> Result<(), ApiError> {
    let versions = Versions::read(api, deployment);
    if read::flag(deployment, "/spec/paused") {
        return roll::hold(api, deployment, &versions);
    }
    if read::text(deployment, "/spec/strategy/type") == "Recreate" {
        return roll::recreate(api, deployment, &versions, news);
    }
    roll::roll(api, deployment, versions, news)
}

/// The pods that a set is asked to have, over some sets.
fn asked_of<'a>(sets: impl IntoIterator<Item = &'a Arc<Value>>) -> i64 {
    sets.into_iter().map(|set| read::replicas(set)).sum()
}

/// A count of the status, over some sets.
fn reported<'a>(sets: impl IntoIterator<Item = &'a Arc<Value>>, pointer: &str) -> i64 {
    sets.into_iter().map(|set| read::count(set, pointer)).sum()
}
