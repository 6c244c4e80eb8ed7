//! Physical copies of a PostgreSQL server: a base copy that was verified, or the received segments that carry one on.

use std::{fs, time::Duration};

use interlock_core::backup::{
    outcome::short,
    plan::{BASE_PATH, PlannedSource, WAL_PATH},
    result::SourceFailure,
    wal::{
        BaseRecord, DATA_DIRECTORY, ENDED_FOLDER, OLDEST_POSTGRES, RECORD_FILE, RECORD_VERSION, WalRecord,
        first_segment, reachable,
    },
};
use interlock_crds::WalRange;
use jiff::Timestamp;
use tokio::process::Command;

use super::{
    Place, ending, install, log,
    postgres::{self, Server},
    redact::Secrets,
    restic::Restic,
    spool::{self, Received},
};

/// Makes the server write a record with the time of its end to the log: a transaction that changes nothing. A server that is told
/// a moment stops at such records alone.
const MARK: &str =
    "select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), pg_current_xact_id()";
/// The segment that is written to, which has the mark or comes after it.
const WRITTEN_TO: &str = "select pg_walfile_name(pg_current_wal_insert_lsn())";
/// How long the segment with the mark is waited for.
const PATIENCE: Duration = Duration::from_mins(1);
/// A server that does not answer a question within this does not answer.
const LIMIT: Duration = Duration::from_mins(1);
/// Room beside the databases: log that is written meanwhile, and what no database counts.
const MARGIN_BYTES: u64 = 256 << 20;

/// Why nothing is copied.
#[derive(Clone, Debug)]
pub(super) struct Stop {
    /// What was not as it must be.
    pub failure: SourceFailure,
    /// The sentence.
    pub why: String,
}

impl Stop {
    pub fn new(failure: SourceFailure, why: impl Into<String>) -> Self {
        Self { failure, why: why.into() }
    }

    fn failed(why: impl Into<String>) -> Self {
        Self::new(SourceFailure::Failed, why)
    }
}

/// What restic is to copy, and what is known of it.
#[derive(Clone, Debug)]
pub(super) struct Ready {
    /// Folder in the pod.
    pub path: &'static str,
    /// Patterns that are left out.
    pub exclude: Vec<String>,
    /// Major version of the server.
    pub postgres_version: u32,
    /// The newest moment that can be recovered.
    pub recoverable_until: Timestamp,
    /// Segments.
    pub wal: WalRange,
    /// Of segments: the first one that the base needs. What is older may go once it is stored.
    pub base_from: Option<String>,
}

/// A run, and what it needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Physical<'a> {
    pub place: &'a Place,
    pub secrets: &'a Secrets,
    pub server: Server<'a>,
    pub slot: &'a str,
}

impl<'a> Physical<'a> {
    /// Of a plan; none if it is of something else.
    pub fn of(place: &'a Place, secrets: &'a Secrets, source: &'a PlannedSource) -> Option<Self> {
        let PlannedSource::Postgres { host, port, ssl_mode, slot: Some(slot), .. } = source else { return None };
        Some(Self { place, secrets, server: Server { host, port: *port, ssl_mode: *ssl_mode }, slot })
    }

    /// The first row that the server answers.
    async fn query(&self, sql: &str) -> Result<Vec<String>, String> {
        let told = postgres::psql(self.place, &self.server, "postgres", sql, LIMIT).await;
        let told = told.map_err(|why| self.secrets.redact(&why))?;
        Ok(told.lines().next().unwrap_or_default().split('|').map(ToOwned::to_owned).collect())
    }

