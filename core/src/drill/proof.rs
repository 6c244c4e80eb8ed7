//! What follows from drills: which pass counts, what a recovery point is worth, what gate RestoreProof is told.

use interlock_crds::{
    BackupPolicySpec, DrillPhase, DrillResult, DrillRun, DrillSelection, DrillVerdict, EnforceMode, PointRef,
    PointVerdict, ProvenFailure, RestoreDrillSpec, RestoreProofGate, Verification,
};
use jiff::Timestamp;

use super::{earlier, fault, plus, reason::Reason, schedule};
use crate::backup::exposure::{at_risk_from, at_risk_sentence};

/// What a run says about the recovery point that it restored; to be recorded in its Backup. A run with a fault says nothing.
pub fn verification(run: &DrillRun) -> Option<Verification> {
    let status = run.status.as_ref()?;
    status.verdict?;
    if fault::of_run(run).is_some() {
        return None;
    }
    let verdict = Reason::of(status.reason.as_deref()?)?.of_point()?;
    Some(Verification { drill_run: run.metadata.name.clone()?, at: status.finished_at.clone()?, verdict })
}

/// What is recorded in a Backup when a run says `new`: the later word counts, except that not knowing takes nothing back.
pub fn supersedes(known: Option<&Verification>, new: &Verification) -> bool {
    let Some(known) = known else { return true };
    let knows = new.verdict != PointVerdict::Unverified || known.verdict == PointVerdict::Unverified;
    knows && (new.at.0, &new.drill_run) > (known.at.0, &known.drill_run)
}

/// Whether a run restores another selection than its drill's: what it finds is about that point, and not about the drill.
pub fn selects_otherwise(run: &DrillRun) -> bool {
    let pinned = run.status.as_ref().and_then(|status| status.pinned.as_ref());
    let of_drill = || serde_json::from_value::<DrillSelection>(pinned?.spec.get("selection")?.clone()).ok();
    run.spec.selection.as_ref().is_some_and(|own| of_drill().as_ref() != Some(own))
}

/// The newest results of a drill's runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Results {
    /// The newest run that ended.
    pub last: Option<DrillResult>,
    /// The newest that passed and counts.
    pub passed: Option<DrillResult>,
    /// The newest that failed and counts.
    pub failed: Option<DrillResult>,
    /// The newest proof that the drill can fail, with its present validations.
    pub proven_failure: Option<ProvenFailure>,
}

impl Results {
    /// Whether a run that counts failed since one passed last, or none ever passed.
    pub fn is_failing(&self) -> bool {
        let passed = self.passed.as_ref().map(|passed| passed.finished_at.0);
        self.failed.as_ref().is_some_and(|failed| passed.is_none_or(|at| failed.finished_at.0 > at))
    }

    /// The newest run that counts, as pass or as failure.
    pub fn newest(&self) -> Option<&DrillResult> {
        if self.is_failing() { self.failed.as_ref() } else { self.passed.as_ref() }
    }
}

/// Whether a run says something about its drill: one with a fault, or with another selection, counts neither as pass nor as
/// failure.
pub fn counts(run: &DrillRun) -> bool {
    fault::of_run(run).is_none() && !selects_otherwise(run)
}

/// The newest results. What the drill recorded already stays known when the runs are gone. A run with a fault, or with another
/// selection than the drill's, counts neither as pass nor as failure.
///
/// With `required`, a pass counts only if a run with an injected fault had failed because of it before, with the validations
/// that the passed run had.
pub fn results(runs: &[DrillRun], known: &Results, required: bool) -> Results {
    let mut found = known.clone();
    let mut ended: Vec<_> = runs.iter().filter_map(|run| result(run).map(|result| (run, result))).collect();
    ended.sort_by(|(_, a), (_, b)| (a.finished_at.0, &a.run).cmp(&(b.finished_at.0, &b.run)));
    for (run, result) in ended {
        let newer =
            |known: &Option<DrillResult>| known.as_ref().is_none_or(|k| k.finished_at.0 <= result.finished_at.0);
        if newer(&found.last) && result.phase != DrillPhase::Skipped {
            found.last = Some(result.clone());
        }
        if let Some(proof) = fault::proven_failure(run) {
            if found.proven_failure.as_ref().is_none_or(|known| known.at.0 <= proof.at.0) {
                found.proven_failure = Some(proof);
            }
            continue;
        }
        if !counts(run) {
            continue;
        }
        let pinned = run.status.as_ref().and_then(|status| status.pinned.as_ref());
        let validations = pinned.map(|pinned| fault::validations_digest(&pinned.spec));
        let proven = found.proven_failure.as_ref().is_some_and(|proof| {
            Some(&proof.validations_digest) == validations.as_ref() && proof.at.0 <= result.finished_at.0
        });
        if result.verdict == Some(DrillVerdict::Passed) && (proven || !required) && newer(&found.passed) {
            found.passed = Some(result);
        } else if result.verdict == Some(DrillVerdict::Failed) && newer(&found.failed) {
            found.failed = Some(result);
        }
    }
    found
}

