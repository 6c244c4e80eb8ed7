//! What analyses measure, and when: measurements come in as facts.

use interlock_crds::{AnalysisVerdict, Form, HoldReason, RolloutPhase, RolloutPlanSpec, RolloutStatus};
use serde_json::{Value, json};

use super::game::{Game, UID, at, deployment};
use crate::{
    analysis::{Answer, Observation, Series},
    rollout::{
        RolloutDecision, RolloutVerb,
        measure::{self, Due, Measured, decide},
        permitted,
    },
};

fn plan(steps: Value, analysis: Value) -> RolloutPlanSpec {
    let mut all = json!({"name": "errors", "interval": "30s", "count": 2});
    all.as_object_mut().unwrap().extend(analysis.as_object().unwrap().clone());
    serde_json::from_value(json!({"canary": {"steps": steps}, "progressDeadline": "60s", "analyses": [all]})).unwrap()
}

fn prometheus() -> Value {
    json!({"successWhen": "result < 0.01", "prometheus": {"address": "http://prometheus:9090", "query": "errors"}})
}

/// At the step of the analysis, with all pods there.
fn game(analysis: Value) -> Game {
    let steps = json!([{"setWeight": 25}, {"analysis": ["errors"]}]);
    let mut game = Game::new(plan(steps, analysis), deployment("v1", 4), deployment("v2", 4), &[]);
    game.run_for(50);
    assert_eq!((game.phase(), game.status.current_step), (RolloutPhase::Progressing, 1));
    game
}

fn look(game: &Game, status: &RolloutStatus, measured: &[Measured]) -> (RolloutDecision, Vec<Due>) {
    game.with_facts(status, &game.cluster.live(), |facts| decide(facts, measured, game.now))
}

fn answer(due: &Due, answer: Answer) -> Measured {
    Measured { run: due.run.clone(), slot: due.slot.clone(), answer }
}

fn value(due: &Due, value: f64) -> Measured {
    answer(due, Answer::Seen(Observation::Instant(vec![Series { labels: [].into(), value }])))
}

#[test]
fn a_measurement_is_asked_for_until_it_is_recorded_and_counts_once() {
    let mut game = game(prometheus());
    let (decision, due) = look(&game, &game.status, &[]);
    assert_eq!((due.len(), due[0].run.as_str(), due[0].slot.number), (1, "1-errors-0-0", 1));
    assert_eq!(due[0].subject.workload, "teller");
    assert!(!due[0].subject.canary_hash.is_empty() && due[0].subject.canary_hash != due[0].subject.stable_hash);
    assert!(decision.must_record(&game.status), "the run must be recorded");
    // Killed before the answer was recorded: the same measurement is asked for.
    let (again, due) = look(&game, &decision.status, &[]);
    assert_eq!((&again.status, due[0].slot.number), (&decision.status, 1));
    let first = value(&due[0], 0.002);
    let (counted, due) = look(&game, &decision.status, std::slice::from_ref(&first));
    assert!(due.is_empty());
    assert_eq!(counted.status.analyses[0].state.counts.successful, 1);
    let (twice, _) = look(&game, &counted.status, &[first]);
    assert_eq!(twice.status, counted.status, "a second answer to the same question counts for nothing");
    game.now = at(80);
    let (_, due) = look(&game, &counted.status, &[]);
    assert_eq!(due[0].slot.number, 2);
    let (passed, _) = look(&game, &counted.status, &[value(&due[0], 0.003)]);
    assert_eq!(passed.status.analyses[0].state.verdict, AnalysisVerdict::Passed);
    assert!(passed.status.promotion.is_some(), "its step was the last: {:?}", passed.reasons);
}

#[test]
fn r17_a_bad_value_goes_back_in_the_decision_that_hears_of_it() {
    let game = game(prometheus());
    let (decision, due) = look(&game, &game.status, &[]);
    let (failed, due) = look(&game, &decision.status, &[value(&due[0], 0.3)]);
    assert_eq!(failed.status.phase, RolloutPhase::Aborting);
    let cause = "analysis errors: errors 0.3 is not < 0.01, 1 failure of at most 0";
    assert_eq!(failed.status.cause.as_deref(), Some(cause));
    assert!(due.is_empty());
}

