//! The newest heartbeat in the restored data: read, and, as a fault, made older than it was.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use interlock_core::{
    backup::{
        heartbeat::{self as beats, Beat, MAX_FILE_BYTES},
        plan::PlannedHeartbeat,
        result::HeartbeatRead,
    },
    drill::report::DrillReport,
};
use jiff::{SignedDuration, Timestamp};

use super::{Pod, command, done, failed, failed_as, sql};

/// By so much a heartbeat is made older.
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// Reads it into the report.
///
/// # Errors
/// It cannot be looked for.
pub(super) async fn validate(
    pod: &Pod<'_>,
    heartbeat: &PlannedHeartbeat,
    limit: Duration,
    report: &mut DrillReport,
) -> Result<(), String> {
    match (&heartbeat.table, &heartbeat.file) {
        (Some(table), _) => {
            let query = beats::query(table, None);
            match sql::ask(pod, database(heartbeat), &query, limit).await? {
                sql::Answer::Bad(ended) => {
                    sql::bad(&ended, &query, report);
                    return Ok(());
                }
                sql::Answer::Value(None) => println!("the table {table} has no record"),
                sql::Answer::Value(Some(record)) => match beats::answer(Some(&record)) {
                    Ok(read) => report.heartbeat = Some(HeartbeatRead { read_at: None, ..read }),
                    Err(why) => {
                        failed_as(report, &why);
                        return Ok(());
                    }
                },
            }
        }
        (None, Some(file)) => match of_file(&pod.place.at(file)) {
            // When it was read says nothing: it is a copy.
            Ok(beat) => {
                report.heartbeat = beat.map(|beat| HeartbeatRead { read_at: None, ..beat.read(Timestamp::UNIX_EPOCH) });
            }
            Err(why) => {
                failed_as(report, &why);
                return Ok(());
            }
        },
        (None, None) => return Err("the policy has no heartbeat".to_owned()),
    }
    done(report);
    Ok(())
}

fn database(heartbeat: &PlannedHeartbeat) -> &str {
    heartbeat.database.as_deref().unwrap_or("postgres")
}

/// The record of a file; none if there is no file.
fn of_file(path: &Path) -> Result<Option<Beat>, String> {
    let failed = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            println!("there is no {}", path.display());
            return Ok(None);
        }
        Err(error) => return Err(failed(error)),
        Ok(found) if !found.is_file() || found.len() > MAX_FILE_BYTES => {
            return Err(format!("{} is no file of a heartbeat", path.display()));
        }
        Ok(_) => {}
    }
    Beat::decode(&fs::read_to_string(path).map_err(failed)?).map(Some)
}

/// Makes it older than any that a backup can have recorded: the first number, and a day earlier.
///
/// # Errors
/// It cannot be looked for.
pub(super) async fn tamper(
    pod: &Pod<'_>,
    heartbeat: &PlannedHeartbeat,
    limit: Duration,
    report: &mut DrillReport,
) -> Result<(), String> {
    match (&heartbeat.table, &heartbeat.file) {
        (Some(table), _) => {
            let application = pod.application;
            let mut psql =
                sql::psql(pod.run, &application.application, application.postgres_port, database(heartbeat))?;
            // Numbers are made by the server alone, so the first of them stays, a day older.
            psql.args([
                "--single-transaction",
                "--command",
                &format!(
                    "DO $$ BEGIN IF NOT EXISTS (SELECT FROM \"{table}\") THEN RAISE EXCEPTION 'the table has no record'; END IF; END $$"
                ),
                "--command",
                &format!("DELETE FROM \"{table}\" WHERE seq > (SELECT min(seq) FROM \"{table}\")"),
                "--command",
                &format!("UPDATE \"{table}\" SET time = time - interval '1 day'"),
            ]);
            let ended = command::run(psql, limit).await?;
            if ended.code == Some(0) { done(report) } else { sql::bad(&ended, "", report) }
        }
        (None, Some(file)) => match of_file(&pod.place.at(file)).and_then(|read| older(&pod.place.at(file), read)) {
            Ok(()) => done(report),
            Err(why) => failed(report, &why),
        },
        (None, None) => failed(report, "the policy has no heartbeat"),
    }
    Ok(())
}

fn older(path: &Path, found: Option<Beat>) -> Result<(), String> {
    let beat = found.ok_or_else(|| format!("there is no {}", path.display()))?;
    let failed = |error: std::io::Error| format!("{} cannot be changed: {error}", path.display());
    println!("heartbeat number {} of {} is made number 0 of a day before", beat.seq, beat.time);
    let old = Beat { seq: beat.seq.min(0), time: beat.time.checked_sub(DAY).unwrap_or(Timestamp::MIN), ..beat };
    let text = serde_json::to_string(&old).map_err(|error| error.to_string())?;
    let partial = path.with_extension("partial");
    fs::write(&partial, text).and_then(|()| fs::rename(&partial, path)).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("beat");
        assert_eq!(of_file(&file).unwrap(), None);
        let nonce = "0123456789abcdef0123456789abcdef";
        let text =
            |seq: &str| format!(r#"{{"id": "p", "seq": {seq}, "time": "2026-11-23T02:00:00Z", "nonce": "{nonce}"}}"#);
        fs::write(&file, text("7")).unwrap();
        let found = of_file(&file).unwrap().unwrap();
        assert_eq!(
            (found.seq, found.time.to_string().as_str(), found.nonce.as_str()),
            (7, "2026-11-23T02:00:00Z", nonce)
        );
        older(&file, Some(found)).unwrap();
        let old = of_file(&file).unwrap().unwrap();
        assert_eq!((old.seq, old.time.to_string().as_str(), old.nonce.as_str()), (0, "2026-11-22T02:00:00Z", nonce));
        for broken in ["", "{", "[]", &text("\"7\""), &text("7").replace(nonce, "short")] {
            fs::write(&file, broken).unwrap();
            assert!(of_file(&file).is_err(), "{broken}");
        }
    }
}
