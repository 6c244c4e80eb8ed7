//! The work of a pod: opened, done, and noted.

use interlock_core::backup::{
    outcome::short,
    plan::{
        BASE_PATH, OBJECTS_PATH, PROGRAMS_PATH, PlannedRecovery, PlannedSource, RunnerPlan, SECRETS_PATH, SOURCE_PATH,
        WAL_PATH,
    },
    result::{RunResult, RunnerOperation, RunnerStage, SnapshotResult, SourceFailure},
};
use interlock_crds::PostgresMode;
use serde_json::Value;

use super::{
    Place, heartbeat, install, log, note,
    physical::{Physical, Ready},
    plan, postgres, recover,
    redact::Secrets,
    report::MESSAGE_PATH,
    restic::{Came, Restic},
    source, spool,
};

/// Does what the plan says, and leaves a note of how it ended.
pub(super) async fn execute(place: &Place) {
    let plan = match plan() {
        Ok(plan) => plan,
        Err(why) => return eprintln!("error: {why}"),
    };
    let secrets = secrets(place);
    provide_restic(place);
    let result = Work { place, plan: &plan, secrets: &secrets }.run().await;
    log::say(&format!("ended in stage {:?} with {:?}", result.stage, result.exit_code));
    if let Err(why) = note::leave(place, &result) {
        eprintln!("error: {why}");
    }
    if went_wrong(&result)
        && let Err(error) = std::fs::write(place.at(MESSAGE_PATH), secrets.redact(&log::tail()))
    {
        eprintln!("error: {MESSAGE_PATH} cannot be written: {error}");
    }
}

/// Whether people will want to read the end of the log.
fn went_wrong(result: &RunResult) -> bool {
    let source_failed = result.source_exit_code.is_some_and(|code| code != 0);
    result.exit_code != Some(0) || source_failed || result.failure.is_some() || !result.errors.is_empty()
}

/// Values that no line tells.
pub(super) fn secrets(place: &Place) -> Secrets {
    Secrets::of_environment(postgres::password(place))
}

/// The container that reads back has none of its own: that of this image is lent to it.
pub(super) fn provide_restic(place: &Place) {
    let programs = place.at(PROGRAMS_PATH);
    if !programs.join("restic").is_file()
        && let Err(why) = install::tool("restic", &programs)
    {
        eprintln!("error: {why}");
    }
}

/// A repository that was opened, or not.
pub(super) struct Opened {
    /// What restic came to.
    pub came: Came,
    /// restic's id of it.
    pub id: Option<String>,
}

/// Opens the repository with its key, if anything answers there, and learns its id.
pub(super) async fn open(restic: &Restic<'_>) -> Opened {
    if let Err(came) = restic.reach().await {
        return Opened { came, id: None };
    }
    let mut text = String::new();
    let came = restic.run(&["cat", "config", "--no-lock", "--json"]).await;
    for line in &came.output {
        match line {
            Value::String(line) => text.push_str(line),
            other => text.push_str(&other.to_string()),
        }
    }
    let config: Option<Value> = serde_json::from_str(&text).ok();
    let id = config.as_ref().and_then(|config| config.get("id")?.as_str()).map(ToOwned::to_owned);
    Opened { id: id.filter(|_| came.is_good()), came }
}

struct Work<'a> {
    place: &'a Place,
    plan: &'a RunnerPlan,
    secrets: &'a Secrets,
}

