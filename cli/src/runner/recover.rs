//! A physical copy of a PostgreSQL server that came back: made ready to recover, and, for drills, served.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use interlock_core::backup::wal::{BaseRecord, DATA_DIRECTORY, RECORD_FILE, WalRecord, recovery_settings};
use jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;
use tokio::process::{Child, Command};

use super::install;

/// The folder of the base copy, below that of the restored data.
const BASE: &str = "base";
/// The folder of the segments.
const WAL: &str = "wal";
/// How often a server that recovers is asked whether it is done.
const EVERY: Duration = Duration::from_millis(300);

/// What stands ready.
#[derive(Clone, Debug)]
pub(super) struct Prepared {
    /// The data directory.
    pub data: PathBuf,
    /// Major version of the server that was copied.
    pub postgres_version: u32,
    /// The newest moment that can be recovered.
    pub recoverable_until: Timestamp,
    /// The moment that it recovers to; none: that one, and what follows it.
    pub until: Option<Timestamp>,
}

/// To which moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// The end of what is there.
    End,
    /// This one.
    At(Timestamp),
    /// So long before the newest that can be recovered.
    BeforeEnd(SignedDuration),
}

/// Makes the base copy below `folder` (and the segments beside it, if there are any) ready: a server that is started on it
/// recovers to the moment and then takes writes.
///
/// # Errors
/// It is no such copy, or the moment cannot be recovered from it.
pub(super) fn prepare(folder: &Path, moment: Moment) -> Result<Prepared, String> {
    let data = folder.join(BASE).join(DATA_DIRECTORY);
    let base: BaseRecord = record(&folder.join(BASE))?
        .ok_or_else(|| format!("{} holds no base copy of a PostgreSQL server", folder.join(BASE).display()))?;
    let wal: Option<WalRecord> = record(&folder.join(WAL))?;
    let recoverable_until = wal.as_ref().map_or(base.ended_at, |wal| wal.recoverable_until);
    let until = match moment {
        Moment::End => None,
        Moment::At(at) => Some(at),
        Moment::BeforeEnd(long) => recoverable_until.checked_sub(long).ok(),
    };
    if let Some(until) = until
        && (until < base.ended_at || until > recoverable_until)
    {
        return Err(format!(
            "{until} cannot be recovered: what came back reaches from {} to {recoverable_until}",
            base.ended_at
        ));
    }
    let failed = |what: &str| {
        let what = format!("{} {what}", data.display());
        move |error: std::io::Error| format!("{what}: {error}")
    };
    close(&data).map_err(failed("cannot be made its owner's alone"))?;
    for left in ["standby.signal", "postmaster.pid", "postmaster.opts"] {
        match fs::remove_file(data.join(left)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed("cannot be cleared")(error));
            }
            _ => {}
        }
    }
    // Seen from the data directory, where the server runs: the copy may be mounted anywhere.
    let settings = recovery_settings(&format!("../../{WAL}"), until);
    let file = data.join("postgresql.auto.conf");
    let own = fs::read_to_string(&file).unwrap_or_default();
    let own = own.split("\n# Written by Interlock").next().unwrap_or_default();
    fs::write(&file, format!("{own}{settings}")).map_err(failed("cannot be written to"))?;
    if wal.is_some() {
        fs::write(data.join("recovery.signal"), "").map_err(failed("cannot be written to"))?;
    }
    Ok(Prepared { data, postgres_version: base.postgres_version, recoverable_until, until })
}

fn record<T: DeserializeOwned>(folder: &Path) -> Result<Option<T>, String> {
    let file = folder.join(RECORD_FILE);
    match fs::read_to_string(&file) {
        Ok(text) => serde_json::from_str(&text).map(Some).map_err(|error| format!("{}: {error}", file.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{}: {error}", file.display())),
    }
}

/// The server refuses a data directory that others may read or write, which a volume's group makes of it.
fn close(folder: &Path) -> std::io::Result<()> {
    let meta = fs::symlink_metadata(folder)?;
    if meta.permissions().mode() & 0o7077 != 0 {
        fs::set_permissions(folder, fs::Permissions::from_mode(meta.permissions().mode() & 0o700))?;
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            close(&entry.path())?;
        }
    }
    Ok(())
}

/// How a recovered copy is served.
#[derive(Clone, Debug)]
pub(super) struct Serve<'a> {
    /// The folder with the restored data.
    pub folder: &'a Path,
    /// To which moment.
    pub moment: Moment,
    /// Folder for the socket, configuration and access rules: one that is the server's alone.
    pub scratch: &'a Path,
    /// Addresses that it listens on, as `listen_addresses` has them; empty: the socket alone.
    pub listen: &'a str,
    /// Port.
    pub port: u16,
    /// Who may connect, as `pg_hba.conf` has it.
    pub access: &'a str,
    /// It has failed if recovery takes longer.
    pub patience: Duration,
}

