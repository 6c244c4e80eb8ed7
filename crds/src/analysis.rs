//! Analysis: what is measured during a release, and what the values must be.

mod state;

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::state::{
    AnalysisCounts, AnalysisRecord, AnalysisState, AnalysisVerdict, MeasurementOutcome, MeasurementRecord,
};
use crate::{
    common::{Duration, NameRef},
    rules,
};

/// One analysis: where a value comes from (exactly one of prometheus, http, job and compare), what it must be, how often
/// it is measured and how many bad measurements are borne. Queries, addresses and Job templates may contain `{{workload}}`,
/// `{{namespace}}`, `{{track}}` (`canary` or `stable`) and `{{hash}}` (pod-template-hash of that track).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.prometheus), has(self.http), has(self.job), has(self.compare)].filter(x, x).size() == 1").message("give exactly one of prometheus, http, job and compare"))]
#[x_kube(validation = Rule::new("!has(self.prometheus) || has(self.successWhen) || has(self.failWhen)").message("say what the value must be: successWhen, failWhen or both"))]
#[x_kube(validation = Rule::new("(!has(self.job) && !has(self.compare)) || (!has(self.successWhen) && !has(self.failWhen))").message("successWhen and failWhen look at values: they belong to prometheus and http; a job succeeds when it completes, and compare has a test"))]
#[x_kube(validation = Rule::new("!has(self.count) || !has(self.failureLimit) || self.failureLimit < self.count").message("failureLimit must be less than count, or the analysis could never fail"))]
pub struct Analysis {
    /// Name, unique in its list.
    #[schemars(length(min = 1, max = 40), regex(pattern = rules::LABEL))]
    pub name: String,
    /// The value is the answer of a Prometheus server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<PrometheusMetric>,
    /// The value is the answer of an HTTP address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpMetric>,
    /// A Job measures: complete is a success, failed a failure, unfinished neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobMetric>,
    /// A statistical test compares the new version with the old one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compare: Option<CompareMetric>,
    /// CEL: the measurement is a success if this is true. Without failWhen, anything else is a failure. Looks at `result` (a
    /// number; a list of numbers for a range; the JSON body for http), `series` (a list of `labels` and `value` or `values`;
    /// prometheus), `status` and `body` (http). All numbers are doubles; beside them 100 and 100.0 are the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub success_when: Option<String>,
    /// CEL: the measurement is a failure if this is true, whatever successWhen says. Without successWhen, anything else is
    /// a success; with both, what is neither is inconclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub fail_when: Option<String>,
    /// Time from one measurement to the next. Default: 60s.
    #[serde(default = "one_minute")]
    pub interval: Duration,
    /// So many measurements (not counting those that ended in an error). Ignored in the background, where it measures until
    /// the steps are complete. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub count: Option<u32>,
    /// So many failed measurements are borne; one more fails the analysis. Default: 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 10_000))]
    pub failure_limit: u32,
    /// So many inconclusive measurements are borne; one more makes the analysis inconclusive, which pauses the release.
    /// Default: 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 10_000))]
    pub inconclusive_limit: u32,
    /// So many measurements in a row may end in an error (server away, condition that cannot be evaluated); one more ends
    /// the analysis as `onError` says. Default: 4.
    #[serde(default = "four")]
    #[schemars(range(min = 0, max = 1_000))]
    pub consecutive_error_limit: u32,
    /// How the analysis ends when consecutiveErrorLimit is exceeded. Default: Inconclusive.
    #[serde(default)]
    pub on_error: ErrorRule,
    /// Time before the first measurement. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_delay: Option<Duration>,
    /// What a measurement counts as that found no data: an empty answer, NaN, a key that is not there, fewer samples than
    /// minimumSamples. Default: Inconclusive.
    #[serde(default)]
    pub no_data: NoDataRule,
    /// Measured and shown; the release neither waits for it nor fails by it. Default: false.
    #[serde(default)]
    pub dry_run: bool,
}

