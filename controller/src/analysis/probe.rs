//! An HTTP address that is asked.

use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderValue, Method};
use interlock_core::analysis::{Observation, Subject, template};
use interlock_crds::{Header, HttpMethod, HttpMetric};

use super::client::Question;
use super::{Access, Client, ClientError};

pub(super) async fn measure(client: &Client, access: &Access, metric: &HttpMetric, subject: &Subject) -> Observation {
    let address = match template::address(&metric.url, subject) {
        Ok(address) => address,
        Err(error) => return Observation::Error(error.to_string()),
    };
    let mut headers = match headers(&metric.headers) {
        Ok(headers) => headers,
        Err(error) => return Observation::Error(error.to_string()),
    };
    if metric.body.is_some() && !headers.iter().any(|(name, _)| name == CONTENT_TYPE) {
        headers.push((CONTENT_TYPE, HeaderValue::from_static("application/json")));
    }
    let question = Question {
        method: match metric.method {
            HttpMethod::Get => Method::GET,
            HttpMethod::Head => Method::HEAD,
            HttpMethod::Post => Method::POST,
        },
        address: &address,
        headers,
        body: metric.body.clone(),
        timeout: timeout(metric.timeout),
    };
    match client.ask(question, access).await {
        Ok(answer) => Observation::Http {
            status: answer.status.as_u16(),
            body: String::from_utf8(answer.body.to_vec()).ok().filter(|body| !body.is_empty()),
        },
        Err(error) => Observation::Error(error.to_string()),
    }
}

pub(super) fn headers(headers: &[Header]) -> Result<Vec<(HeaderName, HeaderValue)>, ClientError> {
    let refuse = |header: &Header| ClientError::Header(header.name.clone());
    let read = |header: &Header| {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| refuse(header))?;
        Ok((name, HeaderValue::from_str(&header.value).map_err(|_| refuse(header))?))
    };
    headers.iter().map(read).collect()
}

/// At least a second, at most what is allowed, whatever slipped past admission.
pub(super) fn timeout(timeout: interlock_crds::Duration) -> Duration {
    let seconds = timeout.seconds().clamp(1, interlock_core::analysis::MAX_TIMEOUT_SECONDS);
    Duration::from_secs(seconds.unsigned_abs())
}
