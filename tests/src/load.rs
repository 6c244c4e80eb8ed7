//! People who use a web server all the time, one real request after another, and remember every answer.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::body::Body;
use http::Request;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinHandle};

use crate::gateway::{GENERATION, WEIGHTS};

/// How long one waits for an answer, and then counts it as a failure.
const PATIENCE: Duration = Duration::from_secs(10);
/// Shares that one run of a test judges, at most.
const JUDGED: f64 = 16.0;
/// How often a run would call one of all its shares wrong by chance alone, if chance were another in each run.
const FALSE_ALARMS: f64 = 0.001;

/// The route that an answer came by: its generation, and the weights of its backends, as `web-stable=80 web-canary=20`.
pub type Route = (i64, String);

/// A good answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub body: String,
    /// What the Gateway says of it; nothing if it came past it.
    pub route: Route,
}

/// Answers since some time.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// By route: how many good answers came from each version.
    pub answers: BTreeMap<Route, BTreeMap<String, u64>>,
    /// What else happened.
    pub failures: Vec<String>,
}

impl Seen {
    /// How many good answers there were.
    pub fn total(&self) -> u64 {
        self.answers.values().flat_map(BTreeMap::values).sum()
    }

    /// How many of them came by the route of that generation.
    pub fn by(&self, generation: i64) -> u64 {
        let by_it = self.answers.iter().filter(|((found, _), _)| *found == generation);
        by_it.flat_map(|(_, answers)| answers.values()).sum()
    }
}

/// Whether `of` of `all` are what chance gives if the share is `percent`: the exact binomial test, two-sided. Of each hundred
/// thousand shares that are right it calls six wrong (99.9 percent for all that a run judges together, by Bonferroni).
pub fn is_chance(of: u64, all: u64, percent: f64) -> bool {
    let share = percent / 100.0;
    if share <= 0.0 || share >= 1.0 {
        return of == if share <= 0.0 { 0 } else { all };
    }
    let odds = share / (1.0 - share);
    // Of the chance of exactly so many hits; the chance itself is too small a number at both ends.
    let mut logarithm = all as f64 * (1.0 - share).ln();
    let (mut at_most, mut at_least) = (0.0, 0.0);
    for hits in 0..=all {
        let chance = logarithm.exp();
        if hits <= of {
            at_most += chance;
        }
        if hits >= of {
            at_least += chance;
        }
        logarithm += ((all - hits) as f64 / (hits + 1) as f64 * odds).ln();
    }
    2.0 * f64::min(at_most, at_least) >= FALSE_ALARMS / JUDGED
}

/// Requests until this value is dropped.
#[derive(Debug)]
pub struct Load {
    seen: Arc<Mutex<Seen>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Load {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Load {
    /// So many people, each of whom waits a moment after each answer. To be called within a runtime.
    pub fn start(address: SocketAddr, people: usize) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let tasks = (0..people).map(|_| tokio::spawn(ask_on(address, seen.clone()))).collect();
        Self { seen, tasks }
    }

    /// What was seen since the last call.
    pub fn take(&self) -> Seen {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What was seen so far.
    pub fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn ask_on(address: SocketAddr, seen: Arc<Mutex<Seen>>) {
    loop {
        let answer = tokio::time::timeout(PATIENCE, ask(address, "/", None)).await;
        {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            match answer {
                Ok(Ok(answer)) => {
                    *seen.answers.entry(answer.route).or_default().entry(answer.body).or_default() += 1;
                }
                Ok(Err(why)) => seen.failures.push(why),
                Err(_) => seen.failures.push(format!("no answer within {} s", PATIENCE.as_secs())),
            }
        }
        tokio::time::sleep(Duration::from_millis(4)).await;
    }
}

/// One request, with one more header if it is given, and its good answer.
pub async fn ask(address: SocketAddr, path: &str, header: Option<(&str, &str)>) -> Result<Answer, String> {
    let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let connection = tokio::spawn(connection);
    let mut request = Request::get(path).header("Host", "web");
    if let Some((name, value)) = header {
        request = request.header(name, value);
    }
    let request = request.body(Body::empty()).map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let status = response.status();
    let said =
        |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let route: Route = (said(GENERATION).parse().unwrap_or_default(), said(WEIGHTS));
    let body = axum::body::to_bytes(Body::new(response.into_body()), 1 << 16).await;
    let body = String::from_utf8_lossy(&body.map_err(|error| error.to_string())?).into_owned();
    connection.abort();
    if status.is_success() { Ok(Answer { body, route }) } else { Err(format!("{status}: {body}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_judged_by_chance() {
        assert!(is_chance(200, 1_000, 20.0));
        assert!(is_chance(240, 1_000, 20.0), "chance");
        assert!(!is_chance(265, 1_000, 20.0) && !is_chance(135, 1_000, 20.0), "no chance");
        assert!(is_chance(0, 3, 20.0) && !is_chance(0, 60, 20.0), "few tell little");
        assert!(!is_chance(0, 1_000, 5.0));
        assert!(is_chance(0, 1_000, 0.0) && !is_chance(1, 1_000, 0.0), "nothing is nothing");
        assert!(is_chance(1_000, 1_000, 100.0) && !is_chance(999, 1_000, 100.0), "all is all");
    }

    #[test]
    fn answers_are_counted_by_the_route_that_they_came_by() {
        let versions = |old: u64, new: u64| BTreeMap::from([("1".to_owned(), old), ("2".to_owned(), new)]);
        let answers =
            BTreeMap::from([((4, "web=1".to_owned()), versions(7, 0)), ((5, "a=1 b=1".to_owned()), versions(2, 3))]);
        let seen = Seen { answers, failures: Vec::new() };
        assert_eq!((seen.total(), seen.by(4), seen.by(5), seen.by(6)), (12, 7, 5, 0));
    }
}