impl Work<'_> {
    fn restic(&self) -> Restic<'_> {
        Restic::new(self.place, self.plan, self.secrets)
    }

    async fn run(&self) -> RunResult {
        let mut result = RunResult::new(&self.plan.run, self.plan.operation);
        result.stage = RunnerStage::Open;
        let mut opened = self.open(&self.restic(), &mut result).await;
        // A run that died after it had taken the old key away.
        if opened.code == Some(12) && self.plan.operation == RunnerOperation::RotateKey {
            opened = self.open(&self.restic_with_new_key(), &mut result).await;
        }
        // One that was seen before is not made anew: that it is gone is a finding.
        let may_make = self.plan.operation == RunnerOperation::Initialize && self.plan.repository_id.is_none();
        if opened.code == Some(10) && may_make {
            println!("there is no repository yet; it is made");
            let made = self.restic().run(&["init", "--json"]).await;
            opened = if made.is_good() { self.open(&self.restic(), &mut result).await } else { made };
        }
        note_exit(&mut result, &opened);
        if !opened.is_good() {
            return result;
        }
        let known = self.plan.repository_id.as_ref();
        if known.is_some_and(|known| result.repository_id.as_ref() != Some(known)) {
            result.errors.push("the repository has another id than before; nothing was done".to_owned());
            return result;
        }
        if self.plan.operation == RunnerOperation::Backup {
            self.read_heartbeat(&mut result).await;
        }
        result.stage = RunnerStage::Work;
        match self.plan.operation {
            RunnerOperation::Initialize => result.stage = RunnerStage::Done,
            RunnerOperation::Backup => self.backup(&mut result).await,
            RunnerOperation::Check => self.check(&mut result).await,
            RunnerOperation::Prune => self.prune(&mut result).await,
            RunnerOperation::Unlock => {
                let came = self.restic().run(&["unlock", "--json"]).await;
                end(&mut result, &came);
            }
            RunnerOperation::RotateKey => self.rotate(&mut result).await,
            RunnerOperation::Restore => self.restore(&mut result).await,
            other => {
                result.exit_code = None;
                result.errors.push(format!("{other:?} is not done by this command"));
            }
        }
        result
    }

    /// Opens the repository with a key, and learns its id.
    async fn open(&self, restic: &Restic<'_>, result: &mut RunResult) -> Came {
        let opened = open(restic).await;
        result.repository_id = opened.id;
        opened.came
    }

    /// Manifests as plain files: a kubelet mounts them as links.
    fn lay_out_objects(&self) -> Result<(), String> {
        let failed = |error: std::io::Error| format!("the manifests cannot be laid out: {error}");
        let target = self.place.at(SOURCE_PATH);
        for entry in std::fs::read_dir(self.place.at(OBJECTS_PATH)).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if !entry.file_name().to_string_lossy().starts_with("..") {
                std::fs::copy(entry.path(), target.join(entry.file_name())).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// The newest heartbeat before anything is copied. Without it the copy is as good as any: it is told, no more.
    async fn read_heartbeat(&self, result: &mut RunResult) {
        let Some(planned) = &self.plan.heartbeat else { return };
        result.stage = RunnerStage::Heartbeat;
        let server = match &self.plan.source {
            Some(PlannedSource::Postgres { host, port, ssl_mode, .. }) => {
                Some(postgres::Server { host, port: *port, ssl_mode: *ssl_mode })
            }
            _ => None,
        };
        match heartbeat::read(self.place, planned, self.plan.host.as_deref(), server.as_ref()).await {
            Ok(read) => {
                println!("the newest heartbeat is number {} of {}", read.seq, read.time);
                result.heartbeat = Some(read);
            }
            Err(why) => {
                let why = self.secrets.redact(&why);
                println!("the heartbeat cannot be read: {why}");
                result.heartbeat_error = Some(why);
            }
        }
    }

    async fn backup(&self, result: &mut RunResult) {
        let Some(source) = &self.plan.source else {
            result.exit_code = None;
            return result.errors.push("the plan names no source".to_owned());
        };
        let ready = match self.physical(source).await {
            None => None,
            Some(Ok(ready)) => Some(ready),
            Some(Err(stop)) => {
                log::say(&format!("error: {}", self.secrets.redact(&stop.why)));
                (result.exit_code, result.failure) = (None, Some(stop.failure));
                return result.errors.insert(0, stop.why);
            }
        };
        let own = std::env::current_exe().map_or_else(|_| "interlock".to_owned(), |path| path.display().to_string());
        let root = self.place.root().display().to_string();
        let mut args: Vec<String> = ["backup", "--json", "--host"].map(ToOwned::to_owned).to_vec();
        args.push(self.plan.host.clone().unwrap_or_default());
        args.extend(["--group-by".to_owned(), "host,paths".to_owned()]);
        let parent = self.parent().await;
        if self.plan.force || (self.plan.parent.is_some() && parent.is_none()) {
            args.push("--force".to_owned());
        } else if let Some(parent) = parent {
            args.extend(["--parent".to_owned(), parent.to_owned()]);
        }
        let mut piped = |name: &str, command: &[String]| {
            args.extend([
                "--stdin-filename".to_owned(),
                format!("/{name}"),
                "--stdin-from-command".to_owned(),
                "--".to_owned(),
            ]);
            args.extend([own.clone(), "runner".to_owned(), "--root".to_owned(), root.clone(), "source".to_owned()]);
            args.extend(command.iter().cloned());
        };
        match source {
            PlannedSource::Files { paths, exclude } => {
                args.extend(exclude.iter().flat_map(|pattern| ["--exclude".to_owned(), pattern.clone()]));
                args.push("--".to_owned());
                args.extend(paths.iter().map(|path| self.place.text(path)));
            }
            PlannedSource::Objects => {
                if let Err(why) = self.lay_out_objects() {
                    result.exit_code = None;
                    return result.errors.push(why);
                }
                args.extend(["--".to_owned(), self.place.text(SOURCE_PATH)]);
            }
            PlannedSource::Command { command, file_name } => piped(file_name, command),
            PlannedSource::Postgres { .. } => match &ready {
                Some(ready) => {
                    args.extend(ready.exclude.iter().flat_map(|pattern| ["--exclude".to_owned(), pattern.clone()]));
                    args.extend(["--".to_owned(), self.place.text(ready.path)]);
                }
                None => piped("dump.sql", &[source::POSTGRES.to_owned()]),
            },
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let came = self.restic().run(&args).await;
        note_exit(result, &came);
        result.source_exit_code = note::find_source(self.place);
        let Some(summary) = came.message("summary") else { return };
        let number = |field: &str| summary.get(field).and_then(Value::as_u64).unwrap_or_default();
        // Read back by the next container; until then only its id is believed.
        result.snapshot = summary.get("snapshot_id").and_then(Value::as_str).map(|id| SnapshotResult {
            id: id.to_owned(),
            parent: parent.map(ToOwned::to_owned),
            time: jiff::Timestamp::UNIX_EPOCH,
            host: String::new(),
            files: 0,
            bytes: 0,
            added_bytes: number("data_added_packed"),
            recoverable_until: None,
            postgres_version: None,
            wal: None,
        });
        if let (Some(snapshot), Some(ready)) = (&mut result.snapshot, ready) {
            (snapshot.postgres_version, snapshot.wal) = (Some(ready.postgres_version), Some(ready.wal.clone()));
            snapshot.recoverable_until = Some(ready.recoverable_until);
            let base = (source, &ready.base_from, parent);
            if let (PlannedSource::Postgres { base_id: Some(base), .. }, Some(from), Some(parent)) = base
                && came.is_good()
            {
                spool::clean(self.place, &self.restic(), base, from, parent).await;
            }
        } else if let (Some(snapshot), Some(PlannedSource::Postgres { host, port, ssl_mode, .. })) =
            (&mut result.snapshot, &self.plan.source)
        {
            let server = postgres::Server { host, port: *port, ssl_mode: *ssl_mode };
            snapshot.postgres_version = postgres::version(self.place, &server).await;
        }
    }

    /// The snapshot to compare with. restic refuses one that is not there, and by itself it would take the newest, which may be
    /// one that a drill found corrupt: then everything is read.
    async fn parent(&self) -> Option<&str> {
        let parent = self.plan.parent.as_deref().filter(|_| !self.plan.force)?;
        let there = self.snapshots(&[parent]).await.unwrap_or_default();
        let is_there = there.iter().any(|id| id == parent);
        if !is_there {
            let gone = short(parent);
            log::say(&format!("snapshot {gone} to compare with was not found in the repository: everything is read"));
        }
        is_there.then_some(parent)
    }

    /// Makes ready what is copied of a PostgreSQL server's files; none if that is not what is copied.
    async fn physical(&self, source: &PlannedSource) -> Option<Result<Ready, super::physical::Stop>> {
        let PlannedSource::Postgres { mode: PostgresMode::Physical, base, base_id, room_bytes, .. } = source else {
            return None;
        };
        let Some(physical) = Physical::of(self.place, self.secrets, source) else {
            let why = "the plan names no replication slot";
            return Some(Err(super::physical::Stop::new(SourceFailure::Failed, why)));
        };
        Some(if *base {
            physical.base(&self.plan.run, *room_bytes).await
        } else {
            physical.log(&self.restic(), base_id.as_deref()).await
        })
    }

    async fn check(&self, result: &mut RunResult) {
        let part = self.plan.read_data_subset.as_ref().map(|part| format!("--read-data-subset={part}"));
        let args: Vec<&str> = ["check", "--json"].into_iter().chain(part.as_deref()).collect();
        let came = self.restic().run(&args).await;
        if let Some(found) = came.message("summary").and_then(|summary| summary.get("num_errors")?.as_u64()) {
            result.error_count = found;
        }
        end(result, &came);
    }

    async fn prune(&self, result: &mut RunResult) {
        // Only locks that nobody renewed for half an hour go: the claim says that no Job of this cluster has one.
        let came = self.restic().run(&["unlock", "--json"]).await;
        if !came.is_good() {
            return note_exit(result, &came);
        }
        let there = match self.snapshots(&[]).await {
            Ok(there) => there,
            Err(came) => return note_exit(result, &came),
        };
        let forget: Vec<&str> =
            self.plan.forget.iter().map(String::as_str).filter(|id| there.iter().any(|t| t == id)).collect();
        for ids in forget.chunks(100) {
            let came = self.restic().run(&[&["forget", "--json", "--"], ids].concat()).await;
            if !came.is_good() {
                return note_exit(result, &came);
            }
            result.forgotten += ids.len() as u64;
            println!(
                "forgot {} of {}: {}",
                result.forgotten,
                forget.len(),
                ids.iter().map(|id| short(id)).collect::<Vec<_>>().join(" ")
            );
        }
        let unused = format!("--max-unused={}%", self.plan.max_unused_percent.unwrap_or(5));
        let came = self.restic().run(&["prune", &unused]).await;
        let size = |label: &str| {
            let lines = came.output.iter().filter_map(Value::as_str);
            lines.filter_map(|line| line.trim().strip_prefix(label)?.rsplit_once('/')).find_map(|(_, size)| bytes(size))
        };
        result.freed_bytes = size("total prune:").unwrap_or_default();
        result.repository_bytes = size("remaining:");
        end(result, &came);
    }

    /// Ids of the snapshots that are there: of these, or of all if none is named.
    async fn snapshots(&self, these: &[&str]) -> Result<Vec<String>, Came> {
        let came = self.restic().run(&[&["snapshots", "--json", "--no-lock"], these].concat()).await;
        let list = came.output.iter().find_map(Value::as_array).cloned();
        let ids = list.map(|list| list.iter().filter_map(|s| s.get("id")?.as_str().map(ToOwned::to_owned)).collect());
        ids.filter(|_| came.is_good()).ok_or(came)
    }

    /// What was restored is read again and compared, and nothing at all is a failure, unless the recovery point has no files.
    async fn restore(&self, result: &mut RunResult) {
        let Some(wanted) = &self.plan.restore else {
            result.exit_code = None;
            return result.errors.push("the plan names no snapshot".to_owned());
        };
        if let Some(recovery) = &wanted.recovery {
            return self.restore_server(result, &wanted.snapshot, recovery).await;
        }
        let target = self.place.text(SOURCE_PATH);
        let folder = wanted.folder.as_ref().map(|folder| format!(":{}", self.place.text(folder))).unwrap_or_default();
        let snapshot = format!("{}{folder}", wanted.snapshot);
        let came = self.restic().run(&["restore", "--json", "--verify", "--target", &target, "--", &snapshot]).await;
        note_exit(result, &came);
        let Some(summary) = came.message("summary") else { return };
        let number = |field: &str| summary.get(field).and_then(Value::as_u64).unwrap_or_default();
        // What is as it was is not written again.
        let (files, same) = (number("files_restored"), number("files_skipped"));
        println!("restored {files} files, {} bytes; {same} files were the same", number("bytes_restored"));
        if came.is_good() && files + same == 0 && wanted.files != Some(0) {
            return result.errors.push("restic reported success, but restored no file".to_owned());
        }
        end(result, &came);
    }

    /// A base copy, the segments that carry it on, and the settings with which a server recovers.
    async fn restore_server(&self, result: &mut RunResult, snapshot: &str, recovery: &PlannedRecovery) {
        let parts = match &recovery.base {
            Some(base) => vec![(base.as_str(), BASE_PATH), (snapshot, WAL_PATH)],
            None => vec![(snapshot, BASE_PATH)],
        };
        let mut last = Came::default();
        for (snapshot, path) in parts {
            let folder = self.place.text(path);
            let from = format!("{snapshot}:{folder}");
            // What is there beside is of another copy, and a server would take it for its own.
            let came = self
                .restic()
                .run(&["restore", "--json", "--verify", "--delete", "--target", &folder, "--", &from])
                .await;
            note_exit(result, &came);
            let Some(summary) = came.message("summary").filter(|_| came.is_good()) else { return };
            let files = summary.get("files_restored").and_then(Value::as_u64).unwrap_or_default();
            println!("{path}: restored {files} files");
            last = came;
        }
        let moment = recovery.until.map_or(recover::Moment::End, recover::Moment::At);
        match recover::prepare(&self.place.at(SOURCE_PATH), moment) {
            Ok(prepared) => {
                let until = prepared.until.map_or_else(|| "the end".to_owned(), |until| until.to_string());
                let version = prepared.postgres_version;
                println!(
                    "a server of PostgreSQL {version} that is started on base/pgdata of the volume recovers to {until}"
                );
                end(result, &last);
            }
            Err(why) => {
                println!("error: {why}");
                result.errors.push(why);
            }
        }
    }

    /// restic with the key that is to come.
    fn restic_with_new_key(&self) -> Restic<'_> {
        self.restic().with("RESTIC_PASSWORD_FILE", self.new_key_file()).with("RESTIC_PASSWORD", String::new())
    }

    fn new_key_file(&self) -> String {
        self.place.text(&format!("{SECRETS_PATH}/new-key/RESTIC_PASSWORD"))
    }

    /// Exchanges the key of this Job's Secret for the new one. Every other key stays: it is somebody else's, such as one that
    /// lies in a safe.
    async fn rotate(&self, result: &mut RunResult) {
        let old = match key(&self.restic()).await {
            Ok((old, _)) => Some(old),
            // A run that died in between took it away already.
            Err(came) if came.code == Some(12) => None,
            Err(came) => return note_exit(result, &came),
        };
        let mut new = key(&self.restic_with_new_key()).await;
        // A run that died in between added it already.
        if new.as_ref().is_err_and(|came| came.code == Some(12)) {
            let added = self.restic().run(&["key", "add", "--new-password-file", &self.new_key_file()]).await;
            if !added.is_good() {
                return note_exit(result, &added);
            }
            new = key(&self.restic_with_new_key()).await;
        }
        let (new, keys) = match new {
            Ok(found) => found,
            Err(came) => return note_exit(result, &came),
        };
        if let Some(old) = old.filter(|old| *old != new) {
            let removed = self.restic_with_new_key().run(&["key", "remove", &old]).await;
            if !removed.is_good() {
                return note_exit(result, &removed);
            }
            let left = keys.saturating_sub(1);
            log::say(&format!("key {new} took the place of key {old}; {left} keys open the repository"));
        } else {
            log::say(&format!("key {new} opens the repository and none was taken away; {keys} keys open it"));
        }
        result.stage = RunnerStage::Done;
    }
}

/// Id of the key with which restic opens the repository, and how many there are.
///
/// # Errors
/// What restic came to, if none does.
async fn key(restic: &Restic<'_>) -> Result<(String, usize), Came> {
    let listed = restic.run(&["key", "list", "--json"]).await;
    let keys = listed.output.iter().find_map(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let current = keys.iter().find(|key| key.get("current").and_then(Value::as_bool) == Some(true));
    let id = current.and_then(|key| key.get("id")?.as_str()).map(ToOwned::to_owned);
    let found = id.map(|id| (id, keys.len()));
    found.filter(|_| listed.is_good()).ok_or(listed)
}

/// The operation is over with what restic came to.
fn end(result: &mut RunResult, came: &Came) {
    note_exit(result, came);
    if came.is_good() {
        result.stage = RunnerStage::Done;
    }
}

fn note_exit(result: &mut RunResult, came: &Came) {
    (result.exit_code, result.signal) = (came.code, came.signal);
    if came.is_good() {
        return;
    }
    result.errors.extend(came.errors.iter().cloned());
    result.error_count = result.error_count.max(came.error_count);
}

/// A size as restic writes it: `545 B`, `1.234 MiB`.
fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = text.trim().split_once(' ')?;
    let number: f64 = number.parse().ok()?;
    let factor = match unit.trim() {
        "B" => 1.0,
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "GiB" => 1024.0 * 1024.0 * 1024.0,
        "TiB" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a size is not negative, and rounded")]
    Some((number * factor).max(0.0) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_restic_writes_them() {
        assert_eq!(bytes(" 545 B"), Some(545));
        assert_eq!(bytes(" 1.500 KiB"), Some(1_536));
        assert_eq!(bytes(" many"), None);
    }
}
