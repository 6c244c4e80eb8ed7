//! What is left of a release: for people who wonder whether to wait.

use interlock_crds::{
    Analysis, AnalysisVerdict, RolloutPhase, RolloutPlanSpec, RolloutSpec, RolloutStatus, RolloutStep, Wave, WavePhase,
    WaveRecord, WaveTarget,
};
use jiff::{SignedDuration, Timestamp};

use super::{pass::Strategy, waves};
use crate::analysis::{counted, run};

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
    Ok(seconds_of_analyses(analyses, step.analysis.as_deref().unwrap_or_default()))
}

/// The longest of those that are waited for; dry runs are not.
fn seconds_of_analyses(analyses: &[Analysis], names: &[String]) -> i64 {
    let awaited = analyses.iter().filter(|analysis| !analysis.dry_run && names.contains(&analysis.name));
    awaited.map(run::seconds).max().unwrap_or(0)
}

/// Seconds between the switch and the end of a release.
fn seconds_after_switch(strategy: Strategy<'_>, analyses: &[Analysis]) -> i64 {
    match strategy {
        Strategy::BlueGreen(plan) => plan.keep_old.seconds().max(seconds_of_analyses(analyses, &plan.after_switch)),
        Strategy::Canary(_) | Strategy::Batches(_) | Strategy::Waves(_) => 0,
    }
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
        let is_current = position == current;
        let is_measured = is_current && step.analysis.as_ref().is_some_and(|names| are_measured(status, names));
        match seconds_of(step, &spec.plan.analyses) {
            _ if status.fully && step.sign_off.is_none() && step.gate.is_none() => {}
            _ if is_measured => {}
            Ok(seconds) => left.adds(if is_current { seconds - spent(began) } else { seconds }),
            Err(what) => left.unknown.push(what),
        }
    }
    if !status.fully {
        let switched = status.promotion.as_ref().and_then(|promotion| promotion.switched_at.as_ref());
        left.adds(seconds_after_switch(strategy, &spec.plan.analyses) - spent(switched.map(|at| at.0)));
    }
    if let Strategy::Waves(waves) = strategy {
        for (position, wave) in waves.iter().enumerate().skip(current) {
            let record = status.waves.get(position);
            let soak = wave.soak.filter(|_| !status.fully).map_or(0, interlock_crds::Duration::seconds);
            if add_workloads(&mut left, spec, wave, record) {
                left.adds(soak - spent(record.and_then(|record| record.completed_at.as_ref()).map(|at| at.0)));
            }
        }
    }
    Some(left)
}

/// Whether the current step waits for none of its analyses any more.
fn are_measured(status: &RolloutStatus, names: &[String]) -> bool {
    let own = format!("{}-", status.current_step);
    let is_over = |name: &String| {
        let newest = status.analyses.iter().rfind(|run| run.state.name == *name && run.run.starts_with(&own));
        newest.is_some_and(|run| run.state.dry_run || run.state.verdict != AnalysisVerdict::Running)
    };
    names.iter().all(is_over)
}

/// Adds what the workloads of a wave still need. How far one is that is being changed its own Rollout says: of it only the
/// end is awaited here. False if the change gives none of them anything new: nothing of the wave is waited for then.
fn add_workloads(left: &mut Outlook, spec: &RolloutSpec, wave: &Wave, record: Option<&WaveRecord>) -> bool {
    let is_released = |target: &&WaveTarget| {
        spec.targets.iter().any(|released| {
            let is_there = target.namespace.as_ref().is_none_or(|namespace| *namespace == released.namespace);
            is_there && released.kind == target.kind && released.name == target.name
        })
    };
    let count = wave.targets.iter().filter(is_released).count() as u32;
    if count == 0 {
        return false;
    }
    if record.is_none_or(|record| record.phase == WavePhase::Waiting) {
        if let Some(rule) = &wave.sign_off {
            left.unknown.push(format!("{} of {} sign for {}", rule.count, rule.groups.join(", "), wave.name));
        }
        if let Some(calendar) = &wave.calendar_ref {
            left.unknown.push(format!("Calendar {} lets {} begin", calendar.name, wave.name));
        }
    }
    let (ended, running) = record.map_or((0, 0), |r| (r.succeeded.saturating_add(r.failed), r.running));
    let changing = count.saturating_sub(ended);
    if changing > 0 {
        let each = of_workload(&spec.plan, wave);
        let rounds = changing.saturating_sub(running).div_ceil(wave.max_parallel.max(1));
        left.adds(each.at_least.as_secs().saturating_mul(i64::from(rounds)));
        left.unknown.extend(each.unknown.iter().map(|what| format!("{what}, for each workload of {}", wave.name)));
        let have = if changing == 1 { "has" } else { "have" };
        let workloads = counted(changing, "workload", "workloads");
        left.unknown.push(format!("{workloads} of {} {have} changed", wave.name));
    }
    true
}

