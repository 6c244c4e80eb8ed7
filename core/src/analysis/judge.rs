//! From what was seen to the outcome of one measurement.

use interlock_crds::{Analysis, HttpMetric, MeasurementOutcome, NoDataRule};

use super::condition::{Condition, Evaluation, Variables};
use super::observation::{JobEnd, Observation};
use super::run::Slot;
use super::validate::{Finding, conditions};
use super::{compare, number};

/// An analysis whose conditions are read, once for all its measurements.
#[derive(Clone, Debug)]
pub struct Judge {
    analysis: Analysis,
    success: Option<Condition>,
    fail: Option<Condition>,
}

/// The outcome of one measurement, with reasons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// How it ended.
    pub outcome: MeasurementOutcome,
    /// The value, if it is one number.
    pub value: Option<String>,
    /// Why, for a person; a clause without a full stop, such as `0.034 is not < 0.01`.
    pub message: String,
}

impl Judged {
    /// An outcome without a value.
    pub fn new(outcome: MeasurementOutcome, message: impl Into<String>) -> Self {
        Self { outcome, value: None, message: message.into() }
    }

    fn error(message: impl Into<String>) -> Self {
        Self::new(MeasurementOutcome::Error, message)
    }
}

impl Judge {
    /// Reads the conditions. Admission refuses an analysis for which this fails; one that slipped past is an error at
    /// each measurement.
    pub fn new(analysis: &Analysis) -> Result<Self, Vec<Finding>> {
        let (success, fail) = conditions(analysis)?;
        Ok(Self { analysis: analysis.clone(), success, fail })
    }

    /// The outcome of the measurement in `slot`.
    pub fn judge(&self, slot: &Slot, observation: &Observation) -> Judged {
        match observation {
            Observation::Error(why) => Judged::error(why.clone()),
            Observation::NoData(why) => no_data(self.analysis.no_data, why),
            Observation::Job(end) => job(end),
            Observation::Samples { canary, baseline } => match &self.analysis.compare {
                Some(metric) => compare::judge(metric, slot, canary, baseline)
                    .unwrap_or_else(|few| no_data(self.analysis.no_data, &few)),
                None => Judged::error("samples were measured, but there is nothing to compare"),
            },
            Observation::Exec { .. } => Judged::error("a command was run, but there is nothing to judge"),
            Observation::Http { status, body } => self.http(*status, body.as_deref()),
            Observation::Instant(series) => {
                if series.is_empty() {
                    return no_data(self.analysis.no_data, "the query found nothing");
                }
                // A series without a value cannot be checked, so the others do not speak for it.
                if let Some(nan) = series.iter().find(|one| one.value.is_nan()) {
                    return no_data(self.analysis.no_data, &format!("the value{} is not a number", of(&nan.labels)));
                }
                let one = if let [one] = series.as_slice() { Some(one.value) } else { None };
                self.conditions(Variables::instant(series), one, series.len())
            }
            Observation::Range(series) => {
                if series.iter().all(|one| one.value.iter().all(|value| value.is_nan())) {
                    return no_data(self.analysis.no_data, "the query found nothing");
                }
                if let Some(none) = series.iter().find(|one| one.value.iter().all(|value| value.is_nan())) {
                    let why = format!("the series{} has no numbers", of(&none.labels));
                    return no_data(self.analysis.no_data, &why);
                }
                let numbers: Vec<_> = series.iter().map(super::Series::without_nan).collect();
                self.conditions(Variables::range(&numbers), None, numbers.len())
            }
        }
    }

    fn http(&self, status: u16, body: Option<&str>) -> Judged {
        let expected =
            self.analysis.http.as_ref().map_or(&[] as &[u16], |HttpMetric { expect_status, .. }| expect_status);
        let value = Some(f64::from(status));
        if !expected.is_empty() && !expected.contains(&status) {
            let expected: Vec<_> = expected.iter().map(ToString::to_string).collect();
            let message = format!("status {status} is not {}", expected.join(" or "));
            return Judged { outcome: MeasurementOutcome::Failed, value: value.map(number), message };
        }
        if self.success.is_none() && self.fail.is_none() {
            let message = format!("status {status}");
            return Judged { outcome: MeasurementOutcome::Successful, value: value.map(number), message };
        }
        self.conditions(Variables::http(status, body), None, 1)
    }

