//! Restore drills: a drill begins runs, a run restores, measures and judges, and nothing is left of it afterwards.
//!
//! Passes of one form with those of backups: observe, decide, record, act. In the namespace of the repository the System's
//! executor writes, as it does for backups; sandboxes, and the volumes that move there, are written by a ServiceAccount of
//! their own, which may write nothing else.

mod act;
mod observe;
mod orphans;
pub mod permit;
mod run;
mod schedule;

use interlock_core::{
    backup::repository::{Claim, Use},
    port::{Identity, Port, PortError},
};
use interlock_crds::{DrillPhase, DrillRun};
use jiff::{SignedDuration, Timestamp};

use crate::{change::Context, index::BackupKey};

/// The ServiceAccount that writes sandboxes, in Interlock's own namespace.
pub const ACCOUNT: &str = "interlock-drill";
/// What is wrong and not watched is looked at again after so long.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_secs(30);

/// Under whose rights sandboxes are written.
fn sandboxer() -> Identity {
    Identity::Impersonate(format!("system:serviceaccount:{}:{ACCOUNT}", interlock_core::change::INTERLOCK_NAMESPACE))
}

/// One pass over a drill, a run, or what no drill knows of any more.
pub(crate) async fn pass<P: Port>(
    context: &Context<P>,
    key: &BackupKey,
    now: Timestamp,
) -> Result<Option<Timestamp>, PortError> {
    match key {
        BackupKey::Drill(key) => schedule::pass(context, key, now).await,
        BackupKey::DrillRun(key) => run::pass(context, key, now).await,
        BackupKey::DrillOrphans => orphans::pass(context).await,
        BackupKey::Policy(_) | BackupKey::Run(_) | BackupKey::Repository(_) => Ok(None),
    }
}

/// What a run wants of its repository: to read it, from its admission until it was let in.
pub(crate) fn claim(run: &DrillRun) -> Option<Claim> {
    let status = run.status.as_ref()?;
    let since = status.t0.as_ref()?.0;
    (status.phase == DrillPhase::Queued).then(|| Claim {
        uid: run.metadata.uid.clone().unwrap_or_default(),
        holder: format!("DrillRun/{}", run.metadata.name.as_deref().unwrap_or_default()),
        usage: Use::Restore,
        since,
    })
}
