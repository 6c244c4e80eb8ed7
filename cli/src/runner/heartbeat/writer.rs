//! The writer: one record an interval, until the pod is ended. What cannot be written is tried again, and the pod is not ready
//! meanwhile.

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    time::Duration,
};

use interlock_core::backup::{
    heartbeat::{
        self, Beat,
        writer::{PlannedTable, WRITER_PLAN_VARIABLE, WRITER_PLAN_VERSION, WriterPlan},
    },
    plan::EXCHANGE_PATH,
};
use jiff::Timestamp;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::signal::unix::{SignalKind, signal};

use crate::runner::{
    Place,
    postgres::{self, Server},
    redact::Secrets,
};

/// Tells when a record was last written.
const WRITTEN: &str = "heartbeat-written";
/// A server that does not answer within this is asked again.
const LIMIT: Duration = Duration::from_secs(30);
/// Without a record for so many intervals the writer is not ready.
const PATIENCE: i64 = 3;

fn plan() -> Result<WriterPlan, String> {
    let text = std::env::var(WRITER_PLAN_VARIABLE)
        .map_err(|_| format!("{WRITER_PLAN_VARIABLE} is not set: this runs in pods of Interlock"))?;
    let plan: WriterPlan =
        serde_json::from_str(&text).map_err(|error| format!("{WRITER_PLAN_VARIABLE} cannot be read: {error}"))?;
    if plan.version != WRITER_PLAN_VERSION {
        return Err(format!("the plan has version {}, this release reads {WRITER_PLAN_VERSION}", plan.version));
    }
    Ok(plan)
}

/// Writes until the pod is ended.
///
/// # Errors
/// There is no plan, or signals cannot be waited for.
pub(in crate::runner) async fn write(place: &Place) -> Result<(), String> {
    let plan = plan()?;
    let secrets = Secrets::of_environment(postgres::password(place));
    let failed = |error: std::io::Error| format!("signals cannot be waited for: {error}");
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let interval = Duration::from_secs(plan.interval_seconds.max(1).unsigned_abs());
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // Of another life of this container.
    let _ = fs::remove_file(place.at(EXCHANGE_PATH).join(WRITTEN));
    let mut writer = Writer { place, plan: &plan, seq: 0 };
    let mut told: Option<Result<(), String>> = None;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = terminate.recv() => return Ok(()),
        }
        let came = tokio::select! {
            came = writer.beat() => came.map_err(|why| secrets.redact(&why)),
            _ = terminate.recv() => return Ok(()),
        };
        writer.note(came.is_ok());
        // Once, not each interval.
        if told.as_ref() != Some(&came) {
            match &came {
                Ok(()) => println!("the heartbeat is written every {} s", plan.interval_seconds),
                Err(why) => eprintln!("error: the heartbeat cannot be written: {why}; it is tried again"),
            }
            told = Some(came);
        }
    }
}

/// Says whether records are being written.
///
/// # Errors
/// They are not, or not for some intervals.
pub(in crate::runner) fn is_ready(place: &Place) -> Result<(), String> {
    let plan = plan()?;
    let written = fs::read_to_string(place.at(EXCHANGE_PATH).join(WRITTEN));
    let written = written.map_err(|_| "no record was written, or the last one could not be".to_owned())?;
    let at: Timestamp = written.trim().parse().map_err(|_| "when a record was written is not known".to_owned())?;
    let age = super::now().duration_since(at).as_secs();
    let most = (plan.interval_seconds.max(1) * PATIENCE).max(10);
    if age <= most { Ok(()) } else { Err(format!("the last record was written {age} s ago")) }
}

struct Writer<'a> {
    place: &'a Place,
    plan: &'a WriterPlan,
    /// Number of the last record; 0 before the first one.
    seq: i64,
}

