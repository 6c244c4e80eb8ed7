//! SARIF 2.1.0 reports of scanners (OASIS, "Static Analysis Results Interchange Format").

use std::collections::HashMap;

use serde_json::Value;

use super::Findings;

/// From this security severity on, as GitHub reads it, a finding is high, and the scan failed.
const HIGH: f64 = 7.0;

#[derive(Debug, Default)]
struct Count {
    error: i64,
    warning: i64,
    note: i64,
    none: i64,
    critical: i64,
    high: i64,
    medium: i64,
    low: i64,
}

/// Counts the findings of a report; suppressed ones, and ones that are gone since the baseline, do not count.
pub fn read(text: &str) -> Result<Findings, String> {
    let report: Value = serde_json::from_str(text.trim_start_matches('\u{feff}'))
        .map_err(|error| format!("the report is no JSON: {error}"))?;
    let version = report.get("version").and_then(Value::as_str).unwrap_or_default();
    if version != "2.1.0" && !version.starts_with("2.1.") {
        return Err("the report is no SARIF 2.1: its version says otherwise".to_owned());
    }
    let runs = report.get("runs").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if runs.is_empty() {
        return Err("the report holds no run: nothing was scanned".to_owned());
    }
    let mut count = Count::default();
    let mut unfinished = false;
    for (position, run) in runs.iter().enumerate() {
        count.run(run).map_err(|why| format!("run {}: {why}", position + 1))?;
        unfinished |= items(run.get("invocations"))
            .iter()
            .any(|invocation| invocation.get("executionSuccessful").and_then(Value::as_bool) == Some(false));
    }
    Ok(count.findings(unfinished))
}

fn items(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

impl Count {
    fn run(&mut self, run: &Value) -> Result<(), String> {
        if run.pointer("/externalPropertyFileReferences/results").is_some() {
            return Err("its results lie in other files: write them into one".to_owned());
        }
        let Some(results) = run.get("results").and_then(Value::as_array) else {
            return Err(
                "it has no list of results: the tool did not scan (an empty list would say that it found nothing)"
                    .to_owned(),
            );
        };
        let rules = Rules::of(run);
        for (position, result) in results.iter().enumerate() {
            if !result.is_object() {
                return Err(format!("result {} is no object", position + 1));
            }
            if !is_suppressed(result) {
                self.result(result, rules.rule(result)).map_err(|why| format!("result {}: {why}", position + 1))?;
            }
        }
        Ok(())
    }

    fn result(&mut self, result: &Value, rule: Option<&Value>) -> Result<(), String> {
        let is_finding = result.get("kind").and_then(Value::as_str).is_none_or(|kind| kind == "fail");
        let stated = result.get("level").and_then(Value::as_str);
        let of_rule = rule.and_then(|r| r.pointer("/defaultConfiguration/level")).and_then(Value::as_str);
        match stated.or(of_rule).unwrap_or("warning") {
            _ if !is_finding => self.none += 1,
            "error" => self.error += 1,
            "warning" => self.warning += 1,
            "note" => self.note += 1,
            "none" => self.none += 1,
            _ => return Err("its level is none of error, warning, note, none".to_owned()),
        }
        let severity =
            [Some(result), rule].into_iter().flatten().find_map(|of| of.pointer("/properties/security-severity"));
        let Some(severity) = severity.filter(|_| is_finding) else { return Ok(()) };
        let number = severity.as_f64().or_else(|| severity.as_str().and_then(|text| text.trim().parse().ok()));
        match number.filter(|n: &f64| (0.0..=10.0).contains(n)) {
            Some(n) if n >= 9.0 => self.critical += 1,
            Some(n) if n >= HIGH => self.high += 1,
            Some(n) if n >= 4.0 => self.medium += 1,
            Some(n) if n > 0.0 => self.low += 1,
            Some(_) => {}
            None => return Err("its security-severity is no number from 0 to 10".to_owned()),
        }
        Ok(())
    }

    fn findings(&self, unfinished: bool) -> Findings {
        let bad = self.error > 0 || self.critical > 0 || self.high > 0;
        let message = if unfinished {
            "the tool says that it did not run successfully".to_owned()
        } else if bad {
            format!("{} errors, {} critical and {} high findings", self.error, self.critical, self.high)
        } else {
            format!("no error, critical or high finding; {} warnings", self.warning)
        };
        Findings {
            passed: !bad && !unfinished,
            message,
            summary: vec![
                ("critical", self.critical),
                ("high", self.high),
                ("medium", self.medium),
                ("low", self.low),
                ("error", self.error),
                ("warning", self.warning),
                ("note", self.note),
                ("none", self.none),
            ],
        }
    }
}

/// A suppression that is rejected or still under review does not suppress (SARIF 3.35.3).
fn is_suppressed(result: &Value) -> bool {
    let suppressions = items(result.get("suppressions"));
    let stands = |s: &Value| !matches!(s.get("status").and_then(Value::as_str), Some("rejected" | "underReview"));
    let gone = result.get("baselineState").and_then(Value::as_str) == Some("absent");
    gone || (!suppressions.is_empty() && suppressions.iter().all(stands))
}

/// The rules of a run, of its driver and its extensions, by index and by id.
struct Rules<'a> {
    driver: &'a [Value],
    extensions: Vec<&'a [Value]>,
    by_id: HashMap<&'a str, &'a Value>,
}

