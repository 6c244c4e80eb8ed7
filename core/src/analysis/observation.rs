//! What a provider saw.

use std::collections::BTreeMap;

/// What a provider saw, before anybody judges it.
#[derive(Clone, Debug, PartialEq)]
pub enum Observation {
    /// Current values, one a series. More than a handful come from a query that does not aggregate.
    Instant(Vec<Series<f64>>),
    /// Values over a span of time, oldest first.
    Range(Vec<Series<Vec<f64>>>),
    /// Answer to an HTTP request.
    Http {
        /// Status.
        status: u16,
        /// Body, if it is UTF-8.
        body: Option<String>,
    },
    /// End of a command in a pod.
    Exec {
        /// Its exit code.
        exit_code: i32,
        /// The end of what it wrote to its standard error.
        stderr: String,
    },
    /// Samples of both versions over the same time.
    Samples {
        /// Of the new one.
        canary: Vec<f64>,
        /// Of the old one.
        baseline: Vec<f64>,
    },
    /// A Job, as far as it has come to an end.
    Job(JobEnd),
    /// The server answered, and there is nothing; why, for a person.
    NoData(String),
    /// Nothing was measured; why, for a person.
    Error(String),
}

/// One series of Prometheus.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series<T> {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value or values.
    pub value: T,
}

impl Series<Vec<f64>> {
    /// The same without values that are no numbers: over time there are gaps.
    pub(super) fn without_nan(&self) -> Self {
        let value = self.value.iter().copied().filter(|value| !value.is_nan()).collect();
        Self { labels: self.labels.clone(), value }
    }
}

/// How a Job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobEnd {
    /// It completed.
    Complete,
    /// It failed; its own words.
    Failed(String),
    /// It did not end in time, or disappeared; what happened.
    Unfinished(String),
}
