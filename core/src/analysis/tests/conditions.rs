use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use crate::analysis::condition::{Condition, Evaluation, MAX_LENGTH, MAX_UNITS, Source, Variables};
use crate::analysis::observation::Series;

fn refused(text: &str, source: Source) -> String {
    Condition::new(text, source).expect_err(text)
}

fn of_number(text: &str, value: f64) -> Evaluation {
    Condition::new(text, Source::Instant).expect(text).evaluate(&Variables::number(value))
}

fn of_body(text: &str, body: &str) -> Evaluation {
    let variables = Variables::http(200, Some(body)).expect("small");
    Condition::new(text, Source::Http).expect(text).evaluate(&variables)
}

fn series(values: &[(&str, f64)]) -> Vec<Series<f64>> {
    let labels = |pod: &str| BTreeMap::from([("pod".to_owned(), pod.to_owned())]);
    values.iter().map(|(pod, value)| Series { labels: labels(pod), value: *value }).collect()
}

#[test]
fn conditions_look_at_a_number() {
    assert_eq!(of_number("result < 0.01", 0.0099), Evaluation::Is(true));
    assert_eq!(of_number("result < 0.01", 0.01), Evaluation::Is(false));
    assert_eq!(of_number("result < 1 && result >= 0", 0.5), Evaluation::Is(true));
    assert_eq!(of_number("result in [1.0, -2.0] || result > 1e3", -2.0), Evaluation::Is(true));
    assert_eq!(of_number("result < 5.0 ? result > 1.0 : true", f64::INFINITY), Evaluation::Is(true));
}

#[test]
fn conditions_look_at_all_series_and_at_values_over_time() {
    let pods = Variables::instant(&series(&[("a", 0.1), ("b", 0.3)])).expect("small");
    let evaluate = |text: &str| Condition::new(text, Source::Instant).expect(text).evaluate(&pods);
    assert_eq!(evaluate("series.all(s, s.value < 0.3)"), Evaluation::Is(false));
    assert_eq!(evaluate("series.all(s, s.value < 0.3 || s.labels.pod == 'b')"), Evaluation::Is(true));
    assert_eq!(evaluate("series.filter(s, s.value > 0.2).size() < 2"), Evaluation::Is(true));
    assert_eq!(evaluate("series.all(s, s.labels.zone == 'x')"), Evaluation::Missing("there is no key \"zone\"".into()));
    assert!(!pods.has("result"));
    let one = Series { labels: BTreeMap::new(), value: vec![1.0, 2.0, 3.0] };
    let range = Variables::range(&[one]).expect("small");
    let evaluate = |text: &str| Condition::new(text, Source::Range).expect(text).evaluate(&range);
    assert_eq!(evaluate("result.all(v, v <= 3.0) && result[0] < result[2] && size(result) == 3"), Evaluation::Is(true));
    assert_eq!(evaluate("series.all(s, s.values.exists(v, v > 2.5))"), Evaluation::Is(true));
}