    /// Makes a base copy and verifies it.
    pub async fn base(&self, run: &str, room: Option<u64>) -> Result<Ready, Stop> {
        let version = self.is_possible(room).await?;
        let folder = self.place.at(BASE_PATH);
        let data = folder.join(DATA_DIRECTORY);
        let failed = |what: &str, error: std::io::Error| Stop::failed(format!("{}: {what}: {error}", folder.display()));
        if data.exists() {
            fs::remove_dir_all(&data).map_err(|error| failed("an earlier copy cannot be removed", error))?;
        }
        fs::create_dir_all(&folder).map_err(|error| failed("the folder cannot be made", error))?;
        println!("a base copy is made by pg_basebackup");
        let mut copy = postgres::client(self.place, &self.server, "pg_basebackup");
        copy.args(["--no-password", "--format=plain", "--wal-method=stream", "--checkpoint=fast", "--no-sync"]);
        copy.args(["--manifest-checksums=SHA256", "--label", &format!("interlock {run}"), "--pgdata"]).arg(&data);
        self.run(copy, "pg_basebackup").await.map_err(Stop::failed)?;
        // No earlier moment is consistent.
        let clock = "select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), \
            (select rolname from pg_roles where oid = 10)";
        let row = self.query(clock).await.map_err(Stop::failed)?;
        let ended_at = row.first().and_then(|time| time.parse().ok());
        let ended_at = ended_at.ok_or_else(|| Stop::failed("the server's time cannot be read"))?;
        let owner = row.get(1).cloned().unwrap_or_default();
        println!("the copy is compared with its manifest by pg_verifybackup");
        let mut verify = Command::new("pg_verifybackup");
        verify.arg(&data);
        self.run(verify, "pg_verifybackup").await.map_err(|why| {
            let what = "the base copy is not what its manifest says, so nothing of it was stored; look at the disks of the server and of the node, then take a Full backup again";
            Stop::new(SourceFailure::BaseNotVerified, format!("{what}: {why}"))
        })?;
        let wal = segments_of(&data).map_err(Stop::failed)?;
        let record =
            BaseRecord { version: RECORD_VERSION, wal: wal.clone(), ended_at, postgres_version: version, owner };
        write_record(&folder.join(RECORD_FILE), &record).map_err(Stop::failed)?;
        Ok(Ready {
            path: BASE_PATH,
            exclude: Vec::new(),
            postgres_version: version,
            recoverable_until: ended_at,
            wal,
            base_from: None,
        })
    }

    /// Looks at everything first that would make a long copy worthless; the server's major version.
    async fn is_possible(&self, room: Option<u64>) -> Result<u32, Stop> {
        let settings = "select current_setting('server_version_num'), \
            (select count(*) from pg_tablespace where spcname not in ('pg_default', 'pg_global')), \
            coalesce(current_setting('max_slot_wal_keep_size', true), '')";
        let row =
            self.query(settings).await.map_err(|why| Stop::failed(format!("the server did not answer: {why}")))?;
        let number = row.first().and_then(|text| text.parse::<u32>().ok()).unwrap_or_default();
        let version = number / 10_000;
        let unsupported = |why: String| Err(Stop::new(SourceFailure::Unsupported, why));
        if version < OLDEST_POSTGRES {
            return unsupported(format!(
                "the server has PostgreSQL {version}, and mode Physical needs {OLDEST_POSTGRES} or newer: use mode Logical"
            ));
        }
        let tools = tools_version(self.place, &self.server).await;
        if tools != Some(version) {
            let tools = tools.map_or_else(|| "no pg_basebackup".to_owned(), |tools| format!("PostgreSQL {tools}"));
            return unsupported(format!(
                "the image of the run has {tools} and the server PostgreSQL {version}, and write-ahead log is read by the same major version only: set source.postgres.image, such as postgres:{version}"
            ));
        }
        if install::find("pg_verifybackup").is_none() {
            return unsupported(
                "the image of the run has no pg_verifybackup: set source.postgres.image to one of the server's"
                    .to_owned(),
            );
        }
        if row.get(1).is_some_and(|count| count != "0") {
            return unsupported(
                "the server has tablespaces of its own, which mode Physical does not copy: use mode Logical, or move them into the data directory".to_owned(),
            );
        }
        is_limited(row.get(2).map(String::as_str).unwrap_or_default())?;
        self.has_slot().await?;
        self.fits(room).await?;
        Ok(version)
    }

    /// The slot keeps what the receiver has not got yet.
    async fn has_slot(&self) -> Result<(), Stop> {
        let slot = self.slot;
        let sql =
            format!("select slot_type, coalesce(wal_status, '') from pg_replication_slots where slot_name = '{slot}'");
        let row = self.query(&sql).await.map_err(Stop::failed)?;
        let missing = |why: String| Err(Stop::new(SourceFailure::SlotMissing, why));
        match (row.first().map(String::as_str), row.get(1).map(String::as_str)) {
            (Some("physical"), Some("lost")) => missing(format!(
                "the server gave up replication slot {slot}, because more log than max_slot_wal_keep_size had not been received: the receiver of the policy drops it and begins anew; look why it was behind, then take a Full backup"
            )),
            (Some("physical"), _) => Ok(()),
            (Some(kind), _) => missing(format!(
                "replication slot {slot} is a {kind} one of somebody else: name another one in source.postgres.wal.slot"
            )),
            (None, _) => missing(format!(
                "the server has no replication slot {slot}: the receiver of the policy makes it; look why its Deployment is not ready, then run this again"
            )),
        }
    }

