//! A release as text.

use interlock_core::{
    analysis::{limits, number},
    rollout::{described, outlook},
};
use interlock_crds::{
    Analysis, AnalysisRecord, AnalysisVerdict, Rollout, RolloutPhase, RolloutPlanSpec, RolloutStatus, RolloutStep,
    WavePhase, WaveRecord,
};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;

use super::plot;
use crate::ui::{Ui, WIDTH, fitted, padded, wrapped};

/// Columns of the bar that shows the traffic.
const BAR: usize = 40;
const LABEL: usize = 9;

/// Everything about a release, a line each.
pub fn whole(rollout: &Rollout, now: Timestamp, ui: Ui) -> Vec<String> {
    let status = rollout.status.clone().unwrap_or_default();
    let mut lines = head(rollout, &status, now, ui);
    lines.extend(traffic(&status, ui));
    lines.extend(waves(&status, ui));
    lines.extend(steps(&rollout.spec.plan, &status, now, ui));
    lines.extend(analyses(&rollout.spec.plan, &status, ui));
    lines
}

fn head(rollout: &Rollout, status: &RolloutStatus, now: Timestamp, ui: Ui) -> Vec<String> {
    let targets: Vec<_> = rollout.spec.targets.iter().map(ToString::to_string).collect();
    let time = status.started_at.as_ref().map(|since| {
        let until = status.finished_at.as_ref().map_or(now, |at| at.0);
        format!(
            ", {} {}",
            if status.finished_at.is_some() { "took" } else { "for" },
            span(until.duration_since(since.0))
        )
    });
    let (change, targets, time) = (&rollout.spec.change_request.name, targets.join(", "), time.unwrap_or_default());
    let mut lines = vec![
        fitted(&format!("{}  {}", ui.strong(&rollout.name_any()), phase(status.phase, ui)), 2),
        fitted(&format!("  change {change}: {targets} gets a new version{time}"), 4),
    ];
    if let Some(message) = status.message.as_deref().filter(|message| !message.is_empty()) {
        lines.push(fitted(&format!("  {message}"), 2));
    }
    if let Some(left) = outlook(&rollout.spec, status, now) {
        let least = (!left.at_least.is_zero()).then(|| format!("at least {}", span(left.at_least)));
        let unknown = (!left.unknown.is_empty()).then(|| format!("until {}", left.unknown.join("; ")));
        let parts: Vec<_> = least.into_iter().chain(unknown).collect();
        if !parts.is_empty() {
            lines.push(ui.dim(&fitted(&format!("  still {}", parts.join(", and ")), 2)));
        }
    }
    lines
}

fn phase(phase: RolloutPhase, ui: Ui) -> String {
    let text = format!("{phase:?}");
    match phase {
        RolloutPhase::Succeeded => ui.good(&text),
        RolloutPhase::Failed | RolloutPhase::RolledBack | RolloutPhase::Aborting => ui.bad(&text),
        RolloutPhase::Progressing | RolloutPhase::Promoting | RolloutPhase::Paused => ui.warn(&text),
        RolloutPhase::Pending => text,
    }
}

fn traffic(status: &RolloutStatus, ui: Ui) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(weights) = status.weights {
        let (asked, seen) = (weights.desired.canary, weights.observed.canary);
        let wanted = if asked == seen { String::new() } else { format!(" (asked for: {asked})") };
        let bar = plot::shares(seen, BAR, ui);
        lines.push(format!("  {}{bar} {seen} % new{wanted}", padded("traffic", LABEL)));
    }
    if let Some(pods) = status.replicas {
        lines.push(format!(
            "  {}{} old ready, {} of {} new ready",
            padded("pods", LABEL),
            pods.old,
            pods.new,
            pods.new_desired
        ));
    }
    lines
}

fn waves(status: &RolloutStatus, ui: Ui) -> Vec<String> {
    if status.waves.is_empty() {
        return Vec::new();
    }
    let row = |wave: &WaveRecord| {
        let sign = match wave.phase {
            WavePhase::Complete => ui.good("✔"),
            WavePhase::Failed | WavePhase::Returning | WavePhase::Returned => ui.bad("✘"),
            WavePhase::Running | WavePhase::Soaking => ui.warn("▶"),
            WavePhase::Waiting => ui.dim("·"),
        };
        let names: Vec<_> = wave.missed.iter().map(|target| target.name.as_str()).collect();
        let missed = if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) };
        let counts = format!("{} done, {} under way, {} failed{missed}", wave.succeeded, wave.running, wave.failed);
        let message = if wave.message.is_empty() { String::new() } else { format!(": {}", wave.message) };
        fitted(&format!("  {sign} {} {:?}, {counts}{message}", padded(&wave.name, 16), wave.phase), 21)
    };
    std::iter::once(ui.strong("waves")).chain(status.waves.iter().map(row)).collect()
}

