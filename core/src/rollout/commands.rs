//! What people command.

use interlock_crds::{HoldReason, RolloutPhase, WavePhase, WaveRecord};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    facts::{CommandFact, RolloutVerb},
    pass::{Pass, Strategy},
};

/// What became of a command.
enum Obeyed {
    Yes,
    /// It has no meaning now; it is not looked at again.
    Refused(String),
    /// It is looked at again when the release has gone back.
    Later,
}

impl Pass<'_> {
    /// Obeys commands that were not obeyed yet, in their order. One that must wait holds up the later ones.
    pub fn obey(&mut self, strategy: Strategy<'_>) {
        let facts = self.facts;
        for command in facts.commands {
            if self.knows(command) {
                continue;
            }
            match self.obey_one(command, strategy) {
                Obeyed::Yes => self.say(command.describe()),
                Obeyed::Refused(why) => self.say(format!("{} had no effect: {why}", command.describe())),
                Obeyed::Later => {
                    self.say(format!("{} follows when the release has gone back", command.describe()));
                    return;
                }
            }
            self.status.obeyed.push(command.id.clone());
            if self.status.obeyed.len() > 64 {
                let forgotten = self.status.obeyed.remove(0);
                let at = facts.commands.iter().find(|command| command.id == forgotten).map(|command| command.at);
                let until = at.max(self.status.obeyed_until.take().map(|until| until.0));
                self.status.obeyed_until = until.map(Time);
            }
        }
    }

    fn knows(&self, command: &CommandFact) -> bool {
        self.status.obeyed.contains(&command.id)
            || self.status.obeyed_until.as_ref().is_some_and(|until| command.at <= until.0)
    }

    fn obey_one(&mut self, command: &CommandFact, strategy: Strategy<'_>) -> Obeyed {
        let phase = self.status.phase;
        let begins = matches!(command.verb, RolloutVerb::Retry | RolloutVerb::Resume | RolloutVerb::PromoteFully)
            && matches!(phase, RolloutPhase::RolledBack | RolloutPhase::Failed);
        if let Some(why) = self.facts.return_asked.filter(|_| begins) {
            return Obeyed::Refused(format!("it must stay as it was before: {why}"));
        }
        match command.verb {
            RolloutVerb::Abort | RolloutVerb::Rollback => self.abort(command),
            RolloutVerb::Retry | RolloutVerb::PromoteFully if phase == RolloutPhase::Aborting => Obeyed::Later,
            RolloutVerb::Retry | RolloutVerb::PromoteFully
                if phase == RolloutPhase::RolledBack
                    || (phase == RolloutPhase::Failed && matches!(strategy, Strategy::Waves(_))) =>
            {
                if let Some(why) = self.keeps_from_beginning_anew(strategy) {
                    // Not later: a command that waits holds up an abort.
                    return Obeyed::Refused(why);
                }
                self.begin_anew(command.verb == RolloutVerb::PromoteFully);
                Obeyed::Yes
            }
            RolloutVerb::Retry | RolloutVerb::Resume | RolloutVerb::PromoteFully if phase == RolloutPhase::Failed => {
                self.leave_rest();
                self.phase(RolloutPhase::Promoting);
                self.try_again();
                Obeyed::Yes
            }
            RolloutVerb::Pause | RolloutVerb::Resume | RolloutVerb::Retry => self.hold_or_go_on(command),
            RolloutVerb::Promote | RolloutVerb::PromoteFully | RolloutVerb::Skip => {
                self.promote(command.verb, strategy)
            }
        }
    }

    fn abort(&mut self, command: &CommandFact) -> Obeyed {
        match self.status.phase {
            RolloutPhase::Aborting => Obeyed::Refused("it is going back already".to_owned()),
            RolloutPhase::RolledBack => Obeyed::Refused("it has gone back already".to_owned()),
            RolloutPhase::Succeeded => {
                Obeyed::Refused("it has succeeded; propose a change that brings the old version back".to_owned())
            }
            RolloutPhase::Pending
            | RolloutPhase::Progressing
            | RolloutPhase::Paused
            | RolloutPhase::Promoting
            | RolloutPhase::Failed => {
                self.leave_rest();
                self.turn_back(&command.describe());
                Obeyed::Yes
            }
        }
    }

    /// Why what went back may not begin anew now. Of waves the window says when each workload may begin.
    fn keeps_from_beginning_anew(&self, strategy: Strategy<'_>) -> Option<String> {
        let gate = &self.facts.window?.gate;
        let keeps = !gate.open && !matches!(strategy, Strategy::Waves(_));
        keeps.then(|| format!("it would begin anew, and {}; give the command again when it is open", gate.message))
    }

    fn begin_anew(&mut self, fully: bool) {
        self.turn();
        self.phase(RolloutPhase::Pending);
        self.status.attempt += 1;
        self.status.current_step = 0;
        self.status.step = None;
        self.status.asked = None;
        self.status.promotion = None;
        self.status.cause = None;
        self.status.start = None;
        self.status.hashes = None;
        let attempt = self.status.attempt;
        for record in self.status.waves.iter_mut().filter(|record| record.phase != WavePhase::Complete) {
            *record = WaveRecord { name: record.name.clone(), attempt, ..WaveRecord::default() };
        }
        // What is begun anew has times of its own.
        self.status.started_at = None;
        self.status.finished_at = None;
        self.status.held_seconds = 0;
        self.status.fully = fully;
    }

    fn hold_or_go_on(&mut self, command: &CommandFact) -> Obeyed {
        let reason = self.status.hold.as_ref().map(|hold| hold.reason);
        match (command.verb, self.status.phase, reason) {
            (
                RolloutVerb::Pause,
                RolloutPhase::Progressing | RolloutPhase::Paused,
                None | Some(HoldReason::WindowClosed),
            ) if self.status.promotion.is_none() => {
                self.hold(
                    HoldReason::Commanded,
                    &format!("{}; it goes on with `interlock rollout resume`", command.describe()),
                );
                Obeyed::Yes
            }
            (RolloutVerb::Resume, _, Some(HoldReason::Commanded)) => {
                self.release_hold();
                Obeyed::Yes
            }
            (RolloutVerb::Resume | RolloutVerb::Retry, _, Some(HoldReason::Failure | HoldReason::Inconclusive)) => {
                self.try_again();
                Obeyed::Yes
            }
            (_, phase, _) => Obeyed::Refused(format!("the release is {phase:?}, which it does not apply to")),
        }
    }

    fn promote(&mut self, verb: RolloutVerb, strategy: Strategy<'_>) -> Obeyed {
        let phase = self.status.phase;
        if !matches!(phase, RolloutPhase::Progressing | RolloutPhase::Paused | RolloutPhase::Promoting) {
            return Obeyed::Refused(format!("the release is {phase:?}"));
        }
        match self.status.hold.as_ref().map(|hold| hold.reason) {
            Some(HoldReason::Failure) => {
                return Obeyed::Refused("it is held because it failed; retry or abort it".to_owned());
            }
            Some(HoldReason::WindowClosed) => return Obeyed::Refused("its window is closed".to_owned()),
            Some(HoldReason::Commanded | HoldReason::Inconclusive) | None => {}
        }
        if let Some(why) = self.cannot_promote(verb, strategy) {
            return Obeyed::Refused(why);
        }
        let could_not_tell = self.status.hold.as_ref().is_some_and(|hold| hold.reason == HoldReason::Inconclusive);
        self.release_hold();
        if let (Strategy::Waves(_), RolloutVerb::Promote) = (strategy, verb) {
            if let Some(wave) = self.status.waves.iter_mut().find(|wave| wave.phase == WavePhase::Soaking) {
                wave.phase = WavePhase::Complete;
            }
            return Obeyed::Yes;
        }
        if verb == RolloutVerb::PromoteFully || self.status.promotion.is_some() {
            self.status.fully = true;
            return Obeyed::Yes;
        }
        if strategy.steps().get(self.status.current_step as usize).is_some() {
            if verb == RolloutVerb::Promote {
                self.complete_step();
            } else {
                // What it asked for is left out with it.
                let before = self.status.step.as_mut().and_then(|step| step.before.take());
                self.status.asked = before.or(self.status.asked.take());
                self.go_to(self.status.current_step + 1);
            }
        } else if could_not_tell {
            // Only what is measured beside the steps held it: a person goes on without.
            self.begin_promotion();
        }
        Obeyed::Yes
    }

    /// Why promoting or skipping has no meaning now.
    pub(super) fn cannot_promote(&self, verb: RolloutVerb, strategy: Strategy<'_>) -> Option<String> {
        if let (Strategy::Waves(_), RolloutVerb::Promote) = (strategy, verb) {
            let observed = self.status.waves.iter().any(|wave| wave.phase == WavePhase::Soaking);
            let why = "no wave is being observed; signatures and windows are not a command's to give";
            return (!observed).then(|| why.to_owned());
        }
        if verb == RolloutVerb::PromoteFully || self.status.promotion.is_some() {
            return None;
        }
        let step = strategy.steps().get(self.status.current_step as usize)?;
        if step.sign_off.is_some() || step.gate.is_some() {
            return Some("the step waits for signatures or a gate, which no command replaces".to_owned());
        }
        let only_waits = step.pause.is_some() || step.analysis.is_some();
        let why = "the step waits for the cluster, not for a person; skip it to leave it out";
        (!only_waits && verb == RolloutVerb::Promote).then(|| why.to_owned())
    }
}