    fn conditions(&self, variables: Result<Variables, String>, value: Option<f64>, series: usize) -> Judged {
        let variables = match variables {
            Ok(variables) => variables,
            Err(why) => return Judged::error(why),
        };
        let truth = |condition: &Condition| {
            if condition.uses_result() && !variables.has("result") {
                let why = if series > 1 {
                    format!(
                        "the query gives {series} series where `result` means one: aggregate it, or look at `series`"
                    )
                } else {
                    "the body is not JSON, so there is no `result`".to_owned()
                };
                return Err(Judged::error(why));
            }
            match condition.evaluate(&variables) {
                Evaluation::Is(truth) => Ok(truth),
                Evaluation::Missing(what) => Err(no_data(self.analysis.no_data, &what)),
                Evaluation::Error(why) => Err(Judged::error(format!("`{}`: {why}", condition.text()))),
            }
        };
        let decided = || {
            let fails = self.fail.as_ref().map(|fail| Ok((fail, truth(fail)?))).transpose()?;
            let succeeds = self.success.as_ref().map(|success| Ok((success, truth(success)?))).transpose()?;
            Ok(match (fails, succeeds) {
                (Some((fail, true)), _) => (MeasurementOutcome::Failed, says(fail, true, value)),
                (_, Some((success, true))) => (MeasurementOutcome::Successful, says(success, true, value)),
                (Some((fail, false)), None) => (MeasurementOutcome::Successful, says(fail, false, value)),
                (None, Some((success, false))) => (MeasurementOutcome::Failed, says(success, false, value)),
                (Some((fail, false)), Some((success, false))) => {
                    let both = format!("{} and {}", says(success, false, value), says(fail, false, value));
                    (MeasurementOutcome::Inconclusive, both)
                }
                (None, None) => (MeasurementOutcome::Error, "there is neither successWhen nor failWhen".to_owned()),
            })
        };
        decided()
            .map_or_else(|judged| judged, |(outcome, message)| Judged { outcome, value: value.map(number), message })
    }
}

/// `0.034 is not < 0.01` for a plain comparison, the whole condition otherwise.
fn says(condition: &Condition, truth: bool, value: Option<f64>) -> String {
    let is = if truth { "is" } else { "is not" };
    let comparison = condition.text().strip_prefix("result").map(str::trim_start).filter(|rest| {
        rest.starts_with(['<', '>', '=', '!'])
            && !rest.contains("&&")
            && !rest.contains("||")
            && !rest.contains("result")
    });
    match (comparison, value) {
        (Some(rest), Some(value)) => format!("{} {is} {rest}", number(value)),
        (None, Some(value)) => format!("`{}` {is} true for {}", condition.text(), number(value)),
        (_, None) => format!("`{}` {is} true", condition.text()),
    }
}

/// A Job that never finished says nothing, whatever the rule for missing data (R13).
fn job(end: &JobEnd) -> Judged {
    match end {
        JobEnd::Complete => Judged::new(MeasurementOutcome::Successful, "the job completed"),
        JobEnd::Failed(why) => Judged::new(MeasurementOutcome::Failed, format!("the job failed: {why}")),
        JobEnd::Unfinished(why) => Judged::new(MeasurementOutcome::Inconclusive, why.clone()),
    }
}

fn no_data(rule: NoDataRule, why: &str) -> Judged {
    match rule {
        NoDataRule::Inconclusive => Judged::new(MeasurementOutcome::Inconclusive, format!("no data: {why}")),
        NoDataRule::Fail => {
            Judged::new(MeasurementOutcome::Failed, format!("no data, which counts as a failure: {why}"))
        }
        NoDataRule::Pass => {
            Judged::new(MeasurementOutcome::Successful, format!("no data, which counts as a success: {why}"))
        }
    }
}

/// Labels for a message; they come from a server, so not many of them.
fn of(labels: &std::collections::BTreeMap<String, String>) -> String {
    if labels.is_empty() {
        return String::new();
    }
    let text: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    format!(" of {{{}}}", super::shorten(&text.join(", "), 200))
}
