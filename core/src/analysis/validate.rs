//! What is wrong with an analysis, said at admission.

use interlock_crds::{Analysis, CompareMetric, Duration, HttpMetric, NoDataRule, PrometheusMetric, Severity};

use super::condition::{Condition, Source};
use super::origin::Origin;
use super::run::Slot;
use super::statistics::{Alternative, mann_whitney};
use super::template::{self, Subject, Track};
use super::{MAX_SAMPLES, MAX_TIMEOUT_SECONDS};

/// Something that is wrong, or probably not meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// An error is refused; a warning is shown.
    pub severity: Severity,
    /// Field, below the analysis, such as `prometheus.query`.
    pub field: &'static str,
    /// What is wrong and what to write instead.
    pub message: String,
}

/// Everything that is wrong with `analysis`, as far as the schema cannot tell.
pub fn validate(analysis: &Analysis) -> Vec<Finding> {
    let mut findings = Findings::default();
    let sources =
        [analysis.prometheus.is_some(), analysis.http.is_some(), analysis.job.is_some(), analysis.compare.is_some()];
    findings.unless(
        sources.iter().filter(|given| **given).count() == 1,
        "name",
        "give exactly one of prometheus, http, job and compare",
    );
    if let Err(wrong) = conditions(analysis) {
        findings.0.extend(wrong);
    }
    findings.unless(
        analysis.count.is_none_or(|count| analysis.failure_limit < count),
        "failureLimit",
        "it must be less than count, or the analysis could never fail",
    );
    if let Some(metric) = &analysis.prometheus {
        prometheus(metric, &mut findings);
    }
    if let Some(metric) = &analysis.http {
        http(analysis, metric, &mut findings);
    }
    if let Some(metric) = &analysis.job {
        findings.template("job.spec", template::json(&metric.spec, &anybody()).map(drop));
    }
    if let Some(metric) = &analysis.compare {
        compare(analysis, metric, &mut findings);
    }
    if analysis.no_data == NoDataRule::Pass {
        findings.warn(
            "noData",
            "a measurement that finds nothing counts as a success: a misspelt label would let everything pass",
        );
    }
    findings.0
}

/// The conditions of an analysis, or what is wrong with them.
pub(super) fn conditions(analysis: &Analysis) -> Result<(Option<Condition>, Option<Condition>), Vec<Finding>> {
    let source = match analysis {
        Analysis { prometheus: Some(metric), .. } if metric.range.is_some() => Source::Range,
        Analysis { http: Some(_), .. } => Source::Http,
        _ => Source::Instant,
    };
    let mut findings = Findings::default();
    let mut read = |field, text: Option<&String>| match Condition::new(text?, source) {
        Ok(condition) => Some(condition),
        Err(why) => {
            findings.error(field, why);
            None
        }
    };
    let success = read("successWhen", analysis.success_when.as_ref());
    let fail = read("failWhen", analysis.fail_when.as_ref());
    let judged_otherwise = analysis.job.is_some() || analysis.compare.is_some();
    let given = analysis.success_when.is_some() || analysis.fail_when.is_some();
    findings.unless(!judged_otherwise || !given, "successWhen", "a job and a comparison have no conditions");
    findings.unless(
        analysis.prometheus.is_none() || given,
        "successWhen",
        "say what the value must be: successWhen, failWhen or both",
    );
    if findings.0.is_empty() { Ok((success, fail)) } else { Err(findings.0) }
}

fn prometheus(metric: &PrometheusMetric, findings: &mut Findings) {
    findings.template("prometheus.query", template::promql(&metric.query, &anybody(), Track::Canary).map(drop));
    findings.timeout("prometheus.timeout", metric.timeout);
    findings.host("prometheus.address", &metric.address);
    if let Some(range) = &metric.range {
        let values = range.window.seconds() / range.step.seconds().max(1);
        findings.unless(
            values >= 1 && values <= i64::from(MAX_SAMPLES),
            "prometheus.range",
            format!("window and step give {values} values: 1 to {MAX_SAMPLES} are possible"),
        );
    }
}

fn http(analysis: &Analysis, metric: &HttpMetric, findings: &mut Findings) {
    let address = template::address(&metric.url, &anybody());
    if let Ok(address) = &address {
        findings.host("http.url", address);
    }
    findings.template("http.url", address.map(drop));
    findings.timeout("http.timeout", metric.timeout);
    findings.unless(
        !metric.expect_status.is_empty() || analysis.success_when.is_some() || analysis.fail_when.is_some(),
        "http.expectStatus",
        "any answer would be a success: give expectStatus, successWhen or failWhen",
    );
}

