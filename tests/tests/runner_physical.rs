//! `interlock runner` with a real PostgreSQL server and real restic, without a cluster: base copies, received write-ahead log,
//! and recovery to a moment.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::Duration,
};

use interlock_cluster::{Postgres, Tool, Tools};
use interlock_core::backup::{
    outcome::{self, Expected, PodEnd, Reason},
    result::{RunResult, RunnerStage, SnapshotResult},
};
use interlock_core::drill::plan::{DrillPlan, DrillWork};
use interlock_crds::PostgresMode;
use interlock_tests::{eventually, world::binary};
use jiff::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;

const PASSWORD: &str = "correct-horse-battery";
const POLICY: &str = "policy-uid";
const SLOT: &str = "vault";
const SOON: Duration = Duration::from_mins(1);

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A command as a user that is not root, which the server refuses.
fn unprivileged(program: &Path) -> Command {
    let is_root = Command::new("id").arg("-u").output().unwrap().stdout.starts_with(b"0\n");
    if !is_root {
        return Command::new(program);
    }
    let mut command = Command::new("runuser");
    command.args(["-u", "postgres", "--"]).arg(program);
    command
}

fn give_away(folder: &Path) {
    let _ = Command::new("chown").args(["-R", "postgres:"]).arg(folder).status();
}

/// A server in a folder. It ends with this value.
struct Server {
    programs: PathBuf,
    data: PathBuf,
    port: u16,
}

impl Server {
    fn make(programs: &Path, folder: &Path) -> Self {
        fs::create_dir_all(folder).unwrap();
        give_away(folder);
        let server = Self { programs: programs.to_owned(), data: folder.join("data"), port: free_port() };
        let mut init = unprivileged(&programs.join("initdb"));
        init.args(["--auth=trust", "--username=postgres", "--no-sync", "--wal-segsize=1", "--locale=C", "--pgdata"]);
        assert!(init.arg(&server.data).stdout(Stdio::null()).status().unwrap().success());
        let settings = "wal_level = replica\nfsync = off\nmax_slot_wal_keep_size = 16MB\nwal_keep_size = 0\nmin_wal_size = 2MB\nmax_wal_size = 4MB\n";
        let file = server.data.join("postgresql.conf");
        fs::write(&file, fs::read_to_string(&file).unwrap() + settings).unwrap();
        server.start();
        server
    }

    /// A server on a copy that came back.
    fn on(programs: &Path, data: &Path) -> Self {
        let folder = data.parent().unwrap().parent().unwrap();
        give_away(folder);
        let server = Self { programs: programs.to_owned(), data: data.to_owned(), port: free_port() };
        server.start();
        eventually(SOON, || match server.try_ask("select pg_is_in_recovery()") {
            Ok(answer) if answer == "f" => Ok(()),
            other => Err(format!("{other:?} {}", server.log())),
        });
        server
    }

    fn log(&self) -> String {
        fs::read_to_string(self.data.parent().unwrap().join("log")).unwrap_or_default()
    }

    fn control(&self, arguments: &[&str]) -> bool {
        let mut control = unprivileged(&self.programs.join("pg_ctl"));
        control.args(arguments).arg("-D").arg(&self.data).arg("--wait").current_dir("/");
        control.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
    }

    fn start(&self) {
        let folder = self.data.parent().unwrap().display();
        let options = format!("-p {} -k {folder} -c listen_addresses=127.0.0.1", self.port);
        let log = self.data.parent().unwrap().join("log");
        assert!(self.control(&["start", "-o", &options, "-l", log.to_str().unwrap()]), "{}", self.log());
    }

    fn stop(&self) {
        assert!(self.control(&["stop", "-m", "fast"]), "{}", self.log());
    }

    fn try_ask(&self, query: &str) -> Result<String, String> {
        let mut psql = Command::new(self.programs.join("psql"));
        psql.args(["-h", "127.0.0.1", "-U", "postgres", "-XAtc", query, "-p", &self.port.to_string(), "postgres"]);
        let output = psql.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if output.status.success() { Ok(text) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }

    fn ask(&self, query: &str) -> String {
        self.try_ask(query).unwrap()
    }

    fn insert(&self, row: &str) {
        self.ask(&format!("insert into accounts values ('{row}')"));
    }

    /// What stands in the table.
    fn rows(&self) -> Vec<String> {
        self.ask("select owner from accounts order by 1").lines().map(ToOwned::to_owned).collect()
    }

    fn now(&self) -> String {
        self.ask("select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.control(&["stop", "-m", "immediate"]);
    }
}

/// A receiver. It ends with this value.
struct Receiver(Child);

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-s", "TERM", &self.0.id().to_string()]).status();
        let _ = self.0.wait();
    }
}

