//! A rehearsal as a JUnit report: a test case for each expectation.

use interlock_rehearsal::scenario::Report;

/// The report as XML. `suite` is the name of the scenario.
pub fn render(report: &Report, suite: &str) -> String {
    let failures = report.expectations.iter().filter(|outcome| !outcome.met).count();
    let head = format!(
        "<testsuite name=\"{}\" tests=\"{}\" failures=\"{failures}\" errors=\"0\" skipped=\"0\" timestamp=\"{}\">",
        escaped(suite),
        report.expectations.len(),
        report.start
    );
    let mut lines = vec!["<?xml version=\"1.0\" encoding=\"UTF-8\"?>".to_owned(), "<testsuites>".to_owned(), head];
    for outcome in &report.expectations {
        let case = format!("<testcase classname=\"{}\" name=\"{}\"", escaped(&outcome.place), escaped(&outcome.text));
        if outcome.met {
            lines.push(format!("{case}/>"));
        } else {
            lines.push(format!("{case}>"));
            let found = escaped(&outcome.found);
            lines.push(format!("<failure message=\"{found}\">at {}: {found}</failure>", outcome.at));
            lines.push("</testcase>".to_owned());
        }
    }
    lines.extend(["</testsuite>", "</testsuites>", ""].map(ToOwned::to_owned));
    lines.join("\n")
}

/// A text for XML or HTML, in an attribute or outside; characters that XML cannot have are left out.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' | '\r' => out.push(letter),
            _ if letter.is_control() || matches!(letter, '\u{fffe}' | '\u{ffff}') => {}
            _ => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_texts_stays_text() {
        assert_eq!(escaped("<a b='c'>&\"\u{1b}[31m"), "&lt;a b=&#39;c&#39;&gt;&amp;&quot;[31m");
    }
}
