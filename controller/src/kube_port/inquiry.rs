//! Measurements under way: each is taken by a task of its own, so that no pass waits for a server.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use interlock_core::analysis::{Answer, Observation, Question};
use tokio::sync::Semaphore;

use super::KubePort;
use crate::analysis::{self, Access, AccessError, Client};

/// Longest time from the question to the answer, whatever the plan says: reading credentials, waiting for a turn, asking.
const LIMIT: Duration = Duration::from_mins(2);
/// So many servers are asked at once.
const AT_ONCE: usize = 64;
/// An answer that nobody takes is forgotten after so long.
const KEPT: Duration = Duration::from_mins(10);

enum State {
    Asked,
    Answered(Answer),
}

/// Measurements that were asked for, by key.
#[derive(Clone)]
pub(super) struct Inquiries {
    client: Client,
    turns: Arc<Semaphore>,
    book: Arc<Mutex<HashMap<String, (Instant, State)>>>,
}

impl Inquiries {
    pub(super) fn new(client: Client) -> Self {
        Self { client, turns: Arc::new(Semaphore::new(AT_ONCE)), book: Arc::default() }
    }

    /// The answer, once; without one the question is asked, unless it is already.
    pub(super) fn ask(&self, port: &KubePort, waiter: &str, question: &Question) -> Option<Answer> {
        let mut book = self.book();
        match book.remove(&question.key) {
            Some((_, State::Answered(answer))) => return Some(answer),
            Some(asked) => {
                book.insert(question.key.clone(), asked);
                return None;
            }
            None => {}
        }
        let now = Instant::now();
        // What is under way ends by its own limit; forgotten, it would be begun twice.
        book.retain(|_, (since, state)| matches!(state, State::Asked) || now.duration_since(*since) < KEPT);
        book.insert(question.key.clone(), (now, State::Asked));
        let (this, port, waiter, question) = (self.clone(), port.clone(), waiter.to_owned(), question.clone());
        tokio::spawn(async move {
            let own = question.exec.as_ref().map(|exec| Duration::from_secs(exec.timeout.seconds().unsigned_abs()));
            let limit = own.unwrap_or(LIMIT);
            let answer = tokio::time::timeout(limit, this.answer(&port, &question)).await;
            let more = if own.is_some() { "; its command may still run" } else { "" };
            let late = || Answer::Seen(Observation::Error(format!("there was no answer within {limit:?}{more}")));
            this.book().insert(question.key, (Instant::now(), State::Answered(answer.unwrap_or_else(|_| late()))));
            port.interests.wake(&waiter);
        });
        None
    }

    async fn answer(&self, port: &KubePort, question: &Question) -> Answer {
        let Question { identity, namespace, analysis, slot, subject, exec, .. } = question;
        if let Some(exec) = exec {
            // A command may take an hour, and nobody's measurement waits for it.
            return port.exec(identity, namespace, &exec.hook).await;
        }
        // The semaphore is never closed.
        let _turn = self.turns.acquire().await;
        match Access::read(port, identity, namespace, analysis).await {
            Ok(access) => Answer::Seen(analysis::measure(&self.client, &access, analysis, slot, subject).await),
            Err(AccessError::Unread { why, .. }) if why.is_transient() => {
                Answer::Seen(Observation::Error(why.to_string()))
            }
            Err(error) => Answer::Impossible(error.to_string()),
        }
    }

    fn book(&self) -> MutexGuard<'_, HashMap<String, (Instant, State)>> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
