//! A PostgreSQL server on restored dumps: made by the runner of backups from a real server, loaded by the runner of drills.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use interlock_cluster::Postgres;
use interlock_core::drill::plan::{DrillPlan, DrillWork};
use interlock_crds::{Fault, PostgresMode, ValidationVerdict};
use interlock_tests::{eventually, world::binary};
use serde_json::{Value, json};

use crate::{Pod, RUN, printed, verdict};

const PASSED: (ValidationVerdict, &str) = (ValidationVerdict::Passed, "Passed");
const FAILED: (ValidationVerdict, &str) = (ValidationVerdict::Failed, "Failed");

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It ends its server by itself.
        let _ = Command::new("kill").args(["-s", "TERM", &self.0.id().to_string()]).status();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// PostgreSQL refuses to run as root: as whom it runs then.
fn user() -> Option<(u32, u32)> {
    use std::os::unix::fs::MetadataExt as _;
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let of = |name: &str| {
        let line = users.lines().find(|line| line.starts_with(&format!("{name}:")))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    of("postgres").or_else(|| of("nobody"))
}

fn pod() -> Pod {
    let mut pod = Pod::new();
    pod.user = user();
    pod.application.1 = free_port();
    pod
}

impl Pod {
    /// Everybody may write, as a group may in a cluster.
    fn open(&self) {
        for folder in ["", "dev", "restored", "restored/data", "interlock/run", "interlock/scratch"] {
            if self.at(folder).is_dir() {
                fs::set_permissions(self.at(folder), fs::Permissions::from_mode(0o777)).unwrap();
            }
        }
    }

    /// A program of PostgreSQL as the user that may run it.
    fn program(&self, name: &str) -> Command {
        let postgres = Postgres::ensure().unwrap();
        let mut command = match self.user {
            Some((user, group)) => {
                let mut command = Command::new("setpriv");
                command.args([format!("--reuid={user}"), format!("--regid={group}"), "--clear-groups".to_owned()]);
                command.arg(postgres.binaries.join(name));
                command
            }
            None => Command::new(postgres.binaries.join(name)),
        };
        command.current_dir("/").stdin(Stdio::null());
        command
    }

    fn serving(&self) -> Command {
        self.open();
        let work = DrillWork::Serve { mode: PostgresMode::Logical, recover_before_end_seconds: None };
        let mut command = self.command("drill", &DrillPlan::new(RUN, work));
        command.env("PATH", path());
        command
    }

    fn is_ready(&self) -> bool {
        let work = DrillWork::Serve { mode: PostgresMode::Logical, recover_before_end_seconds: None };
        let mut command = self.command("ready", &DrillPlan::new(RUN, work));
        command.env("PATH", path()).output().unwrap().status.success()
    }

    fn serve(&self) -> Running {
        let log = fs::File::create(self.at("log")).unwrap();
        let mut command = self.serving();
        let mut child = Running(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
        eventually(Duration::from_mins(1), || {
            let ended = child.0.try_wait().unwrap();
            let log = || fs::read_to_string(self.at("log")).unwrap_or_default();
            assert!(ended.is_none(), "{}", log());
            if self.is_ready() { Ok(()) } else { Err(log()) }
        });
        child
    }

    fn sql(&self, query: &str, expect: &str) -> crate::Validated {
        self.open();
        self.validate(json!({"sql": {"database": "bank", "query": query, "expect": expect}}), None)
    }
}

fn path() -> String {
    format!("{}:{}", Postgres::ensure().unwrap().binaries.display(), std::env::var("PATH").unwrap())
}

/// The dump of a server with roles, a tablespace, a database of its own and a heartbeat.
fn dump(to: &Path) {
    let pod = pod();
    pod.open();
    let (data, port) = (pod.at("source"), pod.application.1.to_string());
    let made =
        pod.program("initdb").arg("-D").arg(&data).args(["-U", "postgres", "-A", "trust", "-N"]).output().unwrap();
    assert!(made.status.success(), "{}", printed(&made));
    let mut server = pod.program("postgres");
    server.arg("-D").arg(&data).args(["-p", &port, "-c", "allow_in_place_tablespaces=on", "-k"]);
    let log = fs::File::create(pod.at("log")).unwrap();
    let server = server.arg(pod.at("interlock/scratch")).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
    let server = Running(server);
    let ask = |database: &str, script: &str| {
        let mut psql = pod.program("psql");
        psql.args([
            "-X",
            "-q",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-U",
            "postgres",
            "-d",
            database,
        ]);
        psql.args(["-c", script]).output().unwrap()
    };
    eventually(Duration::from_secs(30), || {
        let asked = ask("postgres", "select 1");
        if asked.status.success() { Ok(()) } else { Err(printed(&asked)) }
    });
    let script = |database: &str, lines: &[&str]| {
        for line in lines {
            let asked = ask(database, line);
            assert!(asked.status.success(), "{line}: {}", printed(&asked));
        }
    };
    let roles = ["create role teller login password 'hunter2-hunter2'", "create role staff", "grant staff to teller"];
    script("postgres", &roles);
    script("postgres", &["create tablespace fast location ''", "create database bank owner teller tablespace fast"]);
    let tables = [
        "create table account (id int primary key, name text, open boolean)",
        "alter table account owner to teller",
        "insert into account select n, E'line\\n\"of, ' || n, n % 2 = 0 from generate_series(1, 1500) n",
        "create table beat (id text, seq bigint generated always as identity, time timestamptz default clock_timestamp(), nonce text)",
        "insert into beat (id, nonce) select 'p', repeat('0', 31) || n from generate_series(1, 3) n",
    ];
    script("bank", &tables);
    pod.write("interlock/secrets/source/username", "postgres");
    let source = json!({"kind": "postgres", "host": "127.0.0.1", "port": pod.application.1, "databases": [], "mode": "Logical", "sslMode": "Disable", "base": true, "slot": null});
    let plan = json!({"version": 1, "run": "b", "operation": "Backup", "repository": "/r", "retryLockSeconds": 1, "source": source});
    let mut command = Command::new(binary());
    command.args(["runner", "--root"]).arg(pod.root.path()).args(["source", "postgres"]);
    command.env("INTERLOCK_PLAN", plan.to_string()).env("PATH", path());
    let dumped = command.stdout(fs::File::create(to).unwrap()).output().unwrap();
    assert!(dumped.status.success(), "{}", printed(&dumped));
    drop(server);
}

#[test]
fn d8_dumps_are_loaded_served_and_asked_and_no_answer_holds_data() {
    let pod = pod();
    pod.write("restored/data/x", "");
    dump(&pod.at("restored/data/dump.sql"));
    assert!(!pod.is_ready(), "nobody serves yet");
    let mut running = pod.serve();
    let counted = pod.sql("select count(*) from account;", "result >= 1500");
    assert_eq!(verdict(&counted), PASSED, "{counted:?}");
    assert_eq!(verdict(&pod.sql("select count(*) from account", "result > 1500")), FAILED);
    assert_eq!(verdict(&pod.sql("select bool_and(pg_has_role('teller', 'staff', 'member'))", "result")), PASSED);
    assert_eq!(verdict(&pod.sql("select count(*) from pg_tablespace where spcname = 'fast'", "result == 1")), PASSED);
    assert_eq!(verdict(&pod.sql("-- a comment\nselect 0.5 -- and another", "result == 0.5")), PASSED);
    let (told, name) = {
        let asked = json!({"sql": {"database": "bank", "query": "select name from account where id = 7", "expect": "result > 1"}});
        pod.validated(asked, None, None)
    };
    assert_eq!(verdict(&name), (ValidationVerdict::Failed, "NoValue"));
    assert!(!told.contains("line") && !format!("{name:?}").contains("of, 7"), "{told}");
    for query in ["select id from account", "select 1 where false", "select null", "select 1; select 2"] {
        assert_eq!(verdict(&pod.sql(query, "result > 0")), (ValidationVerdict::Failed, "NoValue"), "{query}");
    }
    for query in
        ["delete from account returning id", "\\! touch /tmp/never", "select * from gone", "commit; drop table account"]
    {
        assert_eq!(verdict(&pod.sql(query, "result > 0")), FAILED, "{query}");
    }
    let gone = pod.sql("select * from gone", "result > 0").message;
    assert_eq!(gone, "it ended with 1: relation \"gone\" does not exist (error 42P01 of PostgreSQL)");
    let quoting = pod.sql("select name::int from account", "result > 0").message;
    assert!(quoting.starts_with("it ended with 1: error 22P02 of PostgreSQL, whose text may quote data"), "{quoting}");
    let few = pod.sql("select count(*) from account", "result * 2 > 3000").message;
    assert_eq!(few, "result * 2 > 3000 does not hold: the query returned 1500");
    let slow = pod.validate(
        json!({"timeout": "1s", "sql": {"database": "bank", "query": "select pg_sleep(30), 1", "expect": "result > 0"}}),
        None,
    );
    assert_eq!(verdict(&slow), (ValidationVerdict::TimedOut, "TimedOut"));
    assert_eq!(verdict(&pod.sql("select count(*) from account", "result == 1500")), PASSED, "nothing was changed");
    heartbeat(&pod);
    // The server goes, and with it the readiness.
    assert!(pod.is_ready());
    assert!(Command::new("kill").args(["-s", "TERM", &running.0.id().to_string()]).status().unwrap().success());
    assert!(running.0.wait().unwrap().success(), "asked to end, it ends well");
    assert!(!pod.is_ready());
    let gone = pod.validate(
        json!({"timeout": "5s", "sql": {"database": "bank", "query": "select 1", "expect": "result > 0"}}),
        None,
    );
    assert_eq!(verdict(&gone), FAILED);
}

fn heartbeat(pod: &Pod) {
    let table = json!({"table": "beat", "database": "bank"});
    let read = |table: &Value| {
        pod.open();
        pod.validated(json!({"heartbeat": {}}), Some(table.clone()), None).1
    };
    let good = read(&table).heartbeat.unwrap().unwrap();
    assert_eq!((good.seq, good.nonce.as_str()), (3, format!("{}3", "0".repeat(31)).as_str()));
    let tamper = || {
        pod.open();
        let heartbeat = Some(serde_json::from_value(table.clone()).unwrap());
        let (told, report) = pod.run(DrillWork::Fault { fault: Fault::TamperHeartbeat, path: None, heartbeat });
        (report.exit_code, told)
    };
    let (code, told) = tamper();
    assert_eq!(code, Some(0), "{told}");
    let old = read(&table).heartbeat.unwrap().unwrap();
    assert!(old.seq < good.seq && old.time < good.time, "{old:?}");
    assert_eq!(verdict(&read(&json!({"table": "gone", "database": "bank"}))), FAILED);
}

#[test]
fn a_dump_that_is_damaged_cut_or_missing_is_never_ready() {
    let whole = pod();
    dump(&whole.at("dump.sql"));
    let text = fs::read_to_string(whole.at("dump.sql")).unwrap();
    let damaged = text.replacen("CREATE TABLE public.account", "CREATE TABEL public.account", 1);
    let cut = &text[..text.len() - 400];
    for (content, said) in [(damaged.as_str(), "could not be loaded"), (cut, "its end is missing"), ("", "no dump")] {
        let pod = pod();
        pod.write("restored/data/other", "1");
        if !content.is_empty() {
            pod.write("restored/data/dump.sql", content);
        }
        let ended = pod.serving().output().unwrap();
        assert!(!ended.status.success(), "{said}");
        assert!(printed(&ended).contains(said), "{said}: {}", printed(&ended));
        assert!(!pod.is_ready());
    }
}
