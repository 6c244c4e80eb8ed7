//! From a rehearsal to its report.

use interlock_core::object::GroupKind;
use interlock_crds::{ChangeRequest, GROUP};
use serde::Deserialize as _;

use super::{
    Player, ballots, look,
    report::{ChangeSummary, Questions, Report},
};

impl Player {
    /// All of it. Whatever was not asked for yet is left out.
    pub fn into_report(self) -> Report {
        let questions = Questions { who_alone: ballots::alone(&self.world, &self.narrator.cast) };
        let changes = self.summaries();
        let end = self.world.now();
        Report {
            title: self.title,
            seed: self.seed,
            start: self.start,
            end,
            time_zone: self.zone,
            steps: self.made,
            timeline: self.timeline,
            expectations: self.outcomes,
            changes,
            refusals: self.narrator.refusals,
            questions,
        }
    }

    fn summaries(&self) -> Vec<ChangeSummary> {
        let mut summaries = Vec::new();
        let cluster = self.world.shared.lock();
        let now = cluster.api.now();
        for object in cluster.api.glance(&GroupKind::new(GROUP, "ChangeRequest"), None) {
            let Ok(request) = ChangeRequest::deserialize(&*object) else {
                continue;
            };
            let key = crate::world::key_of(&object);
            let status = request.status.clone().unwrap_or_default();
            let held = self.narrator.board.get(&key).map(|seen| seen.held_until(now)).unwrap_or_default();
            summaries.push(ChangeSummary {
                change: key,
                title: request.spec.title.clone(),
                type_: request.spec.type_,
                requester: self.narrator.cast.called(&request.spec.requester).to_owned(),
                phase: status.phase,
                message: self.narrator.cast.with_names(status.message.as_deref().unwrap_or_default()),
                proposed_at: request.metadata.creation_timestamp.as_ref().map(|at| at.0),
                started_at: status.run.as_ref().map(|run| run.started_at.0),
                ended_at: status.finished.as_ref().map(|finish| finish.at.0),
                waits_for: look::holding(&request),
                held,
            });
        }
        summaries.sort_by(|a, b| (a.proposed_at, &a.change).cmp(&(b.proposed_at, &b.change)));
        summaries
    }
}