/// A pod's files, and the server that it copies.
struct Scene {
    root: TempDir,
    programs: PathBuf,
    restic: PathBuf,
    server: Server,
}

impl Scene {
    fn set() -> Option<Self> {
        let programs = match Postgres::ensure() {
            Ok(postgres) => postgres.binaries,
            Err(why) => {
                eprintln!("skipped: {why}");
                return None;
            }
        };
        let root = TempDir::new().unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for folder in
            ["data/base", "data/wal", "repository", "dev", "interlock/bin", "interlock/run", "interlock/scratch"]
        {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        let secret = root.path().join("interlock/secrets/source");
        fs::create_dir_all(&secret).unwrap();
        fs::write(secret.join("username"), "backup").unwrap();
        fs::write(secret.join("password"), "never-told-to-anybody").unwrap();
        let tools = Tools::ensure_these(&[Tool::Restic]).unwrap();
        let server = Server::make(&programs, &root.path().join("server"));
        server.ask("create table accounts (owner text)");
        // What the documentation asks for, and nothing more.
        server.ask("create role backup login replication");
        server.ask("grant execute on function pg_switch_wal() to backup");
        let scene = Self { root, programs, restic: tools.path(Tool::Restic).to_owned(), server };
        let (_, made) = scene.run(&json!({"operation": "Initialize"}));
        assert_eq!(made.stage, RunnerStage::Done, "{made:?}");
        Some(scene)
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn command(&self, container: &[&str]) -> Command {
        let folders = [self.at("shims"), self.restic.parent().unwrap().to_owned(), self.programs.clone()];
        let path = folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(":");
        let mut command = Command::new(binary());
        command.args(["runner", "--root"]).arg(self.root.path()).args(container).stdin(Stdio::null());
        command.env("PATH", format!("{path}:{}", std::env::var("PATH").unwrap())).env("RESTIC_PASSWORD", PASSWORD);
        command.env("RESTIC_CACHE_DIR", self.at("interlock/scratch/cache")).env_remove("PGUSER");
        command
    }

    /// Both containers; what they printed, and the message.
    fn run(&self, plan: &Value) -> (String, RunResult) {
        let mut whole = json!({"version": 1, "run": "run-1", "repository": "/repository", "retryLockSeconds": 5});
        whole.as_object_mut().unwrap().extend(plan.as_object().unwrap().clone());
        fs::remove_dir_all(self.at("interlock/run")).unwrap();
        fs::create_dir_all(self.at("interlock/run")).unwrap();
        let mut told = String::new();
        for container in ["tool", "report"] {
            let output = self.command(&[container]).env("INTERLOCK_PLAN", whole.to_string()).output().unwrap();
            told += &[output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        }
        assert!(!told.contains("never-told"), "{told}");
        let message = fs::read_to_string(self.at("dev/termination-log")).unwrap();
        (told, RunResult::decode(Some(&message), "run-1").unwrap())
    }

    fn backup(&self, base: bool, more: &Value) -> (String, RunResult) {
        let mut source = json!({"kind": "postgres", "host": "127.0.0.1", "port": self.server.port, "databases": [],
            "mode": "Physical", "sslMode": "Disable", "base": base, "slot": SLOT});
        let mut plan = json!({"operation": "Backup", "host": POLICY, "force": base});
        for (name, value) in more.as_object().unwrap().clone() {
            let place = if name == "parent" { &mut plan } else { &mut source };
            place[name] = value;
        }
        plan["source"] = source;
        self.run(&plan)
    }

    fn full(&self) -> SnapshotResult {
        let (told, result) = self.backup(true, &json!({}));
        assert_eq!(judged(&result), Reason::Complete, "{told}");
        result.snapshot.unwrap()
    }

    fn log(&self, base: &SnapshotResult, parent: Option<&SnapshotResult>) -> SnapshotResult {
        let (told, result) = self.try_log(base, parent);
        assert_eq!(judged(&result), Reason::Complete, "{told}");
        result.snapshot.unwrap()
    }

    fn try_log(&self, base: &SnapshotResult, parent: Option<&SnapshotResult>) -> (String, RunResult) {
        self.backup(false, &json!({"baseId": base.id, "parent": parent.map(|parent| parent.id.clone())}))
    }

    fn start_receiver(&self) -> Child {
        let plan =
            json!({"version": 1, "host": "127.0.0.1", "port": self.server.port, "sslMode": "Disable", "slot": SLOT});
        let log = fs::File::options().create(true).append(true).open(self.at("receiver-log")).unwrap();
        let mut command = self.command(&["wal"]);
        command.env("INTERLOCK_WAL", plan.to_string()).stdout(log.try_clone().unwrap()).stderr(log);
        command.spawn().unwrap()
    }

    fn receiver_log(&self) -> String {
        fs::read_to_string(self.at("receiver-log")).unwrap()
    }

    fn is_receiving(&self) -> bool {
        self.command(&["wal", "--check"]).stderr(Stdio::null()).status().unwrap().success()
    }

    fn receive(&self) -> Receiver {
        let receiver = Receiver(self.start_receiver());
        self.until_received();
        receiver
    }

    fn until_received(&self) {
        let _ = fs::remove_file(self.at("interlock/run/receiving"));
        eventually(SOON, || if self.is_receiving() { Ok(()) } else { Err(self.receiver_log()) });
    }

    fn spool(&self) -> Vec<String> {
        let all =
            fs::read_dir(self.at("data/wal")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut segments: Vec<_> = all.filter(|name| name.len() == 24).collect();
        segments.sort();
        segments
    }

    /// Restores to an empty volume and starts a server on what came back.
    fn recovered(&self, base: &SnapshotResult, log: Option<&SnapshotResult>, until: Option<&str>) -> Server {
        Server::on(&self.programs, &self.restored(base, log, until).join("base/pgdata"))
    }

    /// Restores to an empty volume; where it is mounted then.
    fn restored(&self, base: &SnapshotResult, log: Option<&SnapshotResult>, until: Option<&str>) -> PathBuf {
        let kept = self.at("kept");
        fs::rename(self.at("data"), &kept).unwrap();
        fs::create_dir_all(self.at("data")).unwrap();
        let recovery = json!({"base": log.map(|_| &base.id), "until": until});
        let restore = json!({"snapshot": log.unwrap_or(base).id, "recovery": recovery});
        let (told, result) = self.run(&json!({"operation": "Restore", "restore": restore}));
        assert_eq!((result.stage, result.exit_code), (RunnerStage::Done, Some(0)), "{told}");
        // The volume may be mounted anywhere.
        let elsewhere = TempDir::new_in(self.root.path()).unwrap().keep();
        fs::set_permissions(&elsewhere, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(self.at("data"), elsewhere.join("mounted")).unwrap();
        fs::rename(&kept, self.at("data")).unwrap();
        elsewhere.join("mounted")
    }

    /// What the server of a drill has in the table, recovered to so long before the end.
    fn served(&self, base: &SnapshotResult, log: &SnapshotResult, before_end: Option<i64>) -> Vec<String> {
        fs::create_dir_all(self.at("restored")).unwrap();
        let _ = fs::remove_dir_all(self.at("restored/data"));
        fs::rename(self.restored(base, Some(log), None), self.at("restored/data")).unwrap();
        for folder in ["restored", "interlock/scratch", "interlock/run"] {
            give_away(&self.at(folder));
        }
        let port = free_port().to_string();
        let work = DrillWork::Serve { mode: PostgresMode::Physical, recover_before_end_seconds: before_end };
        let plan = DrillPlan::new("drill-1", work).text();
        let of_drill = |container: &str| {
            let mut command = unprivileged(&binary());
            command.args(["runner", "--root"]).arg(self.root.path());
            command.args(["--application", "127.0.0.1", "--postgres-port", &port, container]);
            command
                .env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", self.programs.display()))
                .env("INTERLOCK_DRILL_PLAN", &plan);
            command.current_dir("/").stdin(Stdio::null());
            command
        };
        let log = fs::File::create(self.at("drill-log")).unwrap();
        let mut serving = Receiver(of_drill("drill").stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
        eventually(SOON, || {
            let told = || fs::read_to_string(self.at("drill-log")).unwrap_or_default();
            assert!(serving.0.try_wait().unwrap().is_none(), "{}", told());
            if of_drill("ready").output().unwrap().status.success() { Ok(()) } else { Err(told()) }
        });
        let mut psql = Command::new(self.programs.join("psql"));
        psql.args([
            "-h",
            "127.0.0.1",
            "-U",
            "postgres",
            "-XAtc",
            "select owner from accounts order by 1",
            "-p",
            &port,
            "postgres",
        ]);
        let rows = String::from_utf8(psql.output().unwrap().stdout).unwrap();
        rows.lines().map(ToOwned::to_owned).collect()
    }
}

#[test]
fn d24_a_drill_serves_a_base_copy_recovered_to_before_its_end() {
    let Some(scene) = Scene::set() else { return };
    let _receiver = scene.receive();
    let base = scene.full();
    scene.server.insert("first");
    sleep(Duration::from_secs(3));
    let between: Timestamp = scene.server.now().parse().unwrap();
    sleep(Duration::from_secs(3));
    scene.server.insert("second");
    let log = scene.log(&base, Some(&base));
    assert_eq!(scene.served(&base, &log, None), ["first", "second"]);
    // A busy machine ends the log late: the moment between the rows is that long before.
    let before = log.recoverable_until.unwrap().duration_since(between).as_secs();
    assert_eq!(scene.served(&base, &log, Some(before)), ["first"]);
}

fn judged(result: &RunResult) -> Reason {
    let end = PodEnd { message: Some(result.encode().unwrap()), ..PodEnd::default() };
    let expected = Expected { run: "run-1", policy_uid: POLICY, repository_id: None, allow_empty: false };
    outcome::judge(&end, &expected).0.reason
}

fn told(result: &RunResult) -> String {
    let end = PodEnd { message: Some(result.encode().unwrap()), ..PodEnd::default() };
    let expected = Expected { run: "run-1", policy_uid: POLICY, repository_id: None, allow_empty: false };
    outcome::judge(&end, &expected).0.message
}

fn name_of(range: Option<&interlock_crds::WalRange>) -> (String, String) {
    let range = range.unwrap();
    (range.from.clone(), range.to.clone())
}

#[test]
fn b20_a_server_recovers_to_the_moment_between_two_rows() {
    let Some(scene) = Scene::set() else { return };
    let _receiver = scene.receive();
    scene.server.insert("before");
    let base = scene.full();
    assert_eq!(
        base.postgres_version,
        Some(scene.server.ask("show server_version_num").parse::<u32>().unwrap() / 10_000)
    );
    assert!(base.files > 500, "{base:?}");
    scene.server.insert("first");
    sleep(Duration::from_millis(300));
    let moment = scene.server.now();
    sleep(Duration::from_millis(300));
    scene.server.insert("second");
    let log = scene.log(&base, Some(&base));
    assert!(log.recoverable_until.unwrap() > moment.parse().unwrap(), "{log:?}");
    assert_eq!(log.wal.as_ref().unwrap().segment_bytes, 1 << 20);
    scene.server.insert("third");
    let next = scene.log(&base, Some(&log));
    assert!(next.files > log.files && next.recoverable_until > log.recoverable_until, "{next:?}");

    let to_moment = scene.recovered(&base, Some(&log), Some(&moment));
    assert_eq!(to_moment.rows(), ["before", "first"]);
    assert_eq!(to_moment.ask("show archive_mode"), "off");
    to_moment.insert("it takes writes");
    // The later log does as well: it has everything since the base.
    assert_eq!(scene.recovered(&base, Some(&next), Some(&moment)).rows(), ["before", "first"]);
    let until = next.recoverable_until.unwrap().to_string();
    assert_eq!(scene.recovered(&base, Some(&next), Some(&until)).rows(), ["before", "first", "second", "third"]);
    assert_eq!(scene.recovered(&base, Some(&next), None).rows(), ["before", "first", "second", "third"]);
    assert_eq!(scene.recovered(&base, None, None).rows(), ["before"], "a base is complete by itself");

    // Beyond what is there nothing is promised.
    let recovery = json!({"base": base.id, "until": "2999-01-01T00:00:00Z"});
    fs::rename(scene.at("data"), scene.at("kept")).unwrap();
    let (_, beyond) =
        scene.run(&json!({"operation": "Restore", "restore": {"snapshot": log.id, "recovery": recovery}}));
    assert_ne!(beyond.stage, RunnerStage::Done, "{beyond:?}");
    assert!(beyond.errors[0].contains("cannot be recovered"), "{beyond:?}");
}

#[test]
fn a_chain_joins_the_one_before_and_then_the_spool_is_cleaned() {
    let Some(scene) = Scene::set() else { return };
    let _receiver = scene.receive();
    let first = scene.full();
    scene.server.insert("a");
    let one = scene.log(&first, Some(&first));
    scene.server.insert("b");
    let between = scene.server.now();
    sleep(Duration::from_millis(100));
    scene.server.insert("c");
    let second = scene.full();
    scene.server.insert("d");
    let two = scene.log(&second, Some(&one));
    let (from, _) = name_of(two.wal.as_ref());
    assert!(from <= name_of(first.wal.as_ref()).0, "what came before the base is there too: {two:?}");
    assert!(interlock_core::backup::wal::carries_on(first.wal.as_ref().unwrap(), two.wal.as_ref().unwrap()));
    assert!(scene.spool().contains(&name_of(first.wal.as_ref()).0), "only what a snapshot of this chain has may go");
    // A moment that only the joined log has, from the base before.
    let recovered = scene.recovered(&first, Some(&two), Some(&between));
    assert_eq!(recovered.rows(), ["a", "b"]);
    drop(recovered);
    let three = scene.log(&second, Some(&two));
    assert!(three.wal.is_some());
    assert_eq!(scene.spool().first(), Some(&name_of(second.wal.as_ref()).0), "older segments are removed");
    scene.server.insert("e");
    let four = scene.log(&second, Some(&three));
    assert_eq!(name_of(four.wal.as_ref()).0, name_of(second.wal.as_ref()).0);
    assert_eq!(scene.recovered(&second, Some(&four), None).rows(), ["a", "b", "c", "d", "e"]);
}

#[test]
fn b21_a_missing_segment_ends_the_chain_and_a_new_base_begins_another() {
    let Some(scene) = Scene::set() else { return };
    let _receiver = scene.receive();
    let base = scene.full();
    for row in ["a", "b", "c"] {
        scene.server.insert(row);
        scene.server.ask("select pg_switch_wal()");
    }
    let log = scene.log(&base, Some(&base));
    let spool = scene.spool();
    let lost = &spool[spool.len() - 2];
    fs::remove_file(scene.at("data/wal").join(lost)).unwrap();
    let (_, gap) = scene.try_log(&base, Some(&log));
    assert_eq!(judged(&gap), Reason::WalGap, "{gap:?}");
    assert!(told(&gap).contains(lost.as_str()) && told(&gap).contains("Full backup"), "{}", told(&gap));
    let base = scene.full();
    scene.server.insert("d");
    let log = scene.log(&base, None);
    assert_eq!(scene.recovered(&base, Some(&log), None).rows(), ["a", "b", "c", "d"]);
    // What is no log at all is a gap as well.
    let damaged = scene.spool().pop().unwrap();
    fs::write(scene.at("data/wal").join(&damaged), vec![7; 1 << 20]).unwrap();
    let (_, gap) = scene.try_log(&base, Some(&log));
    assert_eq!(judged(&gap), Reason::WalGap, "{gap:?}");
}

#[test]
fn what_makes_a_base_worthless_is_found_before_or_after_it_is_made() {
    let Some(scene) = Scene::set() else { return };
    let (_, missing) = scene.backup(true, &json!({}));
    assert_eq!(judged(&missing), Reason::SlotMissing, "{missing:?}");
    // A server that keeps everything for a slot is not received from.
    scene.server.ask("alter system set max_slot_wal_keep_size = -1");
    scene.server.ask("select pg_reload_conf()");
    let mut unlimited = Receiver(scene.start_receiver());
    eventually(SOON, || {
        let log = scene.receiver_log();
        if log.contains("max_slot_wal_keep_size is not set") { Ok(()) } else { Err(log) }
    });
    assert!(!scene.is_receiving() && unlimited.0.try_wait().unwrap().is_none(), "it is not ready, and goes on trying");
    drop(unlimited);
    scene.server.ask("alter system reset max_slot_wal_keep_size");
    scene.server.ask("select pg_reload_conf()");
    let receiver = scene.receive();
    let (_, small) = scene.backup(true, &json!({"roomBytes": 1 << 20}));
    assert_eq!(judged(&small), Reason::ScratchTooSmall, "{small:?}");
    assert!(told(&small).contains("pod.scratchSize to 1Gi"), "{}", told(&small));
    let (_, early) = scene.try_log(&scene.full(), None);
    assert_eq!(judged(&early), Reason::Complete, "{early:?}");
    // A disk that changes a byte while it is copied.
    let shims = scene.at("shims");
    fs::create_dir_all(&shims).unwrap();
    let copy = shims.join("pg_basebackup");
    let real = scene.programs.join("pg_basebackup");
    let script = "for last; do :; done\ncase \"$*\" in *--version*) exit 0;; esac\nprintf x | dd of=\"$last/base/1/1259\" bs=1 seek=100 conv=notrunc 2>/dev/null\n";
    fs::write(&copy, format!("#!/bin/sh\n{} \"$@\" || exit $?\n{script}", real.display())).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    let (printed, tampered) = scene.backup(true, &json!({}));
    assert_eq!(judged(&tampered), Reason::BaseNotVerified, "{printed}");
    assert!(tampered.snapshot.is_none() && told(&tampered).contains("1259"), "{tampered:?}");
    fs::remove_file(&copy).unwrap();
    // Log of a base that nobody has.
    let (_, none) = scene.backup(false, &json!({"baseId": "f".repeat(64)}));
    assert_eq!(judged(&none), Reason::BaseMissing, "{none:?}");
    // A server that is away keeps nothing that was received from being copied; one that is asked for a base does.
    drop(receiver);
    let base = {
        let _receiver = scene.receive();
        scene.full()
    };
    scene.server.stop();
    let (_, away) = scene.backup(true, &json!({}));
    assert_eq!(judged(&away), Reason::SourceFailed, "{away:?}");
    let (printed, result) = scene.try_log(&base, None);
    assert!(matches!(judged(&result), Reason::Complete | Reason::WalNotReceived), "{printed}");
    scene.server.start();
}

#[test]
fn log_goes_on_over_a_new_timeline() {
    let Some(scene) = Scene::set() else { return };
    let _receiver = scene.receive();
    let base = scene.full();
    scene.server.insert("old");
    let old = scene.log(&base, Some(&base));
    scene.server.stop();
    fs::write(scene.server.data.join("standby.signal"), "").unwrap();
    give_away(&scene.server.data);
    scene.server.start();
    assert!(scene.server.control(&["promote"]), "{}", scene.server.log());
    assert_eq!(scene.server.ask("select timeline_id from pg_control_checkpoint()").parse::<u32>().unwrap_or(2), 2);
    scene.until_received();
    scene.server.insert("new");
    let new = eventually(SOON, || {
        let (printed, result) = scene.try_log(&base, Some(&old));
        let new = result.snapshot.clone().filter(|snapshot| snapshot.wal.as_ref().is_some_and(|wal| wal.timeline == 2));
        new.ok_or_else(|| format!("{printed} {}", scene.receiver_log()))
    });
    assert_eq!(scene.recovered(&base, Some(&new), None).rows(), ["new", "old"]);
    assert_eq!(scene.recovered(&base, Some(&old), None).rows(), ["old"]);
}

#[test]
fn b21_a_receiver_that_was_away_too_long_begins_anew_and_says_so() {
    let Some(scene) = Scene::set() else { return };
    let receiver = scene.receive();
    let base = scene.full();
    scene.server.insert("a");
    let log = scene.log(&base, Some(&base));
    drop(receiver);
    scene.server.ask("create table filler (n int, text text)");
    eventually(SOON, || {
        scene.server.ask("insert into filler select n, repeat('x', 500) from generate_series(1, 20000) n");
        scene.server.ask("checkpoint");
        let status =
            scene.server.ask(&format!("select wal_status from pg_replication_slots where slot_name = '{SLOT}'"));
        if status == "lost" { Ok(()) } else { Err(status) }
    });
    let (_, lost) = scene.backup(true, &json!({}));
    assert_eq!(judged(&lost), Reason::SlotMissing, "{lost:?}");
    let _receiver = scene.receive();
    assert!(scene.receiver_log().contains("take a Full backup"), "{}", scene.receiver_log());
    scene.server.ask("select pg_switch_wal()");
    let (printed, gap) = eventually(SOON, || {
        let (printed, gap) = scene.try_log(&base, Some(&log));
        if judged(&gap) == Reason::WalGap { Ok((printed, gap)) } else { Err(printed) }
    });
    assert!(told(&gap).contains("Full backup"), "{printed}");
    let base = scene.full();
    scene.server.insert("b");
    let one = scene.log(&base, None);
    assert!(scene.at("data/wal/ended").exists());
    scene.log(&base, Some(&one));
    assert!(!scene.at("data/wal/ended").exists(), "nobody needs it any more");
    assert_eq!(scene.recovered(&base, Some(&one), None).rows(), ["a", "b"]);
}