impl Writer<'_> {
    async fn beat(&mut self) -> Result<(), String> {
        let nonce = nonce()?;
        match (&self.plan.file, &self.plan.table) {
            (Some(file), _) => self.write_file(file, nonce),
            (None, Some(table)) => self.to_table(table, &nonce).await,
            (None, None) => Err("the plan names neither a file nor a table".to_owned()),
        }
    }

    /// Goes on counting where the file left off, whoever wrote it last: data that was restored must not count again.
    fn write_file(&mut self, path: &str, nonce: String) -> Result<(), String> {
        let file = self.place.at(path);
        if fs::symlink_metadata(&file).is_ok() {
            let found = super::of_file(self.place, path);
            let found =
                found.map_err(|why| format!("{why}; it is left as it is: name another file in heartbeat.file"))?;
            self.seq = self.seq.max(found.seq);
        }
        let beat = Beat { id: self.plan.policy.clone(), seq: self.seq + 1, time: super::now(), nonce };
        let text = serde_json::to_string(&beat).map_err(|error| error.to_string())?;
        replace(&file, &text).map_err(|error| format!("{path}: {error}"))?;
        self.seq = beat.seq;
        Ok(())
    }

    /// The server numbers and times the record.
    async fn to_table(&self, table: &PlannedTable, nonce: &str) -> Result<(), String> {
        let server = Server { host: &table.host, port: table.port, ssl_mode: table.ssl_mode };
        let statement = heartbeat::insert(&table.table, &self.plan.policy, nonce);
        postgres::psql(self.place, &server, &table.database, &statement, LIMIT).await.map(|_| ())
    }

    fn note(&self, written: bool) {
        let note = self.place.at(EXCHANGE_PATH).join(WRITTEN);
        let noted = if written {
            fs::write(&note, super::now().to_string())
        } else if note.exists() {
            fs::remove_file(&note)
        } else {
            Ok(())
        };
        if let Err(error) = noted {
            eprintln!("error: {} cannot be written: {error}", note.display());
        }
    }
}

/// Replaces the file as a whole: whoever reads it, and whatever is copied, sees the record before or this one.
fn replace(file: &Path, text: &str) -> std::io::Result<()> {
    let (Some(dir), Some(name)) = (file.parent(), file.file_name()) else {
        return Err(std::io::Error::other("it has no folder"));
    };
    let partial = dir.join(format!(".{}.interlock-new", name.to_string_lossy()));
    // What lies there may be a link of somebody else: nothing is written through it.
    match fs::remove_file(&partial) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut written = File::create_new(&partial)?;
    written.write_all(text.as_bytes())?;
    written.sync_all()?;
    fs::rename(&partial, file)?;
    File::open(dir)?.sync_all()
}

fn nonce() -> Result<String, String> {
    let mut bytes = [0_u8; 16];
    SystemRandom::new().fill(&mut bytes).map_err(|_| "there is no source of randomness".to_owned())?;
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        use std::fmt::Write as _;
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_on_from_the_file_and_a_foreign_file_is_left_alone() {
        let root = std::env::temp_dir().join(format!("interlock-writer-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(root.join("data")).unwrap();
        let place = Place { root: root.clone() };
        let plan = WriterPlan {
            version: WRITER_PLAN_VERSION,
            policy: "policy-1".to_owned(),
            interval_seconds: 7,
            file: Some("/data/beat".to_owned()),
            table: None,
        };
        let beat = || super::super::of_file(&place, "/data/beat");
        let mut writer = Writer { place: &place, plan: &plan, seq: 0 };
        for expected in 1..4 {
            writer.write_file("/data/beat", nonce().unwrap()).unwrap();
            assert_eq!(beat().unwrap().seq, expected);
        }
        // A restart, and older data that was restored meanwhile.
        let mut restarted = Writer { place: &place, plan: &plan, seq: 0 };
        restarted.write_file("/data/beat", nonce().unwrap()).unwrap();
        let written = beat().unwrap();
        assert_eq!((written.seq, written.id.as_str()), (4, "policy-1"));
        writer.seq = 90;
        writer.write_file("/data/beat", nonce().unwrap()).unwrap();
        assert_eq!(beat().unwrap().seq, 91, "what was restored is never counted again");
        assert_ne!(beat().unwrap().nonce, written.nonce);
        assert_eq!(fs::read_dir(root.join("data")).unwrap().count(), 1, "nothing else is left on the volume");
        fs::write(root.join("data/beat"), "minutes of the board").unwrap();
        assert!(restarted.write_file("/data/beat", nonce().unwrap()).unwrap_err().contains("left as it is"));
        assert_eq!(fs::read_to_string(root.join("data/beat")).unwrap(), "minutes of the board");
        fs::remove_dir_all(root).unwrap();
    }
}
