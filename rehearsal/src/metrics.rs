//! What analyses measure in a simulated cluster: a scenario says the values, and from when on.

use std::collections::BTreeMap;
use std::fmt;

use interlock_core::analysis::{Answer, Observation, Question, Series};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

/// One value, or several by turns.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Values {
    /// Always the same.
    One(f64),
    /// One after another, then from the first on again.
    Many(Vec<f64>),
}

impl Values {
    fn at(&self, turn: usize) -> Option<f64> {
        match self {
            Self::One(value) => Some(*value),
            Self::Many(values) => values.get(turn.checked_rem(values.len())?).copied(),
        }
    }
}

/// What the source of an analysis says from some instant on.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// Values of the new version, and of the old one, which change `every` so long. Of an HTTP analysis: the status; of a
    /// command in a pod: its exit code.
    Says {
        /// Of the new version.
        value: Values,
        /// Of the old version.
        stable: Values,
        /// How long each value lasts.
        every: SignedDuration,
    },
    /// It has nothing.
    Empty,
    /// It does not answer; why.
    Fails(String),
    /// Something that is needed to ask it is missing; what.
    Missing(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |values: &Values| match values {
            Values::One(value) => value.to_string(),
            Values::Many(values) => values.iter().map(f64::to_string).collect::<Vec<_>>().join(", "),
        };
        match self {
            Self::Says { value, stable, .. } if value == stable => f.write_str(&text(value)),
            Self::Says { value, stable, .. } => write!(f, "{} (old version: {})", text(value), text(stable)),
            Self::Empty => f.write_str("no data"),
            Self::Fails(why) => write!(f, "no answer ({why})"),
            Self::Missing(what) => write!(f, "nothing ({what})"),
        }
    }
}

/// The sources of all analyses.
#[derive(Clone, Debug, Default)]
pub struct Metrics(BTreeMap<String, (Timestamp, Source)>);

impl Metrics {
    /// From `now` on the analysis of this name measures this.
    pub fn set(&mut self, analysis: &str, now: Timestamp, source: Source) {
        self.0.insert(analysis.to_owned(), (now, source));
    }

    /// What a measurement sees now.
    pub fn answer(&self, question: &Question, now: Timestamp) -> Answer {
        let analysis = &question.analysis;
        let Some((since, source)) = self.0.get(&analysis.name) else {
            let why = format!("no step of the scenario gives {} a metric", analysis.name);
            return Answer::Seen(Observation::NoData(why));
        };
        let (value, stable, every) = match source {
            Source::Says { value, stable, every } => (value, stable, every.as_secs().max(1)),
            Source::Empty => return Answer::Seen(Observation::NoData("the query found nothing".to_owned())),
            Source::Fails(why) => return Answer::Seen(Observation::Error(why.clone())),
            Source::Missing(what) => return Answer::Impossible(what.clone()),
        };
        let of = |values: &Values, at: Timestamp| {
            let turn = at.duration_since(*since).as_secs().max(0) / every;
            values.at(usize::try_from(turn).unwrap_or_default())
        };
        let over = |values: &Values, from: Timestamp, to: Timestamp, step: i64| {
            let instants = (from.as_second()..=to.as_second()).step_by(usize::try_from(step.max(1)).unwrap_or(1));
            instants.filter_map(|second| of(values, Timestamp::from_second(second).ok()?)).collect::<Vec<_>>()
        };
        let series = |value| Series { labels: BTreeMap::new(), value };
        let seen = match (&analysis.prometheus, &analysis.http, &question.slot.samples) {
            (Some(metric), ..) => match &metric.range {
                None => Observation::Instant(
                    of(value, now).map(|value| Series { labels: BTreeMap::new(), value }).into_iter().collect(),
                ),
                Some(range) => {
                    let from = now.checked_sub(SignedDuration::from_secs(range.window.seconds())).unwrap_or(now);
                    Observation::Range(vec![series(over(value, from, now, range.step.seconds()))])
                }
            },
            _ if question.exec.is_some() => match of(value, now).map(|code| code as i32) {
                Some(exit_code) => Observation::Exec { exit_code, stderr: String::new() },
                None => Observation::NoData("the list of values is empty".to_owned()),
            },
            (None, Some(_), _) => match of(value, now).map(|status| status as u16) {
                Some(status) => Observation::Http { status, body: None },
                None => Observation::NoData("the list of values is empty".to_owned()),
            },
            (None, None, Some(range)) => Observation::Samples {
                canary: over(value, range.from, range.to, range.step_seconds),
                baseline: over(stable, range.from, range.to, range.step_seconds),
            },
            (None, None, None) => Observation::Error("there is nothing to ask".to_owned()),
        };
        Answer::Seen(seen)
    }
}