/// Steps of a plan without waves.
fn steps_of(plan: &RolloutPlanSpec) -> &[RolloutStep] {
    let canary = plan.canary.as_ref().map(|canary| canary.steps.as_slice());
    let blue_green = || plan.blue_green.as_ref().map(|blue_green| blue_green.steps.as_slice());
    let batches = || plan.batches.as_ref().map(|batches| batches.steps.as_slice());
    canary.or_else(blue_green).or_else(batches).unwrap_or_default()
}

fn steps(plan: &RolloutPlanSpec, status: &RolloutStatus, now: Timestamp, ui: Ui) -> Vec<String> {
    let all = steps_of(plan);
    if all.is_empty() {
        return Vec::new();
    }
    let current = status.current_step as usize;
    let forward = !matches!(status.phase, RolloutPhase::Aborting | RolloutPhase::RolledBack | RolloutPhase::Failed);
    let row = |(position, step): (usize, &RolloutStep)| {
        let text = described(step);
        if position < current {
            return fitted(&format!("  {} {}", ui.good("✔"), ui.dim(&text)), 4);
        }
        if position > current || status.phase == RolloutPhase::Pending {
            return fitted(&format!("  {} {text}", ui.dim("·")), 4);
        }
        let left =
            step.pause.as_ref().and_then(|pause| pause.duration).zip(status.step.as_ref()).map(|(limit, begun)| {
                let left = limit.signed().saturating_sub(now.duration_since(begun.started_at.0));
                format!(", {} left", span(left.max(SignedDuration::ZERO)))
            });
        let sign = if forward { ui.warn("▶") } else { ui.bad("✘") };
        let left = left.filter(|_| forward).unwrap_or_default();
        fitted(&format!("  {sign} {}", ui.strong(&format!("{text}{left}"))), 4)
    };
    std::iter::once(ui.strong("steps")).chain(all.iter().enumerate().map(row)).collect()
}

fn analyses(plan: &RolloutPlanSpec, status: &RolloutStatus, ui: Ui) -> Vec<String> {
    if status.analyses.is_empty() {
        return Vec::new();
    }
    let measured: Vec<_> = status.analyses.iter().map(|record| Measured::of(plan, record)).collect();
    let names = measured.iter().flat_map(|one| {
        let limits = one.limits.iter().map(|limit| limit_name(*limit).chars().count());
        std::iter::once(one.record.state.name.chars().count()).chain(limits)
    });
    let width = names.max().unwrap_or(0) + 1;
    let rows = measured.iter().flat_map(|one| one.rows(width, ui));
    std::iter::once(ui.strong("measurements")).chain(rows).collect()
}

/// Most limits of one analysis that are drawn.
const LIMITS: usize = 4;
/// Columns that a text beside a plot needs; with less room it stands below.
const BESIDE: usize = 24;

fn limit_name(limit: f64) -> String {
    format!("limit {}", number(limit))
}

/// A run of an analysis, and what decides about its values.
struct Measured<'a> {
    record: &'a AnalysisRecord,
    limits: Vec<f64>,
    conditions: String,
}

impl<'a> Measured<'a> {
    fn of(plan: &RolloutPlanSpec, record: &'a AnalysisRecord) -> Self {
        let analysis = plan.analyses.iter().find(|analysis| analysis.name == record.state.name);
        let mut limits = analysis.map(|analysis| limits(analysis, record.state.background)).unwrap_or_default();
        limits.truncate(LIMITS);
        Self { record, limits, conditions: analysis.map(conditions).unwrap_or_default() }
    }

