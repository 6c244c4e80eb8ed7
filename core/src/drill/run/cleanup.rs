//! After the verdict: nothing of the run stays, and that is a fact of its own.
//!
//! Order matters: what may still write goes first, a volume whose storage stays is overwritten in the sandbox, the volume gets
//! its reclaim policy back while it is still ours, then the sandbox goes and takes the rest along. A step that does not succeed
//! is tried again for as long as it takes; the verdict does not change.

use interlock_crds::{CleanupState, SandboxRecord};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::{DrillWrite, Pass, Seen, VolumeState, restoring::Move};
use crate::drill::{
    names::{self, PodRole},
    plus,
    report::DrillReport,
    whole_seconds,
};

/// What is left is looked at again after this long.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_secs(15);
/// A creation that was sent arrives within this, or never: longer than the client's time limit.
const CREATION_LIMIT: SignedDuration = SignedDuration::from_secs(60);
/// What is said of a volume that stays because what the run was to carry out cannot be read.
const BY_HAND: &str = "; the volume keeps its data, as the record of the run is broken: overwrite and free it by hand";
/// The policy of a volume that goes away with its claim.
const DELETE: &str = "Delete";

impl Pass<'_> {
    pub(super) fn at_rest(&mut self) {
        self.let_go();
        if let Seen::Ours(job) = self.facts.restore_job
            && job.ended.is_none()
        {
            // Whatever may stay to be looked at: nothing goes on reading the repository.
            self.writes.push(DrillWrite::DeleteRestoreJob(job.uid.clone()));
        }
        match self.status.cleanup.state {
            CleanupState::Done => self.release = true,
            _ if self.status.sandbox.is_none() && self.status.jobs.is_empty() => self.finish_cleanup(),
            _ => self.clean_up(),
        }
    }

    /// The repository is let go when no Job of the run can read it any more.
    pub(super) fn let_go(&mut self) {
        let ended = match self.facts.restore_job {
            Seen::Ours(job) => job.ended.is_some(),
            Seen::Unknown => false,
            Seen::Absent | Seen::Refused(_) | Seen::Foreign => self.has_arrived(),
        };
        if ended {
            // The pass over the repository lets go of the claim once this stands there.
            self.status.repository_released_at.get_or_insert(Time(whole_seconds(self.facts.now)));
        }
    }

    /// Whether nothing that was announced can still arrive.
    fn has_arrived(&self) -> bool {
        let seen = self.status.jobs.iter().all(|job| job.uid.is_some())
            && self.status.sandbox.as_ref().is_none_or(|record| record.namespace_uid.is_some())
            && (self.status.sandbox.is_none() || !self.status.jobs.is_empty());
        seen || self.arrives_until() <= self.facts.now
    }

    fn arrives_until(&self) -> Timestamp {
        plus(self.status.finished_at.as_ref().map_or(self.facts.now, |at| at.0), CREATION_LIMIT)
    }

    fn clean_up(&mut self) {
        let now = self.facts.now;
        let due = self.status.cleanup.due_at.as_ref().map_or(now, |due| due.0);
        if now < due && !self.facts.deleting {
            let arrived = self.arrives_until();
            if self.status.repository_released_at.is_none() && now < arrived {
                // Others want the repository, however long the sandbox stays.
                self.wake(arrived);
            }
            return self.wake(due);
        }
        let started = self.status.cleanup.started_at.get_or_insert(Time(whole_seconds(now))).0;
        let mut left = Vec::new();
        self.remove(&mut left);
        if left.is_empty() && self.has_arrived() {
            return self.finish_cleanup();
        }
        let most = super::pinned(&self.status).map_or(900, |(drill, _)| drill.timeouts.cleanup.seconds());
        let limit = plus(started, SignedDuration::from_secs(most));
        let how = if self.is_left_to_a_person() { BY_HAND } else { "" };
        let cleanup = &mut self.status.cleanup;
        cleanup.state = if limit <= now { CleanupState::Failed } else { CleanupState::Running };
        let what = if left.is_empty() { "what was announced may still arrive".to_owned() } else { left.join(", ") };
        let said = match cleanup.state {
            CleanupState::Failed => format!("not done within {most} s, and tried on; left: {what}{how}"),
            _ => format!("left: {what}{how}"),
        };
        cleanup.message = Some(said.chars().take(1_024).collect());
        left.truncate(32);
        cleanup.leftovers = left;
        self.condition();
        if now < limit {
            self.wake(limit);
        }
        // What is left is watched; this is for what a watch may miss, and no fact about the run.
        self.look_again = Some(plus(now, LOOK_AGAIN));
    }

    /// Removes what can be removed now, and lists what is left.
    fn remove(&mut self, left: &mut Vec<String>) {
        let facts = self.facts;
        self.note_volume();
        let Some(record) = self.status.sandbox.clone() else { return };
        let here = |kind: &str, name: &str| format!("{kind}/{name}");
        match facts.restore_job {
            Seen::Ours(job) => {
                left.push(here("Job", &self.restore_job_name()));
                if job.ended.is_some() {
                    self.writes.push(DrillWrite::DeleteRestoreJob(job.uid.clone()));
                }
            }
            Seen::Unknown => left.push(here("Job", &self.restore_job_name())),
            _ => {}
        }
        match facts.pods.get(&PodRole::OutsideProbe).unwrap_or(&Seen::Unknown) {
            Seen::Ours(pod) => {
                left.push(here("Pod", &names::outside_probe(facts.uid)));
                self.writes.push(DrillWrite::DeletePod(PodRole::OutsideProbe, pod.uid.clone()));
            }
            Seen::Unknown => left.push(here("Pod", &names::outside_probe(facts.uid))),
            _ => {}
        }
        let job_is_gone = is_gone(facts.restore_job);
        // Once the claim is gone, nothing says which volume it had but the volume itself.
        let volume_is_known = record.volume.is_some()
            || match facts.claim {
                Seen::Ours(claim) => claim.volume.is_none() || *facts.volume == Seen::Absent,
                Seen::Unknown => false,
                Seen::Absent | Seen::Refused(_) | Seen::Foreign => *facts.volume != Seen::Unknown,
            };
        match facts.claim {
            Seen::Ours(claim) => {
                left.push(here("PersistentVolumeClaim", &record.claim));
                // A volume that was to survive its claim must not survive it now.
                if job_is_gone && volume_is_known && !claim.terminating && self.returned(&record) {
                    self.writes.push(DrillWrite::DeleteClaim(claim.uid.clone()));
                }
            }
            Seen::Unknown => left.push(here("PersistentVolumeClaim", &record.claim)),
            _ => {}
        }
        let sandbox_is_gone = match facts.sandbox {
            Seen::Ours(sandbox) => {
                left.push(here("Namespace", &record.namespace));
                if !sandbox.terminating && volume_is_known && self.wiped(&record) && self.returned(&record) {
                    self.writes.push(DrillWrite::DeleteSandbox(sandbox.uid.clone()));
                }
                false
            }
            Seen::Unknown => {
                left.push(here("Namespace", &record.namespace));
                false
            }
            Seen::Absent | Seen::Refused(_) | Seen::Foreign => true,
        };
        let Some(volume) = &record.volume else {
            if is_gone(facts.claim) && !volume_is_known {
                left.push(format!("PersistentVolume of {}", record.claim));
            }
            return;
        };
        let claims_are_gone = job_is_gone && sandbox_is_gone && is_gone(facts.claim);
        match facts.volume {
            Seen::Unknown => left.push(here("PersistentVolume", volume)),
            Seen::Ours(state) if state.name == *volume && self.is_ours(state) => {
                left.push(here("PersistentVolume", volume));
                let dropped = || DrillWrite::DropVolume(volume.clone());
                let write = match (keeps(&record), state.reclaim_policy.as_str()) {
                    // With data that nobody overwrote it stays, and is told.
                    (true, _) => self.is_overwritten().then(dropped),
                    // What never was the sandbox's goes by its class alone.
                    (false, DELETE) => state.labelled.then(dropped),
                    // Between the two claims nobody's deletion takes the volume along.
                    (false, _) => {
                        Some(DrillWrite::ReturnVolume { name: volume.clone(), reclaim_policy: DELETE.to_owned() })
                    }
                };
                self.writes.extend(write.filter(|_| claims_are_gone));
            }
            _ => {}
        }
    }

    /// Whether the volume still belongs to one of the run's claims, by the names that those have: a record may be broken. One
    /// that is not labelled yet refers to the very claim that the run made, not to another one of its name.
    pub(super) fn is_ours(&self, volume: &VolumeState) -> bool {
        let facts = self.facts;
        let made = self.status.sandbox.as_ref().and_then(|record| record.claim_uid.as_ref());
        let is_known = volume.labelled || (made.is_some() && volume.claim_uid.as_ref() == made);
        is_known
            && volume.claim.as_ref().is_some_and(|(namespace, name)| {
                (*namespace == names::sandbox(facts.name, facts.uid) && name == names::SANDBOX_CLAIM)
                    || (namespace == facts.namespace && *name == names::claim(facts.name))
            })
    }

    /// Whether the volume has its reclaim policy back; asks for it if not.
    fn returned(&mut self, record: &SandboxRecord) -> bool {
        match (self.facts.volume, &record.reclaim_policy) {
            (Seen::Ours(volume), Some(policy)) if self.is_ours(volume) && volume.reclaim_policy != *policy => {
                self.writes
                    .push(DrillWrite::ReturnVolume { name: volume.name.clone(), reclaim_policy: policy.clone() });
                false
            }
            (Seen::Unknown, Some(_)) => false,
            _ => true,
        }
    }

    /// Whether the sandbox is not needed to overwrite a volume whose storage stays when it is deleted; moves such a one there
    /// and overwrites it. If that cannot be done, the sandbox goes all the same, at the latest after the cleanup's time, and
    /// the volume is left and told.
    fn wiped(&mut self, record: &SandboxRecord) -> bool {
        let facts = self.facts;
        if !keeps(record) || self.is_overwritten() {
            return true;
        }
        let wipe = facts.pods.get(&PodRole::Wipe).unwrap_or(&Seen::Unknown);
        if let Seen::Ours(pod) = wipe
            && let Some(end) = &pod.ended
        {
            let report = DrillReport::decode(end.pod.message.as_deref(), facts.uid);
            if report.is_ok_and(|report| report.is_done()) {
                self.note_uid(&PodRole::Wipe.name(facts.uid), &pod.uid);
            }
            return true;
        }
        let cannot_be_made = self.is_broken() && !matches!(wipe, Seen::Ours(_));
        if cannot_be_made || self.status.cleanup.state == CleanupState::Failed {
            return true;
        }
        let volume = match facts.volume {
            Seen::Ours(volume) if Some(&volume.name) == record.volume.as_ref() => volume,
            Seen::Unknown => return false,
            _ => return true,
        };
        if *facts.claim == Seen::Foreign {
            return true;
        }
        if !is_gone(facts.restore_job) || !is_gone(facts.claim) {
            return false;
        }
        match (self.next_move(record, volume), wipe) {
            (Move::Refused(_) | Move::Lost(_), _) | (Move::Done, Seen::Refused(_) | Seen::Foreign) => return true,
            (Move::Write(write), _) => self.writes.push(write),
            (Move::Done, Seen::Absent) => self.writes.push(DrillWrite::CreatePod(PodRole::Wipe)),
            (Move::Wait, _) | (Move::Done, Seen::Ours(_) | Seen::Unknown) => {}
        }
        false
    }

    /// Whether the volume was overwritten: the pod is noted when it said so, as it goes with the sandbox.
    fn is_overwritten(&self) -> bool {
        self.announced(&PodRole::Wipe.name(self.facts.uid)).is_some()
    }

    /// Whether what the run was to carry out cannot be read. Then it makes no pod any more: nobody knows as which user.
    fn is_broken(&self) -> bool {
        super::pinned(&self.status).is_err()
    }

    /// Whether a volume stays that the run cannot overwrite.
    fn is_left_to_a_person(&self) -> bool {
        self.status.sandbox.as_ref().is_some_and(keeps) && self.is_broken() && !self.is_overwritten()
    }

    fn finish_cleanup(&mut self) {
        let cleanup = &mut self.status.cleanup;
        cleanup.state = CleanupState::Done;
        cleanup.finished_at = Some(Time(whole_seconds(self.facts.now)));
        cleanup.message = Some("nothing is left".into());
        cleanup.leftovers.clear();
        (self.wake_at, self.look_again) = (None, None);
        self.condition();
        self.release = true;
    }

    /// Condition CleanupFailed.
    fn condition(&mut self) {
        let failed = self.status.cleanup.state == CleanupState::Failed;
        let known = self.status.conditions.iter().position(|condition| condition.type_ == "CleanupFailed");
        if !failed && known.is_none() {
            return;
        }
        let status = if failed { "True" } else { "False" };
        let before = known.map(|at| self.status.conditions.remove(at)).filter(|condition| condition.status == status);
        self.status.conditions.push(Condition {
            type_: "CleanupFailed".into(),
            status: status.into(),
            reason: if failed { "Leftovers" } else { "Done" }.into(),
            message: self.status.cleanup.message.clone().unwrap_or_default(),
            observed_generation: Some(self.facts.generation),
            last_transition_time: before.map_or(Time(whole_seconds(self.facts.now)), |c| c.last_transition_time),
        });
    }
}

pub(super) fn is_gone<T>(seen: &Seen<T>) -> bool {
    matches!(seen, Seen::Absent | Seen::Refused(_) | Seen::Foreign)
}

/// Whether the storage of the volume stays when its claim goes.
fn keeps(record: &SandboxRecord) -> bool {
    record.reclaim_policy.as_deref().is_some_and(|policy| policy != DELETE)
}