impl<'a> Rules<'a> {
    fn of(run: &'a Value) -> Self {
        let driver = items(run.pointer("/tool/driver/rules"));
        let extensions: Vec<_> = items(run.pointer("/tool/extensions")).iter().map(|e| items(e.get("rules"))).collect();
        // The driver's rule wins where an extension has one of the same id.
        let all = extensions.iter().copied().flatten().chain(driver);
        let by_id = all.filter_map(|rule| Some((rule.get("id")?.as_str()?, rule))).collect();
        Self { driver, extensions, by_id }
    }

    fn rule(&self, result: &Value) -> Option<&'a Value> {
        let index =
            |pointer: &str| result.pointer(pointer).and_then(Value::as_u64).and_then(|i| usize::try_from(i).ok());
        let list = match index("/rule/toolComponent/index") {
            Some(extension) => self.extensions.get(extension).copied().unwrap_or_default(),
            None => self.driver,
        };
        let by_index = index("/ruleIndex").or_else(|| index("/rule/index")).and_then(|i| list.get(i));
        by_index.or_else(|| {
            let id =
                [result.get("ruleId"), result.pointer("/rule/id")].into_iter().flatten().find_map(Value::as_str)?;
            // `CA1000/1` is a part of rule `CA1000`.
            self.by_id.get(id).or_else(|| self.by_id.get(id.rsplit_once('/')?.0)).copied()
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(run: &Value) -> Result<Findings, String> {
        read(&json!({"version": "2.1.0", "runs": [run]}).to_string())
    }

    fn count(found: &Findings, name: &str) -> i64 {
        found.summary.iter().find(|(n, _)| *n == name).map_or(-1, |(_, value)| *value)
    }

    #[test]
    fn findings_are_counted_by_level_and_security_severity() {
        let rules = json!([
            {"id": "A", "properties": {"security-severity": "9.8"}},
            {"id": "B", "defaultConfiguration": {"level": "note"}, "properties": {"security-severity": 5.5}},
            {"id": "C", "properties": {"security-severity": "3.9"}},
        ]);
        let run = json!({
            "tool": {"driver": {"rules": rules}, "extensions": [{"rules": [{"id": "E", "defaultConfiguration": {"level": "none"}}]}]},
            "results": [
                {"ruleIndex": 0, "ruleId": "A"},
                {"ruleId": "B"},
                {"ruleId": "C/sub", "level": "none"},
                {"rule": {"index": 0, "toolComponent": {"index": 0}}},
                {"ruleId": "unknown"},
                {"ruleId": "A", "kind": "pass"},
                {"ruleId": "A", "level": "error", "suppressions": [{"kind": "inSource"}]},
                {"ruleId": "A", "level": "error", "baselineState": "absent"},
            ],
        });
        let found = of(&run).unwrap();
        let counts =
            ["critical", "high", "medium", "low", "error", "warning", "note", "none"].map(|n| count(&found, n));
        assert_eq!(counts, [1, 0, 1, 1, 0, 2, 1, 3]);
        assert!(!found.passed);
        assert_eq!(found.message, "0 errors, 1 critical and 0 high findings");
    }

    #[test]
    fn what_fails_a_scan() {
        let passes = |result: Value| of(&json!({"results": [result]})).unwrap().passed;
        assert!(of(&json!({"results": []})).unwrap().passed);
        assert!(passes(json!({"level": "warning", "properties": {"security-severity": "6.9"}})));
        assert!(!passes(json!({"level": "note", "properties": {"security-severity": "7.0"}})));
        assert!(!passes(json!({"level": "error"})));
        assert!(!passes(
            json!({"level": "error", "suppressions": [{"status": "accepted"}, {"status": "underReview"}]})
        ));
        assert!(passes(json!({"level": "error", "suppressions": [{"status": "accepted"}]})));
        let stopped = json!({"results": [], "invocations": [{"executionSuccessful": false}]});
        assert!(!of(&stopped).unwrap().passed);
    }

    #[test]
    fn a_report_that_says_nothing_is_refused() {
        for (report, why) in [
            (json!({"version": "2.1.0", "runs": []}), "no run"),
            (json!({"version": "2.1.0"}), "no run"),
            (json!({"version": "1.0.0", "runs": [{}]}), "no SARIF 2.1"),
            (json!({"runs": [{}]}), "no SARIF 2.1"),
            (json!({"version": "2.1.0", "runs": [{}]}), "did not scan"),
            (json!({"version": "2.1.0", "runs": [{"results": [7]}]}), "no object"),
            (json!({"version": "2.1.0", "runs": [{"results": [{"level": "fatal"}]}]}), "level"),
            (
                json!({"version": "2.1.0", "runs": [{"results": [{"properties": {"security-severity": "NaN"}}]}]}),
                "no number",
            ),
            (
                json!({"version": "2.1.0", "runs": [{"results": [], "externalPropertyFileReferences": {"results": [{}]}}]}),
                "other files",
            ),
        ] {
            let message = read(&report.to_string()).unwrap_err();
            assert!(message.contains(why), "{message}");
        }
        assert!(read(&"[".repeat(1_000_000)).is_err());
        assert!(read("").is_err());
    }
}
