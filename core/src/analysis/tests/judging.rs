use std::collections::BTreeMap;

use interlock_crds::MeasurementOutcome::{self, Error, Failed, Inconclusive, Successful};
use serde_json::{Value, json};

use super::{analysis, at, errors, slot};
use crate::analysis::observation::{JobEnd, Observation, Series};
use crate::analysis::{Judge, Slot, job};

fn judge(fields: Value, observation: &Observation) -> (MeasurementOutcome, String) {
    let judged = Judge::new(&errors(fields)).expect("conditions").judge(&slot(), observation);
    (judged.outcome, judged.message)
}

fn vector(values: &[f64]) -> Observation {
    let labels = |at: usize| BTreeMap::from([("pod".to_owned(), format!("p{at}"))]);
    Observation::Instant(
        values.iter().enumerate().map(|(at, value)| Series { labels: labels(at), value: *value }).collect(),
    )
}

fn said(outcome: MeasurementOutcome, message: &str) -> (MeasurementOutcome, String) {
    (outcome, message.to_owned())
}

#[test]
fn a_value_is_judged_with_its_number() {
    assert_eq!(judge(json!({}), &vector(&[0.034])), said(Failed, "0.034 is not < 0.01"));
    assert_eq!(judge(json!({}), &vector(&[0.001_234_56])), said(Successful, "0.001235 is < 0.01"));
    assert_eq!(judge(json!({}), &vector(&[f64::INFINITY])), said(Failed, "infinity is not < 0.01"));
    let both = json!({"successWhen": "result < 0.01", "failWhen": "result >= 0.05"});
    assert_eq!(judge(both.clone(), &vector(&[0.05])), said(Failed, "0.05 is >= 0.05"));
    assert_eq!(judge(both.clone(), &vector(&[0.0])), said(Successful, "0 is < 0.01"));
    assert_eq!(judge(both, &vector(&[0.02])), said(Inconclusive, "0.02 is not < 0.01 and 0.02 is not >= 0.05"));
    let contradicting = json!({"successWhen": "result < 1.0", "failWhen": "result < 1.0"});
    assert_eq!(judge(contradicting, &vector(&[0.5])).0, Failed);
    let wider = json!({"successWhen": "result > 0.1 && result < 0.2"});
    assert_eq!(judge(wider, &vector(&[0.3])), said(Failed, "`result > 0.1 && result < 0.2` is not true for 0.3"));
    let mut only = errors(json!({"failWhen": "result > 0.5"}));
    only.success_when = None;
    let judged = Judge::new(&only).expect("conditions").judge(&slot(), &vector(&[0.5]));
    assert_eq!((judged.outcome, judged.message.as_str()), (Successful, "0.5 is not > 0.5"));
    assert_eq!(judged.value.as_deref(), Some("0.5"));
}

#[test]
fn nothing_and_nan_and_missing_keys_are_no_data_and_never_a_success_unless_that_is_wanted() {
    let observations = [
        (vector(&[]), "the query found nothing"),
        (vector(&[f64::NAN]), "the value of {pod=\"p0\"} is not a number"),
        (Observation::NoData("no series".into()), "no series"),
        (Observation::Range(vec![]), "the query found nothing"),
        (
            Observation::Range(vec![Series { labels: BTreeMap::new(), value: vec![f64::NAN; 3] }]),
            "the query found nothing",
        ),
    ];
    for (observation, why) in observations {
        assert_eq!(judge(json!({}), &observation), said(Inconclusive, &format!("no data: {why}")));
        let fails = judge(json!({"noData": "Fail"}), &observation);
        assert_eq!(fails, said(Failed, &format!("no data, which counts as a failure: {why}")));
        let passes = judge(json!({"noData": "Pass"}), &observation);
        assert_eq!(passes, said(Successful, &format!("no data, which counts as a success: {why}")));
    }
    // One series without a value is not outvoted by the others.
    let all = json!({"successWhen": "series.all(s, s.value < 1.0)"});
    assert_eq!(judge(all, &vector(&[0.1, f64::NAN, 0.2])).0, Inconclusive);
}

#[test]
fn several_series_where_one_was_meant_are_an_error_that_says_what_to_do() {
    let why = "the query gives 3 series where `result` means one: aggregate it, or look at `series`";
    assert_eq!(judge(json!({}), &vector(&[0.0, 0.0, 0.0])), said(Error, why));
    let all = json!({"successWhen": "series.all(s, s.value < 0.01)"});
    assert_eq!(judge(all.clone(), &vector(&[0.0, 0.0, 0.0])).0, Successful);
    assert_eq!(judge(all, &vector(&[0.0, 0.1])), said(Failed, "`series.all(s, s.value < 0.01)` is not true"));
}

