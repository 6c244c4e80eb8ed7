//! Whose lock keeps a run out, as far as restic tells: by the name of its host, which for a pod is the pod's.

use interlock_crds::MaintenanceOperation;

use super::maintenance::{LOCK_IS_STALE, word};

/// Why a repository is locked and what can be done, from the errors of restic.
pub(super) fn locked(errors: &[String]) -> String {
    let goes = LOCK_IS_STALE.as_mins();
    let waits = format!(
        "and did not become free within retryLock; let that end, or if it was killed wait: Interlock removes a lock that nobody renews, {goes} minutes after this run"
    );
    match errors.iter().find_map(|error| host(error)) {
        Some(pod) if is_own(pod) => format!(
            "the repository is locked by pod {pod}, a run of Interlock: it was killed and left its lock behind, unless it is of another cluster and goes on. A lock that was left is taken away by itself {goes} minutes after this run; to do it now, see that no pod {pod} is left and run `restic unlock --remove-all`"
        ),
        Some(host) => {
            format!("the repository is locked by restic on host {host}, by its name no pod of Interlock, {waits}")
        }
        None => format!("the repository is locked by restic on a host that it does not name, {waits}"),
    }
}

/// The host in `repository is already locked exclusively by PID 13 on vault-prune-0a1b2c3d-x7k2p by nobody (UID ...)`.
fn host(error: &str) -> Option<&str> {
    let (_, owner) = error.split_once("already locked")?.1.split_once("by PID ")?;
    let (host, _) = owner.split_once(" on ")?.1.split_once(" by ")?;
    Some(host).filter(|host| !host.is_empty())
}

/// Whether a host is called as pods of Interlock's Jobs are: the name of the Job and five characters more. A Job with so long a name
/// that it was cut is not known.
fn is_own(host: &str) -> bool {
    let is_random = |text: &str| text.len() == 5 && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let is_hash = |text: &str, digits| text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_number = |text: &str, digits| text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    let upkeep = [
        MaintenanceOperation::Initialize,
        MaintenanceOperation::Check,
        MaintenanceOperation::Prune,
        MaintenanceOperation::RotateKey,
        MaintenanceOperation::Unlock,
    ]
    .map(word);
    let mut parts = host.rsplit('-');
    if !parts.next().is_some_and(is_random) {
        return false;
    }
    let parts: Vec<&str> = parts.collect();
    match parts.as_slice() {
        // Upkeep: vault-prune-0a1b2c3d.
        [hash, operation, _, ..] if upkeep.contains(operation) => is_hash(hash, 8),
        // A backup of a slot: teller-20261123-0200-0a1b2c.
        [hash, time, day, _, ..] if is_number(time, 4) && is_number(day, 8) => is_hash(hash, 6),
        // One that a person asked for: teller-now-x7k2p.
        [random, "now", _, ..] => is_random(random),
        // A restore of a drill: teller-monthly-2611230200-restore.
        ["restore", moment, _, ..] => is_number(moment, 10),
        // Any other: restore-teller-back-20261123020000.
        [moment, _, ..] => is_number(moment, 14) && parts.last() == Some(&"restore"),
        _ => false,
    }
}