#[test]
fn r13_what_cannot_tell_holds_and_measures_anew_when_it_is_tried_again() {
    let mut game = game(prometheus());
    let (decision, due) = look(&game, &game.status, &[]);
    let nothing = answer(&due[0], Answer::Seen(Observation::Instant(Vec::new())));
    let (held, due) = look(&game, &decision.status, &[nothing]);
    assert_eq!(held.status.hold.as_ref().unwrap().reason, HoldReason::Inconclusive);
    assert!(due.is_empty(), "nothing is measured while it is held");
    game.status = held.status;
    game.command(RolloutVerb::Retry);
    let (retried, due) = look(&game, &game.status, &[]);
    assert_eq!((retried.status.hold, due[0].run.as_str(), due[0].slot.number), (None, "1-errors-0-1", 1));
}

#[test]
fn what_is_missing_counts_for_nothing_is_told_and_looked_for_again() {
    let mut game = game(prometheus());
    let (decision, due) = look(&game, &game.status, &[]);
    let why = "Secret prometheus does not exist in namespace teller";
    let (blocked, due) = look(&game, &decision.status, &[answer(&due[0], Answer::Impossible(why.to_owned()))]);
    assert!(due.is_empty());
    let condition = blocked.status.conditions.iter().find(|condition| condition.type_ == "Measured").unwrap();
    assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("False", "Missing"));
    assert_eq!(condition.message, format!("errors cannot be measured: {why}"));
    assert_eq!(blocked.wake_at, game.now.checked_add(jiff::SignedDuration::from_secs(15)).ok());
    game.now = blocked.wake_at.unwrap();
    let (_, due) = look(&game, &blocked.status, &[]);
    assert_eq!(due[0].slot.number, 1);
    let (healed, _) = look(&game, &blocked.status, &[value(&due[0], 0.0)]);
    let condition = healed.status.conditions.iter().find(|condition| condition.type_ == "Measured").unwrap();
    assert_eq!((condition.status.as_str(), healed.status.analyses[0].state.counts.errors), ("True", 0));
}

#[test]
fn a_job_measures_as_it_was_announced() {
    let spec = json!({"template": {"spec": {"restartPolicy": "Never", "containers": [
        {"name": "check", "image": "check:1", "args": ["{{workload}}", "{{hash}}"]}]}}});
    let game = game(json!({"job": {"spec": spec}}));
    let (decision, due) = look(&game, &game.status, &[]);
    assert!(due.is_empty(), "the executor makes the Job");
    let [write] = decision.writes.as_slice() else { panic!("{:?}", decision.writes) };
    assert_eq!((write.form, write.number), (Form::AnalysisJob, Some(1)));
    let job = write.object.clone().unwrap();
    assert_eq!(job["spec"]["template"]["spec"]["containers"][0]["args"][0], "teller");
    assert_eq!(job["metadata"]["labels"]["interlock.dev/rollout"], UID);
    let verdict = |job: &Value| {
        let mut live = game.cluster.live();
        live.insert(job.clone());
        game.with_facts(&decision.status, &live, |facts| permitted(facts, None, Some(job)))
    };
    assert_eq!(verdict(&job), Ok(()));
    let judged = |job: &Value| {
        game.with_facts(&decision.status, &game.cluster.live(), |facts| permitted(facts, None, Some(job)))
    };
    let mut other = job.clone();
    other["spec"]["template"]["spec"]["containers"][0]["image"] = json!("miner:1");
    assert!(judged(&other).is_err());
    let mut other = job.clone();
    other["metadata"]["name"] = json!("another");
    assert!(judged(&other).is_err());
    // It ends, and says what it measured; one that never ends is inconclusive.
    let mut live = game.cluster.live();
    let mut ended = job;
    ended["status"] = json!({"conditions": [{"type": "Complete", "status": "True"}]});
    live.insert(ended);
    let (counted, _) = game.with_facts(&decision.status, &live, |facts| decide(facts, &[], game.now));
    assert_eq!(counted.status.analyses[0].state.counts.successful, 1);
}