    fn rows(&self, width: usize, ui: Ui) -> Vec<String> {
        let state = &self.record.state;
        let sign = match state.verdict {
            AnalysisVerdict::Running => ui.warn("▶"),
            AnalysisVerdict::Passed => ui.good("✔"),
            AnalysisVerdict::Failed => ui.bad("✘"),
            AnalysisVerdict::Inconclusive => ui.warn("?"),
        };
        let plot = plot::values(&state.measurements, &self.limits, ui);
        let mut lines = vec![format!("  {sign} {}{plot}", padded(&state.name, width))];
        let (text, beside) = (self.counted(), 5 + width + state.measurements.len());
        let fits = beside + BESIDE <= WIDTH;
        if let Some(first) = lines.first_mut().filter(|_| fits && !text.is_empty()) {
            *first = format!("{first} {}", wrapped(&text, WIDTH, beside));
        }
        for limit in self.limits.iter().filter(|_| !state.measurements.is_empty()) {
            let line = plot::limit(*limit, &state.measurements, &self.limits, ui);
            lines.push(format!("    {}{line}", ui.dim(&padded(&limit_name(*limit), width))));
        }
        let message = if state.verdict == AnalysisVerdict::Passed { "" } else { state.message.as_str() };
        let below = [if fits { "" } else { text.as_str() }, self.conditions.as_str(), message];
        let below = below.iter().filter(|text| !text.is_empty());
        lines.extend(below.map(|text| format!("    {}", ui.dim(&wrapped(text, WIDTH, 4)))));
        lines
    }

    /// How many measurements were what, and the last value.
    fn counted(&self) -> String {
        let state = &self.record.state;
        let counts = state.counts;
        let counted = [
            (counts.successful, "good"),
            (counts.failed, "bad"),
            (counts.inconclusive, "unclear"),
            (counts.errors, "errors"),
        ];
        let counted: Vec<_> = counted.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
        let last = state.measurements.iter().rev().find_map(|measurement| measurement.value.as_deref());
        let last = last.map(|value| format!("last {value}"));
        let note = state.dry_run.then(|| "(only shown)".to_owned());
        let parts = [Some(counted.join(", ")).filter(|text| !text.is_empty()), last, note];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }
}

/// What the values must be.
fn conditions(analysis: &Analysis) -> String {
    let good = analysis.success_when.as_ref().map(|condition| format!("good when {condition}"));
    let bad = analysis.fail_when.as_ref().map(|condition| format!("bad when {condition}"));
    good.into_iter().chain(bad).collect::<Vec<_>>().join(", ")
}