/// What one workload of a wave needs from its beginning to its end.
fn of_workload(plan: &RolloutPlanSpec, wave: &Wave) -> Outlook {
    let plan = waves::plan_of(plan, wave);
    let mut whole = Outlook::default();
    let Some(strategy) = Strategy::of(&plan) else { return whole };
    for step in strategy.steps() {
        match seconds_of(step, &plan.analyses) {
            Ok(seconds) => whole.adds(seconds),
            Err(what) => whole.unknown.push(what),
        }
    }
    whole.adds(seconds_after_switch(strategy, &plan.analyses));
    whole
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
    fn only_what_is_waited_for_counts_and_a_comparison_needs_its_samples_first() {
        let mut spec =
            spec(&json!([{"analysis": ["errors", "slow"]}, {"analysis": ["slow"]}, {"analysis": ["worse"]}]));
        let metric = json!({"address": "http://p:9090", "query": "l{hash=\"{{hash}}\"}"});
        spec.plan.analyses = serde_json::from_value(json!([
            {"name": "errors", "http": {"url": "http://shop/"}, "interval": "30s", "count": 5},
            {"name": "slow", "http": {"url": "http://shop/"}, "interval": "1h", "count": 9, "dryRun": true},
            {"name": "worse", "compare": {"metric": metric, "step": "15s", "minimumSamples": 40}, "initialDelay": "10s",
                "interval": "60s", "count": 3},
        ]))
        .unwrap();
        let (began, now) = ("2026-11-23T10:00:00Z", at("2026-11-23T10:00:20Z"));
        let left = |status: &RolloutStatus| outlook(&spec, status, now).unwrap().at_least.as_secs();
        let compared = 10 + 15 * 40 + 60 * 2;
        assert_eq!(left(&status(0, began)), 120 - 20 + compared);
        let run = |run: &str, name: &str, verdict: &str, dry_run: bool| {
            let state = json!({"name": name, "startedAt": began, "verdict": verdict, "dryRun": dry_run});
            serde_json::from_value(json!({"run": run, "state": state})).unwrap()
        };
        let mut measured = status(0, began);
        measured.analyses =
            vec![run("0-errors-0-0", "errors", "Passed", false), run("0-slow-0-0", "slow", "Running", true)];
        assert_eq!(left(&measured), compared, "nobody waits for the dry run");
        let mut later = status(2, began);
        later.analyses = vec![run("0-worse-0-0", "worse", "Passed", false)];
        assert_eq!(left(&later), compared - 20, "that it passed in an earlier step says nothing of this one");
    }

    #[test]
    fn a_switch_is_followed_by_the_longer_of_its_analyses_and_the_time_to_regret() {
        let mut spec = spec(&json!([]));
        spec.plan.canary = None;
        let left = |spec: &RolloutSpec| {
            let mut switched = status(0, "2026-11-23T10:00:00Z");
            switched.promotion = serde_json::from_value(json!({"switchedAt": "2026-11-23T10:01:00Z"})).unwrap();
            outlook(spec, &switched, at("2026-11-23T10:02:00Z")).unwrap().at_least.as_secs()
        };
        for (keep, seconds) in [("10m", 540), ("1m", 60)] {
            let plan = json!({"service": "web", "keepOld": keep, "afterSwitch": ["errors"]});
            spec.plan.blue_green = serde_json::from_value(plan).unwrap();
            assert_eq!(left(&spec), seconds, "{keep}");
        }
    }

    #[test]
    fn a_wave_says_what_its_workloads_take_and_whom_it_waits_for() {
        let mut spec = spec(&json!([]));
        let canary = json!({"steps": [{"setWeight": 50}, {"pause": {"duration": "10m"}}]});
        let manual = json!({"steps": [{"setWeight": 50}, {"pause": {}}]});
        let targets =
            |names: &[&str]| names.iter().map(|name| json!({"kind": "Deployment", "name": name})).collect::<Vec<_>>();
        spec.plan = serde_json::from_value(json!({"waves": [
            {"name": "counters", "targets": targets(&["a", "b", "c", "same"]), "canary": canary, "soak": "1h", "maxParallel": 2},
            {"name": "idle", "targets": targets(&["same"]), "canary": canary, "soak": "5h"},
            {"name": "mobile", "targets": targets(&["d"]), "canary": manual, "calendarRef": {"name": "nights"},
                "signOff": {"count": 1, "groups": ["branch-ops"]}},
        ]}))
        .unwrap();
        let released =
            ["a", "b", "c", "d"].map(|name| json!({"kind": "Deployment", "namespace": "bank", "name": name}));
        spec.targets = serde_json::from_value(json!(released)).unwrap();
        let left = |current: u32, records: serde_json::Value| {
            let mut status = status(current, "2026-11-23T10:00:00Z");
            status.waves = serde_json::from_value(records).unwrap();
            outlook(&spec, &status, at("2026-11-23T10:10:00Z")).unwrap()
        };
        let mobile = [
            "1 of branch-ops sign for mobile",
            "Calendar nights lets mobile begin",
            "somebody promotes it, for each workload of mobile",
            "1 workload of mobile has changed",
        ];
        let begins = left(0, json!([]));
        assert_eq!(
            begins.at_least,
            SignedDuration::from_mins(2 * 10 + 60),
            "two at once, then the third, and the soak"
        );
        assert_eq!(begins.unknown, [&["3 workloads of counters have changed"][..], &mobile].concat());
        let runs = left(0, json!([{"name": "counters", "phase": "Running", "succeeded": 1, "running": 1}]));
        assert_eq!(runs.at_least, SignedDuration::from_mins(10 + 60), "one is under way, one is to come");
        assert_eq!(runs.unknown, [&["2 workloads of counters have changed"][..], &mobile].concat());
        let soaked =
            json!({"name": "counters", "phase": "Soaking", "succeeded": 3, "completedAt": "2026-11-23T09:40:00Z"});
        let soaks = left(0, json!([soaked]));
        assert_eq!(
            (soaks.at_least, soaks.unknown),
            (SignedDuration::from_mins(30), mobile.map(str::to_owned).to_vec())
        );
        let last = left(
            2,
            json!([soaked, {"name": "idle", "phase": "Complete"}, {"name": "mobile", "phase": "Running", "running": 1}]),
        );
        assert_eq!(
            (last.at_least, last.unknown),
            (SignedDuration::ZERO, mobile[2..].iter().map(|what| (*what).to_owned()).collect::<Vec<_>>())
        );
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