fn one_minute() -> Duration {
    Duration::from_seconds(60)
}

fn four() -> u32 {
    4
}

/// How an analysis ends that meets one error after another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ErrorRule {
    /// Inconclusive: the release pauses for a person.
    #[default]
    Inconclusive,
    /// Failed.
    Fail,
}

/// What a measurement without data counts as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NoDataRule {
    /// Neither success nor failure.
    #[default]
    Inconclusive,
    /// A failure.
    Fail,
    /// A success.
    Pass,
}

/// A Prometheus server, or anything that speaks its HTTP API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.secretRef) || self.address.startsWith('https://')").message("credentials are sent over https only"))]
#[x_kube(validation = Rule::new("!has(self.tls) || self.address.startsWith('https://')").message("tls needs an address that begins with https://"))]
pub struct PrometheusMetric {
    /// Address without the API's path, such as `http://prometheus.monitoring:9090`.
    #[schemars(length(min = 8, max = 512), regex(pattern = rules::HTTP_ADDRESS))]
    pub address: String,
    /// PromQL. Placeholders stand inside quotes; their values are escaped.
    #[schemars(length(min = 1, max = 4096))]
    pub query: String,
    /// Ask for the values over a span of time instead of the current one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<QueryRange>,
    /// Secret of type `interlock.dev/analysis` in the namespace of the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<NameRef>,
    /// How the server proves who it is. Default: by a certificate of a public authority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ServerTls>,
    /// Time for one answer, at most 60s. Default: 10s.
    #[serde(default = "ten_seconds")]
    pub timeout: Duration,
    /// Further headers, such as a tenant's name. Credentials belong into the Secret.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub headers: Vec<Header>,
}

fn ten_seconds() -> Duration {
    Duration::from_seconds(10)
}

/// A span of time before each measurement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueryRange {
    /// Length of the span.
    pub window: Duration,
    /// Time from one value to the next; at most 1,000 values.
    pub step: Duration,
}

/// How a server proves who it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.caConfigMapRef) && has(self.caSecretRef))").message("give caConfigMapRef or caSecretRef, not both"))]
pub struct ServerTls {
    /// ConfigMap in the namespace of the change with the certificates of the authority under `ca.crt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_config_map_ref: Option<NameRef>,
    /// Secret in the namespace of the change with the certificates of the authority under `ca.crt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<NameRef>,
    /// Name that the certificate must carry. Default: the host of the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = rules::NAME))]
    pub server_name: Option<String>,
}

/// A header of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(self.name.lowerAscii() in ['authorization', 'proxy-authorization', 'cookie', 'host', 'content-length', 'transfer-encoding', 'connection', 'upgrade', 'te'])").message("this header is not free: credentials belong into the Secret of secretRef, the others follow from the request"))]
pub struct Header {
    /// Name.
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[A-Za-z0-9-]+$"))]
    pub name: String,
    /// Value, printable ASCII.
    #[schemars(length(min = 1, max = 256), regex(pattern = "^[ -~]+$"))]
    pub value: String,
}

/// An HTTP address that is asked. Redirects are not followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.secretRef) || self.url.startsWith('https://')").message("credentials are sent over https only"))]
#[x_kube(validation = Rule::new("!has(self.tls) || self.url.startsWith('https://')").message("tls needs a url that begins with https://"))]
#[x_kube(validation = Rule::new("!has(self.body) || (has(self.method) && self.method == 'POST')").message("a body needs method POST"))]
pub struct HttpMetric {
    /// URL, such as `http://{{workload}}-canary.{{namespace}}.svc:8080/health`.
    #[schemars(length(min = 8, max = 1024), regex(pattern = rules::HTTP_URL))]
    pub url: String,
    /// Default: GET.
    #[serde(default)]
    pub method: HttpMethod,
    /// Body of a POST. After a crash of the controller a request may be sent twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub body: Option<String>,
    /// Statuses that are a success; any other is a failure. Empty: the conditions look at `status`. Default: 200.
    #[serde(default = "ok_status")]
    #[schemars(length(max = 16), inner(range(min = 100, max = 599)))]
    pub expect_status: Vec<u16>,
    /// Secret of type `interlock.dev/analysis` in the namespace of the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<NameRef>,
    /// How the server proves who it is. Default: by a certificate of a public authority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ServerTls>,
    /// Time for one answer, at most 60s. Default: 10s.
    #[serde(default = "ten_seconds")]
    pub timeout: Duration,
    /// Further headers. Credentials belong into the Secret.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub headers: Vec<Header>,
}

