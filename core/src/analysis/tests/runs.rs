use interlock_crds::MeasurementOutcome::{self, Error, Failed, Inconclusive, Successful};
use interlock_crds::{Analysis, AnalysisState, AnalysisVerdict};
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::json;

use super::{analysis, at, errors};
use crate::analysis::run::KEPT;
use crate::analysis::{Judged, Next, Recorded, SampleRange, decide, overall, record, start, stop};

/// Measures at every due instant with these outcomes, in order, until the analysis ends.
fn play(analysis: &Analysis, background: bool, outcomes: &[MeasurementOutcome]) -> (AnalysisState, Vec<i64>) {
    let mut state = start(analysis, background, at(0));
    let (mut now, mut when) = (at(0), Vec::new());
    for outcome in outcomes {
        let slot = loop {
            match decide(analysis, &state, now) {
                Next::Measure(slot) => break slot,
                Next::Wait(until) => now = until,
                Next::Done(_) => return (state, when),
            }
        };
        when.push(now.as_second() - at(0).as_second());
        let message = format!("{outcome:?} {}", slot.number);
        record(analysis, &mut state, slot.number, &Judged::new(*outcome, message), now);
    }
    (state, when)
}

fn verdict(analysis: &Analysis, outcomes: &[MeasurementOutcome]) -> (AnalysisVerdict, String) {
    let (state, _) = play(analysis, false, outcomes);
    (state.verdict, state.message)
}

#[test]
fn measurements_keep_their_rhythm_and_begin_after_the_delay() {
    let analysis = errors(json!({"count": 3, "initialDelay": "2m", "interval": "30s"}));
    let (state, when) = play(&analysis, false, &[Successful; 9]);
    assert_eq!(when, [120, 150, 180]);
    assert_eq!(state.verdict, AnalysisVerdict::Passed);
    assert_eq!(state.message, "errors passed: Successful 3; 3 of 3 measurements successful");
    assert_eq!((state.next_due, state.finished_at.map(|time| time.0)), (None, Some(at(180))));
    assert_eq!(play(&errors(json!({})), false, &[Successful; 3]).1, [0], "once, at once");
}

/// R17: so many failures are borne; one more fails, with the numbers.
#[test]
fn r17_failures_beyond_the_limit_fail_at_once() {
    let analysis = errors(json!({"count": 20, "failureLimit": 9}));
    let mut outcomes = vec![Successful, Failed];
    outcomes.extend([Failed; 8]);
    let (state, _) = play(&analysis, false, &outcomes);
    assert_eq!((state.verdict, state.counts.failed), (AnalysisVerdict::Running, 9));
    assert_eq!(state.message, "errors Failed 10; 1 of 10 measurements successful, 9 failures");
    outcomes.push(Failed);
    assert_eq!(
        verdict(&analysis, &outcomes),
        (AnalysisVerdict::Failed, "errors Failed 11, 10 failures of at most 9".into())
    );
    let mut state = start(&analysis, false, at(0));
    for number in 1..=10 {
        record(&analysis, &mut state, number, &Judged::new(Failed, "0.034 is not < 0.01"), at(i64::from(number)));
    }
    assert_eq!(state.message, "errors 0.034 is not < 0.01, 10 failures of at most 9");
}

/// R13: what could not tell pauses the release; it neither fails nor passes it.
#[test]
fn r13_inconclusive_measurements_beyond_the_limit_are_inconclusive() {
    let analysis = errors(json!({"count": 5, "inconclusiveLimit": 2}));
    let message = "errors Inconclusive 3, 3 inconclusive measurements of at most 2".to_owned();
    assert_eq!(verdict(&analysis, &[Inconclusive; 5]), (AnalysisVerdict::Inconclusive, message));
    let mixed = [Inconclusive, Successful, Inconclusive, Successful, Successful];
    assert_eq!(verdict(&analysis, &mixed).0, AnalysisVerdict::Passed);
    let borne = errors(json!({"count": 3, "inconclusiveLimit": 3}));
    assert_eq!(verdict(&borne, &[Inconclusive; 3]).0, AnalysisVerdict::Inconclusive, "no success at all is no pass");
    let once = errors(json!({"failureLimit": 1}));
    assert_eq!(verdict(&once, &[Failed]).0, AnalysisVerdict::Failed, "borne failures need a success beside them");
}

