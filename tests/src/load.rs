//! People who use a web server all the time, one real request after another, and remember every answer.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::Request;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinHandle};

/// How long one waits for an answer, and then counts it as a failure.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers of one kind.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// How many good answers came from each version.
    pub answers: BTreeMap<String, u64>,
    /// What else happened.
    pub failures: Vec<String>,
}

impl Seen {
    /// How many good answers there were.
    pub fn total(&self) -> u64 {
        self.answers.values().sum()
    }

    /// Whether so many answers of `version` are what chance gives in 999 of 1,000 cases if its share is `percent`.
    pub fn is_share(&self, version: &str, percent: f64) -> bool {
        #[allow(clippy::cast_precision_loss, reason = "some thousand answers")]
        let (total, of_version) = (self.total() as f64, self.answers.get(version).copied().unwrap_or_default() as f64);
        let share = percent / 100.0;
        // The normal approximation of the binomial interval, two-sided.
        let width = 3.2905 * (total * share * (1.0 - share)).sqrt();
        (of_version - total * share).abs() <= width
    }
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
        let answer = tokio::time::timeout(PATIENCE, ask(address)).await;
        {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            match answer {
                Ok(Ok(version)) => *seen.answers.entry(version).or_default() += 1,
                Ok(Err(why)) => seen.failures.push(why),
                Err(_) => seen.failures.push(format!("no answer within {} s", PATIENCE.as_secs())),
            }
        }
        tokio::time::sleep(Duration::from_millis(4)).await;
    }
}

/// The body of a good answer.
async fn ask(address: SocketAddr) -> Result<String, String> {
    let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let connection = tokio::spawn(connection);
    let request = Request::get("/").header("Host", "web").body(axum::body::Body::empty()).map_err(|e| e.to_string())?;
    let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let status = response.status();
    let body = axum::body::to_bytes(axum::body::Body::new(response.into_body()), 1 << 16).await;
    let body = String::from_utf8_lossy(&body.map_err(|error| error.to_string())?).into_owned();
    connection.abort();
    if status.is_success() { Ok(body) } else { Err(format!("{status}: {body}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_judged_by_chance() {
        let seen = |new: u64, old: u64| Seen {
            answers: BTreeMap::from([("2".to_owned(), new), ("1".to_owned(), old)]),
            failures: Vec::new(),
        };
        assert!(seen(200, 800).is_share("2", 20.0));
        assert!(seen(240, 760).is_share("2", 20.0), "chance");
        assert!(!seen(250, 750).is_share("2", 20.0), "no chance");
        assert!(!seen(1, 999).is_share("2", 0.0), "nothing is nothing");
        assert!(!seen(0, 1_000).is_share("2", 5.0));
    }
}
