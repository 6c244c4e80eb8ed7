//! Who may hold a repository: many at once that only add or read, or one that removes.
//!
//! restic itself locks the repository; that lock is a file that goes stale when a pod is killed. Within the cluster this
//! claim decides instead. It has no expiry: a claim is let go only when its Job is known to have ended or never to have been
//! made, so that nothing is ever pruned under a live backup.
//!
//! Order: backups go before restores; an exclusive claim begins when nobody holds the repository, and one that has waited for
//! [`EXCLUSIVE_PATIENCE`] lets no later restore in, and no later backup either once no restore holds on. So it waits at most
//! for the runs that were there, and a backup at most for the exclusive runs that came before it.

use interlock_crds::RepositoryHolder;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};

use super::slots::{earlier, plus};
use crate::mutants::{self, Mutant};

/// An exclusive claim that has waited for so long lets nobody pass any more.
pub const EXCLUSIVE_PATIENCE: SignedDuration = SignedDuration::from_mins(30);

/// What is done with the repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Use {
    /// Adds a snapshot.
    Backup,
    /// Reads a snapshot.
    Restore,
    /// Removes something, or reads everything: prune, check, key rotation, unlock, initialisation. restic locks exclusively
    /// for these.
    Exclusive,
}

/// Somebody who holds the repository, or wants to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// Uid of the run object (Backup, DrillRun), or name of the maintenance run.
    pub uid: String,
    /// For people: kind and name.
    pub holder: String,
    /// For what.
    #[serde(rename = "use")]
    pub usage: Use,
    /// Since when it is held, or wanted.
    pub since: Timestamp,
}

/// What is known about the run of a holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HolderState {
    /// It may still touch the repository, or that is not known.
    Live,
    /// Its Job is terminal or gone, or was never made and never will be.
    Ended,
}

/// What follows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arrangement {
    /// Who holds the repository from now on: to be stored with the resourceVersion that the holders were read with, before
    /// anybody acts on it.
    pub holders: Vec<Claim>,
    /// Uids of those that are let in.
    pub granted: Vec<String>,
    /// Uids of those whose claim ended.
    pub released: Vec<String>,
    /// Those that wait, in the order in which they would be let in, each with the sentence why.
    pub waiting: Vec<(Claim, String)>,
    /// When time alone changes the answer.
    pub wake_at: Option<Timestamp>,
}

impl Arrangement {
    /// Whether anything is to be stored.
    pub fn changes(&self) -> bool {
        !self.granted.is_empty() || !self.released.is_empty()
    }

    /// What a run with this uid is told.
    pub fn told(&self, uid: &str) -> Option<&str> {
        self.waiting.iter().find(|(claim, _)| claim.uid == uid).map(|(_, why)| why.as_str())
    }

    /// The holders as the status of the repository shows them.
    pub fn shown(&self) -> Vec<RepositoryHolder> {
        let shown = |claim: &Claim| RepositoryHolder {
            holder: claim.holder.clone(),
            uid: claim.uid.clone(),
            exclusive: claim.usage == Use::Exclusive,
            since: Time(claim.since),
        };
        self.holders.iter().take(64).map(shown).collect()
    }
}

/// Reads the holders from the Lease's annotation.
///
/// # Errors
/// It cannot be read: then nobody is let in, and nothing is let go.
pub fn read(annotation: Option<&str>) -> Result<Vec<Claim>, String> {
    annotation.map_or_else(|| Ok(Vec::new()), |text| {
        serde_json::from_str(text).map_err(|error| {
            format!("who holds the repository cannot be read from its Lease: {error}; when no Job of it runs, delete the Lease")
        })
    })
}

/// Writes the holders for the Lease's annotation.
pub fn write(holders: &[Claim]) -> String {
    serde_json::to_string(holders).unwrap_or_default()
}

/// Decides who holds the repository. `state` tells what is known about a holder.
pub fn arrange(
    holders: &[Claim],
    wanting: &[Claim],
    state: impl Fn(&Claim) -> HolderState,
    now: Timestamp,
) -> Arrangement {
    let (ended, mut held): (Vec<_>, Vec<_>) =
        holders.iter().cloned().partition(|claim| state(claim) == HolderState::Ended);
    let mut waiting: Vec<_> =
        wanting.iter().filter(|claim| !holders.iter().any(|holder| holder.uid == claim.uid)).cloned().collect();
    waiting.sort_by(|a, b| (a.usage, a.since, &a.uid).cmp(&(b.usage, b.since, &b.uid)));
    waiting.dedup_by(|a, b| a.uid == b.uid);
    let mut granted = Vec::new();
    while let Some(next) = waiting.iter().position(|claim| barrier(claim, &held, &waiting, now).is_none()) {
        let claim = Claim { since: now, ..waiting.remove(next) };
        granted.push(claim.uid.clone());
        held.push(claim);
    }
    let patience = |claim: &Claim| Some(plus(claim.since, EXCLUSIVE_PATIENCE)).filter(|at| *at > now);
    let wake_at = waiting
        .iter()
        .filter(|claim| claim.usage == Use::Exclusive)
        .filter_map(patience)
        .fold(None, |a, b| earlier(a, Some(b)));
    let told = |claim: &Claim| {
        let why = barrier(claim, &held, &waiting, now).unwrap_or_else(|| "it is let in next".to_owned());
        (claim.clone(), why)
    };
    let waiting = waiting.iter().map(told).collect();
    Arrangement {
        granted,
        released: ended.into_iter().map(|claim| claim.uid).collect(),
        waiting,
        wake_at,
        holders: held,
    }
}

/// What keeps `claim` out.
fn barrier(claim: &Claim, held: &[Claim], waiting: &[Claim], now: Timestamp) -> Option<String> {
    if let Some(exclusive) = held.iter().find(|holder| holder.usage == Use::Exclusive) {
        return Some(format!("{} holds it alone since {}", exclusive.holder, exclusive.since));
    }
    let impatient = waiting
        .iter()
        .filter(|other| other.usage == Use::Exclusive && plus(other.since, EXCLUSIVE_PATIENCE) <= now)
        .min_by(|a, b| (a.since, &a.uid).cmp(&(b.since, &b.uid)));
    let first = impatient.filter(|exclusive| exclusive.uid != claim.uid && exclusive.since <= claim.since);
    let turn = |exclusive: &Claim| format!("{} waits since {} and is next", exclusive.holder, exclusive.since);
    match claim.usage {
        Use::Backup => {
            let restoring = held.iter().any(|holder| holder.usage == Use::Restore);
            first.filter(|_| !restoring).map(turn)
        }
        Use::Restore => {
            let backup = waiting.iter().find(|other| other.usage == Use::Backup);
            impatient.map(turn).or_else(|| backup.map(|backup| format!("{} goes first, as backups do", backup.holder)))
        }
        Use::Exclusive => {
            let names: Vec<_> = held.iter().take(3).map(|holder| holder.holder.as_str()).collect();
            if !held.is_empty() && !mutants::is(Mutant::RemoveBesideOthers) {
                return Some(format!(
                    "{} of {} that hold it must end first: {}",
                    names.len(),
                    held.len(),
                    names.join(", ")
                ));
            }
            first.map(turn).or_else(|| {
                let earlier = waiting.iter().find(|other| {
                    other.usage == Use::Exclusive && (other.since, &other.uid) < (claim.since, &claim.uid)
                });
                earlier.map(turn)
            })
        }
    }
}
