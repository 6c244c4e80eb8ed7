use serde_json::json;

use super::subject;
use crate::analysis::origin::Origin;
use crate::analysis::template::{self, Subject, TemplateError, Track};

fn query(template: &str) -> Result<String, TemplateError> {
    template::promql(template, &subject(), Track::Canary)
}

#[test]
fn placeholders_are_filled_in_for_each_version() {
    let text = r#"rate(errors{app="{{workload}}",ns='{{ namespace }}',track="{{track}}",hash="{{hash}}"}[2m])"#;
    let canary = r#"rate(errors{app="teller",ns='branch',track="canary",hash="7d9f6"}[2m])"#;
    assert_eq!(query(text).as_deref(), Ok(canary));
    let stable = template::promql(text, &subject(), Track::Stable).expect("query");
    assert_eq!(stable, canary.replace("canary", "stable").replace("7d9f6", "5c4b8"));
    assert_eq!(query("up"), Ok("up".into()));
}

#[test]
fn what_is_no_placeholder_or_stands_where_it_cannot_be_escaped_is_refused() {
    assert_eq!(query(r#"a{b="{{pod}}"}"#), Err(TemplateError::Unknown("pod".into())));
    assert_eq!(query(r#"a{b="{{workload"}"#), Err(TemplateError::Unclosed));
    assert_eq!(query("{{workload}}_errors"), Err(TemplateError::Unquoted("workload".into())));
    assert_eq!(query("a{b=`{{workload}}`}"), Err(TemplateError::Backquoted("workload".into())));
    assert_eq!(query(r#"a{b="{{workload}}}"#), Err(TemplateError::UnclosedString));
    // A quote of the other kind or an escaped one does not end a string, nor does one begin in a comment.
    assert_eq!(query(r#"a{b="'\"{{track}}"}"#), Ok(r#"a{b="'\"canary"}"#.into()));
    assert_eq!(query("a # it's a{b=\"\n{{workload}}"), Err(TemplateError::Unquoted("workload".into())));
    assert_eq!(query("up # of {{workload}}, isn't it"), Ok("up # of , isn't it".into()));
}

#[test]
fn no_value_leaves_its_string() {
    let hostile = Subject { workload: "a\"} or vector(1) #'\\\n".into(), ..subject() };
    let query = template::promql(r#"e{app="{{workload}}"}"#, &hostile, Track::Canary).expect("query");
    assert_eq!(query, r#"e{app="a\"} or vector(1) #\'\\\U0000000a"}"#);
    let pattern = Subject { workload: "a.b|.*".into(), ..subject() };
    for operator in ["=~", "!~", "=~ "] {
        let template = format!(r#"e{{pod{operator}"{{{{workload}}}}-.*"}}"#);
        let query = template::promql(&template, &pattern, Track::Canary).expect("query");
        assert_eq!(query, format!(r#"e{{pod{operator}"a\\.b\\|\\.\\*-.*"}}"#));
    }
    let equal = template::promql(r#"e{pod="x",app="{{workload}}"}"#, &pattern, Track::Canary).expect("query");
    assert_eq!(equal, r#"e{pod="x",app="a.b|.*"}"#);
}

#[test]
fn an_address_takes_names_and_nothing_that_means_something_there() {
    let url = "http://{{workload}}-canary.{{namespace}}.svc:8080/health?track={{track}}";
    let filled = template::address(url, &subject()).expect("address");
    assert_eq!(filled, "http://teller-canary.branch.svc:8080/health?track=canary");
    for hostile in ["evil/", "a@b", "a:1", "a?b", "a#b", "a b", "ä", "a%2f"] {
        let subject = Subject { workload: hostile.into(), ..subject() };
        assert_eq!(template::address(url, &subject), Err(TemplateError::NotForAddress(hostile.into())));
    }
}

#[test]
fn strings_of_a_job_are_filled_in_and_keys_are_not() {
    let spec =
        json!({"template": {"spec": {"containers": [{"args": ["--for={{workload}}", "{{hash}}"], "{{x}}": 1}]}}});
    let filled = template::json(&spec, &subject()).expect("spec");
    let expected = json!({"template": {"spec": {"containers": [{"args": ["--for=teller", "7d9f6"], "{{x}}": 1}]}}});
    assert_eq!(filled, expected);
    assert!(template::json(&json!({"a": "{{pod}}"}), &subject()).is_err());
}

#[test]
fn ranges_are_found_wherever_they_are_none_of_a_string() {
    assert_eq!(template::ranges("rate(a{b=\"[9h]\"}[2m]) / rate(c[1h30m:15s]) # [3d]"), [120, 5_400]);
    assert_eq!(template::ranges("a[1500ms] + a[$__interval] + b offset 5m"), [2]);
}

#[test]
fn an_origin_is_what_a_request_connects_to() {
    let of = |address: &str| Origin::of(address).map(|origin| origin.to_string());
    assert_eq!(of("http://Prometheus.Monitoring:9090/api?x=1").as_deref(), Some("http://prometheus.monitoring:9090"));
    assert_eq!(of("https://a.example").as_deref(), Some("https://a.example:443"));
    assert_eq!(of("http://[fd00::1]/x").as_deref(), Some("http://[fd00::1]:80"));
    for bad in [
        "ftp://a",
        "file:///etc/passwd",
        "a.example",
        "http://",
        "http://a:b:c",
        "http://a:0",
        "http://a:70000",
        "http://user@a",
        "http://a:x",
        "http://[fd00::1",
        "http://[fd00::1]x",
        "http://[a]",
        "http://a:+1",
        "http://a b",
    ] {
        assert_eq!(of(bad), None, "{bad}");
    }
}
