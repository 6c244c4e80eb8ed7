//! A physical copy of a PostgreSQL server that came back: made ready to recover.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use interlock_core::backup::wal::{BaseRecord, DATA_DIRECTORY, RECORD_FILE, WalRecord, recovery_settings};
use jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;
use tokio::process::Command;

use super::install;

/// The folder of the base copy, below that of the restored data.
const BASE: &str = "base";
/// The folder of the segments.
const WAL: &str = "wal";

/// What stands ready.
#[derive(Clone, Debug)]
pub(super) struct Prepared {
    /// The data directory.
    pub data: PathBuf,
    /// Major version of the server that was copied.
    pub postgres_version: u32,
    /// The role that made its database cluster: a superuser.
    pub owner: String,
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
    Ok(Prepared { data, postgres_version: base.postgres_version, owner: base.owner, recoverable_until, until })
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

/// What the server of a drill is told beside its own settings, so that it starts where there is less room than the server that
/// was copied had, lets nobody in before recovery has ended, and asks nobody for a password. Its files go to `scratch`.
///
/// # Errors
/// They cannot be written, or the programs of this image are of another major version.
pub(super) async fn settings(prepared: &Prepared, scratch: &Path) -> Result<Vec<String>, String> {
    let own = server_version().await?;
    if own != prepared.postgres_version {
        return Err(format!(
            "the copy is of PostgreSQL {}, and this image has {own}: use an image of the same major version",
            prepared.postgres_version
        ));
    }
    let failed = |error: std::io::Error| format!("{} cannot be written to: {error}", scratch.display());
    let access = scratch.join("pg_hba.conf");
    fs::write(&access, "local all all trust\nhost all all all trust\n").map_err(failed)?;
    let mut settings = vec![
        format!("hba_file={}", access.display()),
        "shared_buffers=128MB".to_owned(),
        "huge_pages=off".to_owned(),
        // Nobody reads before the end, so it does not matter how many could on the server that was copied.
        "hot_standby=off".to_owned(),
        "logging_collector=off".to_owned(),
        "log_destination=stderr".to_owned(),
    ];
    // Some distributions keep the configuration elsewhere, and then it is not in the copy.
    if !prepared.data.join("postgresql.conf").is_file() {
        let config = scratch.join("postgresql.conf");
        fs::write(&config, "").map_err(failed)?;
        settings.push(format!("config_file={}", config.display()));
    }
    Ok(settings)
}

/// The major version of the server's program.
async fn server_version() -> Result<u32, String> {
    let program = install::find("postgres").ok_or("this image has no postgres: use one with a PostgreSQL server")?;
    let output = Command::new(program).arg("--version").output().await;
    let output = output.map_err(|error| format!("postgres cannot be started: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let number = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    let major = number.and_then(|number| number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok());
    major.ok_or_else(|| "postgres does not tell its version".to_owned())
}
