//! Heartbeats: the newest one is read before the copying, and from what was restored; and the writer of them.

mod writer;

pub(super) use writer::{is_ready, write};

use std::{fs, io::Read as _, time::Duration};

use interlock_core::backup::{
    heartbeat::{self, Beat, MAX_FILE_BYTES},
    plan::PlannedHeartbeat,
    result::HeartbeatRead,
};

use super::{
    Place,
    postgres::{self, Server},
};

/// A server that does not answer within this is not waited for: the copying matters more.
const LIMIT: Duration = Duration::from_mins(1);

/// The newest heartbeat; of this policy alone if its uid is given. A table is asked for at `server`.
///
/// # Errors
/// Why there is none, without what stands in the file.
pub(super) async fn read(
    place: &Place,
    planned: &PlannedHeartbeat,
    policy: Option<&str>,
    server: Option<&Server<'_>>,
) -> Result<HeartbeatRead, String> {
    if let Some(file) = &planned.file {
        let beat = of_file(place, file)?;
        if policy.is_some_and(|policy| policy != beat.id) {
            return Err(format!("{file} was written by the writer of another policy"));
        }
        return Ok(beat.read(now()));
    }
    let (Some(table), Some(server)) = (&planned.table, server) else {
        return Err("the plan names neither a file nor a table of a server".to_owned());
    };
    let database = planned.database.as_deref().unwrap_or("postgres");
    let query = heartbeat::query(table, policy);
    let told = postgres::psql(place, server, database, &query, LIMIT).await;
    let found = told.and_then(|told| heartbeat::answer(told.lines().next()));
    found.map_err(|why| format!("table {table} of database {database}: {why}"))
}

/// Now, by the clock of the node: a pod has no other.
#[allow(clippy::disallowed_methods)]
fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// The record in a file.
///
/// # Errors
/// There is no such file, or it is no heartbeat.
pub(super) fn of_file(place: &Place, path: &str) -> Result<Beat, String> {
    let file = place.at(path);
    let failed = |error: &std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => format!("{path} does not exist: look whether the writer runs"),
        _ => format!("{path} cannot be read: {error}"),
    };
    // A pipe would be waited for.
    let is_file = fs::symlink_metadata(&file).map_err(|error| failed(&error))?.is_file();
    if !is_file {
        return Err(format!("{path} is no file"));
    }
    let mut text = String::new();
    let opened = fs::File::open(&file).map_err(|error| failed(&error))?;
    opened.take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(|error| failed(&error))?;
    Beat::decode(&text).map_err(|why| format!("{path}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_newest_heartbeat_of_a_file_is_that_of_the_policy() {
        let root = tempdir();
        let place = Place { root: root.clone() };
        let planned = PlannedHeartbeat { table: None, database: None, file: Some("/data/beat".to_owned()) };
        let asked = |policy: Option<&'static str>| read(&place, &planned, policy, None);
        assert!(asked(None).await.unwrap_err().contains("does not exist"));
        fs::create_dir_all(root.join("data/beat")).unwrap();
        assert!(asked(None).await.unwrap_err().contains("no file"));
        fs::remove_dir(root.join("data/beat")).unwrap();
        let nonce = "0123456789abcdef0123456789abcdef";
        let text = format!(r#"{{"id": "p", "seq": 9, "time": "2026-11-23T02:00:00Z", "nonce": "{nonce}"}}"#);
        fs::write(root.join("data/beat"), text).unwrap();
        let found = asked(Some("p")).await.unwrap();
        assert_eq!((found.seq, found.nonce.as_str()), (9, nonce));
        assert!(found.read_at.is_some());
        assert!(asked(Some("q")).await.unwrap_err().contains("another policy"));
        fs::remove_dir_all(root).unwrap();
    }

    fn tempdir() -> std::path::PathBuf {
        let dir = std::env::temp_dir().join(format!("interlock-heartbeat-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(dir.join("data")).unwrap();
        dir
    }
}
