use interlock_core::analysis::{SampleRange, Series};

use super::*;

fn query(address: SocketAddr, fields: Value) -> Analysis {
    let mut metric = json!({"address": format!("http://{address}/prom/"), "query": "e{app=\"{{workload}}\"} > 0"});
    if let (Some(metric), Value::Object(fields)) = (metric.as_object_mut(), fields) {
        metric.extend(fields);
    }
    analysis(json!({"prometheus": metric, "successWhen": "result < 0.01"}))
}

/// What follows from an answer.
async fn answered(status: u16, body: impl ToString) -> Observation {
    let body = body.to_string();
    let (address, _) = serve(move |_| reply(status, body.clone())).await;
    observe(&query(address, json!({})), &Access::default()).await
}

fn success(kind: &str, result: &Value) -> Value {
    json!({"status": "success", "data": {"resultType": kind, "result": result}})
}

fn said(why: &str) -> Observation {
    Observation::Error(why.to_owned())
}

#[tokio::test]
async fn the_query_is_sent_filled_in_and_encoded() {
    let (address, log) = serve(|_| reply(200, success("scalar", &json!([1.5, "0.25"])).to_string())).await;
    let headers = json!([{"name": "X-Scope-OrgID", "value": "bank"}]);
    let analysis = query(address, json!({"headers": headers, "timeout": "7s"}));
    let one = Series { labels: BTreeMap::new(), value: 0.25 };
    assert_eq!(observe(&analysis, &Access::default()).await, Observation::Instant(vec![one]));
    let seen = log.lock().expect("log").pop().expect("asked");
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("POST", "/prom/api/v1/query"));
    let expected = [("query", "e{app=\"teller\"} > 0"), ("timeout", "7s")];
    assert_eq!(seen.form(), BTreeMap::from(expected.map(|(name, value)| (name.to_owned(), value.to_owned()))));
    assert_eq!(seen.headers["x-scope-orgid"], "bank");
    assert_eq!(seen.headers["host"], address.to_string());
    assert_eq!(seen.headers.get("authorization"), None);
}

#[tokio::test]
async fn every_kind_of_answer_is_understood_or_named() {
    let vector =
        json!([{"metric": {"pod": "a"}, "value": [1, "NaN"]}, {"metric": {"pod": "b"}, "value": [1.2, "+Inf"]}]);
    let Observation::Instant(series) = answered(200, success("vector", &vector)).await else { panic!("a vector") };
    assert_eq!(series.len(), 2);
    assert!(series[0].value.is_nan() && series[1].value == f64::INFINITY && series[1].labels["pod"] == "b");
    assert_eq!(answered(200, success("vector", &json!([]))).await, Observation::Instant(vec![]));
    assert_eq!(answered(200, success("string", &json!([1, "x"]))).await, said("the query gives a text, not a number"));
    let matrix = success("matrix", &json!([{"metric": {}, "values": [[1, "1"]]}]));
    let why = "the query gives values over time: aggregate them (avg_over_time, ...) or set `range`";
    assert_eq!(answered(200, matrix).await, said(why));
    let histogram = success("vector", &json!([{"metric": {}, "histogram": [1, {"count": "3"}]}]));
    let why = "the query gives histograms, not numbers: use histogram_quantile or a like function";
    assert_eq!(answered(200, histogram).await, said(why));
    let odd = success("scalar", &json!([1, "many"]));
    assert_eq!(answered(200, odd).await, said("the server gives a value that is no number"));
}

