//! Which key is looked at when: each at most once at a time, soon after it was woken, or when its time comes.

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::{
    sync::mpsc,
    task::{Id, JoinSet},
    time::Instant,
};

use crate::shutdown::Shutdown;

/// What a pass over a key came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// When it is woken.
    WhenWoken,
    /// After this time, unless it is woken before.
    After(Duration),
    /// It failed: after a time that doubles with each failure in a row.
    Backoff,
}

/// First and longest wait after failures in a row.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// Longest sleep for a due time: the clock may have been set meanwhile.
const LONGEST: Duration = Duration::from_hours(1);

#[derive(Default)]
struct State {
    running: BTreeSet<String>,
    woken_while_running: BTreeSet<String>,
    due: BTreeSet<(Instant, String)>,
    due_of: HashMap<String, Instant>,
    failures: HashMap<String, u32>,
    /// How long a key that was woken rests first.
    rest: Duration,
}

impl State {
    fn schedule(&mut self, key: &str, at: Instant) {
        if let Some(old) = self.due_of.get(key) {
            if *old <= at {
                return;
            }
            self.due.remove(&(*old, key.to_owned()));
        }
        self.due_of.insert(key.to_owned(), at);
        self.due.insert((at, key.to_owned()));
    }

    fn unschedule(&mut self, key: &str) {
        if let Some(at) = self.due_of.remove(key) {
            self.due.remove(&(at, key.to_owned()));
        }
    }

    fn take_due(&mut self, now: Instant) -> Option<String> {
        let key = self.due.first().filter(|(at, _)| *at <= now).map(|(_, key)| key.clone())?;
        self.unschedule(&key);
        Some(key)
    }

    fn backoff(&mut self, key: &str) -> Duration {
        let failures = self.failures.entry(key.to_owned()).or_insert(0);
        *failures = failures.saturating_add(1);
        BACKOFF.0.saturating_mul(1 << (*failures - 1).min(10)).min(BACKOFF.1)
    }

    fn wake(&mut self, key: String, now: Instant) {
        if self.running.contains(&key) {
            self.woken_while_running.insert(key);
        } else {
            self.schedule(&key, now + self.rest);
        }
    }

    fn ended(&mut self, key: &str, again: Again, now: Instant) {
        self.running.remove(key);
        if again != Again::Backoff {
            self.failures.remove(key);
        }
        match again {
            Again::WhenWoken => {}
            Again::After(wait) => self.schedule(key, now + wait.min(LONGEST)),
            Again::Backoff => {
                let wait = self.backoff(key);
                self.schedule(key, now + wait);
            }
        }
        if self.woken_while_running.remove(key) {
            // What woke it is newer than what the pass saw, unless the pass failed: then its wait stands.
            if again != Again::Backoff {
                self.schedule(key, now + self.rest);
            }
        }
    }
}

