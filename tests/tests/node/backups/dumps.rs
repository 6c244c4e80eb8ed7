//! Dumps of a server in use: frozen by hooks in its pod, with a heartbeat in a table, and one that breaks off half-way.

use std::thread;

use interlock_tests::{
    eventually,
    vault::{RUN, Scene, policy},
    world::condition,
};
use serde_json::{Value, json};

/// Where heartbeats are written, and a role that may do nothing else.
const BEATS: &str = "\
    create table beats (id text not null, seq bigint generated always as identity primary key, \
    \"time\" timestamptz not null default clock_timestamp(), nonce text not null); \
    create role beater login; grant insert on beats to beater";

/// Hooks that ran before the copying and after it, each once, and well.
const BOTH: [(&str, bool, bool); 2] = [("freeze", false, true), ("thaw", true, true)];

/// The policy. Its hooks leave a table in what is copied, and in nothing else.
fn protected(scene: &Scene<'_>) -> Value {
    let source =
        json!({"postgres": {"host": scene.database(), "secretRef": {"name": "database"}, "sslMode": "Disable"}});
    let hook = |name: &str, statement: &str| {
        let pod = json!([{"key": "app", "value": "database"}]);
        json!([{"name": name, "exec": {"pod": pod, "command": ["psql", "-c", statement]}}])
    };
    let more = json!({
        "heartbeat": {"table": "beats", "database": "postgres", "interval": "5s", "secretRef": {"name": "beats"}},
        "hooks": {"before": hook("freeze", "create table frozen ()"), "after": hook("thaw", "drop table frozen")},
    });
    policy("database", "vault", source, &more)
}

/// Asks the server until its answer is yes.
fn becomes(scene: &Scene<'_>, question: &str) {
    eventually(RUN, || match scene.psql("database", question)?.as_str() {
        "t" => Ok(()),
        other => Err(format!("{question}: {other:?}")),
    });
}

/// Hooks that ran, in order: name, whether it was after the copying, whether it did what it should.
fn hooks(status: &Value) -> Vec<(&str, bool, bool)> {
    let all = status["hooks"].as_array().unwrap().iter();
    all.map(|hook| (hook["name"].as_str().unwrap(), hook["after"] == true, hook["succeeded"] == true)).collect()
}

/// B17 and B18: a dump holds every row, what the hook before it made, and what the newest heartbeat was. It can be played.
pub(super) fn dumped(scene: &Scene<'_>) {
    scene.ask("database", "create table if not exists accounts (id int primary key, owner text)");
    scene.psql("database", BEATS).unwrap();
    scene.agreed("protect-database", vec![protected(scene)]);
    becomes(scene, "select count(*) > 0 from beats");
    scene.ask("database", "insert into accounts select n, 'owner ' || n from generate_series(1, 500) n");
    scene.backup("database", &[]);
    let run = scene.newest("database");
    let (status, point) = (&run["status"], &run["status"]["point"]);
    assert_eq!(point["postgresVersion"], 15, "{status:#}");
    assert!(status["heartbeat"]["seq"].as_i64().is_some_and(|seq| seq > 0), "{status:#}");
    assert_eq!(hooks(status), BOTH, "{status:#}");
    for told in ["HeartbeatRead", "HooksSucceeded"] {
        assert!(condition(&run, told).is_some_and(|told| told["status"] == "True"), "{told}: {status:#}");
    }
    let dump = scene.restic("", &["dump", point["snapshotId"].as_str().unwrap(), "/dump.sql"]);
    for part in ["CREATE ROLE postgres", "owner 500", "CREATE TABLE public.frozen"] {
        assert!(dump.contains(part), "{part} is not in {}", &dump[..dump.len().min(2_000)]);
    }
    becomes(scene, "select to_regclass('frozen') is null");
}

/// B10: the server ends the connection of pg_dump in the middle. What was written until then is no point, and what was frozen
/// is thawed all the same.
pub(super) fn broken_off(scene: &Scene<'_>) {
    let before = scene.snapshots("");
    let locks = "from pg_locks where relation = 'accounts'::regclass and mode = 'AccessExclusiveLock' and granted";
    let waits = "from pg_stat_activity where application_name = 'pg_dump' and wait_event_type = 'Lock'";
    let run = thread::scope(|scope| {
        scope.spawn(|| scene.psql("database", "begin; lock table accounts; select pg_sleep(300)"));
        becomes(scene, &format!("select count(*) = 1 {locks}"));
        let run = scene.begin("database");
        // By then the roles are written, and the table is not.
        becomes(scene, &format!("select pg_terminate_backend(pid) {waits}"));
        scene.ask("database", &format!("select pg_terminate_backend(pid) {locks}"));
        run
    });
    let status = scene.ended(&run);
    assert_eq!((&status["phase"], &status["reason"]), (&json!("Failed"), &json!("SourceFailed")), "{status:#}");
    assert!(status["message"].as_str().unwrap().contains("ended with 1"), "{status:#}");
    assert!(status["point"].is_null(), "{status:#}");
    assert_eq!(hooks(&status), BOTH, "{status:#}");
    let after = scene.snapshots("");
    assert!(after.iter().all(|id| before.contains(id)), "{before:?} {after:?}");
    becomes(scene, "select to_regclass('frozen') is null");
}