/// The result of a run that ended.
pub fn result(run: &DrillRun) -> Option<DrillResult> {
    let status = run.status.as_ref().filter(|status| status.phase.is_terminal())?;
    Some(DrillResult {
        run: run.metadata.name.clone()?,
        uid: run.metadata.uid.clone()?,
        phase: status.phase,
        verdict: status.verdict,
        reason: status.reason.clone(),
        finished_at: status.finished_at.clone()?,
        backup: status.chosen.as_ref().map(|chosen| chosen.backup.clone()),
        rto_seconds: status.rto.map(|rto| rto.seconds),
        rpo_seconds: status.rpo.map(|rpo| rpo.seconds),
    })
}

/// Names of runs that the history has no room for: the newest stay, and so do the newest that passed and failed, and those that
/// are not cleaned up.
pub fn surplus(runs: &[DrillRun], keep: usize, results: &Results) -> Vec<String> {
    let named = |result: &Option<DrillResult>| result.as_ref().map(|result| result.run.clone());
    let mut stay: Vec<_> = [named(&results.passed), named(&results.failed)].into_iter().flatten().collect();
    stay.extend(results.proven_failure.as_ref().map(|proof| proof.run.clone()));
    let is_over = |run: &&DrillRun| {
        run.status.as_ref().is_some_and(|status| {
            status.phase.is_terminal() && status.cleanup.state == interlock_crds::CleanupState::Done
        })
    };
    let mut over: Vec<_> = runs.iter().filter(is_over).filter_map(result).collect();
    over.sort_by(|a, b| (b.finished_at.0, &b.run).cmp(&(a.finished_at.0, &a.run)));
    over.into_iter().skip(keep).map(|result| result.run).filter(|run| !stay.contains(run)).collect()
}

/// A policy of a System, with each drill of it.
#[derive(Clone, Debug)]
pub struct PolicyProof<'a> {
    /// Namespace and name of the policy.
    pub policy: &'a str,
    /// When its data becomes too old; none without an objective.
    pub exposed: Option<Lapse>,
    /// Its drills.
    pub drills: Vec<DrillProof<'a>>,
}

impl<'a> PolicyProof<'a> {
    /// A policy with its newest good recovery point.
    pub fn new(
        policy: &'a str,
        spec: &BackupPolicySpec,
        created_at: Timestamp,
        last_good: Option<&PointRef>,
        drills: Vec<DrillProof<'a>>,
    ) -> Self {
        let rpo = spec.objectives.as_ref().and_then(|objectives| objectives.rpo);
        let exposed = rpo.map(|rpo| Lapse {
            from: at_risk_from(last_good, created_at, rpo.signed()),
            sentence: format!("data of {policy} may be lost: {}", at_risk_sentence(last_good, rpo)),
        });
        Self { policy, exposed, drills }
    }
}

/// A drill with its results.
#[derive(Clone, Debug)]
pub struct DrillProof<'a> {
    /// Its name.
    pub drill: &'a str,
    /// Its newest results.
    pub results: Results,
    /// When a pass becomes overdue; none if none is ever owed.
    pub overdue: Option<Lapse>,
}

impl<'a> DrillProof<'a> {
    /// A drill of a policy with its results.
    pub fn new(drill: &'a str, spec: &RestoreDrillSpec, created_at: Timestamp, results: Results) -> Self {
        let passed = results.passed.as_ref().map(|passed| passed.finished_at.0);
        let overdue = schedule::owed(spec, created_at, passed).map(|(from, sentence)| Lapse { from, sentence });
        Self { drill, results, overdue }
    }
}

/// What holds from a moment on, unless something happens before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lapse {
    /// The moment.
    pub from: Timestamp,
    /// What holds from then on.
    pub sentence: String,
}

/// What is known about the restores of a System.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// What its drills have shown.
    pub shown: Shown,
    /// The first pass of a drill that becomes overdue, or is.
    pub overdue: Option<Lapse>,
    /// The first policy whose data becomes too old, or is.
    pub exposed: Option<Lapse>,
}

/// What drills have shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// A policy has no drill that ever passed or failed; which, as a sentence.
    None(String),
    /// A drill failed after it had passed last, or never passed; which, as a sentence.
    Failed(String),
    /// Each policy was proved; the oldest of the newest passes, and the sentence.
    Passed(Timestamp, String),
}

impl From<Shown> for Proof {
    fn from(shown: Shown) -> Self {
        Self { shown, overdue: None, exposed: None }
    }
}

