//! JUnit XML reports, as Surefire, Gradle, pytest, go-junit-report and cargo-nextest write them.
//!
//! A report is input from elsewhere: no document type is accepted, entities are not expanded, depth and size are bounded,
//! and the numbers in attributes are not believed: the test cases themselves are counted.

use quick_xml::{Reader, events::Event};

use super::Findings;

/// Elements within each other.
const MAX_DEPTH: usize = 64;

/// What an element of the report is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Element {
    Suite,
    Case,
    Other,
}

/// How a test case ended, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Failure,
    Error,
    Skipped,
    Passed,
}

#[derive(Debug)]
struct Count {
    open: Vec<Element>,
    outcome: Outcome,
    tests: i64,
    failures: i64,
    errors: i64,
    skipped: i64,
}

/// Counts a report.
pub fn read(text: &str) -> Result<Findings, String> {
    let mut reader = Reader::from_str(text.trim_start_matches('\u{feff}'));
    let mut count = Count { open: Vec::new(), outcome: Outcome::Passed, tests: 0, failures: 0, errors: 0, skipped: 0 };
    let mut seen_root = false;
    loop {
        let event = reader.read_event().map_err(|error| {
            format!("the report is no well-formed XML at byte {}: {error}", reader.error_position())
        })?;
        match event {
            Event::Start(start) => {
                count.start(start.local_name().as_ref(), &mut seen_root)?;
            }
            Event::Empty(start) => {
                count.start(start.local_name().as_ref(), &mut seen_root)?;
                count.end();
            }
            Event::End(_) => count.end(),
            Event::DocType(_) => {
                return Err("the report declares a document type, which is not accepted: leave it out".to_owned());
            }
            Event::Eof => break,
            _ => {}
        }
    }
    if !count.open.is_empty() {
        return Err("the report ends in the middle: was it written completely?".to_owned());
    }
    if !seen_root {
        return Err("the report holds no element: JUnit XML starts with testsuites or testsuite".to_owned());
    }
    Ok(count.findings())
}

impl Count {
    fn start(&mut self, name: &str, seen_root: &mut bool) -> Result<(), String> {
        let element = match name {
            "testsuites" | "testsuite" => Element::Suite,
            "testcase" => Element::Case,
            _ => Element::Other,
        };
        match (self.open.last(), element) {
            (None, Element::Suite) if !*seen_root => *seen_root = true,
            (None, _) => return Err("JUnit XML has one root element, testsuites or testsuite".to_owned()),
            (Some(Element::Suite), Element::Case) => {
                self.tests += 1;
                self.outcome = Outcome::Passed;
            }
            (Some(Element::Case), Element::Case) => return Err("a testcase lies in a testcase".to_owned()),
            (Some(Element::Case), Element::Other) => {
                let outcome = match name {
                    "failure" => Outcome::Failure,
                    "error" => Outcome::Error,
                    "skipped" => Outcome::Skipped,
                    _ => Outcome::Passed,
                };
                self.outcome = self.outcome.min(outcome);
            }
            // What broke before or after the cases of a suite, such as its set-up.
            (Some(Element::Suite), Element::Other) if matches!(name, "failure" | "error") => self.errors += 1,
            _ => {}
        }
        if self.open.len() == MAX_DEPTH {
            return Err(format!("the report has more than {MAX_DEPTH} elements within each other"));
        }
        self.open.push(element);
        Ok(())
    }

    fn end(&mut self) {
        if self.open.pop() == Some(Element::Case) && self.open.last() == Some(&Element::Suite) {
            match self.outcome {
                Outcome::Failure => self.failures += 1,
                Outcome::Error => self.errors += 1,
                Outcome::Skipped => self.skipped += 1,
                Outcome::Passed => {}
            }
        }
    }

    fn findings(&self) -> Findings {
        let message = match () {
            () if self.failures + self.errors > 0 => {
                format!("{} of {} tests failed, {} had errors", self.failures, self.tests, self.errors)
            }
            () if self.tests == 0 => "the report holds no test".to_owned(),
            () if self.skipped == self.tests => "every test was skipped".to_owned(),
            () => format!("{} tests passed, {} were skipped", self.tests - self.skipped, self.skipped),
        };
        Findings {
            passed: self.failures + self.errors == 0 && self.tests > self.skipped,
            message,
            summary: vec![
                ("tests", self.tests),
                ("failures", self.failures),
                ("errors", self.errors),
                ("skipped", self.skipped),
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_counted_wherever_suites_lie_and_attributes_are_not_believed() {
        let report = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites tests="1" failures="0">
  <testsuite name="a" tests="0" failures="0">
    <properties><property name="failure" value="x"/></properties>
    <testcase name="1"/>
    <testcase name="2"><failure message="no">at &lt;x&gt;</failure><failure/></testcase>
    <testsuite name="nested">
      <testcase name="3"><error/><skipped/></testcase>
      <testcase name="4"><skipped message="later"/></testcase>
      <testcase name="5"><system-out><![CDATA[<failure/>]]></system-out></testcase>
      <testcase name="6"><flakyFailure/><rerunFailure/></testcase>
    </testsuite>
  </testsuite>
</testsuites>"#;
        let found = read(report).unwrap();
        assert!(!found.passed);
        assert_eq!(found.summary, [("tests", 6), ("failures", 1), ("errors", 1), ("skipped", 1)]);
        assert_eq!(found.message, "1 of 6 tests failed, 1 had errors");
        let good = read("<testsuite failures='9'><testcase/><testcase><skipped/></testcase></testsuite>").unwrap();
        assert!(good.passed);
        assert_eq!(good.message, "1 tests passed, 1 were skipped");
    }

    #[test]
    fn a_report_that_proves_nothing_does_not_pass() {
        for (report, why) in [
            ("<testsuites/>", "the report holds no test"),
            ("<testsuite tests='5'></testsuite>", "the report holds no test"),
            ("<testsuite><testcase><skipped/></testcase></testsuite>", "every test was skipped"),
            ("<testsuite><error/><testcase/></testsuite>", "0 of 1 tests failed, 1 had errors"),
        ] {
            let found = read(report).unwrap();
            assert!(!found.passed, "{report}");
            assert_eq!(found.message, why);
        }
    }

    #[test]
    fn hostile_and_broken_reports_are_refused() {
        let deep = format!("<testsuite>{}", "<a>".repeat(100_000));
        let bomb =
            "<!DOCTYPE t [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><testsuite><testcase>&b;</testcase></testsuite>";
        for (report, why) in [
            (bomb, "document type"),
            ("<!DOCTYPE t SYSTEM \"file:///etc/passwd\"><testsuite/>", "document type"),
            (deep.as_str(), "within each other"),
            ("<testsuite><testcase>", "ends in the middle"),
            ("<testsuite><testcase></testsuite>", "well-formed"),
            ("<html/>", "root element"),
            ("<testsuite/><testsuite/>", "root element"),
            ("<testsuite><testcase><testcase/></testcase></testsuite>", "a testcase lies in a testcase"),
            ("", "no element"),
            ("not xml", "no element"),
        ] {
            let message = read(report).unwrap_err();
            assert!(message.contains(why), "{message}");
        }
    }
}