/// Runs `pass` over woken and due keys, at most `concurrency` at a time, until shutdown; then waits for those under way. A pass
/// that panics has failed. `depth` is told how many keys wait. A key that is woken rests for `rest` first, so that news that come
/// in a row, as of pods and those who count them, are looked at once.
pub async fn run<F, Fut>(
    mut woken: mpsc::UnboundedReceiver<String>,
    concurrency: usize,
    rest: Duration,
    shutdown: Shutdown,
    depth: impl Fn(usize),
    pass: F,
) where
    F: Fn(String) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Again> + Send + 'static,
{
    let pass = Arc::new(pass);
    let mut state = State { rest, ..State::default() };
    let mut tasks: JoinSet<Again> = JoinSet::new();
    let mut keys: HashMap<Id, String> = HashMap::new();
    loop {
        let now = Instant::now();
        while tasks.len() < concurrency {
            let Some(key) = state.take_due(now) else { break };
            state.running.insert(key.clone());
            let (pass, own) = (Arc::clone(&pass), key.clone());
            let task = tasks.spawn(async move { pass(own).await });
            keys.insert(task.id(), key);
        }
        depth(state.due.len());
        let next = state.due.first().map_or(now + LONGEST, |(at, _)| *at);
        let room = tasks.len() < concurrency;
        tokio::select! {
            () = shutdown.triggered() => break,
            received = woken.recv() => match received {
                Some(key) => {
                    let now = Instant::now();
                    state.wake(key, now);
                    while let Ok(more) = woken.try_recv() {
                        state.wake(more, now);
                    }
                }
                None => break,
            },
            Some(ended) = tasks.join_next_with_id() => {
                let (id, panicked) = match &ended {
                    Ok((id, _)) => (*id, None),
                    Err(error) => (error.id(), Some(error)),
                };
                if let Some(key) = keys.remove(&id) {
                    if let Some(error) = panicked {
                        tracing::error!(key, %error, "the pass over a key panicked");
                    }
                    state.ended(&key, ended.map_or(Again::Backoff, |(_, again)| again), Instant::now());
                }
            },
            () = tokio::time::sleep_until(next), if room => {}
        }
    }
    while tasks.join_next().await.is_some() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earlier_of_two_due_times_stands_and_a_key_is_taken_once() {
        let now = Instant::now();
        let mut state = State::default();
        state.schedule("a", now + Duration::from_mins(1));
        state.schedule("a", now + Duration::from_secs(5));
        state.schedule("a", now + Duration::from_secs(30));
        assert_eq!(state.take_due(now + Duration::from_secs(4)), None);
        assert_eq!(state.take_due(now + Duration::from_secs(5)).as_deref(), Some("a"));
        assert_eq!(state.take_due(now + Duration::from_secs(99)), None);
    }

    #[test]
    fn news_in_a_row_are_looked_at_once() {
        let (now, rest) = (Instant::now(), Duration::from_millis(30));
        let mut state = State { rest, ..State::default() };
        state.wake("a".into(), now);
        state.wake("a".into(), now + Duration::from_millis(20));
        assert_eq!(state.take_due(now + Duration::from_millis(29)), None);
        assert_eq!(state.take_due(now + rest).as_deref(), Some("a"), "the first is not put off by the second");
        assert_eq!(state.take_due(now + Duration::from_mins(1)), None);
    }

    #[test]
    fn a_key_woken_during_its_pass_is_looked_at_again_and_failures_back_off() {
        let now = Instant::now();
        let mut state = State::default();
        state.wake("a".into(), now);
        assert_eq!(state.take_due(now).as_deref(), Some("a"));
        state.running.insert("a".into());
        state.wake("a".into(), now);
        assert_eq!(state.take_due(now), None, "not twice at a time");
        state.ended("a", Again::WhenWoken, now);
        assert_eq!(state.take_due(now).as_deref(), Some("a"));
        let waits: Vec<_> = (0..12).map(|_| state.backoff("a")).collect();
        assert_eq!(waits[0], Duration::from_millis(200));
        assert_eq!(waits[1], Duration::from_millis(400));
        assert_eq!(waits[11], Duration::from_secs(30));
    }

    #[tokio::test]
    async fn a_pass_that_panics_has_failed_and_its_key_is_looked_at_again() {
        let ((wake, woken), (tell, mut told)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
        let shutdown = Shutdown::new();
        let queue = run(
            woken,
            1,
            Duration::ZERO,
            shutdown.clone(),
            |_| (),
            move |key| {
                let tell = tell.clone();
                async move {
                    tell.send(key).unwrap();
                    assert!(tell.is_closed(), "as it happens");
                    Again::WhenWoken
                }
            },
        );
        let queue = tokio::spawn(queue);
        wake.send("a".to_owned()).unwrap();
        for _ in 0..2 {
            let again = tokio::time::timeout(Duration::from_secs(10), told.recv()).await;
            assert_eq!(again.expect("it is looked at again").as_deref(), Some("a"));
        }
        shutdown.trigger("done");
        queue.await.unwrap();
    }
}
