//! Admission, the choice of the recovery point, and the queue.

use interlock_crds::{DrillPhase, DrillTrigger, SegmentName, SelectionStrategy};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Access, DrillFact, DrillWrite, Pass, Plan, pinned};
use crate::backup::ADMISSION_PATIENCE;
use crate::drill::{
    clock, plus,
    reason::{Ending, Reason},
    select, whole_seconds,
};

impl Pass<'_> {
    /// Whether it was admitted. From there on recovery time counts.
    pub(super) fn admit(&mut self) -> Result<bool, Ending> {
        let facts = self.facts;
        let name = &facts.spec.drill_ref.name;
        let is_meant =
            |drill: &DrillFact<'_>| facts.spec.drill_uid.as_ref().is_none_or(|uid| *uid == drill.pin.drill_uid);
        let Some(drill) = facts.drill.filter(is_meant) else {
            let gone =
                format!("RestoreDrill {name}, as it was when the run was asked for, does not exist in this namespace");
            return self.unusable(Reason::DrillGone, gone);
        };
        if let Some(why) = drill.refusal {
            return self.unusable(Reason::DrillInvalid, why.to_owned());
        }
        self.status.pinned = Some(drill.pin.clone());
        let (spec, _) = pinned(&self.status)?;
        if let Some(slot) = &facts.spec.slot
            && plus(slot.0, spec.start_within.signed()) < facts.now
        {
            let late = format!("slot {} could not be begun within {}", slot.0, spec.start_within);
            return Err(Ending { phase: DrillPhase::Missed, reason: Reason::StartWindowMissed, message: late });
        }
        self.status.t0 = Some(Time(whole_seconds(facts.now)));
        self.status.seed = Some(select::seed(facts.uid));
        self.go_on(DrillPhase::Queued, "admitted: recovery time counts from now on");
        Ok(true)
    }

    /// What the run refers to is missing or cannot be used: that is its outcome, unless it may not be known yet.
    fn unusable(&mut self, reason: Reason, why: String) -> Result<bool, Ending> {
        let until = plus(self.facts.created_at, ADMISSION_PATIENCE);
        if until <= self.facts.now {
            return Err(Ending::failed(reason, why));
        }
        self.say(format!("waits until {until}: {why}"));
        self.wake(until);
        Ok(false)
    }

    pub(super) fn queued(&mut self, plan: &Plan) -> Result<bool, Ending> {
        let t0 = self.t0();
        if self.status.chosen.is_none() && !self.choose(plan, t0)? {
            return Ok(false);
        }
        let until = plus(t0, plan.drill.timeouts.queue.signed());
        let busy = |why: &str| {
            let most = plan.drill.timeouts.queue;
            Ending::failed(
                Reason::RepositoryBusy,
                format!("the repository did not let the run in within {most}: {why}"),
            )
        };
        match self.facts.repository {
            Access::Held(since) => {
                if self.was_forgotten() {
                    // It was forgotten between the choice and the claim; another one is chosen, and T0 stays.
                    self.status.chosen = None;
                    return Ok(true);
                }
                clock::end_segment(&mut self.status, SegmentName::Queue, since, self.facts.now);
                self.go_on(DrillPhase::Provisioning, "the repository let the run in");
                Ok(true)
            }
            Access::Waiting(why) if until <= self.facts.now => Err(busy(why)),
            Access::Unknown if until <= self.facts.now => Err(busy("it is not known who holds it")),
            access => {
                let why = if let Access::Waiting(why) = access { why } else { "it was asked" };
                self.say(format!("waits for the repository: {why}"));
                self.wake(until);
                self.writes.push(DrillWrite::ClaimRepository);
                Ok(false)
            }
        }
    }

    /// Chooses the recovery point, as of T0.
    fn choose(&mut self, plan: &Plan, t0: Timestamp) -> Result<bool, Ending> {
        let facts = self.facts;
        let Some(all) = facts.candidates else {
            self.say("waits for the list of recovery points");
            self.wake(plus(t0, plan.drill.timeouts.queue.signed()));
            if plus(t0, plan.drill.timeouts.queue.signed()) <= facts.now {
                return Err(Ending::failed(
                    Reason::NoRecoveryPoint,
                    "the recovery points of the policy could not be listed",
                ));
            }
            return Ok(false);
        };
        let selection = &plan.drill.selection;
        let by_id = selection.strategy == SelectionStrategy::ById;
        let known: Vec<_> = all.iter().filter(|point| by_id || point.data_time <= t0).cloned().collect();
        let seed = self.status.seed.unwrap_or_default();
        let choice = select::choose(selection, &known, facts.shuffle, seed, t0)
            .map_err(|why| Ending::failed(Reason::NoRecoveryPoint, why))?;
        let proven = facts.proven.contains(&choice.point.backup);
        if plan.drill.skip_if_proven
            && proven
            && facts.spec.trigger != DrillTrigger::Manual
            && plan.drill.fault_injection.is_none()
        {
            return Err(Ending {
                phase: DrillPhase::Skipped,
                reason: Reason::AlreadyVerified,
                message: format!("a run of this spec has proved {} already (skipIfProven)", choice.point.backup),
            });
        }
        self.status.chosen = Some(choice.point);
        Ok(true)
    }

    fn was_forgotten(&self) -> bool {
        let Some(chosen) = &self.status.chosen else { return false };
        self.facts.candidates.is_some_and(|all| !all.iter().any(|point| point.uid == chosen.uid))
    }
}
