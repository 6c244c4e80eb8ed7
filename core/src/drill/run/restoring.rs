//! Volume, sandbox, restore and hand-over.

use interlock_crds::{DrillPhase, Fault, SandboxRecord, SegmentName};
use jiff::Timestamp;

use super::{DrillFacts, DrillWrite, JobState, Pass, Plan, Seen, VolumeState, cleanup::is_gone};
use crate::drill::{
    clock, names, outcome, plus,
    reason::{Ending, Reason},
};

/// What is next where a volume moves to the sandbox.
pub(super) enum Move {
    /// It is there.
    Done,
    /// Something is under way.
    Wait,
    /// This is to be written.
    Write(DrillWrite),
    /// The API server refused the claim in the sandbox: why.
    Refused(String),
    /// It can be moved no more: what somebody did.
    Lost(&'static str),
}

impl Pass<'_> {
    /// Volume, restore and hand-over together must end by then.
    pub(super) fn restore_deadline(&self, plan: &Plan) -> Timestamp {
        let begun = clock::segment_end(&self.status, SegmentName::Queue).unwrap_or_else(|| self.t0());
        plus(begun, plan.drill.timeouts.restore.signed())
    }

    /// What is waited for in one of these parts; the run fails when their time is over.
    fn wait_restoring(&mut self, plan: &Plan, what: &str) -> Result<bool, Ending> {
        let deadline = self.restore_deadline(plan);
        if deadline <= self.facts.now {
            let most = plan.drill.timeouts.restore;
            return Err(Ending::failed(
                Reason::RestoreTimedOut,
                format!("volume, restore and hand-over took longer than {most} (timeouts.restore); at the end: {what}"),
            ));
        }
        self.say(what);
        self.wake(deadline);
        Ok(false)
    }

    pub(super) fn provisioning(&mut self, plan: &Plan) -> Result<bool, Ending> {
        let facts = self.facts;
        let (namespace, claim) = (names::sandbox(facts.name, facts.uid), names::claim(facts.name));
        let record = self.status.sandbox.get_or_insert_with(|| sandbox_record(facts));
        let (mut ready, mut what) = (true, "volume and sandbox are made");
        match (facts.sandbox, &record.namespace_uid) {
            (Seen::Unknown, _) => ready = false,
            (Seen::Foreign, _) => {
                return Err(Ending::failed(
                    Reason::NameTaken,
                    format!(
                        "namespace {namespace} exists and is not of this run; a drill restores into a fresh one only"
                    ),
                ));
            }
            (Seen::Refused(why), _) => return Err(refused("the sandbox", why)),
            (Seen::Absent, None) => {
                ready = false;
                self.writes.push(DrillWrite::CreateSandbox);
            }
            (Seen::Absent, Some(_)) => return Err(sandbox_lost(&namespace)),
            (Seen::Ours(state), known) => {
                if state.terminating || known.as_ref().is_some_and(|uid| *uid != state.uid) {
                    return Err(sandbox_lost(&namespace));
                }
                record.namespace_uid = Some(state.uid.clone());
                if !state.guarded {
                    ready = false;
                    what =
                        "the sandbox has not the quota and NetworkPolicies that Interlock makes, or has more of them";
                    self.writes.push(DrillWrite::CreateSandbox);
                }
            }
        }
        match facts.claim {
            Seen::Unknown => ready = false,
            Seen::Foreign => {
                return Err(Ending::failed(
                    Reason::NameTaken,
                    format!(
                        "PersistentVolumeClaim {claim} exists and is not of this run; delete it if nobody needs it"
                    ),
                ));
            }
            Seen::Refused(why) => return Err(refused("the volume", why)),
            Seen::Absent => {
                ready = false;
                self.writes.push(DrillWrite::CreateClaim);
            }
            Seen::Ours(claim) => record.claim_uid = Some(claim.uid.clone()),
        }
        if !ready {
            return self.wait_restoring(plan, what);
        }
        let job = self.restore_job_name();
        self.announce(&job);
        self.go_on(DrillPhase::Restoring, "volume and sandbox are there; the restore begins");
        Ok(true)
    }

