//! What is left of a release: for people who wonder whether to wait.

use interlock_crds::{Analysis, AnalysisVerdict, RolloutPhase, RolloutSpec, RolloutStatus, RolloutStep};
use jiff::{SignedDuration, Timestamp};

use super::pass::Strategy;

/// What a release still has before it, if nothing goes wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outlook {
    /// Pauses, measurements, soak times and `keepOld` that are left; starting pods and routes come on top.
    pub at_least: SignedDuration,
    /// What else is waited for and takes as long as it takes, in the order in which it comes.
    pub unknown: Vec<String>,
}

impl Outlook {
    fn adds(&mut self, seconds: i64) {
        self.at_least = self.at_least.saturating_add(SignedDuration::from_secs(seconds.max(0)));
    }
}

/// The time that a step takes whatever the cluster does; none if it is not known before.
fn seconds_of(step: &RolloutStep, analyses: &[Analysis]) -> Result<i64, String> {
    if let Some(pause) = &step.pause {
        return pause.duration.map(interlock_crds::Duration::seconds).ok_or_else(|| "somebody promotes it".to_owned());
    }
    if let Some(rule) = &step.sign_off {
        return Err(format!("{} of {} sign", rule.count, rule.groups.join(", ")));
    }
    if let Some(gate) = step.gate {
        return Err(format!("the gate {:?} opens", gate.name));
    }
    if let Some(job) = &step.job {
        return Err(format!("Job {} completes", job.name));
    }
    let names = step.analysis.iter().flatten();
    Ok(names.map(|name| seconds_of_analysis(analyses, name)).max().unwrap_or(0))
}

fn seconds_of_analysis(analyses: &[Analysis], name: &str) -> i64 {
    let Some(analysis) = analyses.iter().find(|analysis| analysis.name == name) else { return 0 };
    let delay = analysis.initial_delay.map_or(0, interlock_crds::Duration::seconds);
    let further = i64::from(analysis.count.unwrap_or(1)) - 1;
    delay.saturating_add(analysis.interval.seconds().saturating_mul(further))
}

/// What is left of a release. None when it is at rest or goes back: going back takes no planned time.
pub fn outlook(spec: &RolloutSpec, status: &RolloutStatus, now: Timestamp) -> Option<Outlook> {
    if status.phase.is_at_rest() || status.phase == RolloutPhase::Aborting {
        return None;
    }
    let mut left = Outlook::default();
    if let Some(hold) = &status.hold {
        left.unknown.push(format!("it is no longer held ({:?})", hold.reason));
    }
    let strategy = Strategy::of(&spec.plan)?;
    let current = status.current_step as usize;
    let began = status.step.as_ref().map(|step| step.started_at.0);
    let spent = |since: Option<Timestamp>| since.map_or(0, |since| now.duration_since(since).as_secs());
    for (position, step) in strategy.steps().iter().enumerate().skip(current) {
        let measured = |name: &String| {
            status.analyses.iter().any(|run| run.state.name == *name && run.state.verdict != AnalysisVerdict::Running)
        };
        let is_current = position == current;
        let is_measured = is_current && step.analysis.as_ref().is_some_and(|names| names.iter().all(measured));
        match seconds_of(step, &spec.plan.analyses) {
            _ if status.fully && step.sign_off.is_none() && step.gate.is_none() => {}
            _ if is_measured => {}
            Ok(seconds) => left.adds(if is_current { seconds - spent(began) } else { seconds }),
            Err(what) => left.unknown.push(what),
        }
    }
    match strategy {
        Strategy::BlueGreen(blue_green) if !status.fully => {
            let switched = status.promotion.as_ref().and_then(|promotion| promotion.switched_at.as_ref());
            left.adds(blue_green.keep_old.seconds() - spent(switched.map(|at| at.0)));
        }
        Strategy::Waves(waves) => {
            for (position, wave) in waves.iter().enumerate().skip(current) {
                let record = status.waves.get(position);
                let soak = wave.soak.filter(|_| !status.fully).map_or(0, interlock_crds::Duration::seconds);
                left.adds(soak - spent(record.and_then(|record| record.completed_at.as_ref()).map(|at| at.0)));
                let waits = record.is_none_or(|record| record.phase == interlock_crds::WavePhase::Waiting);
                if let Some(rule) = wave.sign_off.as_ref().filter(|_| waits) {
                    left.unknown.push(format!("{} of {} sign for {}", rule.count, rule.groups.join(", "), wave.name));
                }
                left.unknown.push(format!("{} workloads of {} have changed", wave.targets.len(), wave.name));
            }
        }
        Strategy::BlueGreen(_) | Strategy::Canary(_) | Strategy::Batches(_) => {}
    }
    Some(left)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(steps: &serde_json::Value) -> RolloutSpec {
        serde_json::from_value(json!({
            "changeRequest": {"name": "shop", "uid": "u"}, "changeDigest": "sha256:0",
            "plan": {
                "canary": {"steps": steps},
                "analyses": [{"name": "errors", "http": {"url": "http://shop/"}, "interval": "30s", "count": 5}],
            },
            "targets": [{"kind": "Deployment", "namespace": "shop", "name": "web"}],
        }))
        .unwrap()
    }

    fn status(step: u32, began: &str) -> RolloutStatus {
        serde_json::from_value(json!({
            "phase": "Paused", "currentStep": step, "step": {"startedAt": began, "progressAt": began},
        }))
        .unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn pauses_and_measurements_add_up_and_the_current_one_runs_already() {
        let spec = spec(&json!([
            {"setWeight": 5}, {"pause": {"duration": "5m"}}, {"analysis": ["errors"]}, {"pause": {"duration": "1m"}},
        ]));
        let left = outlook(&spec, &status(1, "2026-11-23T10:00:00Z"), at("2026-11-23T10:02:00Z")).unwrap();
        assert_eq!(left, Outlook { at_least: SignedDuration::from_secs(180 + 120 + 60), unknown: Vec::new() });
        let late = outlook(&spec, &status(1, "2026-11-23T10:00:00Z"), at("2026-11-23T10:20:00Z")).unwrap();
        assert_eq!(late.at_least, SignedDuration::from_secs(180), "a step that takes longer takes nothing off others");
    }

    #[test]
    fn people_are_named_in_their_order() {
        let spec = spec(&json!([
            {"setWeight": 5}, {"pause": {}}, {"signOff": {"count": 1, "groups": ["branch-ops"]}}, {"gate": {"name": "Window"}},
        ]));
        let left = outlook(&spec, &status(0, "2026-11-23T10:00:00Z"), at("2026-11-23T10:02:00Z")).unwrap();
        assert_eq!(left.unknown, ["somebody promotes it", "1 of branch-ops sign", "the gate Window opens"]);
        let fully = RolloutStatus { fully: true, ..status(0, "2026-11-23T10:00:00Z") };
        let left = outlook(&spec, &fully, at("2026-11-23T10:02:00Z")).unwrap();
        assert_eq!(left.unknown, ["1 of branch-ops sign", "the gate Window opens"], "promoting signs nothing");
    }

    #[test]
    fn what_is_at_rest_or_goes_back_has_no_outlook() {
        let spec = spec(&json!([{"pause": {"duration": "5m"}}]));
        for phase in [RolloutPhase::Succeeded, RolloutPhase::Aborting, RolloutPhase::RolledBack] {
            let status = RolloutStatus { phase, ..status(0, "2026-11-23T10:00:00Z") };
            assert_eq!(outlook(&spec, &status, at("2026-11-23T10:02:00Z")), None);
        }
    }
}
