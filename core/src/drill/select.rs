//! Which recovery point a drill restores.
//!
//! Points that are not complete, or that a drill found bad, are restored only if a person names them. RandomWithin is a
//! shuffle without replacement over the tiers of the retention: in one round every tier that has a point is drawn from once,
//! in an order that follows from the round's seed, so that old points are not left out because there are few of them.

use std::collections::BTreeSet;

use interlock_crds::{
    Backup, BackupPhase, ChosenPoint, DrillSelection, HeartbeatRecord, SelectionStrategy, ShuffleState,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::minus;
use crate::{
    backup::exposure::{Standing, is_expired, standing},
    object::Digest,
};

/// The tier of points that no counting rule keeps.
pub const NO_TIER: &str = "unruled";
/// So many points are remembered as drawn, and so many tiers.
const REMEMBERED: usize = 64;
const MOST_TIERS: usize = 16;

/// A recovery point that could be restored.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Name of the Backup.
    pub backup: String,
    /// Its uid.
    pub uid: String,
    /// Id of its snapshot.
    pub snapshot_id: String,
    /// Snapshot without which it cannot be restored.
    pub base_id: Option<String>,
    /// The moment whose data it holds.
    pub data_time: Timestamp,
    /// Whether it counts.
    pub standing: Standing,
    /// Rules of the retention that keep it.
    pub tiers: Vec<String>,
    /// The heartbeat that was recorded with it.
    pub heartbeat: Option<HeartbeatRecord>,
    /// Bytes of its data.
    pub bytes: i64,
    /// Number of its files.
    pub files: i64,
}

/// The recovery point of a Backup of the policy with this uid; none if it has none (any more), may have none any more, or is of
/// another policy.
pub fn candidate(backup: &Backup, policy_uid: &str) -> Option<Candidate> {
    let status = backup.status.as_ref()?;
    status.pinned.as_ref().filter(|pinned| pinned.policy_uid == policy_uid)?;
    let point = status.point.as_ref()?;
    // A run that still writes has no point yet, whatever stands there.
    let ended = matches!(status.phase, BackupPhase::Succeeded | BackupPhase::PartiallyFailed);
    let kept_by = status.retention.as_ref().map(|retention| retention.kept_by.as_slice()).unwrap_or_default();
    (ended && !is_expired(backup)).then_some(())?;
    Some(Candidate {
        backup: backup.metadata.name.clone()?,
        uid: backup.metadata.uid.clone()?,
        snapshot_id: point.snapshot_id.clone(),
        base_id: point.base_id.clone(),
        data_time: point.data_time.0,
        standing: standing(backup)?,
        tiers: kept_by.iter().filter(|rule| rule.starts_with("keep")).cloned().collect(),
        heartbeat: status.heartbeat.clone(),
        bytes: point.bytes,
        files: point.files,
    })
}

/// What was chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The recovery point.
    pub point: ChosenPoint,
    /// How far the shuffle got; to be recorded in the drill when the run was admitted.
    pub shuffle: ShuffleState,
}

/// The seed of a run: from its uid alone, small enough for any JSON number.
pub fn seed(run_uid: &str) -> u64 {
    rank(0, "seed", run_uid) & ((1 << 53) - 1)
}

/// Chooses among `candidates`. The same answer for the same seed, candidates and history.
///
/// # Errors
/// There is none to choose; the sentence says why.
pub fn choose(
    selection: &DrillSelection,
    candidates: &[Candidate],
    shuffle: &ShuffleState,
    seed: u64,
    now: Timestamp,
) -> Result<Choice, String> {
    let sound = candidates.iter().filter(|candidate| candidate.standing != Standing::Corrupt);
    let sound: BTreeSet<_> = sound.map(|candidate| candidate.snapshot_id.as_str()).collect();
    let has_base = |c: &&Candidate| c.base_id.as_deref().is_none_or(|base| sound.contains(base));
    let good = candidates.iter().filter(|candidate| candidate.standing == Standing::Good);
    let mut good: Vec<_> = good.filter(has_base).collect();
    good.sort_by(|a, b| (a.data_time, &a.backup).cmp(&(b.data_time, &b.backup)));
    let none = || "the policy has no good recovery point; see why its backups do not succeed".to_owned();
    let (candidate, tier, shuffle) = match selection.strategy {
        SelectionStrategy::Latest => (*good.last().ok_or_else(none)?, None, shuffle.clone()),
        SelectionStrategy::Oldest => (*good.first().ok_or_else(none)?, None, shuffle.clone()),
        SelectionStrategy::ById => (by_id(selection, candidates)?, None, shuffle.clone()),
        SelectionStrategy::RandomWithin => {
            let days = selection.days.unwrap_or(0);
            let from = minus(now, SignedDuration::from_hours(24 * i64::from(days)));
            good.retain(|candidate| candidate.data_time >= from && candidate.data_time <= now);
            let (candidate, tier, shuffle) = draw(&good, shuffle, seed).ok_or_else(|| {
                format!("no good recovery point holds data of the last {days} days; give days a larger value, or see why backups do not succeed")
            })?;
            (candidate, Some(tier), shuffle)
        }
    };
    if candidate.files == 0 {
        return Err(format!(
            "recovery point {} has no files: there is nothing whose return could be proved",
            candidate.backup
        ));
    }
    Ok(Choice { point: chosen(candidate, selection.strategy, tier), shuffle })
}

