//! Write-ahead log of a PostgreSQL server: which received segments carry a base copy on without a gap, which moment that
//! reaches, and what a server must be told so that it recovers to a moment.
//!
//! A base copy (Full) is complete by itself: it brings the log of its own making. A run of mode Incremental stores the segments of
//! the spool; one such snapshot and its base are enough for every moment between the end of the base and `recoverableUntil`.
//! The first one after a new base also has what came before that base, so that no moment falls between two chains.

mod spool;

use interlock_crds::WalRange;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

pub use spool::{Header, Segment, Spool, WalProblem, header, history, lsn};

use super::slots::minus;

/// Version of the records in snapshots.
pub const RECORD_VERSION: u32 = 1;
/// The file beside a base copy, and beside segments, that says what they are.
pub const RECORD_FILE: &str = "interlock.json";
/// The data directory of a server in the folder of a base copy.
pub const DATA_DIRECTORY: &str = "pgdata";
/// The folder of the spool to which segments go that nothing carries on any more.
pub const ENDED_FOLDER: &str = "ended";
/// The oldest major version with what is needed: a limit for slots, and manifests of base copies.
pub const OLDEST_POSTGRES: u32 = 13;

/// What a base copy is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BaseRecord {
    /// [`RECORD_VERSION`].
    pub version: u32,
    /// The segments that it was made during.
    pub wal: WalRange,
    /// When it was complete, by the server's clock: no earlier moment can be recovered from it.
    pub ended_at: Timestamp,
    /// Major version of the server.
    pub postgres_version: u32,
    /// The role that made the server's database cluster: a superuser.
    pub owner: String,
}

/// What a snapshot of segments is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WalRecord {
    /// [`RECORD_VERSION`].
    pub version: u32,
    /// Snapshot of the base that it carries on.
    pub base: String,
    /// The segments without a gap.
    pub wal: WalRange,
    /// The newest moment that a server can be told to recover to.
    pub recoverable_until: Timestamp,
}

/// Where a base copy begins, as its `backup_label` says: the first segment that it needs.
pub fn first_segment(backup_label: &str) -> Option<String> {
    let line = backup_label.lines().find_map(|line| line.strip_prefix("START WAL LOCATION:"))?;
    let (_, file) = line.split_once("(file ")?;
    Some(file.trim_end().trim_end_matches(')').to_owned())
}

/// The newest time of a commit or abort in what `pg_waldump` tells in UTC.
pub fn newest_end(dump: &str) -> Option<Timestamp> {
    let of = |line: &str| {
        let (_, end) = line.split_once("desc: COMMIT ").or_else(|| line.split_once("desc: ABORT "))?;
        let (day, rest) = end.split_once(' ')?;
        let (time, _) = rest.split_once(" UTC")?;
        format!("{day}T{time}Z").parse().ok()
    };
    dump.lines().filter_map(of).max()
}

/// The newest moment that a server reaches with log whose newest record with a time is of `newest`: it stops at the first
/// record that is later than what it was told, and one must be there.
pub fn reachable(newest: Timestamp) -> Timestamp {
    minus(newest, SignedDuration::from_micros(1))
}

/// Whether the segments `wal` carry on a base copy with the segments `base`, which is not the one that they were stored for.
pub fn carries_on(base: &WalRange, wal: &WalRange) -> bool {
    let ranges = [base, wal];
    let same_server = base.system_id == wal.system_id && base.segment_bytes == wal.segment_bytes;
    let parsed = ranges.map(|range| Some((range.timeline, Segment::of_range(range)?)));
    let [Some((base_timeline, (base_from, base_to))), Some((timeline, (from, to)))] = parsed else { return false };
    // Another timeline may have left the base's own before the base was made.
    let one_timeline = [base_timeline, timeline, base_from.timeline, from.timeline, to.timeline].map(|t| t == timeline);
    same_server && one_timeline == [true; 5] && from.number <= base_from.number && to.number >= base_to.number
}

/// Settings of a server that recovers with the segments in the folder `wal`, seen from its data directory: to `until`, or to
/// their end. Nothing of it reaches the server that was copied: no archive, no standby that is waited for.
pub fn recovery_settings(wal: &str, until: Option<Timestamp>) -> String {
    let moment = until.map_or_else(String::new, |until| {
        let until = until.strftime("%Y-%m-%d %H:%M:%S.%6f+00");
        format!("recovery_target_time = '{until}'\nrecovery_target_action = 'promote'\n")
    });
    format!(
        "\n# Written by Interlock: what is needed to recover this copy.\n\
         restore_command = 'cp \"{wal}/%f\" \"%p\"'\n\
         recovery_target_timeline = 'latest'\n\
         {moment}\
         # A copy must not write to the archive of the server that it is a copy of, nor wait for its standbys, nor follow it.\n\
         archive_mode = 'off'\nsynchronous_standby_names = ''\nprimary_conninfo = ''\n"
    )
}

/// Bytes of a Kubernetes quantity.
pub fn quantity_bytes(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor: u128 = match unit {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "P" => 1_000_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        "Pi" => 1 << 50,
        // Thousandths of a byte.
        "m" => return Some(number.parse::<u64>().ok()?.div_ceil(1_000)),
        _ => return None,
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let part = part.get(..part.len().min(9))?;
    let digits = u32::try_from(part.len()).ok()?;
    let scaled: u128 = format!("{whole}{part}").parse().ok()?;
    u64::try_from(scaled.checked_mul(factor)? / 10_u128.pow(digits)).ok()
}
