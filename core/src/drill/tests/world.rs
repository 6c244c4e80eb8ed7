//! A cluster that does what a run writes, with times of its own, for tests of runs.

use std::collections::{BTreeMap, BTreeSet};

use interlock_crds::{
    BackupPolicySpec, DrillPhase, DrillRunSpec, DrillRunStatus, PinnedDrill, ProbeResult, RestoreDrillSpec,
    ShuffleState,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::{beat, drill_spec, on};
use crate::{
    backup::{
        exposure::Standing,
        outcome::PodEnd,
        result::{HeartbeatRead, RunnerStage},
    },
    drill::{
        names::{self, PodRole},
        report::{DrillReport, RestoredReport},
        run::{
            Access, ClaimState, DrillDecision, DrillFact, DrillFacts, DrillWrite, Ended, JobState, PodState,
            SandboxState, Seen, VolumeState, decide,
        },
        select::Candidate,
    },
    object::Digest,
};

pub const RUN: &str = "teller-db-2611231200";
pub const UID: &str = "run-uid";

/// What the pods of a run do, and how long they take.
#[derive(Clone)]
pub struct Script {
    pub queue: i64,
    pub restore: (i64, DrillReport),
    pub outside: ProbeResult,
    pub inside: ProbeResult,
    pub start: i64,
    /// Each validation: how long, and its report; none never ends.
    pub validations: Vec<(i64, Option<DrillReport>)>,
    pub reclaim_policy: &'static str,
    /// Whether the copy can be overwritten.
    pub wipes: bool,
    /// The namespace stays in deletion.
    pub stuck: bool,
}

fn done() -> DrillReport {
    DrillReport { exit_code: Some(0), stage: RunnerStage::Done, ..DrillReport::new(UID) }
}

/// A restore that went well.
pub fn restored() -> DrillReport {
    let restored = RestoredReport {
        snapshot_id: "snapshot-1".into(),
        files: 7,
        bytes: 4_096,
        verified: true,
        manifest_digest: "sha256:5".into(),
    };
    DrillReport { repository_id: Some("repo-1".into()), restored: Some(restored), ..done() }
}

/// The heartbeat that a validation reads.
pub fn heart(seq: i64, time: Timestamp) -> DrillReport {
    let heartbeat = HeartbeatRead { seq, time, nonce: format!("{seq}"), read_at: None };
    DrillReport { heartbeat: Some(heartbeat), ..done() }
}

/// A query's number.
pub fn number(number: f64) -> DrillReport {
    DrillReport { number: Some(number), ..done() }
}

/// An answer that is, or is not, as expected.
pub fn matches(matches: bool) -> DrillReport {
    DrillReport { matches: Some(matches), ..done() }
}

impl Script {
    /// D6: 3 minutes of queue, 4 of restore, 1 of start, 30 s of validation.
    pub fn good() -> Self {
        Self {
            queue: 180,
            restore: (240, restored()),
            outside: ProbeResult::Connected,
            inside: ProbeResult::Blocked,
            start: 57,
            validations: vec![
                (10, Some(number(1_500.0))),
                (10, Some(matches(true))),
                (10, Some(heart(42, on(23, "11:59:50")))),
            ],
            reclaim_policy: "Delete",
            wipes: true,
            stuck: false,
        }
    }
}

#[derive(Clone)]
struct Thing {
    uid: String,
    created: Timestamp,
}

#[allow(clippy::struct_excessive_bools, reason = "each is a thing of its own that a test sets")]
pub struct World {
    pub now: Timestamp,
    pub script: Script,
    pub drill: RestoreDrillSpec,
    pub policy: BackupPolicySpec,
    pub spec: DrillRunSpec,
    pub status: DrillRunStatus,
    pub candidates: Option<Vec<Candidate>>,
    pub proven: BTreeSet<String>,
    pub shuffle: ShuffleState,
    pub refusal: Option<String>,
    pub deleting: bool,
    pub target: Option<String>,
    pub foreign_sandbox: bool,
    /// Quota and NetworkPolicies of the sandbox are those that were made, and there are no others.
    pub guarded: bool,
    pub released: bool,
    /// When the repository was let go, and how many writes had been made by then.
    pub released_after: Option<(Timestamp, usize)>,
    /// All writes that were made.
    pub made: Vec<DrillWrite>,
    asked: Option<Timestamp>,
    held: Option<Timestamp>,
    job: Option<Thing>,
    claim: Option<Thing>,
    pub volume: Option<VolumeState>,
    sandbox: Option<(Thing, bool)>,
    sandbox_claim: Option<Thing>,
    pods: BTreeMap<PodRole, Thing>,
    count: u32,
}

impl World {
    pub fn new(script: Script) -> Self {
        let candidate = Candidate {
            backup: "teller-db-20261123".into(),
            uid: "backup-uid".into(),
            snapshot_id: "snapshot-1".into(),
            base_id: None,
            data_time: on(23, "12:00:00"),
            standing: Standing::Good,
            tiers: vec!["keepDaily".into()],
            heartbeat: Some(beat(42, on(23, "11:59:50"))),
            bytes: 4_096,
            files: 7,
        };
        let policy = json!({
            "repositoryRef": {"name": "vault"},
            "source": {"postgres": {"host": "db", "secretRef": {"name": "db"}, "databases": ["teller"]}},
            "retention": {"keepDaily": 7},
            "heartbeat": {"interval": "10s", "table": "heartbeat", "secretRef": {"name": "heart"}},
        });
        let spec = json!({"drillRef": {"name": "teller-db"}, "drillUid": "drill-uid", "trigger": "Scheduled", "slot": "2026-11-23T12:00:00Z"});
        Self {
            now: on(23, "12:00:00"),
            script,
            drill: drill_spec(|_| ()),
            policy: serde_json::from_value(policy).unwrap(),
            spec: serde_json::from_value(spec).unwrap(),
            status: DrillRunStatus::default(),
            candidates: Some(vec![candidate]),
            proven: BTreeSet::new(),
            shuffle: ShuffleState::default(),
            refusal: None,
            deleting: false,
            target: Some("10.0.0.9:8443".into()),
            foreign_sandbox: false,
            guarded: true,
            released: false,
            released_after: None,
            made: Vec::new(),
            asked: None,
            held: None,
            job: None,
            claim: None,
            volume: None,
            sandbox: None,
            sandbox_claim: None,
            pods: BTreeMap::new(),
            count: 0,
        }
    }

    fn pin(&self) -> PinnedDrill {
        let digest = |value: &serde_json::Value| Digest::of_canonical(value).unwrap().to_string();
        let (spec, policy) = (json!(self.drill), json!(self.policy));
        PinnedDrill {
            drill_uid: "drill-uid".into(),
            generation: 3,
            spec_digest: digest(&spec),
            spec,
            policy_uid: "policy-uid".into(),
            policy_digest: digest(&policy),
            policy_spec: policy,
            repository: "vault".into(),
            repository_uid: "vault-uid".into(),
        }
    }

    fn ended(&self, thing: &Thing, after: i64, report: Option<&DrillReport>) -> Option<Ended> {
        let at = plus(thing.created, after);
        let message = report.map(|report| serde_json::to_string(report).unwrap());
        (at <= self.now).then(|| Ended { at, deadline_exceeded: false, pod: PodEnd { message, ..PodEnd::default() } })
    }

    fn pod(&self, role: PodRole, thing: &Thing) -> PodState {
        let probe = |probe| DrillReport { probe: Some(probe), ..done() };
        let ended = match role {
            PodRole::OutsideProbe => self.ended(thing, 2, Some(&probe(self.script.outside))),
            PodRole::InsideProbe => self.ended(thing, 3, Some(&probe(self.script.inside))),
            PodRole::Wipe if !self.script.wipes => self.ended(thing, 1, Some(&DrillReport::new(UID))),
            PodRole::Fault | PodRole::Wipe => self.ended(thing, 1, Some(&done())),
            PodRole::Dependency(_) | PodRole::Application => None,
            PodRole::Validation(index) => {
                let (after, report) = &self.script.validations[index];
                report.as_ref().and_then(|report| self.ended(thing, *after, Some(report)))
            }
        };
        let ready = plus(thing.created, self.script.start);
        PodState {
            uid: thing.uid.clone(),
            created_at: thing.created,
            ready_at: (role.serves() && ready <= self.now).then_some(ready),
            ended,
            waiting: None,
            images: Vec::new(),
        }
    }

    /// Decides. `blind` names what cannot be seen this time.
    pub fn ask(&self, blind: &dyn Fn(&str) -> bool) -> DrillDecision {
        fn seen<T>(blind: bool, thing: Option<T>) -> Seen<T> {
            if blind { Seen::Unknown } else { thing.map_or(Seen::Absent, Seen::Ours) }
        }
        let job = self.job.as_ref().map(|job| JobState {
            uid: job.uid.clone(),
            created_at: job.created,
            ended: self.ended(job, self.script.restore.0, Some(&self.script.restore.1)),
            waiting: None,
            images: Vec::new(),
        });
        let claim_of = |thing: &Thing, bound| ClaimState {
            uid: thing.uid.clone(),
            volume: self.volume.as_ref().filter(|_| bound).map(|volume| volume.name.clone()),
            bound,
            terminating: false,
        };
        let (job, claim, volume) = (
            seen(blind("job"), job),
            seen(blind("claim"), self.claim.as_ref().map(|claim| claim_of(claim, self.volume.is_some()))),
            seen(blind("volume"), self.volume.clone()),
        );
        let sandbox = self.sandbox.as_ref().map(|(thing, terminating)| SandboxState {
            uid: thing.uid.clone(),
            terminating: *terminating,
            guarded: self.guarded,
        });
        let sandbox = if self.foreign_sandbox { Seen::Foreign } else { seen(blind("sandbox"), sandbox) };
        let sandbox_claim =
            seen(blind("sandbox claim"), self.sandbox_claim.as_ref().map(|claim| claim_of(claim, true)));
        let mut pods = BTreeMap::new();
        let all = [PodRole::OutsideProbe, PodRole::InsideProbe, PodRole::Fault, PodRole::Application, PodRole::Wipe];
        for role in all.into_iter().chain((0..self.script.validations.len()).map(PodRole::Validation)) {
            let pod = self.pods.get(&role).map(|thing| self.pod(role, thing));
            pods.insert(role, seen(blind(&role.name(UID)), pod));
        }
        let pin = self.pin();
        let hmac = |nonce: &str| format!("hmac-{nonce}");
        decide(&DrillFacts {
            name: RUN,
            uid: UID,
            namespace: "teller",
            generation: 1,
            created_at: on(23, "12:00:00"),
            deleting: self.deleting,
            spec: &self.spec,
            status: &self.status,
            drill: Some(DrillFact { pin: &pin, refusal: self.refusal.as_deref() }),
            candidates: self.candidates.as_deref().filter(|_| !blind("candidates")),
            shuffle: &self.shuffle,
            proven: &self.proven,
            repository: match (blind("repository"), self.held, self.asked) {
                (true, ..) | (_, None, None) => Access::Unknown,
                (_, Some(held), _) if held <= self.now => Access::Held(held),
                _ => Access::Waiting("BackupRepository/vault-prune holds it alone"),
            },
            repository_id: Some("repo-1"),
            restore_job: &job,
            claim: &claim,
            volume: &volume,
            sandbox: &sandbox,
            sandbox_claim: &sandbox_claim,
            pods: &pods,
            target: self.target.as_deref(),
            skew: SignedDuration::ZERO,
            hmac: &hmac,
            now: self.now,
        })
    }

    fn thing(&mut self) -> Thing {
        self.count += 1;
        Thing { uid: format!("uid-{}", self.count), created: self.now }
    }

    /// Does what is written; doing it again changes nothing.
    pub fn write(&mut self, write: &DrillWrite) {
        self.made.push(write.clone());
        let thing = self.thing();
        let target = (names::sandbox(RUN, UID), names::SANDBOX_CLAIM.to_owned());
        match write {
            DrillWrite::ClaimRepository => {
                let asked = *self.asked.get_or_insert(self.now);
                self.held.get_or_insert(plus(asked, self.script.queue));
            }
            DrillWrite::CreateSandbox => {
                self.sandbox.get_or_insert((thing, false));
            }
            DrillWrite::CreateClaim => {
                self.claim.get_or_insert(thing);
            }
            DrillWrite::CreateRestoreJob => {
                assert!(self.held.is_some_and(|held| held <= self.now), "a restore without the repository");
                self.job.get_or_insert(thing);
                self.volume.get_or_insert(VolumeState {
                    name: "pv-1".into(),
                    reclaim_policy: self.script.reclaim_policy.into(),
                    claim: Some(("teller".into(), names::claim(RUN))),
                    claim_uid: self.claim.as_ref().map(|claim| claim.uid.clone()),
                    labelled: false,
                });
            }
            DrillWrite::RetainVolume(_) => {
                let volume = self.volume.as_mut().unwrap();
                (volume.reclaim_policy, volume.labelled) = ("Retain".into(), true);
            }
            DrillWrite::DeleteClaim(_) => {
                self.claim = None;
                self.volume = self.volume.take().filter(|volume| volume.reclaim_policy == "Retain");
            }
            DrillWrite::RebindVolume(_) => {
                let volume = self.volume.as_mut().unwrap();
                (volume.claim, volume.claim_uid, volume.labelled) = (Some(target), None, true);
            }
            DrillWrite::CreateSandboxClaim => {
                assert_eq!(self.volume.as_ref().unwrap().claim, Some(target));
                self.sandbox_claim.get_or_insert(thing);
            }
            DrillWrite::CreatePod(role) => {
                // In a namespace that is gone nothing is made.
                if *role == PodRole::OutsideProbe || self.sandbox.is_some() {
                    self.pods.entry(*role).or_insert(thing);
                }
            }
            DrillWrite::DeleteRestoreJob(_) => self.job = None,
            DrillWrite::DeletePod(role, _) => drop(self.pods.remove(role)),
            DrillWrite::ReturnVolume { reclaim_policy, .. } => {
                let volume = self.volume.as_mut().unwrap();
                volume.reclaim_policy.clone_from(reclaim_policy);
                // A released volume with policy Delete goes at once.
                if self.claim.is_none() && self.sandbox.is_none() && reclaim_policy == "Delete" {
                    self.volume = None;
                }
            }
            DrillWrite::DeleteSandbox(_) => {
                if self.script.stuck {
                    self.sandbox.as_mut().unwrap().1 = true;
                } else {
                    self.sandbox = None;
                    self.sandbox_claim = None;
                    self.pods.retain(|role, _| *role == PodRole::OutsideProbe);
                    self.volume =
                        self.volume.take().filter(|volume| volume.reclaim_policy != "Delete" || self.claim.is_some());
                }
            }
            DrillWrite::DropVolume(_) => {
                assert!(self.volume.as_ref().is_none_or(|volume| volume.labelled), "it may not be written");
                self.volume = None;
            }
        }
    }

    /// What is left in the cluster.
    pub fn leftovers(&self) -> usize {
        [self.job.is_some(), self.claim.is_some(), self.volume.is_some(), self.sandbox.is_some(), self.held.is_some()]
            .into_iter()
            .filter(|left| *left)
            .count()
            + self.pods.len()
    }

    /// Somebody deletes something.
    pub fn lose(&mut self, what: usize) {
        match what {
            0 => self.job = None,
            1 => self.claim = None,
            2 => {
                // A namespace takes along what is in it.
                self.sandbox = None;
                self.sandbox_claim = None;
                self.pods.retain(|role, _| *role == PodRole::OutsideProbe);
            }
            3 => self.sandbox_claim = None,
            4 => self.volume = None,
            _ => drop(self.pods.pop_last()),
        }
    }

    /// Somebody deletes a pod.
    pub fn lose_pod(&mut self, role: PodRole) {
        self.pods.remove(&role);
    }

    /// One pass: decide, record, write. Stops after `effects` records and writes; whether anything was left to do.
    pub fn pass(&mut self, effects: &mut Option<usize>) -> bool {
        let decision = self.ask(&|_| false);
        let mut spend = || match effects {
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
            None => true,
        };
        let changed = decision.status != self.status;
        if changed && !spend() {
            return true;
        }
        self.status = decision.status;
        if self.status.repository_released_at.is_some() && self.released_after.is_none() {
            self.released_after = Some((self.now, self.made.len()));
        }
        if self.status.repository_released_at.is_some() {
            let ended = self.job.as_ref().is_none_or(|job| plus(job.created, self.script.restore.0) <= self.now);
            assert!(ended, "the repository was let go while a Job reads it");
            (self.asked, self.held) = (None, None);
        }
        if let Some(shuffle) = decision.shuffle {
            self.shuffle = shuffle;
        }
        for write in &decision.writes {
            if *write != DrillWrite::ClaimRepository && !spend() {
                return true;
            }
            self.write(write);
        }
        self.released |= decision.release;
        // To ask the repository again is no progress.
        changed || decision.writes.iter().any(|write| *write != DrillWrite::ClaimRepository)
    }

    /// When something happens next.
    fn next(&self) -> Timestamp {
        let wake = self.status.next_transition.as_ref().map(|at| at.0);
        let job = self.job.as_ref().map(|job| plus(job.created, self.script.restore.0));
        let pod = |(role, thing): (&PodRole, &Thing)| match role {
            PodRole::Validation(index) => plus(thing.created, self.script.validations[*index].0),
            role if role.serves() => plus(thing.created, self.script.start),
            _ => plus(thing.created, 1),
        };
        let probes = self.pods.values().flat_map(|thing| [plus(thing.created, 2), plus(thing.created, 3)]);
        let all = [wake, job, self.held].into_iter().flatten().chain(self.pods.iter().map(pod)).chain(probes);
        all.filter(|at| *at > self.now).min().unwrap_or_else(|| plus(self.now, 60))
    }

    /// Runs until nothing is left of the run, or for `seconds`, and is killed after `kill` records and writes.
    pub fn run(&mut self, seconds: i64, kill: Option<usize>) -> &mut Self {
        let until = plus(self.now, seconds);
        let mut budget = kill;
        while self.now < until && !(self.released && self.leftovers() == 0) {
            for _ in 0..40 {
                let busy = self.pass(&mut budget);
                if budget == Some(0) {
                    budget = None;
                } else if !busy {
                    break;
                }
            }
            self.now = self.next().min(until);
        }
        self
    }

    pub fn ended_as(&self) -> (DrillPhase, &str) {
        (self.status.phase, self.status.reason.as_deref().unwrap_or_default())
    }
}

pub fn plus(at: Timestamp, seconds: i64) -> Timestamp {
    at.checked_add(SignedDuration::from_secs(seconds)).unwrap()
}