fn ok_status() -> Vec<u16> {
    vec![200]
}

/// Method of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs)]
pub enum HttpMethod {
    #[default]
    Get,
    Head,
    Post,
}

/// A Job that measures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobMetric {
    /// `spec` of a batch/v1 Job. Strings in it may contain the placeholders.
    #[schemars(schema_with = "job_spec_schema")]
    pub spec: Value,
    /// A Job that has not finished by then is inconclusive. Default: 10m.
    #[serde(default = "ten_minutes")]
    pub timeout: Duration,
}

fn job_spec_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true, "description": "`spec` of a batch/v1 Job. Strings in it may contain the placeholders." })
}

fn ten_minutes() -> Duration {
    Duration::from_seconds(600)
}

/// A comparison of both versions over the same time: is the new one worse, by more than chance and by more than is borne?
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.metric.range)").message("compare takes its samples since the analysis began: metric.range has no meaning here"))]
#[x_kube(validation = Rule::new("has(self.baselineQuery) || self.metric.query.contains('{{track}}') || self.metric.query.contains('{{hash}}')").message("the query must tell the versions apart: use {{track}} or {{hash}} in it, or give a baselineQuery"))]
pub struct CompareMetric {
    /// What is measured of the new version; without baselineQuery the same query, with the other track and hash, measures
    /// the old one. Each gives one series.
    pub metric: PrometheusMetric,
    /// What is measured of the old version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub baseline_query: Option<String>,
    /// The statistical test. Default: MannWhitney.
    #[serde(default)]
    pub test: ComparisonTest,
    /// Which difference is worse. Default: Higher.
    #[serde(default)]
    pub worse: WorseDirection,
    /// At most this share of releases that are no worse may be found worse, over all measurements of one analysis. Default: 0.01.
    #[serde(default = "one_percent")]
    #[schemars(range(min = 0.000_01, max = 0.2))]
    pub alpha: f64,
    /// A difference that is no chance still counts as worse only if the medians differ by more than this factor. Default: 1.1.
    #[serde(default = "ten_percent_more")]
    #[schemars(range(min = 1.0, max = 1000.0))]
    pub maximum_ratio: f64,
    /// With fewer samples of either version there is no data. Default: 30.
    #[serde(default = "thirty")]
    #[schemars(range(min = 8, max = 1_000))]
    pub minimum_samples: u32,
    /// Time from one sample to the next; not shorter than the ranges in the query, or the samples overlap and the test means
    /// nothing. Default: 15s.
    #[serde(default = "fifteen_seconds")]
    pub step: Duration,
    /// Use only samples of this much time before a measurement. Default: since the analysis began, at most 1,000 samples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Duration>,
}

fn one_percent() -> f64 {
    0.01
}

fn ten_percent_more() -> f64 {
    1.1
}

fn thirty() -> u32 {
    30
}

fn fifteen_seconds() -> Duration {
    Duration::from_seconds(15)
}

/// A test whether two samples differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ComparisonTest {
    /// Mann-Whitney U: ranks only, no assumption about the distribution.
    #[default]
    MannWhitney,
}

/// Which difference from the old version is worse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WorseDirection {
    /// More is worse: errors, latency.
    #[default]
    Higher,
    /// Less is worse: throughput, hit rate.
    Lower,
    /// Both are.
    Either,
}