/// A span of time in its two largest units.
pub fn span(time: SignedDuration) -> String {
    let seconds = time.as_secs().max(0);
    let units = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let mut left = seconds;
    let mut parts = Vec::new();
    for (size, name) in units {
        if left >= size {
            parts.push(format!("{}{name}", left / size));
            left %= size;
        } else if !parts.is_empty() {
            break;
        }
        if parts.len() == 2 {
            break;
        }
    }
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ui::{Color, columns};

    fn rollout() -> Rollout {
        let measured = |number: u32, outcome: &str, value: &str| json!({"number": number, "at": "2026-11-23T10:00:00Z", "outcome": outcome, "value": value});
        serde_json::from_value(json!({
            "apiVersion": "interlock.dev/v1alpha1", "kind": "Rollout", "metadata": {"name": "teller-2-4-0-12345678"},
            "spec": {
                "changeRequest": {"name": "teller-2-4-0", "uid": "u"}, "changeDigest": "d",
                "plan": {
                    "canary": {"steps": [
                        {"setWeight": 5}, {"pause": {"duration": "5m"}}, {"setWeight": 20}, {"analysis": ["errors"]}, {"pause": {}},
                    ]},
                    "analyses": [{
                        "name": "errors", "prometheus": {"address": "http://p:9090", "query": "errors"},
                        "successWhen": "result < 0.01", "interval": "30s", "count": 4,
                    }],
                },
                "targets": [{"kind": "Deployment", "namespace": "bank", "name": "teller"}],
            },
            "status": {
                "phase": "Progressing", "message": "errors is being measured: 1 of 4", "currentStep": 3, "steps": 5,
                "step": {"startedAt": "2026-11-23T10:00:00Z", "progressAt": "2026-11-23T10:00:00Z"},
                "startedAt": "2026-11-23T09:54:00Z",
                "weights": {"desired": {"stable": 80, "canary": 20}, "observed": {"stable": 95, "canary": 5}},
                "replicas": {"old": 8, "new": 1, "newDesired": 2},
                "analyses": [{"run": "r", "state": {
                    "name": "errors", "startedAt": "2026-11-23T10:00:00Z", "verdict": "Running", "message": "one was bad",
                    "counts": {"successful": 1, "failed": 1},
                    "measurements": [measured(1, "Successful", "0.002"), measured(2, "Failed", "0.04")],
                }}],
            },
        }))
        .unwrap()
    }

    #[test]
    fn a_release_is_told_whole() {
        let now = "2026-11-23T10:00:40Z".parse().unwrap();
        let text = whole(&rollout(), now, Ui::new(Color::Never)).join("\n");
        let wanted = "\
teller-2-4-0-12345678  Progressing
  change teller-2-4-0: Deployment bank/teller gets a new version, for 6m 40s
  errors is being measured: 1 of 4
  still at least 50s, and until somebody promotes it
  traffic  ░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░██ 5 % new (asked for: 20)
  pods     8 old ready, 1 of 2 new ready
steps
  ✔ 5 % of the traffic
  ✔ wait 5m
  ✔ 20 % of the traffic
  ▶ measure errors
  · wait until somebody promotes
measurements
  ▶ errors     ▁█ 1 good, 1 bad last 0.04
    limit 0.01 ▂▂
    good when result < 0.01
    one was bad";
        assert_eq!(text, wanted, "\n{text}");
    }

    #[test]
    fn measurements_fit_a_terminal_of_80_columns() {
        for (name, many) in [("errors".to_owned(), 20), ("e".repeat(40), 20), ("e".repeat(40), 3)] {
            let mut rollout = rollout();
            let analysis = &mut rollout.spec.plan.analyses[0];
            analysis.name.clone_from(&name);
            analysis.success_when = Some("result > 0.123456 && result < 123456789.0 && result != 3.0".to_owned());
            analysis.fail_when = Some("result > 5000000000.0 || result < -12345.0".to_owned());
            let state = &mut rollout.status.as_mut().unwrap().analyses[0].state;
            state.name.clone_from(&name);
            state.dry_run = true;
            state.counts.inconclusive = 1_000;
            state.counts.errors = 1_000;
            state.message = "one was bad ".repeat(20);
            state.measurements = vec![state.measurements[1].clone(); many];
            let now = "2026-11-23T10:00:40Z".parse().unwrap();
            let text = whole(&rollout, now, Ui::new(Color::Never)).join("\n");
            let widest = text.lines().map(columns).max().unwrap();
            assert!(widest <= WIDTH, "{widest}\n{text}");
            for told in ["1000 unclear", "1000 errors", "last 0.04", "(only shown)", "bad when", "limit 5000000000"] {
                let found = text.split_whitespace().collect::<Vec<_>>().join(" ");
                assert!(found.contains(told), "{told}\n{text}");
            }
        }
    }

    #[test]
    fn many_targets_long_steps_and_wide_names_fit_a_terminal_of_80_columns() {
        let mut rollout = rollout();
        rollout.spec.targets = vec![rollout.spec.targets[0].clone(); 5];
        rollout.spec.plan.canary.as_mut().unwrap().steps[3].analysis = Some(vec!["errors-of-the-teller".to_owned(); 6]);
        let status = rollout.status.as_mut().unwrap();
        status.message = Some("等待柜面系统的负责人签字".repeat(8));
        status.waves = vec![
            serde_json::from_value(json!({
                "name": "the-branches-of-the-north", "phase": "Running", "message": "第一批".repeat(30),
            }))
            .unwrap(),
        ];
        let now = "2026-11-23T10:00:40Z".parse().unwrap();
        let text = whole(&rollout, now, Ui::new(Color::Never)).join("\n");
        assert!(text.lines().all(|line| columns(line) <= WIDTH), "{text}");
    }

    #[test]
    fn a_pause_counts_down() {
        let mut rollout = rollout();
        rollout.status.as_mut().unwrap().current_step = 1;
        let now = "2026-11-23T10:01:10Z".parse().unwrap();
        let text = whole(&rollout, now, Ui::new(Color::Never)).join("\n");
        assert!(text.contains("  ▶ wait 5m, 3m 50s left\n"), "{text}");
    }

    #[test]
    fn spans_have_two_units() {
        let told =
            [0, 59, 60, 61, 3_600, 3_661, 90_000, 86_400].map(|seconds| span(SignedDuration::from_secs(seconds)));
        assert_eq!(told, ["0s", "59s", "1m", "1m 1s", "1h", "1h 1m", "1d 1h", "1d"]);
    }
}
