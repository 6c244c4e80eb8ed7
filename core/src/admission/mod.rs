//! Judging writes: what Interlock's webhooks answer.
//!
//! [`own`] judges writes to Interlock's own kinds, [`governed`] writes to the objects of governed Systems, and
//! [`namespace`] whoever would take a namespace out of governance. [`webhooks`] says which writes the API server asks
//! about at all.

mod backups;
pub mod governed;
pub mod namespace;
pub mod own;
pub mod request;
pub mod webhooks;

pub use request::{Denial, MutateAnswer, Operation, User, Verdict, WriteRequest};

use interlock_crds::Mode;

/// The API server's namespace controller.
pub const NAMESPACE_CONTROLLER: &str = "system:serviceaccount:kube-system:namespace-controller";

/// Whether `user` only carries out the deletion of a whole namespace, decided elsewhere. The garbage collector is not
/// among them: who may write ownerReferences could have it delete a running change.
pub fn is_namespace_controller(user: &str) -> bool {
    user == NAMESPACE_CONTROLLER
}

fn denial(code: u16, reason: &str, message: impl Into<String>) -> Denial {
    Denial { code, reason: reason.to_owned(), message: message.into() }
}

/// What a mode makes of a denial. A dry run stores nothing, so it is allowed and told.
fn in_mode(mode: Mode, dry_run: bool, denial: Denial) -> Verdict {
    match (mode, dry_run) {
        (Mode::Audit, _) => Verdict::Allow { warnings: Vec::new(), audit: Some(denial) },
        (Mode::Warn, _) => Verdict::Allow {
            warnings: vec![format!("Interlock would deny this in mode Enforce: {}", denial.message)],
            audit: Some(denial),
        },
        (Mode::Enforce, true) => Verdict::Allow {
            warnings: vec![format!("Interlock will deny this without --dry-run: {}", denial.message)],
            audit: Some(denial),
        },
        (Mode::Enforce, false) => Verdict::Deny(denial),
    }
}