/// A server whose recovery has ended: it answers queries.
#[derive(Debug)]
pub(super) struct Served {
    /// The server. It ends with this value.
    pub server: Child,
    /// What it was started on.
    pub prepared: Prepared,
}

/// Makes a copy ready, starts a server on it, and waits until its recovery has ended.
///
/// # Errors
/// The sentence why it does not answer.
pub(super) async fn serve(serve: &Serve<'_>) -> Result<Served, String> {
    let prepared = prepare(serve.folder, serve.moment)?;
    let own = server_version().await?;
    if own != prepared.postgres_version {
        return Err(format!(
            "the copy is of PostgreSQL {}, and this image has {own}: use an image of the same major version",
            prepared.postgres_version
        ));
    }
    let failed = |error: std::io::Error| format!("{} cannot be written to: {error}", serve.scratch.display());
    fs::create_dir_all(serve.scratch).map_err(failed)?;
    let access = serve.scratch.join("pg_hba.conf");
    fs::write(&access, serve.access).map_err(failed)?;
    let mut command = Command::new(program("postgres")?);
    command.arg("-D").arg(&prepared.data).kill_on_drop(true).stdin(Stdio::null());
    let set = |name: &str, value: String| ["-c".to_owned(), format!("{name}={value}")];
    // Some distributions keep the configuration elsewhere, and then it is not in the copy.
    if !prepared.data.join("postgresql.conf").is_file() {
        let config = serve.scratch.join("postgresql.conf");
        fs::write(&config, "").map_err(failed)?;
        command.args(set("config_file", config.display().to_string()));
    }
    let settings = [
        ("hba_file", access.display().to_string()),
        ("listen_addresses", serve.listen.to_owned()),
        ("port", serve.port.to_string()),
        ("unix_socket_directories", serve.scratch.display().to_string()),
        ("ssl", "off".to_owned()),
        // The copy runs where there is less room than the server had.
        ("shared_buffers", "128MB".to_owned()),
        ("huge_pages", "off".to_owned()),
        // Nobody reads before the end, so it does not matter how many could have on the server that was copied.
        ("hot_standby", "off".to_owned()),
        ("logging_collector", "off".to_owned()),
        ("log_destination", "stderr".to_owned()),
    ];
    command.args(settings.into_iter().flat_map(|(name, value)| set(name, value)));
    let mut server = command.spawn().map_err(|error| format!("postgres cannot be started: {error}"))?;
    let began = Instant::now();
    loop {
        if let Some(ended) = server.try_wait().map_err(|error| format!("how postgres fares is not known: {error}"))? {
            return Err(format!(
                "the server ended during recovery with {}: its log says why",
                ended.code().map_or_else(|| "a signal".to_owned(), |code| code.to_string())
            ));
        }
        if has_recovered(serve).await {
            return Ok(Served { server, prepared });
        }
        if began.elapsed() > serve.patience {
            return Err(format!("recovery did not end within {} s", serve.patience.as_secs()));
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Whether the server answers a query and is not in recovery.
async fn has_recovered(serve: &Serve<'_>) -> bool {
    let Ok(psql) = program("psql") else { return false };
    let mut psql = Command::new(psql);
    psql.args(["--no-psqlrc", "--no-password", "--tuples-only", "--no-align", "--dbname", "postgres"]);
    psql.args(["--command", "select pg_is_in_recovery()"]);
    psql.arg("--host").arg(serve.scratch).args(["--port", &serve.port.to_string()]);
    psql.env("PGUSER", std::env::var("PGUSER").unwrap_or_else(|_| "postgres".to_owned()));
    let answer = psql.stdin(Stdio::null()).stderr(Stdio::null()).output().await;
    answer.is_ok_and(|answer| answer.status.success() && answer.stdout.starts_with(b"f"))
}

fn program(name: &str) -> Result<PathBuf, String> {
    install::find(name).ok_or_else(|| format!("this image has no {name}: use one with a PostgreSQL server"))
}

/// The major version of the server's program.
async fn server_version() -> Result<u32, String> {
    let output = Command::new(program("postgres")?).arg("--version").output().await;
    let output = output.map_err(|error| format!("postgres cannot be started: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let number = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    let major = number.and_then(|number| number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok());
    major.ok_or_else(|| "postgres does not tell its version".to_owned())
}
