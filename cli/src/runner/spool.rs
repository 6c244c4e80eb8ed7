//! The folder into which segments of write-ahead log are received.

use std::{
    collections::BTreeSet,
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use interlock_core::backup::{
    plan::WAL_PATH,
    result::SourceFailure,
    wal::{self, RECORD_FILE, Segment, Spool, WalProblem, WalRecord},
};
use interlock_crds::WalRange;
use jiff::Timestamp;
use serde_json::Value;
use tokio::process::Command;

use super::{Place, physical::Stop, redact::Secrets, restic::Restic};

/// Most segments in which the last commit is looked for: beyond, nobody has changed anything for long.
const LOOKED_THROUGH: u64 = 64;

/// Names of the files of a folder.
pub(super) fn names(folder: &Path) -> Result<Vec<String>, String> {
    let failed = |error: std::io::Error| format!("{} cannot be read: {error}", folder.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        names.extend(entry.map_err(failed)?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

/// What a segment says of itself.
pub(super) fn read_header(file: &Path) -> Option<wal::Header> {
    let mut page = [0; 40];
    fs::File::open(file).ok()?.read_exact(&mut page).ok()?;
    wal::header(&page)
}

/// The content of the spool.
#[derive(Clone, Debug)]
pub(super) struct Received {
    folder: PathBuf,
    segment_bytes: u64,
    whole: BTreeSet<String>,
    spool: Spool,
}

impl Received {
    /// Looks at the names, lengths and histories of a folder; a segment is as long as those of `base`.
    pub fn read(folder: &Path, base: &WalRange) -> Result<Self, String> {
        let segment_bytes = u64::try_from(base.segment_bytes).unwrap_or_default();
        let (mut whole, mut histories) = (BTreeSet::new(), Vec::new());
        for name in names(folder)? {
            let file = folder.join(&name);
            if let Some(timeline) = name.strip_suffix(".history").and_then(|id| u32::from_str_radix(id, 16).ok()) {
                let text = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
                histories.push((timeline, wal::history(&text)));
            } else if Segment::parse(&name, segment_bytes).is_some()
                && fs::metadata(&file).is_ok_and(|meta| meta.len() == segment_bytes)
            {
                whole.insert(name);
            }
        }
        let spool = Spool::new(segment_bytes, whole.iter().map(String::as_str), histories);
        Ok(Self { folder: folder.to_owned(), segment_bytes, whole, spool })
    }

    /// The segments that carry `base` on.
    ///
    /// # Errors
    /// None do.
    pub fn carries_on(&self, base: &WalRange, slot: &str) -> Result<WalRange, Stop> {
        let start = Segment::parse(&base.from, self.segment_bytes).ok_or_else(|| {
            Stop::new(SourceFailure::BaseMissing, "the base copy names no segment: take a Full backup")
        })?;
        let (from, to) = self.spool.around(start).map_err(|problem| match problem {
            WalProblem::Gap { missing, next } => Stop::new(
                SourceFailure::WalGap,
                format!(
                    "segment {missing} of the write-ahead log is missing in the spool and {next} is there, so nothing after {missing} can be recovered from this base: take a Full backup, which begins a new chain"
                ),
            ),
            WalProblem::Nothing { first } => {
                let next = self.whole.last().filter(|last| **last > base.from);
                let seen = next.map(|next| format!(" ({next} is of a server that this base is not of)")).unwrap_or_default();
                Stop::new(
                    SourceFailure::WalNotReceived,
                    format!(
                        "segment {first}, with which the base begins, is not in the spool{seen}: the receiver has not got it through slot {slot}; look at the Deployment that receives write-ahead log"
                    ),
                )
            }
        })?;
        for name in self.whole.iter().filter(|name| self.is_between(name, from, to)) {
            self.is_of(base, name)?;
        }
        Ok(WalRange {
            timeline: to.timeline,
            from: from.name(self.segment_bytes),
            to: to.name(self.segment_bytes),
            ..base.clone()
        })
    }

    fn is_between(&self, name: &str, from: Segment, to: Segment) -> bool {
        Segment::parse(name, self.segment_bytes).is_some_and(|found| (from.number..=to.number).contains(&found.number))
    }

    /// A segment with the right name of another server, or with nothing in it, carries nothing on.
    fn is_of(&self, base: &WalRange, name: &str) -> Result<(), Stop> {
        let found = read_header(&self.folder.join(name));
        let number = Segment::parse(name, self.segment_bytes).map_or(0, |segment| segment.number);
        let fits = found.is_some_and(|found| {
            found.system_id.to_string() == base.system_id && found.address == number.saturating_mul(self.segment_bytes)
        });
        let what = if found.is_some_and(|found| found.system_id.to_string() != base.system_id) {
            "is of another server than the base: the server was replaced"
        } else {
            "is no segment of write-ahead log: the spool's volume is damaged"
        };
        let why = || format!("segment {name} in the spool {what}; take a Full backup, which begins a new chain");
        if fits { Ok(()) } else { Err(Stop::new(SourceFailure::WalGap, why())) }
    }

    /// Whether a segment is there and not after `range`.
    pub fn has_in(&self, range: &WalRange, name: &str) -> bool {
        self.whole.contains(name) && name.get(8..) <= range.to.get(8..)
    }
}

/// The time of the last commit or abort in `range`, as far as one is to be found.
pub(super) async fn newest_end(folder: &Path, range: &WalRange, secrets: &Secrets) -> Option<Timestamp> {
    let bytes = u64::try_from(range.segment_bytes).ok()?;
    let (from, to) = Segment::of_range(range)?;
    for number in (from.number..=to.number).rev().take(usize::try_from(LOOKED_THROUGH).unwrap_or(64)) {
        // A segment of an older timeline has its name.
        let names = (1..=to.timeline).rev().map(|timeline| Segment { timeline, number }.name(bytes));
        let Some(name) = names.into_iter().find(|name| folder.join(name).is_file()) else { continue };
        let mut dump = Command::new("pg_waldump");
        dump.args(["--rmgr=Transaction", "--path"]).arg(folder).arg(&name).env("TZ", "UTC").env("PGTZ", "UTC");
        match dump.output().await {
            // A record that goes on in a segment that is not there is told as an error; those before it count.
            Ok(output) => {
                let found = wal::newest_end(&String::from_utf8_lossy(&output.stdout));
                if found.is_some() {
                    return found;
                }
            }
            Err(error) => {
                println!(
                    "{}",
                    secrets.redact(&format!("when the last commit was cannot be told: pg_waldump: {error}"))
                );
                return None;
            }
        }
    }
    None
}

/// Removes segments before the base that an earlier snapshot of the same chain has: no later run needs them. Anything else stays.
pub(super) async fn clean(place: &Place, restic: &Restic<'_>, base_id: &str, base: &str, parent: &str) {
    let folder = place.at(WAL_PATH);
    let older = |name: &str| name.len() == 24 && name.get(8..) < base.get(8..);
    let is_segment = |name: &str| name.len() == 24 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F'));
    let Ok(there) = names(&folder) else { return };
    let old: BTreeSet<_> = there.into_iter().filter(|name| is_segment(name) && older(name)).collect();
    let ended = folder.join(wal::ENDED_FOLDER);
    if old.is_empty() && !ended.exists() {
        return;
    }
    let record = restic.run(&["dump", "--no-lock", parent, &place.text(&format!("{WAL_PATH}/{RECORD_FILE}"))]).await;
    let record = record.output.first().and_then(|value| serde_json::from_value::<WalRecord>(value.clone()).ok());
    if record.is_none_or(|record| record.base != base_id) {
        return;
    }
    let mut stored = BTreeSet::new();
    let listed = restic
        .run_with(&["ls", "--json", "--no-lock", parent], |line| {
            let text = |field: &str| line.get(field).and_then(Value::as_str);
            let size = line.get("size").and_then(Value::as_u64);
            stored.extend(text("name").map(ToOwned::to_owned).zip(size));
        })
        .await;
    if !listed.is_good() {
        return;
    }
    let mut removed = 0_u64;
    for name in old {
        let file = folder.join(&name);
        let size = fs::metadata(&file).map(|meta| meta.len()).ok();
        if size.is_some_and(|size| stored.contains(&(name.clone(), size))) && fs::remove_file(&file).is_ok() {
            removed += 1;
        }
    }
    println!(
        "{removed} segments before the base were removed from the spool; snapshot {} has them",
        interlock_core::backup::outcome::short(parent)
    );
    if ended.exists() && fs::remove_dir_all(&ended).is_ok() {
        println!("segments that nothing carried on any more were removed from the spool");
    }
}