fn by_id<'a>(selection: &DrillSelection, candidates: &'a [Candidate]) -> Result<&'a Candidate, String> {
    let id = selection.id.as_deref().unwrap_or_default();
    // restic shows eight digits of an id; fewer are a name at most.
    let is_meant =
        |c: &&Candidate| c.backup == id || c.snapshot_id == id || (id.len() >= 8 && c.snapshot_id.starts_with(id));
    let mut meant = candidates.iter().filter(is_meant);
    match (meant.next(), meant.next()) {
        (Some(candidate), None) => Ok(candidate),
        (None, _) => Err(format!(
            "there is no recovery point {id} of the policy (any more); list them with `interlock backup list`"
        )),
        (Some(_), Some(_)) => Err(format!("{id} is more than one recovery point; write the name of the Backup")),
    }
}

fn chosen(candidate: &Candidate, strategy: SelectionStrategy, tier: Option<String>) -> ChosenPoint {
    ChosenPoint {
        backup: candidate.backup.clone(),
        uid: candidate.uid.clone(),
        snapshot_id: candidate.snapshot_id.clone(),
        base_id: candidate.base_id.clone(),
        data_time: Time(candidate.data_time),
        strategy,
        tier,
        heartbeat: candidate.heartbeat.clone(),
        bytes: candidate.bytes,
        files: candidate.files,
    }
}

/// The next point of the shuffle, its tier, and the shuffle with both.
fn draw<'a>(
    good: &[&'a Candidate],
    shuffle: &ShuffleState,
    seed: u64,
) -> Option<(&'a Candidate, String, ShuffleState)> {
    let tiers: BTreeSet<&str> = good.iter().flat_map(|candidate| tiers_of(candidate)).collect();
    let is_open = |tier: &str| shuffle.round > 0 && !shuffle.drawn_tiers.iter().any(|drawn| drawn == tier);
    let (round_seed, open): (_, Vec<_>) = match tiers.iter().copied().filter(|tier| is_open(tier)).collect::<Vec<_>>() {
        none if none.is_empty() => (seed, tiers.iter().copied().collect()),
        open => (shuffle.seed, open),
    };
    let tier = open.into_iter().min_by_key(|tier| (rank(round_seed, "tier", tier), *tier))?;
    let of_tier = good.iter().copied().filter(|candidate| tiers_of(candidate).contains(&tier));
    // A point comes again only when every other one of its tier was drawn later than it.
    let last_drawn = |candidate: &Candidate| shuffle.drawn.iter().rposition(|drawn| *drawn == candidate.backup);
    let candidate = of_tier.min_by_key(|c| (last_drawn(c), rank(round_seed, "point", &c.backup), c.backup.clone()))?;
    Some((candidate, tier.to_owned(), remember(shuffle, &candidate.backup, tier, seed)))
}

/// The shuffle after the run with `seed` drew a point from a tier: a tier that was drawn from in this round begins the next
/// one. Remembering the run that drew last again changes nothing, so that it can be repeated after a crash.
pub fn remember(shuffle: &ShuffleState, backup: &str, tier: &str, seed: u64) -> ShuffleState {
    let mut state = shuffle.clone();
    if state.last_seed == Some(seed) {
        return state;
    }
    if state.round == 0 || state.drawn_tiers.iter().any(|drawn| drawn == tier) {
        state.seed = seed;
        state.round = state.round.saturating_add(1);
        state.drawn_tiers.clear();
    }
    state.last_seed = Some(seed);
    state.drawn_tiers.push(tier.to_owned());
    state.drawn.push(backup.to_owned());
    let surplus = state.drawn.len().saturating_sub(REMEMBERED);
    state.drawn.drain(..surplus);
    let surplus = state.drawn_tiers.len().saturating_sub(MOST_TIERS);
    state.drawn_tiers.drain(..surplus);
    state
}

fn tiers_of(candidate: &Candidate) -> Vec<&str> {
    if candidate.tiers.is_empty() { vec![NO_TIER] } else { candidate.tiers.iter().map(String::as_str).collect() }
}

/// A place in an order that follows from the seed.
fn rank(seed: u64, what: &str, name: &str) -> u64 {
    let Digest(bytes) = Digest::of_bytes(format!("interlock drill shuffle\n{seed}\n{what}\n{name}").as_bytes());
    bytes.iter().take(8).fold(0, |rank, byte| rank << 8 | u64::from(*byte))
}