    async fn fits(&self, room: Option<u64>) -> Result<(), Stop> {
        let size = "select coalesce(sum(pg_database_size(oid)), 0)::bigint from pg_database";
        let bytes = match self.query(size).await {
            Ok(row) => row.first().and_then(|text| text.parse::<u64>().ok()).unwrap_or_default(),
            Err(why) => {
                println!("how large the databases are is not known, so the copy is begun without: {why}");
                return Ok(());
            }
        };
        let needs = bytes.saturating_add(MARGIN_BYTES);
        let limit = room.unwrap_or(u64::MAX).min(free(self.place).unwrap_or(u64::MAX));
        if needs <= limit {
            return Ok(());
        }
        let gibibytes = |bytes: u64| bytes.div_ceil(1 << 30);
        // A tenth more, so that it still fits next week.
        let advice = gibibytes(needs.saturating_add(needs / 10));
        Err(Stop::new(
            SourceFailure::ScratchTooSmall,
            format!(
                "a base copy needs about {needs} bytes and there is room for {limit}: set pod.scratchSize to {advice}Gi or more, on nodes with so much disk"
            ),
        ))
    }

    /// Looks what the spool carries on, and until when.
    pub async fn log(&self, restic: &Restic<'_>, base_id: Option<&str>) -> Result<Ready, Stop> {
        let base_id = base_id.ok_or_else(|| {
            Stop::new(SourceFailure::BaseMissing, "the run names no base copy: a run in mode Full comes first")
        })?;
        let base = self.base_record(restic, base_id).await?;
        let marked = self.mark().await;
        let folder = self.place.at(WAL_PATH);
        let received = Received::read(&folder, &base.wal).map_err(Stop::failed)?;
        let wal = received.carries_on(&base.wal, self.slot)?;
        let mark = marked.filter(|(_, name)| received.has_in(&wal, name)).map(|(time, _)| time);
        let newest = spool::newest_end(&folder, &wal, self.secrets).await;
        // Without any record later than the base nothing is known to be newer than the base itself.
        let until = mark.max(newest.map(reachable)).unwrap_or(base.ended_at).max(base.ended_at);
        let record =
            WalRecord { version: RECORD_VERSION, base: base_id.to_owned(), wal: wal.clone(), recoverable_until: until };
        write_record(&folder.join(RECORD_FILE), &record).map_err(Stop::failed)?;
        let left_out = |name: &str| self.place.text(&format!("{WAL_PATH}/{name}"));
        Ok(Ready {
            path: WAL_PATH,
            exclude: ["*.partial", "*.tmp", ENDED_FOLDER, "lost+found"].map(left_out).to_vec(),
            postgres_version: base.postgres_version,
            recoverable_until: until,
            wal,
            base_from: Some(base.wal.from),
        })
    }

    async fn base_record(&self, restic: &Restic<'_>, base_id: &str) -> Result<BaseRecord, Stop> {
        let file = self.place.text(&format!("{BASE_PATH}/{RECORD_FILE}"));
        let came = restic.run(&["dump", "--no-lock", base_id, &file]).await;
        let record = came.output.first().and_then(|record| serde_json::from_value(record.clone()).ok());
        record.filter(|_| came.is_good()).ok_or_else(|| {
            let why = came.errors.first().map(|error| format!(": {error}")).unwrap_or_default();
            let what = format!("the base copy {} cannot be read from the repository{why}", short(base_id));
            Stop::new(SourceFailure::BaseMissing, format!("{what}; take a Full backup, which begins a new chain"))
        })
    }