#[test]
fn errors_in_a_row_end_it_and_do_not_count_as_measurements() {
    let analysis = errors(json!({"count": 2, "consecutiveErrorLimit": 2}));
    let mixed = [Error, Error, Successful, Error, Error, Successful];
    let (state, when) = play(&analysis, false, &mixed);
    assert_eq!((state.verdict, state.counts.errors, when.len()), (AnalysisVerdict::Passed, 4, 6));
    let message = "errors could not be measured: Error 3, 3 errors in a row of at most 2".to_owned();
    assert_eq!(verdict(&analysis, &[Error; 3]), (AnalysisVerdict::Inconclusive, message));
    let strict = errors(json!({"consecutiveErrorLimit": 0, "onError": "Fail"}));
    assert_eq!(verdict(&strict, &[Error]).0, AnalysisVerdict::Failed);
}

#[test]
fn in_the_background_it_measures_until_it_is_stopped() {
    let analysis = errors(json!({"count": 2}));
    let (mut state, when) = play(&analysis, true, &[Successful; 50]);
    assert_eq!((state.verdict, when.len(), when[49]), (AnalysisVerdict::Running, 50, 49 * 30));
    stop(&mut state, at(2_000));
    assert_eq!(state.verdict, AnalysisVerdict::Passed);
    assert_eq!(state.message, "errors passed: 50 of 50 measurements successful");
    assert_eq!(decide(&analysis, &state, at(3_000)), Next::Done(AnalysisVerdict::Passed));
    let (mut nothing, _) = play(&analysis, true, &[Error, Error]);
    stop(&mut nothing, at(70));
    assert_eq!(nothing.verdict, AnalysisVerdict::Inconclusive);
    let (mut failed, _) = play(&analysis, true, &[Successful, Failed]);
    let before = failed.clone();
    stop(&mut failed, at(70));
    assert_eq!(failed, before, "what has ended stays ended");
}

/// A crash between measuring and recording: the same number is asked for again, and recorded once.
#[test]
fn a_measurement_counts_once_whenever_the_controller_dies() {
    let analysis = errors(json!({"count": 2}));
    let mut state = start(&analysis, false, at(0));
    let Next::Measure(slot) = decide(&analysis, &state, at(0)) else { panic!("due") };
    let before = state.clone();
    assert_eq!(decide(&analysis, &state, at(7)), Next::Measure(slot.clone()), "nothing was recorded");
    assert_eq!(state, before);
    let judged = Judged::new(Successful, "0");
    assert_eq!(record(&analysis, &mut state, slot.number, &judged, at(7)), Recorded::Counted);
    let after = state.clone();
    assert_eq!(record(&analysis, &mut state, slot.number, &judged, at(8)), Recorded::Ignored, "a late second one");
    assert_eq!(record(&analysis, &mut state, 3, &judged, at(8)), Recorded::Ignored, "one from the future");
    assert_eq!(state, after);
    let stored: AnalysisState = serde_json::from_value(serde_json::to_value(&state).expect("json")).expect("state");
    assert_eq!(stored, state, "nothing is lost in the status");
    assert_eq!(decide(&analysis, &stored, at(8)), Next::Wait(at(30)));
}

/// An hour away is no reason for 120 measurements of one moment.
#[test]
fn measurements_that_were_missed_are_not_made_up_for_at_once() {
    let analysis = errors(json!({"count": 10}));
    let mut state = start(&analysis, false, at(0));
    let now = at(3_601);
    let Next::Measure(slot) = decide(&analysis, &state, now) else { panic!("due") };
    record(&analysis, &mut state, slot.number, &Judged::new(Successful, "0"), now);
    assert_eq!(decide(&analysis, &state, now), Next::Wait(at(3_630)), "in the old rhythm");
    assert_eq!(state.counts.successful, 1);
}

#[test]
fn a_comparison_begins_when_enough_samples_can_be_there_and_takes_none_from_before() {
    let query = json!({"address": "http://p:9090", "query": "l{t=\"{{track}}\"}"});
    let analysis = |window: Option<&str>| {
        let compare = json!({"metric": query, "minimumSamples": 20, "step": "15s", "window": window});
        analysis(json!({"compare": compare, "initialDelay": "1m", "count": 3, "interval": "1m"}))
    };
    let since = analysis(None);
    let state = start(&since, false, at(0));
    assert_eq!(decide(&since, &state, at(0)), Next::Wait(at(360)));
    let Next::Measure(slot) = decide(&since, &state, at(360)) else { panic!("due") };
    assert_eq!(slot.samples, Some(SampleRange { from: at(75), to: at(360), step_seconds: 15 }));
    assert_eq!((360 - 75) / 15 + 1, 20);
    assert_eq!(slot.of, Some(3));
    let sliding = analysis(Some("10m"));
    let state = start(&sliding, true, at(0));
    let Next::Measure(slot) = decide(&sliding, &state, at(7_200)) else { panic!("due") };
    assert_eq!(slot.samples.map(|samples| samples.from), Some(at(7_200 - 600 + 15)));
    assert_eq!(slot.of, None);
    let Next::Measure(slot) = decide(&since, &start(&since, true, at(0)), at(86_400)) else { panic!("due") };
    let samples = slot.samples.expect("samples");
    assert_eq!((samples.to.as_second() - samples.from.as_second()) / 15 + 1, 1_000, "bounded");
}

