//! The answers of the HTTP API, `status`, `data`, `error`, `warnings`.

use std::collections::BTreeMap;

use http::StatusCode;
use interlock_core::analysis::Series;
use serde::Deserialize;

/// What was found.
#[derive(Debug, PartialEq)]
pub enum Data {
    /// Scalar or vector.
    Instant(Vec<Series<f64>>),
    /// Matrix.
    Range(Vec<Series<Vec<f64>>>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    status: String,
    data: Option<Raw>,
    error_type: Option<String>,
    error: Option<String>,
    #[serde(default)]
    warnings: Vec<String>,
}

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum Raw {
    Scalar(Sample),
    Vector(Vec<RawSeries>),
    Matrix(Vec<RawSeries>),
    String(serde::de::IgnoredAny),
}

/// Seconds and a number as text.
type Sample = (f64, String);

#[derive(Deserialize)]
struct RawSeries {
    #[serde(default)]
    metric: BTreeMap<String, String>,
    value: Option<Sample>,
    values: Option<Vec<Sample>>,
    histogram: Option<serde::de::IgnoredAny>,
    histograms: Option<serde::de::IgnoredAny>,
}

/// Reads an answer. The error is for a person.
pub fn read(status: StatusCode, body: &[u8]) -> Result<Data, String> {
    let Ok(envelope) = serde_json::from_slice::<Envelope>(body) else {
        return Err(if status.is_success() {
            "the server does not answer as Prometheus does: is the address right?".to_owned()
        } else {
            format!("the server answered {status}")
        });
    };
    if envelope.status != "success" || !status.is_success() {
        let words = [envelope.error_type, envelope.error].into_iter().flatten().collect::<Vec<_>>().join(": ");
        let words = if words.is_empty() { "it gives no reason".to_owned() } else { short(&words) };
        return Err(format!("the server answered {}: {words}", status.as_u16()));
    }
    // A warning says that a part of the data could not be read. Remarks about a query were warnings once, too.
    if let Some(warning) = envelope.warnings.iter().find(|warning| !warning.starts_with("PromQL info:")) {
        return Err(format!("the server warns that its answer may be incomplete: {}", short(warning)));
    }
    match envelope.data {
        None => Err("the server answers success without data".to_owned()),
        Some(Raw::String(_)) => Err("the query gives a text, not a number".to_owned()),
        Some(Raw::Scalar((_, text))) => {
            Ok(Data::Instant(vec![Series { labels: BTreeMap::new(), value: number(&text)? }]))
        }
        Some(Raw::Vector(series)) => {
            let one = |series: RawSeries| match (series.histogram, series.value) {
                (None, Some((_, text))) => Ok(Series { labels: series.metric, value: number(&text)? }),
                _ => Err(HISTOGRAM.to_owned()),
            };
            series.into_iter().map(one).collect::<Result<_, _>>().map(Data::Instant)
        }
        Some(Raw::Matrix(series)) => {
            let one = |series: RawSeries| match (series.histograms, series.values) {
                (None, Some(values)) => {
                    let value = values.iter().map(|(_, text)| number(text)).collect::<Result<_, _>>()?;
                    Ok(Series { labels: series.metric, value })
                }
                _ => Err(HISTOGRAM.to_owned()),
            };
            series.into_iter().map(one).collect::<Result<_, _>>().map(Data::Range)
        }
    }
}

const HISTOGRAM: &str = "the query gives histograms, not numbers: use histogram_quantile or a like function";

/// As Prometheus writes numbers: also `NaN`, `+Inf`, `-Inf`.
fn number(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| "the server gives a value that is no number".to_owned())
}

fn short(text: &str) -> String {
    let mut short: String = text.chars().filter(|c| !c.is_control()).take(300).collect();
    if short.len() < text.len() {
        short.push_str("...");
    }
    short
}