    /// The namespace that was made is still that one.
    pub(super) fn sandbox_is_there(&self) -> Result<(), Ending> {
        let Some(record) = &self.status.sandbox else { return Err(sandbox_lost("of the run")) };
        match self.facts.sandbox {
            Seen::Unknown => Ok(()),
            Seen::Ours(state) if !state.terminating && record.namespace_uid.as_ref() == Some(&state.uid) => Ok(()),
            _ => Err(sandbox_lost(&record.namespace)),
        }
    }

    pub(super) fn restoring(&mut self, plan: &Plan) -> Result<bool, Ending> {
        let name = self.restore_job_name();
        let known = self.announced(&name).and_then(|job| job.uid.clone());
        match (self.facts.restore_job, known) {
            (Seen::Unknown, _) => self.wait_restoring(plan, "the state of the restore is not known"),
            (Seen::Foreign, _) => Err(Ending::failed(
                Reason::NameTaken,
                format!("Job {name} exists and is not of this run; delete it if nobody needs it"),
            )),
            (Seen::Refused(why), None) => Err(refused("the Job that restores", why)),
            (Seen::Absent, None) => {
                self.writes.push(DrillWrite::CreateRestoreJob);
                self.wait_restoring(plan, "the restore begins")
            }
            (Seen::Absent | Seen::Refused(_), Some(_)) => Err(job_lost()),
            (Seen::Ours(job), Some(uid)) if job.uid != uid => Err(job_lost()),
            (Seen::Ours(job), _) => self.follow_restore(plan, &name, job),
        }
    }

    fn follow_restore(&mut self, plan: &Plan, name: &str, job: &JobState) -> Result<bool, Ending> {
        self.note_uid(name, &job.uid);
        clock::end_segment(&mut self.status, SegmentName::Provision, job.created_at, self.facts.now);
        self.keep_images(&job.images);
        let Some(end) = &job.ended else {
            let said = job.waiting.as_ref().map(|why| format!("the pod that restores cannot go on: {why}"));
            return self.wait_restoring(plan, said.as_deref().unwrap_or("the recovery point is restored"));
        };
        let Some(chosen) = self.status.chosen.clone() else {
            return Err(Ending::failed(
                Reason::RecordBroken,
                "the recovery point that was chosen is no longer recorded",
            ));
        };
        let restored =
            outcome::restore(&end.pod, end.deadline_exceeded, self.facts.uid, self.facts.repository_id, &chosen)?;
        let fault = plan.drill.fault_injection.as_ref().filter(|fault| fault.fault == Fault::Delay);
        if let Some(delay) = fault.and_then(|fault| fault.delay) {
            let until = plus(end.at, delay.signed());
            if self.facts.now < until {
                self.wake(until);
                return self.wait_restoring(plan, "the restore is held up (fault Delay)");
            }
        }
        if let Some(record) = &mut self.status.sandbox {
            record.manifest_digest = Some(restored.manifest_digest.chars().take(80).collect());
        }
        self.go_on(
            DrillPhase::HandingOver,
            format!("{} files, {} bytes were restored and read back", restored.files, restored.bytes),
        );
        Ok(true)
    }

    /// Notes the volume of the claim and the policy that it has, before either is touched; whether that is news. Of a claim that
    /// somebody deleted it is the volume that still refers to it.
    pub(super) fn note_volume(&mut self) -> bool {
        let facts = self.facts;
        if let (Seen::Ours(claim), Some(record)) = (facts.claim, &mut self.status.sandbox) {
            record.claim_uid.get_or_insert_with(|| claim.uid.clone());
        }
        let Seen::Ours(volume) = facts.volume else { return false };
        let is_of_claim = match facts.claim {
            Seen::Ours(claim) => claim.volume.as_ref() == Some(&volume.name),
            Seen::Unknown => false,
            Seen::Absent | Seen::Refused(_) | Seen::Foreign => self.is_ours(volume),
        };
        let unknown = self.status.sandbox.as_mut().filter(|record| record.volume.is_none());
        let Some(record) = unknown.filter(|_| is_of_claim) else { return false };
        record.volume = Some(volume.name.clone());
        record.reclaim_policy = Some(volume.reclaim_policy.clone());
        true
    }