#[test]
fn several_analyses_together_are_as_bad_as_the_worst_and_dry_runs_only_report() {
    let named = |name: &str, verdict, dry_run| {
        let mut state = start(&errors(json!({"name": name, "dryRun": dry_run})), false, at(0));
        state.verdict = verdict;
        state.message = format!("{name} says so");
        state
    };
    let all = [
        named("a", AnalysisVerdict::Passed, false),
        named("b", AnalysisVerdict::Running, false),
        named("c", AnalysisVerdict::Inconclusive, false),
        named("d", AnalysisVerdict::Failed, false),
    ];
    assert_eq!(overall(&all), (AnalysisVerdict::Failed, "d says so".into()));
    assert_eq!(overall(&all[..3]), (AnalysisVerdict::Inconclusive, "c says so".into()));
    assert_eq!(overall(&all[..2]).0, AnalysisVerdict::Running);
    assert_eq!(overall(&all[..1]).0, AnalysisVerdict::Passed);
    let dry = [
        named("a", AnalysisVerdict::Passed, false),
        named("d", AnalysisVerdict::Failed, true),
        named("e", AnalysisVerdict::Running, true),
    ];
    assert_eq!(overall(&dry).0, AnalysisVerdict::Passed);
    assert_eq!(overall([]).0, AnalysisVerdict::Passed);
}

proptest! {
    /// Whatever happens and whenever the controller dies or is away: the history is bounded, the counters are those of what
    /// was recorded, an ended analysis stays ended, and a pass has a success and no limit exceeded.
    #[test]
    fn histories_keep_their_laws(
        steps in prop::collection::vec((0_u8..4, 0_i64..200, any::<bool>()), 1..80),
        count in 1_u32..30, failures in 0_u32..4, inconclusive in 0_u32..4, errors_borne in 0_u32..4, background in any::<bool>(),
    ) {
        let analysis = errors(json!({
            "count": count, "failureLimit": failures.min(count - 1), "inconclusiveLimit": inconclusive,
            "consecutiveErrorLimit": errors_borne,
        }));
        let mut state = start(&analysis, background, at(0));
        let mut now: Timestamp = at(0);
        let mut recorded = 0_u32;
        for (kind, later, dies) in steps {
            now += jiff::SignedDuration::from_secs(later);
            let before = state.clone();
            match decide(&analysis, &state, now) {
                Next::Wait(until) => {
                    prop_assert!(until > now);
                    prop_assert!(until.as_second() - now.as_second() <= 30);
                }
                Next::Done(verdict) => {
                    prop_assert_eq!(verdict, state.verdict);
                    prop_assert_ne!(verdict, AnalysisVerdict::Running);
                    stop(&mut state, now);
                    prop_assert_eq!(&state, &before);
                }
                Next::Measure(slot) => {
                    prop_assert_eq!(slot.number, recorded + 1);
                    if dies {
                        continue;
                    }
                    let outcome = [Successful, Failed, Inconclusive, Error][usize::from(kind)];
                    let result = record(&analysis, &mut state, slot.number, &Judged::new(outcome, "x"), now);
                    prop_assert_eq!(result, Recorded::Counted);
                    recorded += 1;
                }
            }
            let counts = state.counts;
            prop_assert_eq!(counts.successful + counts.failed + counts.inconclusive + counts.errors, recorded);
            prop_assert_eq!(state.measurements.len(), KEPT.min(recorded as usize));
            prop_assert_eq!(state.measurements.last().map_or(0, |last| last.number), recorded);
            prop_assert_eq!(state.next_due.is_none(), state.verdict != AnalysisVerdict::Running);
            if state.verdict == AnalysisVerdict::Passed {
                prop_assert!(!background && counts.successful > 0);
                prop_assert!(counts.failed <= analysis.failure_limit && counts.inconclusive <= inconclusive);
                prop_assert_eq!(counts.successful + counts.failed + counts.inconclusive, count);
            }
        }
    }
}