#[tokio::test]
async fn errors_are_in_the_servers_words() {
    let error = json!({"status": "error", "errorType": "bad_data", "error": "parse error at char 3"});
    assert_eq!(answered(400, error.clone()).await, said("the server answered 400: bad_data: parse error at char 3"));
    assert_eq!(answered(200, error).await, said("the server answered 200: bad_data: parse error at char 3"));
    assert_eq!(answered(503, "<html>").await, said("the server answered 503 Service Unavailable"));
    let no = "the server does not answer as Prometheus does: is the address right?";
    assert_eq!(answered(200, "<html>").await, said(no));
    assert_eq!(answered(200, json!({"status": "success"})).await, said("the server answers success without data"));
    let mut partial = success("scalar", &json!([1, "0"]));
    partial["warnings"] = json!(["remote read: store b is away"]);
    let why = "the server warns that its answer may be incomplete: remote read: store b is away";
    assert_eq!(answered(200, &partial).await, said(why));
    partial["warnings"] = json!(["PromQL info: metric might not be a counter"]);
    assert!(matches!(answered(200, partial).await, Observation::Instant(_)));
    let wordy = json!({"status": "error", "error": "x\u{7}".repeat(5_000)});
    let Observation::Error(why) = answered(500, wordy).await else { panic!("an error") };
    assert!(why.len() < 400 && !why.contains('\u{7}'), "{why}");
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_says_so() {
    let (elsewhere, log) = serve(|_| reply(200, success("scalar", &json!([1, "0"])).to_string())).await;
    let (address, _) = serve(move |_| {
        let mut response = reply(307, "");
        response.headers_mut().insert("location", format!("http://{elsewhere}/").parse().expect("header"));
        response
    })
    .await;
    let why = error(&query(address, json!({})), &Access::default()).await;
    assert!(why.contains("(307 Temporary Redirect), and redirects are not followed"), "{why}");
    assert_eq!(log.lock().expect("log").len(), 0);
}

#[tokio::test]
async fn values_over_time_are_asked_for_at_the_servers_own_present() {
    let matrix = success("matrix", &json!([{"metric": {}, "values": [[1, "1"], [61, "NaN"], [121, "3"]]}]));
    let (address, log) = serve(move |_| reply(200, matrix.to_string())).await;
    let analysis = query(address, json!({"range": {"window": "5m", "step": "1m"}, "query": "up # all"}));
    let Observation::Range(series) = observe(&analysis, &Access::default()).await else { panic!("a range") };
    assert_eq!((series.len(), series[0].value[0], series[0].value[2]), (1, 1.0, 3.0));
    let seen = log.lock().expect("log").pop().expect("asked");
    assert_eq!(seen.form()["query"], "(up # all\n)[300s:60s]");
}

#[tokio::test]
async fn a_comparison_asks_for_both_versions_over_the_same_time() {
    let (address, log) = serve(|seen| {
        let value = if seen.form()["query"].contains("canary") { "2" } else { "1" };
        let one = json!({"metric": {}, "values": [[100, value], [115, value]]});
        let several = if seen.form()["query"].contains("many") { vec![one; 2] } else { vec![one] };
        let several = if seen.form()["query"].contains("none") { vec![] } else { several };
        reply(200, success("matrix", &json!(several)).to_string())
    })
    .await;
    let compare = |query: &str| {
        let metric = json!({"address": format!("http://{address}"), "query": query});
        analysis(json!({"compare": {"metric": metric}}))
    };
    let at = |seconds| Timestamp::from_second(seconds).expect("instant");
    let samples = Some(SampleRange { from: at(100), to: at(700), step_seconds: 15 });
    let slot = Slot { samples, ..slot() };
    let ask = async |query: &str| measure(&client(), &Access::default(), &compare(query), &slot, &subject()).await;
    let both = Observation::Samples { canary: vec![2.0; 2], baseline: vec![1.0; 2] };
    assert_eq!(ask("l{t=\"{{track}}\",h=\"{{hash}}\"}").await, both);
    let mut forms: Vec<_> = log.lock().expect("log").iter().map(Seen::form).collect();
    forms.sort();
    assert_eq!(
        forms.iter().map(|form| form["query"].as_str()).collect::<Vec<_>>(),
        ["l{t=\"canary\",h=\"7d9f6\"}", "l{t=\"stable\",h=\"5c4b8\"}"]
    );
    for form in forms {
        assert_eq!((form["start"].as_str(), form["end"].as_str(), form["step"].as_str()), ("100", "700", "15"));
    }
    let empty = Observation::Samples { canary: vec![], baseline: vec![] };
    assert_eq!(ask("none{t=\"{{track}}\"}").await, empty);
    assert_eq!(
        ask("many{t=\"{{track}}\"}").await,
        said("the query for the new version gives 2 series where one is compared: aggregate it")
    );
}