#[test]
fn what_runs_beside_the_steps_is_heeded_while_a_step_waits_for_pods_and_is_measured_anew_after_a_retry() {
    let steps = json!([{"setWeight": 20}, {"pause": {}}, {"setWeight": 50}]);
    let mut game = beside(steps);
    game.run_for(50);
    let (begun, due) = look(&game, &game.status, &[]);
    assert_eq!(due[0].run, "background-errors-0-0");
    let nothing = answer(&due[0], Answer::Seen(Observation::NoData("no pods".into())));
    let (held, _) = look(&game, &begun.status, &[nothing]);
    assert_eq!(held.status.hold.as_ref().unwrap().reason, HoldReason::Inconclusive);
    game.status = held.status;
    game.command(RolloutVerb::Retry);
    let (retried, due) = look(&game, &game.status, &[]);
    assert_eq!(due[0].run, "background-errors-0-1");
    let (measured, _) = look(&game, &retried.status, &[value(&due[0], 0.001)]);
    // The next step waits for its pods; a bad value meanwhile turns the release back.
    game.status = measured.status;
    game.command(RolloutVerb::Promote);
    game.now = at(100);
    let (waits, due) = look(&game, &game.status, &[]);
    assert_eq!((waits.status.current_step, waits.status.phase), (2, RolloutPhase::Progressing));
    assert_eq!((due[0].run.as_str(), due[0].slot.number), ("background-errors-0-1", 2), "one run lasts");
    let (back, _) = look(&game, &waits.status, &[value(&due[0], 0.5)]);
    assert_eq!(back.status.phase, RolloutPhase::Aborting);
    assert_eq!(back.status.analyses.last().unwrap().state.verdict, AnalysisVerdict::Failed);
}

/// With the analysis beside the steps, from the first on.
fn beside(steps: Value) -> Game {
    let mut spec = plan(steps, prometheus());
    spec.canary.as_mut().unwrap().background =
        Some(interlock_crds::BackgroundAnalysis { analyses: vec!["errors".into()], starting_step: 0 });
    Game::new(spec, deployment("v1", 4), deployment("v2", 4), &[])
}

#[test]
fn r13_a_person_goes_on_when_what_runs_beside_the_steps_cannot_tell_after_the_last_of_them() {
    let mut game = beside(json!([{"setWeight": 20}]));
    game.run_for(30);
    let (begun, due) = look(&game, &game.status, &[]);
    let nothing = answer(&due[0], Answer::Seen(Observation::NoData("no pods".into())));
    let (held, _) = look(&game, &begun.status, &[nothing]);
    let hold = held.status.hold.clone().unwrap();
    assert_eq!((held.status.current_step, hold.reason), (1, HoldReason::Inconclusive));
    assert!(hold.message.contains("go on with `promote`, or"), "{}", hold.message);
    game.status = held.status;
    game.command(RolloutVerb::Promote);
    let (promoted, due) = look(&game, &game.status, &[]);
    assert!(promoted.status.promotion.is_some(), "{:?}", promoted.reasons);
    assert_eq!((promoted.status.hold, due.len()), (None, 0), "nothing is measured any more");
}

#[test]
fn r13_while_a_step_waits_for_pods_a_person_goes_on_by_promoting_fully_and_is_told_so() {
    let mut game = beside(json!([{"setWeight": 20}, {"pause": {}}, {"setWeight": 50}]));
    game.run_for(50);
    game.status = look(&game, &game.status, &[]).0.status;
    game.command(RolloutVerb::Promote);
    let (begun, due) = look(&game, &game.status, &[]);
    assert_eq!((begun.status.current_step, begun.status.phase), (2, RolloutPhase::Progressing));
    let nothing = answer(&due[0], Answer::Seen(Observation::NoData("no pods".into())));
    let (held, _) = look(&game, &begun.status, &[nothing]);
    let hold = held.status.hold.clone().unwrap();
    assert_eq!((held.status.current_step, hold.reason), (2, HoldReason::Inconclusive));
    assert!(hold.message.contains("go on with `promote --full` (measure no more)"), "{}", hold.message);
    game.status = held.status;
    game.command(RolloutVerb::Promote);
    let refused = game.decide();
    let why = "had no effect: the step waits for the cluster";
    assert!(refused.reasons.iter().any(|reason| reason.contains(why)), "{:?}", refused.reasons);
    assert!(refused.status.hold.is_some());
    game.command(RolloutVerb::PromoteFully);
    game.run_for(100);
    assert_eq!((game.phase(), game.status.hold.clone()), (RolloutPhase::Succeeded, None), "{}", game.message());
}