fn compare(analysis: &Analysis, metric: &CompareMetric, findings: &mut Findings) {
    let server = &metric.metric;
    findings.timeout("compare.metric.timeout", server.timeout);
    findings.host("compare.metric.address", &server.address);
    let of = |track| template::promql(&server.query, &anybody(), track);
    findings.template("compare.metric.query", of(Track::Canary).map(drop));
    match &metric.baseline_query {
        Some(query) => {
            let baseline = template::promql(query, &anybody(), Track::Stable);
            findings.unless(
                baseline.as_ref().ok() != of(Track::Canary).as_ref().ok(),
                "compare.baselineQuery",
                "it asks the same as metric.query: the new version would be compared with itself",
            );
            findings.template("compare.baselineQuery", baseline.map(drop));
        }
        None => findings.unless(
            of(Track::Canary).ok() != of(Track::Stable).ok(),
            "compare.metric.query",
            "it must tell the versions apart: use {{track}} or {{hash}} in it, or give a baselineQuery",
        ),
    }
    let step = metric.step.seconds().max(1);
    for (field, query) in
        [("compare.metric.query", Some(&server.query)), ("compare.baselineQuery", metric.baseline_query.as_ref())]
    {
        let longest = query.into_iter().flat_map(|query| template::ranges(query)).max().unwrap_or(0);
        findings.unless(
            longest <= step,
            field,
            format!(
                "it looks back over {longest}s, but a sample is taken every {step}s: samples that overlap are not \
                 independent, and the test would find differences where there are none; shorten the range or lengthen step"
            ),
        );
    }
    if let Some(window) = metric.window {
        let samples = window.seconds() / step;
        findings.unless(
            samples >= i64::from(metric.minimum_samples) && samples <= i64::from(MAX_SAMPLES),
            "compare.window",
            format!("window and step give {samples} samples: {} to {MAX_SAMPLES} are possible", metric.minimum_samples),
        );
    }
    can_fail(analysis, metric, findings);
}

/// With few samples even the greatest difference is no rarity.
fn can_fail(analysis: &Analysis, metric: &CompareMetric, findings: &mut Findings) {
    let count = f64::from(metric.minimum_samples);
    let low: Vec<f64> = (0..metric.minimum_samples).map(f64::from).collect();
    let high: Vec<f64> = low.iter().map(|value| value + count).collect();
    let slot =
        Slot { number: 1, due: jiff::Timestamp::UNIX_EPOCH, samples: None, of: Some(analysis.count.unwrap_or(1)) };
    let level = slot.share_of(metric.alpha);
    let least = mann_whitney(&high, &low, Alternative::TwoSided).map_or(1.0, |tested| tested.p);
    findings.unless(
        least < level,
        "compare.minimumSamples",
        format!(
            "with {} samples the least possible p is {}, and each of {} measurements needs less than {}: it could never \
             fail; ask for more samples or measure less often",
            metric.minimum_samples,
            super::number(least),
            analysis.count.unwrap_or(1),
            super::number(level)
        ),
    );
}

/// Names that stand for those of any workload.
fn anybody() -> Subject {
    Subject {
        workload: "workload".to_owned(),
        namespace: "namespace".to_owned(),
        canary_hash: "canaryhash".to_owned(),
        stable_hash: "stablehash".to_owned(),
    }
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn error(&mut self, field: &'static str, message: impl Into<String>) {
        self.0.push(Finding { severity: Severity::Error, field, message: message.into() });
    }

    fn warn(&mut self, field: &'static str, message: impl Into<String>) {
        self.0.push(Finding { severity: Severity::Warning, field, message: message.into() });
    }

    fn unless(&mut self, holds: bool, field: &'static str, message: impl Into<String>) {
        if !holds {
            self.error(field, message);
        }
    }

    fn template(&mut self, field: &'static str, filled: Result<(), template::TemplateError>) {
        if let Err(error) = filled {
            self.error(field, error.to_string());
        }
    }

    fn timeout(&mut self, field: &'static str, timeout: Duration) {
        let message = format!("{timeout} is too long: one answer may take at most {MAX_TIMEOUT_SECONDS}s");
        self.unless(timeout.seconds() <= MAX_TIMEOUT_SECONDS, field, message);
    }

    /// The schema's pattern lets in what is no address, such as `http://a:b:c`.
    fn host(&mut self, field: &'static str, address: &str) {
        let usable = Origin::of(address).is_some();
        self.unless(usable, field, "it is not a usable address: write http://HOST:PORT or https://HOST:PORT");
    }
}