#[test]
fn errors_stay_errors_whatever_counts_as_no_data() {
    for rule in ["Inconclusive", "Fail", "Pass"] {
        let fields = json!({"noData": rule});
        assert_eq!(judge(fields, &Observation::Error("connection refused".into())), said(Error, "connection refused"));
    }
    let divided = json!({"successWhen": "series.all(s, 1 / int(s.value) < 2)"});
    assert_eq!(
        judge(divided, &vector(&[0.2])),
        said(Error, "`series.all(s, 1 / int(s.value) < 2)`: it divides by zero")
    );
}

#[test]
fn values_over_time_may_have_gaps() {
    let fields = json!({
        "prometheus": {"address": "http://p:9090", "query": "up", "range": {"window": "5m", "step": "1m"}},
        "successWhen": "result.all(v, v < 1.0) && size(result) == 2",
    });
    let one = |value: Vec<f64>| Observation::Range(vec![Series { labels: BTreeMap::new(), value }]);
    assert_eq!(judge(fields.clone(), &one(vec![0.1, f64::NAN, 0.2])).0, Successful);
    assert_eq!(judge(fields, &one(vec![0.1, 1.2])).0, Failed);
}

#[test]
fn an_http_answer_is_judged_by_status_and_by_body() {
    let probe = |fields: Value, status: u16, body: Option<&str>| {
        let answer = Observation::Http { status, body: body.map(str::to_owned) };
        let mut all = json!({"http": {"url": "http://a/health"}});
        if let (Some(all), Value::Object(fields)) = (all.as_object_mut(), fields) {
            all.extend(fields);
        }
        let judged = Judge::new(&analysis(all)).expect("conditions").judge(&slot(), &answer);
        (judged.outcome, judged.message)
    };
    assert_eq!(probe(json!({}), 200, None), said(Successful, "status 200"));
    assert_eq!(probe(json!({}), 503, Some("{}")), said(Failed, "status 503 is not 200"));
    let body = json!({"successWhen": "result.queue < 10"});
    assert_eq!(probe(body.clone(), 200, Some(r#"{"queue": 3}"#)).0, Successful);
    assert_eq!(probe(body.clone(), 200, Some(r#"{"queue": 30}"#)), said(Failed, "`result.queue < 10` is not true"));
    assert_eq!(probe(body.clone(), 200, Some("{}")), said(Inconclusive, "no data: there is no key \"queue\""));
    assert_eq!(probe(body.clone(), 200, Some("ok")), said(Error, "the body is not JSON, so there is no `result`"));
    assert_eq!(probe(body, 500, Some(r#"{"queue": 3}"#)).0, Failed);
    let any = json!({"http": {"url": "http://a", "expectStatus": []}, "successWhen": "status < 500"});
    assert_eq!(probe(any, 404, None).0, Successful);
}

/// R13: a Job that never finished is Inconclusive, not Passed, also where missing data would pass.
#[test]
fn r13_a_job_that_never_finished_says_nothing() {
    let analysis = analysis(json!({"job": {"spec": {}, "timeout": "5m"}, "noData": "Pass"}));
    let judge = Judge::new(&analysis).expect("judge");
    let metric = analysis.job.as_ref().expect("job");
    let running = json!({"metadata": {"creationTimestamp": at(10).to_string()}, "status": {"active": 1}});
    assert_eq!(job::observe(metric, &slot(), &running, at(309)), None);
    let ended = job::observe(metric, &slot(), &running, at(310)).expect("its time is over");
    let judged = judge.judge(&slot(), &ended);
    assert_eq!((judged.outcome, judged.message.as_str()), (Inconclusive, "the job has not finished within 5m"));
    let of = |kind: &str, status: &str| {
        let condition =
            json!({"type": kind, "status": status, "reason": "BackoffLimitExceeded", "message": "too often"});
        job::observe(metric, &slot(), &json!({"status": {"conditions": [condition]}}), at(1))
    };
    assert_eq!(of("Complete", "True"), Some(Observation::Job(JobEnd::Complete)));
    assert_eq!(of("Complete", "False"), None);
    assert_eq!(of("Failed", "True"), Some(Observation::Job(JobEnd::Failed("BackoffLimitExceeded too often".into()))));
}

#[test]
fn the_name_of_a_job_is_the_same_after_a_crash_and_fits_a_label() {
    let numbered = |number| Slot { number, ..slot() };
    assert_eq!(job::name("teller-2", "smoke", &numbered(3)), "teller-2-smoke-3");
    let long = job::name(&"a".repeat(60), "smoke", &numbered(3));
    assert_eq!((long.len(), long.as_str()), (63, job::name(&"a".repeat(60), "smoke", &numbered(3)).as_str()));
    assert_ne!(long, job::name(&"a".repeat(60), "smoke", &numbered(4)));
}

fn compared(fields: Value, of: Option<u32>, canary: &[f64], baseline: &[f64]) -> (MeasurementOutcome, String) {
    let mut compare =
        json!({"metric": {"address": "http://p:9090", "query": "latency{track=\"{{track}}\"}"}, "minimumSamples": 10});
    if let (Some(all), Value::Object(fields)) = (compare.as_object_mut(), fields) {
        all.extend(fields);
    }
    let samples = Observation::Samples { canary: canary.to_vec(), baseline: baseline.to_vec() };
    let judged =
        Judge::new(&analysis(json!({"compare": compare}))).expect("judge").judge(&Slot { of, ..slot() }, &samples);
    (judged.outcome, judged.message)
}

fn around(middle: f64, count: u32) -> Vec<f64> {
    (0..count).map(|at| middle * (0.95 + 0.1 * f64::from(at) / f64::from(count - 1))).collect()
}

#[test]
fn a_version_is_worse_if_it_is_so_by_more_than_chance_and_by_more_than_is_borne() {
    let old = around(100.0, 30);
    let (outcome, message) = compared(json!({"maximumRatio": 1.2}), Some(1), &around(131.0, 30), &old);
    assert_eq!(outcome, Failed);
    assert!(
        message.starts_with("median 131 against 100 of the old version, worse by a factor of 1.31 of at most 1.2, p "),
        "{message}"
    );
    let (outcome, message) = compared(json!({"maximumRatio": 1.2}), Some(1), &around(110.0, 30), &old);
    assert_eq!(outcome, Successful);
    assert!(message.contains("a factor of 1.1 of at most 1.2, though no chance: p "), "{message}");
    // Twice as much, but the values scatter so that it may be chance.
    let scattered: Vec<f64> = (0..12).map(|at| if at % 2 == 0 { 10.0 } else { 300.0 + f64::from(at) }).collect();
    let (outcome, message) = compared(json!({}), Some(1), &scattered, &around(100.0, 12));
    assert_eq!((outcome, message.contains("not worse by more than chance")), (Successful, true), "{message}");
}

#[test]
fn which_direction_is_worse_is_stated() {
    let (high, low) = (around(200.0, 30), around(100.0, 30));
    for (worse, more, less) in
        [("Higher", Failed, Successful), ("Lower", Successful, Failed), ("Either", Failed, Failed)]
    {
        let fields = json!({"worse": worse});
        assert_eq!(compared(fields.clone(), Some(1), &high, &low).0, more, "{worse}");
        assert_eq!(compared(fields, Some(1), &low, &high).0, less, "{worse}");
    }
    // From nothing to something is more than any factor; nothing to nothing is none.
    assert_eq!(compared(json!({"maximumRatio": 900.0}), Some(1), &low, &[0.0; 30]).0, Failed);
    assert_eq!(compared(json!({}), Some(1), &[0.0; 30], &[0.0; 30]).0, Successful);
    assert_eq!(compared(json!({}), Some(1), &[-1.0; 30], &[1.0; 30]).0, Error);
}

#[test]
fn too_few_samples_are_no_data_and_values_that_are_no_numbers_are_none() {
    let few = "no data: 9 samples of the new version and 30 of the old one, at least 10 of each are needed";
    let mut canary = around(100.0, 9);
    canary.extend([f64::NAN; 20]);
    assert_eq!(compared(json!({}), Some(1), &canary, &around(100.0, 30)), said(Inconclusive, few));
    assert_eq!(compared(json!({}), Some(1), &[], &[]).0, Inconclusive);
}

/// Looking often must not make a false alarm likelier: the looks share alpha.
#[test]
fn looking_more_often_needs_a_clearer_difference() {
    let (canary, baseline) = (around(102.0, 30), around(100.0, 30));
    let fields = json!({"maximumRatio": 1.0, "alpha": 0.05});
    assert_eq!(compared(fields.clone(), Some(1), &canary, &baseline).0, Failed);
    assert_eq!(compared(fields.clone(), Some(100), &canary, &baseline).0, Successful);
    let spent: f64 = (1..=1000).map(|number| Slot { number, of: None, ..slot() }.share_of(0.05)).sum();
    assert!(spent < 0.05 && spent > 0.0499, "{spent}");
    let shared: f64 = (1..=7).map(|number| Slot { number, of: Some(7), ..slot() }.share_of(0.05)).sum();
    assert!((shared - 0.05).abs() < 1e-12);
}