#[test]
fn conditions_look_at_an_answer() {
    let body = r#"{"ready": true, "errors": 3, "parts": [{"ok": true}, {"ok": false}], "none": null}"#;
    assert_eq!(of_body("status == 200 && result.ready && result.errors < 5", body), Evaluation::Is(true));
    assert_eq!(of_body("result.parts.all(p, p.ok)", body), Evaluation::Is(false));
    assert_eq!(of_body("has(result.errors) && !has(result.missing)", body), Evaluation::Is(true));
    assert_eq!(of_body("body.contains('ready')", body), Evaluation::Is(true));
    assert_eq!(of_body("result.missing < 1", body), Evaluation::Missing("there is no key \"missing\"".into()));
    assert_eq!(of_body("result.a.b < 1", r#"{"a": {}}"#), Evaluation::Missing("there is no key \"b\"".into()));
    assert!(matches!(of_body("result.none < 1", body), Evaluation::Error(_)));
}

#[test]
fn whole_numbers_are_written_beside_measured_ones_with_or_without_a_point() {
    for text in ["result < 5", "result < 5.0", "result * 100 < 500", "100.0 * result < 500", "(result + 1) / 2 <= 2.5"]
    {
        assert_eq!(of_number(text, 4.0), Evaluation::Is(true), "{text}");
        assert_eq!(of_number(text, 6.0), Evaluation::Is(false), "{text}");
    }
    assert_eq!(of_number("result - (2 * 3 + 1) == -1", 6.0), Evaluation::Is(true));
    assert_eq!(of_number("int(result) % 2 == 0 && result / 4 == 1.5", 6.0), Evaluation::Is(true));
    let body = r#"{"errors": 1, "total": 40, "parts": [1, 2]}"#;
    assert_eq!(of_body("result.errors / result.total * 100 < 5", body), Evaluation::Is(true));
    assert_eq!(of_body("size(result.parts) * result.errors == 2", body), Evaluation::Is(true));
    assert_eq!(of_body("status / 100 == 2 && result.errors * 2 == 2", body), Evaluation::Is(true));
    // What would be cut, or might be divided by zero, is not made up: a bad version is not to pass by it.
    for text in ["size(result.parts) / size(result.parts) * 100.0 < 5", "result.errors / size(result.parts) < 5"] {
        assert!(matches!(of_body(text, body), Evaluation::Error(_)), "{text}");
    }
    let pods = Variables::instant(&series(&[("a", 0.1), ("b", 0.3)])).expect("small");
    let one = Series { labels: BTreeMap::new(), value: vec![1.0, 2.0, 3.0] };
    let range = Variables::range(&[one]).expect("small");
    // What the language itself counts and collects in stays as it is.
    for (text, source, variables) in [
        ("series.filter(s, s.value * 100 > 20).size() + 1 == 2", Source::Instant, &pods),
        ("series.all(s, s.value * 100 < 31)", Source::Instant, &pods),
        ("result.exists_one(v, v * 2 > 5)", Source::Range, &range),
        ("result[size(result) - 1] - 1 == 2", Source::Range, &range),
    ] {
        assert_eq!(Condition::new(text, source).expect(text).evaluate(variables), Evaluation::Is(true), "{text}");
    }
}

#[test]
fn what_cannot_be_evaluated_is_an_error_and_says_why_without_the_answer() {
    assert_eq!(
        of_body("result.ready", r#"{"ready": "yes"}"#),
        Evaluation::Error("it gives a string, not true or false".into())
    );
    let secret = of_body("result.token < 1", r#"{"token": "hunter2"}"#);
    assert_eq!(secret, Evaluation::Error("< does not work with a text and a whole number".into()));
    assert_eq!(
        of_body("result.l[7] > 1.0", r#"{"l": [1]}"#),
        Evaluation::Error("it looks at a position that the list does not have".into())
    );
    let looked_up = of_body("result[result.token] == 1.0", r#"{"token": "hunter2"}"#);
    assert_eq!(looked_up, Evaluation::Missing("there is no such key".into()));
    for text in ["result.token + 1.0 < 2.0", "result.token.x == 1", "result.token[0] == 'h'", "int(result.token) < 1"] {
        let Evaluation::Error(why) = of_body(text, r#"{"token": "hunter2"}"#) else { panic!("{text}") };
        assert!(!why.contains("hunter2"), "{text}: {why}");
    }
}

#[test]
fn a_condition_that_can_never_be_evaluated_is_refused() {
    assert!(refused("result < ", Source::Instant).starts_with("it is not CEL: "));
    assert_eq!(refused("", Source::Instant), "it is empty");
    assert_eq!(
        refused("result / 0 < 5", Source::Instant),
        "/ does not work with a double and a whole number: write numbers with a point, such as 100.0"
    );
    assert_eq!(
        refused("result % 2 == 0", Source::Instant),
        "% does not work with a double and a whole number: it takes whole numbers only, such as int(result) % 2"
    );
    assert_eq!(refused("result", Source::Instant), "it gives a float, not true or false");
    assert_eq!(refused("result < '0.01'", Source::Instant), "< does not work with a double and a text");
    assert_eq!(refused("result[0] < 1.0 && result < 1.0", Source::Range), "< does not work with a list and a double");
    assert_eq!(
        refused("true", Source::Instant),
        "it looks at nothing that is measured: a condition here can look at result, series"
    );
    assert_eq!(refused("value < 1", Source::Instant), "value is unknown: a condition here can look at result, series");
    assert_eq!(
        refused("status == 200", Source::Range),
        "status is unknown: a condition here can look at result, series"
    );
    assert!(refused("isNaN(result)", Source::Instant).starts_with("isNaN() is unknown: there are size, "));
    assert!(refused("body.matches('(a*)*')", Source::Http).starts_with("matches() is unknown"));
    assert!(refused("math.abs(result) < 1", Source::Instant).contains("abs() is unknown"));
    assert!(refused("result.map(v, v * 2.0).all(v, v < 1.0)", Source::Range).contains("map is not supported"));
    assert!(refused("{'a': result}.a < 1.0", Source::Instant).contains("objects cannot be built"));
    assert!(refused("[result, result].all(v, v < 1.0)", Source::Instant).contains("constants only"));
    for joined in ["(result + result).all(v, v < 1.0)", "(true ? result : result).exists(v, v < 1.0)"] {
        assert_eq!(refused(joined, Source::Range), "a loop runs over a list that was measured, or a filter of one");
    }
    let outer = "inside a loop only its element and single numbers can be used, not result";
    assert_eq!(refused("result.all(v, v < result[0])", Source::Range), outer);
    assert_eq!(
        refused("series.all(series, series.value < 1.0)", Source::Instant),
        "series is taken: give the element of the loop another name"
    );
    assert!(refused(&"result < 1.0 && ".repeat(70), Source::Instant).contains("at most 1024"));
}

/// Texts that overflow the stack of the library's parser or of its evaluation, or would take long.
#[test]
fn depth_and_length_are_bounded_before_they_cost() {
    let deep = |before: &str, middle: &str, after: &str, length: usize| {
        let times = (length - middle.len()) / (before.len() + after.len());
        format!("{}{middle}{}", before.repeat(times), after.repeat(times))
    };
    let mut texts =
        vec!["(".repeat(MAX_LENGTH), "[".repeat(MAX_LENGTH), "!".repeat(MAX_LENGTH), "?".repeat(MAX_LENGTH)];
    for (before, middle, after) in [
        ("(", "result", ")"),
        ("[", "result", "]"),
        ("! ", "true", ""),
        ("- ", "result", ""),
        ("result+", "result", ""),
        ("result&&", "result", ""),
        ("true?true:", "true", ""),
        ("result?", "true", ":true"),
        ("", "result", ".a"),
        ("", "result", "[0]"),
        ("", "result", ".size()"),
        ("size([", "1", "])"),
        ("result.all(x,", "true", ")"),
        ("", "result", ".filter(x,x)"),
        ("-", "result", ""),
        ("result==", "result", ""),
        ("{1:", "result", "}"),
    ] {
        texts.push(deep(before, middle, after, MAX_LENGTH));
    }
    for text in texts {
        for source in [Source::Instant, Source::Range, Source::Http] {
            let begun = Instant::now();
            let read = Condition::new(&text, source);
            if let Ok(condition) = &read {
                condition.evaluate(&Variables::number(0.5));
            }
            assert!(begun.elapsed() < Duration::from_secs(5), "{text}");
        }
    }
    assert_eq!(
        refused("(result < 1.0) == ".repeat(21).trim_end_matches([' ', '=']), Source::Instant),
        "it is nested deeper than 20 levels"
    );
}

#[test]
fn the_dearest_conditions_over_the_most_data_end_soon() {
    let numbers = vec![1.0; MAX_UNITS - 10];
    let range = Variables::range(&[Series { labels: BTreeMap::new(), value: numbers.clone() }]).expect("just fits");
    let wide = format!("result.all(v, {})", ["v<2.0"; 12].join("&&"));
    for text in
        ["result.filter(v, v > 0.0).filter(v, v > 0.0).size() > 0", "result.filter(v, v > 0.0).all(v, v < 2.0)", &wide]
    {
        let begun = Instant::now();
        assert_eq!(Condition::new(text, Source::Range).expect(text).evaluate(&range), Evaluation::Is(true), "{text}");
        println!("{text:.60}: {:?}", begun.elapsed());
        assert!(begun.elapsed() < Duration::from_secs(20), "{text}");
    }
    let long = Series { labels: BTreeMap::new(), value: vec![1.0; MAX_UNITS] };
    let why = Variables::range(&[long]).expect_err("too much");
    assert!(why.starts_with("the answer is too large for a condition (more than 10000 values)"), "{why}");
    assert!(Variables::http(200, Some(&"x".repeat(20 * MAX_UNITS))).is_err());
    assert!(Variables::http(200, Some(&format!("[{}]", vec!["1"; 20_000].join(",")))).is_err());
    assert!(
        Variables::http(200, Some(&format!("{}{}", "[".repeat(5_000), "]".repeat(5_000))))
            .is_ok_and(|v| !v.has("result"))
    );
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in r#"[-a-z0-9 .<>=!&|?:+*/%()\[\]{}'"\\,_]{0,80}"#, value in any::<f64>()) {
        for source in [Source::Instant, Source::Range, Source::Http] {
            if let Ok(condition) = Condition::new(&text, source) {
                condition.evaluate(&Variables::number(value));
            }
        }
    }

    #[test]
    fn no_sequence_of_words_makes_it_panic(
        words in prop::collection::vec(prop::sample::select(vec![
            "result", "series", "body", "status", "s", "s.value", ".all(s,", ".exists(s,", ".filter(s,", "(", ")", "[", "]", "<",
            ">=", "==", "&&", "||", "!", "-", "+", "*", "/", "%", "?", ":", "in", "has(", "size(", "int(", "double(", "string(",
            "1", "0.5", "9223372036854775807", "1u", "'x'", "b'x'", "true", "null", ".labels", ".values", ",", "type(",
        ]), 1..24),
        value in any::<f64>(),
        body in "\\PC{0,20}",
    ) {
        let text = words.join(" ");
        for source in [Source::Instant, Source::Range, Source::Http] {
            if let Ok(condition) = Condition::new(&text, source) {
                condition.evaluate(&Variables::number(value));
                if let Ok(variables) = Variables::http(200, Some(&body)) {
                    condition.evaluate(&variables);
                }
                if let Ok(variables) = Variables::instant(&series(&[("a", value), ("b", 1.0)])) {
                    condition.evaluate(&variables);
                }
            }
        }
    }
}
