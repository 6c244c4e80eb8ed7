//! Ending in order: stop taking work, answer what is under way, then release the lease.
//!
//! [`Shutdown`] only says *that* the process ends. The order is kept by whoever wires the parts: readiness goes first,
//! the admission server drains ([`crate::admission::server`]), running reconciles finish or stop before their next
//! write, and the lease is released last ([`crate::leader::LeaderHandle::release`]).

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// A request to end, shared by all clones. Once made it stands.
#[derive(Clone, Debug)]
pub struct Shutdown {
    reason: watch::Sender<Option<String>>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl Shutdown {
    /// Nobody has asked to end yet.
    pub fn new() -> Self {
        Self { reason: watch::Sender::new(None) }
    }

    /// Ends the process at SIGTERM or SIGINT. A second signal ends it at once, without order.
    pub fn on_signals(&self) -> std::io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = self.clone();
        tokio::spawn(async move {
            loop {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                };
                if shutdown.is_triggered() {
                    tracing::warn!(signal = name, "a second signal: ending at once");
                    std::process::exit(130);
                }
                shutdown.trigger(name);
            }
        });
        Ok(())
    }

    /// Asks to end. The first reason is kept.
    pub fn trigger(&self, reason: &str) {
        let first = self.reason.send_if_modified(|current| {
            let first = current.is_none();
            if first {
                *current = Some(reason.to_owned());
            }
            first
        });
        if first {
            tracing::info!(reason, "shutting down");
        }
    }

    /// Whether somebody asked to end.
    pub fn is_triggered(&self) -> bool {
        self.reason.borrow().is_some()
    }

    /// Why somebody asked to end; none while nobody has.
    pub fn reason(&self) -> Option<String> {
        self.reason.borrow().clone()
    }

    /// Waits until somebody asks to end.
    pub async fn triggered(&self) {
        let mut receiver = self.reason.subscribe();
        // The sender lives in `self`, so that waiting cannot fail.
        let _ = receiver.wait_for(Option::is_some).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_clone_wakes_and_the_first_reason_is_kept() {
        let shutdown = Shutdown::new();
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let shutdown = shutdown.clone();
                tokio::spawn(async move {
                    shutdown.triggered().await;
                    shutdown.reason()
                })
            })
            .collect();
        assert!(!shutdown.is_triggered());
        shutdown.trigger("SIGTERM");
        shutdown.trigger("later");
        for task in waiting {
            assert_eq!(task.await.expect("joined").as_deref(), Some("SIGTERM"));
        }
        assert!(shutdown.is_triggered());
    }
}