/// What is known about the restores of a System. It is as well proved as the worst of its policies; one without any is not.
pub fn proof(policies: &[PolicyProof<'_>]) -> Proof {
    let of_drill = |policy: &str, drill: &DrillProof<'_>| {
        let overdue = drill.overdue.as_ref()?;
        let sentence = format!("drill {} of {policy} is overdue: {}", drill.drill, overdue.sentence);
        Some(Lapse { from: overdue.from, sentence })
    };
    let drills = policies.iter().flat_map(|of| of.drills.iter().filter_map(move |drill| of_drill(of.policy, drill)));
    Proof {
        shown: shown(policies),
        overdue: drills.min_by_key(|lapse| lapse.from),
        exposed: policies.iter().filter_map(|of| of.exposed.clone()).min_by_key(|lapse| lapse.from),
    }
}

/// What the drills of a System have shown.
fn shown(policies: &[PolicyProof<'_>]) -> Shown {
    let mut oldest: Option<(Timestamp, String)> = None;
    let mut missing =
        policies.is_empty().then(|| "the System has no BackupPolicy, so nothing of it can be restored".to_owned());
    for PolicyProof { policy, drills, .. } in policies {
        for DrillProof { drill, results, .. } in drills {
            if let Some(failed) = results.failed.as_ref().filter(|_| results.is_failing()) {
                let reason = failed.reason.as_deref().unwrap_or("Unknown");
                let said =
                    format!("drill {drill} of {policy} failed {} ({reason}, run {})", failed.finished_at.0, failed.run);
                return Shown::Failed(said);
            }
        }
        let newest = drills.iter().filter_map(|of| Some((of.results.passed.as_ref()?.finished_at.0, of.drill))).max();
        match newest {
            Some((at, drill)) if oldest.as_ref().is_none_or(|(known, _)| at < *known) => {
                oldest = Some((at, format!("drill {drill} of {policy} passed {at}")));
            }
            Some(_) => {}
            None => missing = missing.or_else(|| Some(format!("no restore drill of {policy} has passed yet"))),
        }
    }
    match (missing, oldest) {
        (Some(said), _) => Shown::None(said),
        (None, Some((at, said))) => Shown::Passed(at, said),
        (None, None) => Shown::None("no restore drill has passed yet".into()),
    }
}

/// What gate RestoreProof answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateAnswer {
    /// Whether the System is proved.
    pub open: bool,
    /// Whether a change is held back by it.
    pub holds_back: bool,
    /// Until when it is open, if no run passes and no good recovery point follows.
    pub until: Option<Timestamp>,
    /// One word; of several that close it the first.
    pub reason: &'static str,
    /// Why: all that closes it, and what opens it.
    pub sentence: String,
}

/// Answers the gate; none if the policy does not ask.
pub fn gate(proof: &Proof, rule: &RestoreProofGate, now: Timestamp) -> Option<GateAnswer> {
    if rule.mode == EnforceMode::Off {
        return None;
    }
    let mut closed: Vec<(&'static str, String)> = Vec::new();
    let mut until = None;
    let said = match &proof.shown {
        Shown::None(said) => {
            closed.push(("NoDrill", format!("{said}; run one with `interlock drill run`")));
            said
        }
        Shown::Failed(said) => {
            closed.push(("DrillFailed", format!("{said}; the gate opens with the next one that passes")));
            said
        }
        Shown::Passed(at, said) => {
            let over = plus(*at, rule.max_age.signed());
            if over <= now {
                let why = format!("{said}, longer than {} ago; run it with `interlock drill run`", rule.max_age);
                closed.push(("DrillTooOld", why));
            }
            until = earlier(until, Some(over));
            said
        }
    };
    let lapses = [
        ("DrillOverdue", &proof.overdue, "the gate opens with the next run of it that passes"),
        (
            "Exposed",
            &proof.exposed,
            "the gate opens with the next good backup: `interlock backup run`. If none can be made, restore by `interlock restore`, which this does not hold back, or propose an emergency change",
        ),
    ];
    for (reason, lapse, opens) in lapses {
        let Some(Lapse { from, sentence }) = lapse else { continue };
        if *from <= now {
            closed.push((reason, format!("{sentence}; {opens}")));
        }
        until = earlier(until, Some(*from));
    }
    let Some(&(reason, _)) = closed.first() else {
        return Some(GateAnswer {
            open: true,
            holds_back: false,
            until,
            reason: "DrillPassed",
            sentence: said.clone(),
        });
    };
    let sentence: Vec<_> = closed.iter().map(|(_, why)| why.as_str()).collect();
    Some(GateAnswer {
        open: false,
        holds_back: rule.mode == EnforceMode::Enforce,
        until: None,
        reason,
        sentence: sentence.join("; "),
    })
}
