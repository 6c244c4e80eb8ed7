//! The controller of StatefulSets: pods with ordinals, one after the other unless told otherwise.
//!
//! Left out: `persistentVolumeClaimRetentionPolicy` other than keeping the claims.

mod pod;
mod status;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use super::pods::{self, Availability};
use super::revisions::{self, Revisions};
use super::rounding::{Round, resolve};
use super::{read, writes};
use crate::api::{Api, ApiError, Key, meta};

const NAME: &str = "statefulset-controller";

/// One look at a StatefulSet; answers when the next is due by time alone.
pub(super) fn reconcile(api: &mut Api, key: &Key) -> Result<Option<Timestamp>, ApiError> {
    let Some(set) = writes::live(api, key) else {
        return Ok(None);
    };
    let revisions = Revisions::ensure(api, NAME, &set)?;
    let outcome = Turn::new(api, &set, &revisions).take(api);
    let due = status::write(api, &set, revisions.update())?;
    let current = read::text(&set, "/status/currentRevision").to_owned();
    let pods = writes::pods(api, &set);
    let is_needed = |revision: &Value| {
        let name = meta::name(revision);
        name == current || pods.iter().any(|pod| revisions::is_of(pod, name))
    };
    revisions.forget_oldest(api, NAME, &set, is_needed)?;
    outcome.map(|()| due)
}

/// One look at a set and its pods.
struct Turn<'a> {
    set: &'a Value,
    revisions: &'a Revisions,
    /// The pods by ordinal.
    pods: BTreeMap<i64, Arc<Value>>,
    ordinals: std::ops::Range<i64>,
    is_ordered: bool,
    now: Timestamp,
}

/// Whether the rest of the set may be worked on in this look.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Next,
    Wait,
}

impl<'a> Turn<'a> {
    fn new(api: &Api, set: &'a Value, revisions: &'a Revisions) -> Self {
        let start = read::count(set, "/spec/ordinals/start");
        let pods = writes::pods(api, set);
        Self {
            set,
            revisions,
            pods: pods.into_iter().filter_map(|pod| Some((pod::ordinal(set, &pod)?, pod))).collect(),
            ordinals: start..start + read::replicas(set),
            is_ordered: read::text(set, "/spec/podManagementPolicy") != "Parallel",
            now: api.now(),
        }
    }

    fn take(&self, api: &mut Api) -> Result<(), ApiError> {
        for ordinal in self.ordinals.clone() {
            if self.fill(api, ordinal)? == Step::Wait && self.is_ordered {
                return Ok(());
            }
        }
        if self.shrink(api)? == Step::Wait && self.is_ordered {
            return Ok(());
        }
        self.renew(api)
    }

    /// Sees to it that the pod of an ordinal exists and serves.
    fn fill(&self, api: &mut Api, ordinal: i64) -> Result<Step, ApiError> {
        match self.pods.get(&ordinal) {
            None => {
                pod::create(api, self.set, ordinal, self.revision_of(ordinal), self.revisions)?;
                Ok(Step::Wait)
            }
            Some(pod) if meta::is_terminating(pod) => Ok(Step::Wait),
            Some(pod) if pods::has_ended(pod) => api.delete_as_system(NAME, pod).map(|()| Step::Wait),
            Some(pod) if self.serves(pod) => Ok(Step::Next),
            Some(_) => Ok(Step::Wait),
        }
    }

    /// Takes pods beyond the number of replicas away, the highest first.
    fn shrink(&self, api: &mut Api) -> Result<Step, ApiError> {
        let mut step = Step::Next;
        for pod in self.pods.iter().rev().filter(|(ordinal, _)| !self.ordinals.contains(ordinal)).map(|(_, pod)| pod) {
            step = Step::Wait;
            if !meta::is_terminating(pod) {
                api.delete_as_system(NAME, pod)?;
            }
            if self.is_ordered {
                break;
            }
        }
        Ok(step)
    }

    /// Deletes pods of older revisions down to the partition, the highest first, no more at once than may be missing.
    fn renew(&self, api: &mut Api) -> Result<(), ApiError> {
        if read::text(self.set, "/spec/updateStrategy/type") == "OnDelete" {
            return Ok(());
        }
        let stated = self.set.pointer("/spec/updateStrategy/rollingUpdate/maxUnavailable");
        let most = resolve(stated, read::replicas(self.set), Round::Up).max(1);
        let serves = |ordinal: &i64| self.pods.get(ordinal).is_some_and(|pod| self.serves(pod));
        let mut missing = self.ordinals.clone().filter(|ordinal| !serves(ordinal)).count() as i64;
        let lowest = self.ordinals.start + self.partition();
        for ordinal in self.ordinals.clone().rev().take_while(|ordinal| *ordinal >= lowest) {
            let Some(pod) = self.pods.get(&ordinal) else {
                continue;
            };
            let (is_old, serves) = (!revisions::is_of(pod, self.revisions.update()), self.serves(pod));
            if is_old && !meta::is_terminating(pod) {
                // A pod that does not serve is missing already.
                if serves && missing >= most {
                    return Ok(());
                }
                missing += i64::from(serves);
                api.delete_as_system(NAME, pod)?;
            }
            if missing >= most {
                return Ok(());
            }
        }
        Ok(())
    }

    fn partition(&self) -> i64 {
        read::count(self.set, "/spec/updateStrategy/rollingUpdate/partition").max(0)
    }

    /// The revision that a new pod of an ordinal gets.
    fn revision_of(&self, ordinal: i64) -> &'a str {
        let current = read::text(self.set, "/status/currentRevision");
        let is_rolling = read::text(self.set, "/spec/updateStrategy/type") != "OnDelete";
        let keeps = is_rolling && ordinal < self.ordinals.start + self.partition();
        if keeps && self.revisions.template(current).is_some() { current } else { self.revisions.update() }
    }

    fn serves(&self, pod: &Value) -> bool {
        let seconds = read::count(self.set, "/spec/minReadySeconds");
        pods::is_active(pod) && pods::availability(pod, seconds, self.now) == Availability::Yes
    }
}
