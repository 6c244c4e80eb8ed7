//! Heartbeats: written to a real file and a real PostgreSQL server by a role that may only INSERT, and read by a run.

use std::{
    fs,
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use interlock_cluster::Postgres;
use interlock_core::backup::outcome::Reason;
use interlock_tests::{eventually, world::binary};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{POLICY, Pod, judged, printed};

const SOON: Duration = Duration::from_secs(20);
const WRITER_PASSWORD: &str = "only-for-inserting";

/// A writer's pod: the same files as those of a run's.
struct Writer<'a> {
    pod: &'a Pod,
    plan: Value,
}

impl Writer<'_> {
    fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(["runner", "--root"]).arg(self.pod.root.path()).arg("heartbeat").args(more);
        command.env("INTERLOCK_HEARTBEAT", self.plan.to_string()).stdin(Stdio::null());
        command
    }

    fn start(&self) -> Running {
        let log = fs::File::create(self.pod.at("writer.log")).unwrap();
        let errors = log.try_clone().unwrap();
        Running(self.command(&[]).stdout(log).stderr(errors).spawn().unwrap())
    }

    fn is_ready(&self) -> Result<(), String> {
        let asked = self.command(&["--ready"]).output().unwrap();
        if asked.status.success() { Ok(()) } else { Err(printed(&asked)) }
    }

    fn becomes(&self, ready: bool) {
        eventually(SOON, || match self.is_ready() {
            Ok(()) if ready => Ok(()),
            Err(_) if !ready => Ok(()),
            other => Err(format!("{other:?}: {}", fs::read_to_string(self.pod.at("writer.log")).unwrap())),
        });
    }
}

struct Running(Child);

