//! Validations, one after the other, and the verdict.

use interlock_crds::{DrillValidation, SegmentName, ValidationRecord, ValidationVerdict};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Pass, Plan, PodState, pinned, pods::Follow};
use crate::drill::{
    clock,
    expect::{Scalar, query_digest},
    names::PodRole,
    outcome::{self, Validated},
    plus,
    reason::Ending,
    verdict,
};

/// A pod that has not started so long after its time was over never will in time.
const START_GRACE: SignedDuration = SignedDuration::from_secs(120);

impl Pass<'_> {
    pub(super) fn validating(&mut self, plan: &Plan) -> Result<bool, Ending> {
        let validations = &plan.drill.validations;
        self.list(validations);
        let begun = clock::segment_end(&self.status, SegmentName::Start).unwrap_or(self.facts.now);
        let closes = plus(begun, plan.drill.timeouts.validate.signed());
        for (index, validation) in validations.iter().enumerate() {
            if !self.is_pending(index) {
                continue;
            }
            if !self.validate(index, validation, closes) {
                if closes <= self.facts.now {
                    self.close(plan, closes);
                    break;
                }
                self.say(format!("validation {} ({} of {}) runs", validation.name, index + 1, validations.len()));
                self.wake(closes);
                return Ok(false);
            }
        }
        self.measure(plan, begun);
        Err(verdict::judge(&self.status, &plan.drill, &plan.policy))
    }

    /// Writes down what will be asked, before anything is.
    fn list(&mut self, validations: &[DrillValidation]) {
        if !self.status.validations.is_empty() {
            return;
        }
        let record = |validation: &DrillValidation| ValidationRecord {
            name: validation.name.clone(),
            critical: validation.critical,
            verdict: ValidationVerdict::Pending,
            reason: None,
            message: None,
            query_digest: query_digest(validation),
            number: None,
            boolean: None,
            started_at: None,
            finished_at: None,
        };
        self.status.validations = validations.iter().map(record).collect();
    }

    fn is_pending(&self, index: usize) -> bool {
        self.status.validations.get(index).is_some_and(|record| record.verdict == ValidationVerdict::Pending)
    }

    /// One validation; whether it is decided.
    fn validate(&mut self, index: usize, validation: &DrillValidation, closes: Timestamp) -> bool {
        // After the window nothing more is begun: what was not, is skipped.
        let name = PodRole::Validation(index).name(self.facts.uid);
        if closes <= self.facts.now && self.announced(&name).is_none() {
            return false;
        }
        let now = self.facts.now;
        match self.follow(PodRole::Validation(index)) {
            Follow::Ended(pod, end) => {
                let found = if end.at > closes {
                    Validated::timed_out("it ended after all validations had to be done; a late answer does not count")
                } else {
                    outcome::validation(validation, &end.pod, end.deadline_exceeded, self.facts.uid)
                };
                self.note(index, pod.created_at, end.at, &found);
                true
            }
            Follow::Lost(why) => {
                self.note(index, now, now, &Validated::error("NotRun", why));
                true
            }
            Follow::Ready(_) => false,
            Follow::Wait(waiting) => {
                let Some(created) = self.created_validation(index) else { return false };
                let over = plus(plus(created, validation.timeout.signed()), START_GRACE);
                if over <= now {
                    let found = waiting.map_or_else(
                        || Validated::timed_out(format!("it did not end within {}", validation.timeout)),
                        |why| Validated::error("NeverStarted", format!("it could not be started: {why}")),
                    );
                    self.note(index, created, over, &found);
                    return true;
                }
                self.wake(over);
                false
            }
        }
    }

    fn created_validation(&self, index: usize) -> Option<Timestamp> {
        match self.facts.pods.get(&PodRole::Validation(index)) {
            Some(super::Seen::Ours(PodState { created_at, .. })) => Some(*created_at),
            _ => None,
        }
    }

    fn note(&mut self, index: usize, started: Timestamp, finished: Timestamp, found: &Validated) {
        if let Some(Some(read)) = &found.heartbeat {
            self.status.heartbeat = Some(read.record((self.facts.hmac)(&read.nonce)));
        }
        let Some(record) = self.status.validations.get_mut(index) else { return };
        record.verdict = found.verdict;
        record.reason = Some(found.reason.to_owned());
        record.message = Some(found.message.chars().take(512).collect());
        record.started_at = Some(Time(started));
        record.finished_at = Some(Time(finished));
        match found.result {
            Some(Scalar::Number(number)) => record.number = Some(number),
            Some(Scalar::Boolean(boolean)) => record.boolean = Some(boolean),
            None => {}
        }
    }

    /// The window closed: what runs took too long, and what was not begun will not be.
    fn close(&mut self, plan: &Plan, closes: Timestamp) {
        let most = plan.drill.timeouts.validate;
        let uid = self.facts.uid;
        let jobs = self.status.jobs.clone();
        for (index, record) in self.status.validations.iter_mut().enumerate() {
            if record.verdict != ValidationVerdict::Pending {
                continue;
            }
            let name = PodRole::Validation(index).name(uid);
            let begun = jobs.iter().any(|job| job.name == name);
            record.verdict = if begun { ValidationVerdict::TimedOut } else { ValidationVerdict::Skipped };
            record.reason = Some("TimedOut".into());
            record.message = Some(format!("all validations together took longer than {most} (timeouts.validate)"));
            record.finished_at = Some(Time(closes));
        }
    }

    /// Recovery time ends with the last critical validation that passed, if all did.
    fn measure(&mut self, plan: &Plan, begun: Timestamp) {
        let critical = || self.status.validations.iter().filter(|record| record.critical);
        let passed = critical().all(verdict::holds);
        let last = critical().filter_map(|record| record.finished_at.as_ref().map(|at| at.0)).max();
        if passed {
            clock::end_segment(&mut self.status, SegmentName::Validate, last.unwrap_or(begun), self.facts.now);
            let objective = plan.drill.objectives.as_ref().and_then(|objectives| objectives.rto);
            self.status.rto = clock::rto(&self.status, objective);
        }
        let (Some(chosen), Some(restored), Some(heartbeat)) =
            (&self.status.chosen, &self.status.heartbeat, &plan.policy.heartbeat)
        else {
            return;
        };
        let objectives = plan.drill.objectives.clone().unwrap_or_default();
        let of_policy = plan.policy.objectives.as_ref().and_then(|objectives| objectives.rpo);
        // A run with another selection than its drill's was asked for to look at an old point.
        let judged = pinned(&self.status).is_ok_and(|(pinned, _)| pinned.selection == plan.drill.selection);
        self.status.rpo = Some(clock::rpo(
            self.t0(),
            chosen,
            restored,
            &clock::PointObjectives {
                interval: heartbeat.interval.signed(),
                skew: self.facts.skew,
                before_end: clock::before_end(&plan.drill, &plan.policy),
                rpo: objectives.rpo.or(of_policy).filter(|_| judged).map(interlock_crds::Duration::signed),
                capture_lag: objectives.capture_lag.map(interlock_crds::Duration::signed),
            },
        ));
    }
}