#[test]
fn nothing_is_promoted_before_what_runs_beside_the_steps_was_measured_once() {
    let mut game = beside(json!([{"setWeight": 20}]));
    game.run_for(30);
    let (begun, due) = look(&game, &game.status, &[]);
    assert_eq!((begun.status.phase, begun.status.promotion.is_some()), (RolloutPhase::Progressing, false));
    let impossible = answer(&due[0], Answer::Impossible("Secret prometheus does not exist".into()));
    let (waits, due) = look(&game, &begun.status, &[impossible]);
    assert!(waits.status.promotion.is_none() && waits.wake_at.is_some());
    let message = waits.status.message.unwrap();
    assert!(message.contains("no measurement of analysis errors beside the steps succeeded yet"), "{message}");
    let due = if due.is_empty() { look(&game, &begun.status, &[]).1 } else { due };
    let (promoted, _) = look(&game, &begun.status, &[value(&due[0], 0.001)]);
    assert!(promoted.status.promotion.is_some());
    game.status = begun.status;
    game.now = at(4_000);
    let (late, _) = look(&game, &game.status, &[]);
    assert_eq!(late.status.phase, RolloutPhase::Aborting, "{:?}", late.reasons);
}

#[test]
fn an_analysis_that_only_reports_is_neither_waited_for_nor_obeyed() {
    let mut fields = prometheus();
    fields["dryRun"] = json!(true);
    let steps = json!([{"setWeight": 25}, {"analysis": ["errors"]}, {"pause": {}}]);
    let mut game = Game::new(plan(steps, fields), deployment("v1", 4), deployment("v2", 4), &[]);
    game.run_for(30);
    let (decision, due) = look(&game, &game.status, &[]);
    assert_eq!((decision.status.current_step, decision.status.phase), (2, RolloutPhase::Paused));
    let (shown, _) = look(&game, &decision.status, &[value(&due[0], 0.5)]);
    assert_eq!(shown.status.analyses[0].state.verdict, AnalysisVerdict::Failed);
    assert_eq!((shown.status.current_step, shown.status.phase), (2, RolloutPhase::Paused));
}

#[test]
fn r28_a_job_that_only_reports_blocks_nothing_when_it_fails() {
    let spec = json!({"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "check", "image": "check:1"}]}}});
    let steps = json!([{"setWeight": 25}, {"analysis": ["errors"]}, {"pause": {}}]);
    let analysis = json!({"dryRun": true, "job": {"spec": spec}});
    let mut game = Game::new(plan(steps, analysis), deployment("v1", 4), deployment("v2", 4), &[]);
    game.run_for(30);
    let (decision, _) = look(&game, &game.status, &[]);
    assert_eq!((decision.status.current_step, decision.status.phase), (2, RolloutPhase::Paused));
    let [write] = decision.writes.as_slice() else { panic!("{:?}", decision.writes) };
    assert_eq!(write.form, Form::AnalysisJob);
    let mut failed = write.object.clone().unwrap();
    failed["status"] = json!({"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]});
    let mut live = game.cluster.live();
    live.insert(failed);
    let (shown, _) = game.with_facts(&decision.status, &live, |facts| decide(facts, &[], game.now));
    assert_eq!(shown.status.analyses[0].state.verdict, AnalysisVerdict::Failed);
    assert_eq!((shown.status.phase, shown.status.hold.clone()), (RolloutPhase::Paused, None));
    game.status = shown.status;
    game.command(RolloutVerb::Promote);
    let (promoted, _) = game.with_facts(&game.status, &live, |facts| decide(facts, &[], game.now));
    assert!(promoted.status.promotion.is_some(), "{:?}", promoted.reasons);
}

#[test]
fn a_plan_that_cannot_measure_is_told_in_plain_words() {
    let wrong = |steps: Value, analysis: Value| measure::wrong(&plan(steps, analysis)).unwrap_or_default();
    let steps = || json!([{"setWeight": 25}, {"analysis": ["errors"]}]);
    assert_eq!(wrong(steps(), prometheus()), "");
    assert_eq!(
        wrong(json!([{"analysis": ["latency"]}]), prometheus()),
        "a step names the analysis latency, and it lists errors: add it to analyses, or correct the name"
    );
    let mut broken = prometheus();
    broken["successWhen"] = json!("result <");
    let said = wrong(steps(), broken);
    assert!(said.starts_with("analysis errors, successWhen: "), "{said}");
}