    /// Marks the log and has the server complete the segment, so that it can be copied and its moment is known. A server that
    /// does not answer keeps nothing that was received from being copied.
    async fn mark(&self) -> Option<(Timestamp, String)> {
        let marked = match self.marked().await {
            Ok(marked) => Some(marked),
            Err(why) => {
                println!(
                    "the log could not be marked, so what is recoverable ends with the last commit in a complete segment: {why}"
                );
                None
            }
        };
        if let Err(why) = self.query("select pg_switch_wal()").await {
            println!("the segment could not be completed, so what is in it is left to a later run: {why}");
            return marked;
        }
        let (_, name) = marked.as_ref()?;
        let file = self.place.at(WAL_PATH).join(name);
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !file.is_file() && tokio::time::Instant::now() < deadline && !ending::is_asked() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        if !file.is_file() {
            println!(
                "segment {name} did not arrive within {} s: the receiver is behind or does not run; what has arrived is copied",
                PATIENCE.as_secs()
            );
        }
        marked
    }

    /// The moment of the mark, and the segment that must be there for it.
    async fn marked(&self) -> Result<(Timestamp, String), String> {
        let time = self.query(MARK).await?.first().and_then(|time| time.parse().ok());
        let name = self.query(WRITTEN_TO).await?.first().cloned();
        time.map(reachable).zip(name).ok_or_else(|| "the server's answer cannot be read".to_owned())
    }

    /// Runs a program to its end, its lines to the log; the last of them if it failed.
    async fn run(&self, command: Command, name: &str) -> Result<(), String> {
        let output =
            ending::output(command).await.map_err(|error| format!("{name} did not run to its end: {error}"))?;
        let mut told = Vec::new();
        for line in [&output.stdout, &output.stderr]
            .into_iter()
            .flat_map(|bytes| String::from_utf8_lossy(bytes).lines().map(ToOwned::to_owned).collect::<Vec<_>>())
        {
            let line = self.secrets.redact(&line);
            log::say(&line);
            told.push(line);
        }
        if output.status.success() {
            return Ok(());
        }
        let is_error = |line: &&String| line.contains("error:") || line.contains("FATAL");
        let line = told.iter().find(is_error).or(told.last()).cloned().unwrap_or_default();
        Err(format!("{name} ended with {}: {line}", output.status.code().unwrap_or(-1)))
    }
}

/// The server must not fill its disk for a receiver that is away.
pub(super) fn is_limited(setting: &str) -> Result<(), Stop> {
    if setting.is_empty() || setting == "-1" {
        let why = "the server's max_slot_wal_keep_size is not set, so a receiver that is away would fill the server's disk: set it, such as to a tenth of that disk, and reload the server";
        return Err(Stop::new(SourceFailure::Unsupported, why));
    }
    Ok(())
}

/// The major version of the programs.
async fn tools_version(place: &Place, server: &Server<'_>) -> Option<u32> {
    let output = postgres::client(place, server, "pg_basebackup").arg("--version").output().await.ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let number = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Bytes that can be written where the base copy is made.
fn free(place: &Place) -> Option<u64> {
    let folder = place.at(BASE_PATH);
    let folder = if folder.exists() { folder } else { place.root().to_owned() };
    let stat = rustix::fs::statvfs(&folder).ok()?;
    stat.f_bavail.checked_mul(stat.f_frsize)
}

/// The segments that a base copy brought along.
fn segments_of(data: &std::path::Path) -> Result<WalRange, String> {
    let label = fs::read_to_string(data.join("backup_label")).map_err(|error| format!("backup_label: {error}"))?;
    let from = first_segment(&label).ok_or("backup_label names no segment")?;
    let folder = data.join("pg_wal");
    let read = spool::read_header(&folder.join(&from))
        .ok_or_else(|| format!("segment {from} of the base copy cannot be read"))?;
    let names = spool::names(&folder)?;
    let range = WalRange {
        system_id: read.system_id.to_string(),
        timeline: 0,
        segment_bytes: i64::try_from(read.segment_bytes).unwrap_or_default(),
        to: from.clone(),
        from,
    };
    // The copy holds exactly what it needs.
    let to = names.into_iter().filter(|name| name.len() == 24 && *name >= range.from).max();
    let to = to.unwrap_or_else(|| range.from.clone());
    let timeline = to.get(..8).and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or_default();
    Ok(WalRange { timeline, to, ..range })
}

fn write_record(file: &std::path::Path, record: &impl serde::Serialize) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| format!("{} cannot be written: {error}", file.display());
    let text = serde_json::to_string(record).map_err(|error| failed(&error))?;
    let partial = file.with_extension("tmp");
    fs::write(&partial, text).map_err(|error| failed(&error))?;
    fs::rename(&partial, file).map_err(|error| failed(&error))
}
