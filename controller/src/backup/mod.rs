//! Backups: policies begin runs, repositories let them in, runs are Jobs.
//!
//! Three passes, each over one object: observe, decide, record, act. What they tell each other stands in the objects; the
//! index says who is to look again.

mod act;
mod heartbeat;
mod hooks;
mod objects;
mod observe;
pub mod permit;
mod policy;
mod repository;
mod run;

pub use hooks::Begun;
use interlock_core::port::{Port, PortError};
use jiff::{SignedDuration, Timestamp};

use crate::{
    change::{Context, Outcome},
    index::BackupKey,
};

/// Keeps a Backup until nothing of its run is left that could write.
pub const FINALIZER: &str = "interlock.dev/backup";
/// What is wrong and not watched is looked at again after so long.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_secs(30);

/// Images of the pods that Interlock makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// Interlock.
    pub interlock: String,
    /// restic.
    pub restic: String,
    /// Client programs of PostgreSQL.
    pub postgres: String,
}

impl Default for Images {
    fn default() -> Self {
        Self {
            interlock: format!("interlock:{}", env!("CARGO_PKG_VERSION")),
            restic: "restic/restic:0.19.1".to_owned(),
            postgres: "postgres:18".to_owned(),
        }
    }
}

impl Images {
    pub(crate) fn as_core(&self) -> interlock_core::backup::pods::Images<'_> {
        interlock_core::backup::pods::Images {
            interlock: &self.interlock,
            restic: &self.restic,
            postgres: &self.postgres,
        }
    }
}

/// One pass over a policy, a repository or a run.
pub async fn reconcile<P: Port>(context: &Context<P>, key: &BackupKey) -> Outcome {
    if !context.port.may_write() {
        return Outcome::Wait(None);
    }
    let Some(now) = context.port.now() else {
        return Outcome::Retry("the API server's time is not known".to_owned());
    };
    // The API server stores no finer times: with them a status would differ from what is stored of it.
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let came_to = match key {
        BackupKey::Policy(key) => policy::pass(context, key, now).await,
        BackupKey::Run(key) => run::pass(context, key, now).await,
        BackupKey::Repository(key) => repository::pass(context, key, now).await,
    };
    match came_to {
        Ok(due) => Outcome::Wait(due),
        // Somebody was faster, and the watch will tell; or the server does not answer.
        Err(error) => {
            let waiter = key.waiter();
            if error.is_transient() {
                tracing::debug!(key = waiter, %error, "the pass ended early");
            } else {
                tracing::warn!(key = waiter, %error, "the pass ended early");
            }
            Outcome::Retry(error.to_string())
        }
    }
}

fn unreadable(what: &str, error: &serde_json::Error) -> PortError {
    PortError::Invalid(format!("{what} cannot be read: {error}"))
}