    /// The volume moves from the namespace of the repository to the sandbox.
    pub(super) fn handing_over(&mut self, plan: &Plan) -> Result<bool, Ending> {
        let facts = self.facts;
        let lost =
            |what: &str| Err(Ending::failed(Reason::VolumeLost, format!("{what}, by somebody else than Interlock")));
        let Some(record) = self.status.sandbox.clone() else { return lost("the record of the volume was removed") };
        if record.volume.is_none() && is_gone(facts.claim) {
            return lost("the claim was deleted before its volume was known");
        }
        let volume = match facts.volume {
            Seen::Ours(volume) => volume,
            Seen::Absent if record.volume.is_some() => return lost("the volume was deleted"),
            _ => return self.wait_restoring(plan, "the state of the volume is not known"),
        };
        let Some(known) = &record.volume else {
            if self.note_volume() {
                return Ok(true);
            }
            return self.wait_restoring(plan, "the volume of the claim is not known");
        };
        if *known != volume.name {
            return lost("the volume was exchanged");
        }
        match self.next_move(&record, volume) {
            Move::Done => {
                self.go_on(DrillPhase::Probing, "the volume is in the sandbox");
                return Ok(true);
            }
            Move::Wait => {}
            Move::Write(write) => self.writes.push(write),
            Move::Refused(why) => return Err(refused("the claim in the sandbox", &why)),
            Move::Lost(what) => return lost(what),
        }
        self.wait_restoring(plan, "the volume is handed over to the sandbox")
    }

    /// The next step of a volume to the sandbox. Each is visible in the objects, so a crash after any of them is picked up
    /// there.
    pub(super) fn next_move(&self, record: &SandboxRecord, volume: &VolumeState) -> Move {
        let facts = self.facts;
        let (source, target) = (names::claim(facts.name), (record.namespace.clone(), names::SANDBOX_CLAIM.to_owned()));
        let kept_for_sandbox = volume.claim.as_ref() == Some(&target);
        match (facts.claim, facts.sandbox_claim) {
            _ if volume.reclaim_policy != "Retain" => Move::Write(DrillWrite::RetainVolume(volume.name.clone())),
            // A claim does not go as long as there is a pod that mounts it, also one that has ended.
            _ if let Seen::Ours(job) = facts.restore_job => Move::Write(DrillWrite::DeleteRestoreJob(job.uid.clone())),
            (Seen::Unknown, _) | (_, Seen::Unknown) => Move::Wait,
            (Seen::Ours(claim), _) if claim.terminating => Move::Wait,
            (Seen::Ours(claim), _) => Move::Write(DrillWrite::DeleteClaim(claim.uid.clone())),
            _ if !kept_for_sandbox => {
                let others = volume.claim.as_ref().is_some_and(|(_, name)| *name != source);
                if others {
                    return Move::Lost("the volume was given to another claim");
                }
                Move::Write(DrillWrite::RebindVolume(volume.name.clone()))
            }
            (_, Seen::Absent) => Move::Write(DrillWrite::CreateSandboxClaim),
            (_, Seen::Refused(why)) => Move::Refused(why.clone()),
            (_, Seen::Foreign) => Move::Lost("the claim in the sandbox was made"),
            (_, Seen::Ours(claim)) if claim.bound && claim.volume.as_ref() == Some(&volume.name) => Move::Done,
            (_, Seen::Ours(_)) => Move::Wait,
        }
    }
}

/// The record of what is about to be made.
pub(super) fn sandbox_record(facts: &DrillFacts<'_>) -> SandboxRecord {
    SandboxRecord {
        namespace: names::sandbox(facts.name, facts.uid),
        claim: names::claim(facts.name),
        ..SandboxRecord::default()
    }
}

fn sandbox_lost(namespace: &str) -> Ending {
    Ending::failed(
        Reason::SandboxLost,
        format!("the sandbox {namespace} was deleted before the verdict fell, by somebody else than Interlock"),
    )
}

fn job_lost() -> Ending {
    Ending::failed(Reason::JobLost, "the Job that restores was deleted or exchanged by somebody else than Interlock")
}

pub(super) fn refused(what: &str, why: &str) -> Ending {
    Ending::failed(Reason::Refused, format!("the API server refused {what}: {why}"))
}