impl Running {
    /// As a kubelet ends it.
    fn end(mut self) {
        assert!(Command::new("kill").args(["-s", "TERM", &self.0.id().to_string()]).status().unwrap().success());
        eventually(SOON, || match self.0.try_wait().unwrap() {
            Some(status) if status.success() => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_heartbeat_in_a_file_goes_on_counting_and_a_run_records_it() {
    let pod = Pod::with_repository();
    let mut plan = Pod::files();
    plan["heartbeat"] = json!({"file": "/data/beat"});
    fs::write(pod.at("data/accounts"), "1000").unwrap();
    let (_, without) = pod.run(&plan);
    assert_eq!((judged(&without), without.heartbeat.clone()), (Reason::Complete, None), "{without:?}");
    assert!(without.heartbeat_error.unwrap().contains("does not exist"));
    let writer =
        Writer { pod: &pod, plan: json!({"version": 1, "policy": POLICY, "intervalSeconds": 1, "file": "/data/beat"}) };
    let seq = || {
        let text = fs::read_to_string(pod.at("data/beat")).map_err(|error| error.to_string())?;
        let beat: Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("never half of it: {error}: {text}"));
        Ok(beat["seq"].as_i64().unwrap())
    };
    let beyond = |least: i64| {
        eventually(SOON, || seq().and_then(|found| if found > least { Ok(found) } else { Err(format!("{found}")) }))
    };
    assert!(writer.is_ready().is_err(), "nothing was written yet");
    let running = writer.start();
    beyond(2);
    writer.becomes(true);
    running.end();
    let last = seq().unwrap();
    let running = writer.start();
    beyond(last);
    assert!(seq().unwrap() < last + 10, "it goes on from the file");
    let (_, read) = pod.run(&plan);
    assert_eq!(judged(&read), Reason::Complete, "{read:?}");
    let heartbeat = read.heartbeat.unwrap();
    assert!(heartbeat.seq > last && heartbeat.nonce.len() == 32 && heartbeat.read_at.is_some(), "{heartbeat:?}");
    // What was copied is not older than what was recorded.
    let id = read.snapshot.unwrap().id;
    let restored = pod.restic(&["dump", &id, pod.at("data/beat").to_str().unwrap()]);
    let restored: Value = serde_json::from_slice(&restored.stdout).unwrap();
    assert!(restored["seq"].as_i64().unwrap() >= heartbeat.seq, "{restored}");
    // Somebody puts something else in its place.
    fs::write(pod.at("data/beat"), "minutes of the board").unwrap();
    writer.becomes(false);
    assert_eq!(fs::read_to_string(pod.at("data/beat")).unwrap(), "minutes of the board");
    fs::remove_file(pod.at("data/beat")).unwrap();
    writer.becomes(true);
    running.end();
    let log = fs::read_to_string(pod.at("writer.log")).unwrap();
    assert!(log.contains("left as it is") && !log.contains("minutes of the board"), "{log}");
}

/// A server of its own.
struct Server {
    dir: TempDir,
    port: u16,
    binaries: PathBuf,
}

impl Server {
    /// None where PostgreSQL is not installed and cannot be.
    fn start() -> Option<Self> {
        let binaries = match Postgres::ensure() {
            Ok(postgres) => postgres.binaries,
            Err(why) => {
                eprintln!("skipped: {why}");
                return None;
            }
        };
        let dir = TempDir::new().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = Self { dir, port, binaries };
        fs::write(server.path("password"), "of-the-superuser").unwrap();
        run(Command::new("chown").arg("-R").arg("postgres").arg(server.dir.path()));
        let data = server.path("data");
        server.as_postgres(&["initdb", "-D", &data, "-A", "scram-sha-256", "--pwfile", &server.path("password")]);
        let options =
            format!("-c port={port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off");
        server.as_postgres(&["pg_ctl", "-D", &data, "-w", "-l", &server.path("log"), "-o", &options, "start"]);
        Some(server)
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// It refuses to be run by root.
    fn as_postgres(&self, command: &[&str]) {
        run(Command::new("runuser")
            .args(["-u", "postgres", "--"])
            .arg(self.binaries.join(command[0]))
            .args(&command[1..])
            .stdout(Stdio::null())
            .current_dir("/"));
    }

    fn ask(&self, statement: &str) -> String {
        let mut psql = Command::new(self.binaries.join("psql"));
        psql.args([
            "-h",
            "127.0.0.1",
            "-p",
            &self.port.to_string(),
            "-U",
            "postgres",
            "-d",
            "postgres",
            "-qAt",
            "-c",
            statement,
        ]);
        let told = psql.env("PGPASSWORD", "of-the-superuser").output().unwrap();
        assert!(told.status.success(), "{}", printed(&told));
        String::from_utf8(told.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let data = self.path("data");
        let _ = Command::new("runuser")
            .args(["-u", "postgres", "--"])
            .arg(self.binaries.join("pg_ctl"))
            .args(["-D", &data, "-m", "immediate", "stop"])
            .current_dir("/")
            .stdout(Stdio::null())
            .status();
    }
}

fn run(command: &mut Command) {
    let status = command.status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}

fn credentials(pod: &Pod, user: &str, password: &str) {
    let folder = pod.at("interlock/secrets/source");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("username"), user).unwrap();
    fs::write(folder.join("password"), password).unwrap();
}

#[test]
fn a_heartbeat_in_a_table_is_written_by_a_role_that_may_only_insert_and_read_by_the_run() {
    let Some(server) = Server::start() else { return };
    server.ask(
        "create table beats (id text not null, seq bigint generated always as identity primary key, \"time\" timestamptz not null default clock_timestamp(), nonce text not null)",
    );
    server.ask(&format!("create role beater login password '{WRITER_PASSWORD}'"));
    server.ask("create role reader login password 'of-the-reader'; grant pg_read_all_data to reader");
    let table = json!({
        "host": "127.0.0.1", "port": server.port, "sslMode": "Disable", "database": "postgres", "table": "beats",
    });
    let pod = Pod::with_repository();
    credentials(&pod, "beater", WRITER_PASSWORD);
    let writer =
        Writer { pod: &pod, plan: json!({"version": 1, "policy": POLICY, "intervalSeconds": 1, "table": table}) };
    let running = writer.start();
    // It has no right yet: it keeps trying.
    eventually(SOON, || {
        let log = fs::read_to_string(pod.at("writer.log")).unwrap();
        if log.contains("permission denied") { Ok(()) } else { Err(log) }
    });
    assert!(writer.is_ready().is_err());
    server.ask("grant insert on beats to beater");
    writer.becomes(true);
    let count = || server.ask("select count(*) from beats").parse::<i64>().unwrap();
    eventually(SOON, || if count() > 2 { Ok(()) } else { Err("few rows".to_owned()) });
    server.ask("revoke insert on beats from beater");
    writer.becomes(false);
    server.ask("grant insert on beats to beater");
    writer.becomes(true);
    running.end();
    let log = fs::read_to_string(pod.at("writer.log")).unwrap();
    assert!(!log.contains(WRITER_PASSWORD), "{log}");
    // A newer row of another policy is not this one's.
    server.ask("insert into beats (id, nonce) values ('another', repeat('0', 32))");
    credentials(&pod, "reader", "of-the-reader");
    let source = json!({
        "kind": "postgres", "host": "127.0.0.1", "port": server.port, "databases": ["postgres"], "mode": "Logical",
        "sslMode": "Disable", "base": false, "slot": null,
    });
    let heartbeat = json!({"table": "beats", "database": "postgres"});
    let mut plan = json!({"operation": "Backup", "host": POLICY, "source": source, "heartbeat": heartbeat});
    let (told, read) = pod.run(&plan);
    assert_eq!(judged(&read), Reason::Complete, "{read:?} {told}");
    let found = read.heartbeat.unwrap();
    let newest = server.ask(&format!("select max(seq) from beats where id = '{POLICY}'"));
    assert_eq!(found.seq.to_string(), newest);
    assert!(found.read_at.unwrap() >= found.time, "{found:?}");
    assert_eq!(server.ask(&format!("select nonce from beats where seq = {newest}")), found.nonce);
    plan["heartbeat"]["table"] = json!("gone");
    let (told, without) = pod.run(&plan);
    assert_eq!(judged(&without), Reason::Complete, "{without:?}");
    assert!(without.heartbeat_error.unwrap().contains("gone"), "{told}");
    assert!(!told.contains("of-the-reader"));
}

#[test]
fn manifests_are_copied_as_plain_files_though_a_kubelet_mounts_links() {
    let pod = Pod::with_repository();
    let mounted = pod.at("interlock/objects");
    fs::create_dir_all(mounted.join("..2026_11_30")).unwrap();
    std::os::unix::fs::symlink("..2026_11_30", mounted.join("..data")).unwrap();
    for name in ["ConfigMap_teller_a.json", "Service_teller_b.json"] {
        fs::write(mounted.join("..2026_11_30").join(name), format!("{{\"name\": \"{name}\"}}\n")).unwrap();
        std::os::unix::fs::symlink(format!("..data/{name}"), mounted.join(name)).unwrap();
    }
    let (_, copied) = pod.run(&json!({"operation": "Backup", "host": POLICY, "source": {"kind": "objects"}}));
    assert_eq!(judged(&copied), Reason::Complete, "{copied:?}");
    let snapshot = copied.snapshot.unwrap();
    assert_eq!(snapshot.files, 2);
    let file = pod.at("data/Service_teller_b.json");
    let kept = pod.restic(&["dump", &snapshot.id, file.to_str().unwrap()]);
    assert_eq!(kept.stdout, b"{\"name\": \"Service_teller_b.json\"}\n");
}
