//! The HTTP API of Prometheus: instant and range queries.

mod answer;

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderValue, Method, StatusCode};
use interlock_core::analysis::{Observation, SampleRange, Series, Subject, Track, template};
use interlock_crds::{CompareMetric, PrometheusMetric};

use self::answer::Data;
use super::client::{Answer, Question};
use super::probe::{headers, timeout};
use super::{Access, Client};

/// A current value, or the values over a span of time that ends at the server's present.
pub(super) async fn measure(
    client: &Client,
    access: &Access,
    metric: &PrometheusMetric,
    subject: &Subject,
) -> Observation {
    let query = match template::promql(&metric.query, subject, Track::Canary) {
        Ok(query) => query,
        Err(error) => return Observation::Error(error.to_string()),
    };
    // The values of a span are asked for as a subquery at the server's own present, so that no clock but its own counts.
    let Some(range) = &metric.range else {
        return match ask(client, access, metric, "query", &[("query", &query)]).await {
            Ok(Data::Instant(series)) => Observation::Instant(series),
            Ok(Data::Range(_)) => Observation::Error(
                "the query gives values over time: aggregate them (avg_over_time, ...) or set `range`".to_owned(),
            ),
            Err(why) => Observation::Error(why),
        };
    };
    let (window, step) = (range.window.seconds(), range.step.seconds().max(1));
    let query = format!("({query}\n)[{window}s:{step}s]");
    match ask(client, access, metric, "query", &[("query", &query)]).await {
        Ok(Data::Range(series)) => Observation::Range(series),
        Ok(Data::Instant(_)) => {
            Observation::Error("the server gives one value where values over time were asked for".into())
        }
        Err(why) => Observation::Error(why),
    }
}

/// Samples of both versions over the same time.
pub(super) async fn compare(
    client: &Client,
    access: &Access,
    metric: &CompareMetric,
    range: &SampleRange,
    subject: &Subject,
) -> Observation {
    let template = &metric.metric.query;
    let baseline = metric.baseline_query.as_ref().unwrap_or(template);
    let canary = samples(client, access, &metric.metric, template, (range, subject, Track::Canary));
    let baseline = samples(client, access, &metric.metric, baseline, (range, subject, Track::Stable));
    match futures::future::join(canary, baseline).await {
        (Ok(canary), Ok(baseline)) => Observation::Samples { canary, baseline },
        (Err(why), _) | (_, Err(why)) => Observation::Error(why),
    }
}

/// The samples of one version; none if its query finds nothing, which the core counts as too few.
async fn samples(
    client: &Client,
    access: &Access,
    metric: &PrometheusMetric,
    query: &str,
    (range, subject, track): (&SampleRange, &Subject, Track),
) -> Result<Vec<f64>, String> {
    let query = template::promql(query, subject, track).map_err(|error| error.to_string())?;
    let (start, end) = (range.from.as_second().to_string(), range.to.as_second().to_string());
    let step = range.step_seconds.to_string();
    let parameters = [("query", query.as_str()), ("start", &start), ("end", &end), ("step", &step)];
    let version = match track {
        Track::Canary => "new",
        Track::Stable => "old",
    };
    match ask(client, access, metric, "query_range", &parameters).await? {
        Data::Range(mut series) => match (series.pop(), series.len()) {
            (None, _) => Ok(Vec::new()),
            (Some(Series { value, .. }), 0) => Ok(value),
            (Some(_), more) => Err(format!(
                "the query for the {version} version gives {} series where one is compared: aggregate it",
                more + 1
            )),
        },
        Data::Instant(_) => Err(format!("the query for the {version} version gives no values over time")),
    }
}

async fn ask(
    client: &Client,
    access: &Access,
    metric: &PrometheusMetric,
    endpoint: &str,
    parameters: &[(&str, &str)],
) -> Result<Data, String> {
    let timeout = timeout(metric.timeout);
    let mut headers = headers(&metric.headers).map_err(|error| error.to_string())?;
    headers.push((ACCEPT, HeaderValue::from_static("application/json")));
    headers.push((CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded")));
    let mut form = format!("timeout={}s", timeout.as_secs());
    for (name, value) in parameters {
        form.push('&');
        form.push_str(name);
        form.push('=');
        encode(&mut form, value);
    }
    let address = format!("{}/api/v1/{endpoint}", metric.address.trim_end_matches('/'));
    let question = Question { method: Method::POST, address: &address, headers, body: Some(form), timeout };
    let Answer { status, body } = client.ask(question, access).await.map_err(|error| error.to_string())?;
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Err(format!("the server refuses the request ({status}): it wants other credentials, see secretRef"))
        }
        status if status.is_redirection() => Err(format!(
            "the server sends the request elsewhere ({status}), and redirects are not followed: give the final address"
        )),
        status => answer::read(status, &body),
    }
}

/// Percent-encodes a value of a form.
fn encode(into: &mut String, value: &str) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            into.push(char::from(byte));
        } else {
            let digit = |nibble: u8| char::from(*HEX.get(usize::from(nibble)).unwrap_or(&b'0'));
            into.extend(['%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
}
