use interlock_crds::Severity;
use serde_json::{Value, json};

use super::{analysis, errors};
use crate::analysis::{Judge, limits, validate};

/// Field and message of what is wrong.
fn wrong(fields: Value) -> Vec<(&'static str, String)> {
    let findings = validate(&analysis(fields)).into_iter().filter(|finding| finding.severity == Severity::Error);
    findings.map(|finding| (finding.field, finding.message)).collect()
}

fn only(fields: Value) -> (&'static str, String) {
    let mut all = wrong(fields);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

fn prometheus(fields: Value) -> Value {
    let mut metric = json!({"address": "http://p:9090", "query": "up"});
    if let (Some(metric), Value::Object(fields)) = (metric.as_object_mut(), fields) {
        metric.extend(fields);
    }
    json!({"prometheus": metric, "successWhen": "result < 1.0"})
}

fn compare(fields: Value, of: Value) -> Value {
    let mut compare = json!({"metric": {"address": "http://p:9090", "query": "l{t=\"{{track}}\"}"}});
    if let (Some(compare), Value::Object(fields)) = (compare.as_object_mut(), fields) {
        compare.extend(fields);
    }
    let mut all = json!({"compare": compare});
    if let (Some(all), Value::Object(fields)) = (all.as_object_mut(), of) {
        all.extend(fields);
    }
    all
}

#[test]
fn limits_are_the_numbers_that_decide_about_the_recorded_values() {
    let of =
        |success: &str, fail: Option<&str>| limits(&errors(json!({"successWhen": success, "failWhen": fail})), false);
    assert_eq!(of("result < 0.01", None), [0.01]);
    assert_eq!(of("result <= 2.0", Some("5.0 < result")), [2.0, 5.0]);
    assert_eq!(of("result < 5.0 && (result > -1.5 || result > 2.0)", Some("result > 5.0")), [-1.5, 2.0, 5.0]);
    assert_eq!(of("result == 3.0", None), [0.0; 0], "nothing is above or below");
    assert_eq!(of("series.all(s, s.value < 0.5)", None), [0.0; 0], "of many values none is recorded");
    assert_eq!(of("result <", None), [0.0; 0], "not CEL");
    let http = |success: &str| limits(&analysis(json!({"http": {"url": "http://x/"}, "successWhen": success})), false);
    assert_eq!(http("status < 500.0"), [500.0]);
    assert_eq!(http("result.errors < 5.0"), [0.0; 0], "the status is what is recorded");
    let compared = analysis(compare(json!({"alpha": 0.02}), json!({"count": 4})));
    assert_eq!(limits(&compared, false), [0.005]);
    assert_eq!(limits(&compared, true), [0.0; 0]);
}

#[test]
fn what_people_write_is_found_right() {
    assert_eq!(validate(&errors(json!({"count": 10, "failureLimit": 1}))), []);
    assert_eq!(wrong(compare(json!({}), json!({}))), []);
    assert_eq!(wrong(json!({"http": {"url": "http://{{workload}}-canary.{{namespace}}:8080/x"}})), []);
    assert_eq!(wrong(json!({"job": {"spec": {"template": {"a": "{{workload}}"}}}})), []);
}

#[test]
fn templates_and_conditions_are_refused_where_they_would_fail_later() {
    let (field, message) = only(prometheus(json!({"query": "a{b=\"{{pod}}\"}"})));
    assert_eq!(field, "prometheus.query");
    assert_eq!(message, "{{pod}} is no placeholder: there are {{workload}}, {{namespace}}, {{track}} and {{hash}}");
    assert_eq!(only(json!({"http": {"url": "http://{{pod}}/"}})).0, "http.url");
    assert_eq!(only(json!({"job": {"spec": {"a": ["{{pod}}"]}}})).0, "job.spec");
    let (field, message) = only(json!({"prometheus": {"address": "http://p", "query": "up"}, "failWhen": "result >"}));
    assert_eq!((field, message.starts_with("it is not CEL")), ("failWhen", true));
    assert_eq!(only(json!({"prometheus": {"address": "http://p", "query": "up"}})).0, "successWhen");
    let mut with = compare(json!({}), json!({"successWhen": "result < 1.0"}));
    assert_eq!(only(with.take()).0, "successWhen");
    assert_eq!(
        Judge::new(&analysis(json!({"prometheus": {"address": "http://p", "query": "up"}}))).expect_err("none").len(),
        1
    );
}

#[test]
fn addresses_and_times_are_bounded() {
    for address in ["http://a:b:c", "http://:80", "http://p:99999"] {
        assert_eq!(only(prometheus(json!({"address": address}))).0, "prometheus.address");
    }
    let (field, message) = only(prometheus(json!({"timeout": "2m"})));
    assert_eq!((field, message.as_str()), ("prometheus.timeout", "2m is too long: one answer may take at most 60s"));
    let mut long = prometheus(json!({"range": {"window": "3h", "step": "5s"}}));
    long["successWhen"] = json!("result.all(v, v < 1.0)");
    assert_eq!(only(long).0, "prometheus.range");
    assert_eq!(only(json!({"http": {"url": "http://a", "expectStatus": []}})).0, "http.expectStatus");
    assert_eq!(only(json!({"http": {"url": "http://a"}, "count": 3, "failureLimit": 3})).0, "failureLimit");
}

#[test]
fn a_comparison_that_means_nothing_is_refused() {
    let query = |query: &str| json!({"metric": {"address": "http://p:9090", "query": query}});
    let same = compare(query("l{a=\"{{workload}}\"}"), json!({}));
    assert_eq!(only(same).0, "compare.metric.query");
    let mut itself = query("l{a=\"x\"}");
    itself["baselineQuery"] = json!("l{a=\"x\"}");
    assert_eq!(only(compare(itself, json!({}))).0, "compare.baselineQuery");
    let (field, message) = only(compare(query("rate(l{t=\"{{track}}\"}[2m])"), json!({})));
    assert_eq!(field, "compare.metric.query");
    assert!(message.starts_with("it looks back over 120s, but a sample is taken every 15s"), "{message}");
    let mut longer = query("rate(l{t=\"{{track}}\"}[2m])");
    longer["step"] = json!("2m");
    assert_eq!(wrong(compare(longer, json!({}))), []);
    assert_eq!(only(compare(json!({"window": "5m", "step": "15s"}), json!({}))).0, "compare.window");
    let (field, message) = only(compare(json!({"minimumSamples": 8, "alpha": 0.001}), json!({"count": 10})));
    assert_eq!(field, "compare.minimumSamples");
    assert!(
        message.contains(
            "with 8 samples the least possible p is 0.0001554, and each of 10 measurements needs less than 0.0001"
        ),
        "{message}"
    );
}

#[test]
fn letting_missing_data_pass_is_warned_of() {
    let findings = validate(&errors(json!({"noData": "Pass"})));
    assert_eq!(findings.len(), 1);
    assert_eq!((findings[0].severity, findings[0].field), (Severity::Warning, "noData"));
}
