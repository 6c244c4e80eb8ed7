//! `interlock runner` with real restic, without a cluster: what a pod would do, below a folder.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

#[path = "runner/heartbeat.rs"]
mod heartbeat;
#[path = "runner/removing.rs"]
mod removing;
#[path = "runner/sftp.rs"]
mod sftp;

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use interlock_cluster::{Tool, Tools};
use interlock_core::backup::{
    outcome::{self, Expected, PodEnd, Reason},
    result::{RunResult, RunnerStage},
};
use interlock_crds::MaintenanceOperation;
use interlock_tests::{eventually, world::binary};
use serde_json::{Value, json};
use tempfile::TempDir;

const PASSWORD: &str = "correct-horse-battery";
const POLICY: &str = "policy-uid";

/// A pod's files.
struct Pod {
    root: TempDir,
    restic: PathBuf,
    password: &'static str,
}

impl Pod {
    fn new() -> Self {
        let root = TempDir::new().unwrap();
        for folder in ["data", "repository", "dev", "interlock/bin", "interlock/run", "interlock/scratch"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        let tools = Tools::ensure_these(&[Tool::Restic]).unwrap();
        Self { root, restic: tools.path(Tool::Restic).to_owned(), password: PASSWORD }
    }

    fn with_repository() -> Self {
        let pod = Self::new();
        let (_, result) = pod.run(&json!({"operation": "Initialize"}));
        assert_eq!((result.stage, result.exit_code), (RunnerStage::Done, Some(0)), "{result:?}");
        pod
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn command(&self, container: &str, plan: &Value) -> Command {
        let mut whole = json!({"version": 1, "run": "run-1", "repository": "/repository", "retryLockSeconds": 1});
        whole.as_object_mut().unwrap().extend(plan.as_object().unwrap().clone());
        let path = format!("{}:{}", self.restic.parent().unwrap().display(), std::env::var("PATH").unwrap());
        let mut command = Command::new(binary());
        command.args(["runner", "--root"]).arg(self.root.path()).arg(container);
        command.env("INTERLOCK_PLAN", whole.to_string()).env("PATH", path).env("RESTIC_PASSWORD", self.password);
        command.env("RESTIC_CACHE_DIR", self.at("interlock/scratch/cache")).stdin(Stdio::null());
        command
    }

    /// Both containers; everything that they printed, and the message.
    fn run(&self, plan: &Value) -> (String, RunResult) {
        self.run_with(plan, &[])
    }

    /// The same with these variables, as of a Secret.
    fn run_with(&self, plan: &Value, secret: &[(&str, &str)]) -> (String, RunResult) {
        fs::remove_dir_all(self.at("interlock/run")).unwrap();
        fs::create_dir_all(self.at("interlock/run")).unwrap();
        let container = |name: &str| self.command(name, plan).envs(secret.iter().copied()).output().unwrap();
        let tool = container("tool");
        assert!(tool.status.success(), "the next container must run: {tool:?}");
        let report = container("report");
        let message = fs::read_to_string(self.at("dev/termination-log")).unwrap();
        let result = RunResult::decode(Some(&message), "run-1").unwrap();
        let is_good = result.exit_code == Some(0) && result.stage == RunnerStage::Done;
        assert_eq!(report.status.success(), is_good, "{message}");
        (printed(&tool) + &printed(&report), result)
    }

    fn files() -> Value {
        json!({"operation": "Backup", "host": POLICY, "source": {"kind": "files", "paths": ["/data"], "exclude": ["*.tmp"]}})
    }

    fn restic(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(&self.restic);
        command.args(arguments).env("RESTIC_REPOSITORY", self.at("repository")).env("RESTIC_PASSWORD", PASSWORD);
        command.env("RESTIC_CACHE_DIR", self.at("interlock/scratch/cache")).output().unwrap()
    }

    fn snapshots(&self) -> Vec<Value> {
        serde_json::from_slice(&self.restic(&["snapshots", "--json"]).stdout).unwrap()
    }
}

fn printed(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

fn judged(result: &RunResult) -> Reason {
    let end = PodEnd { message: Some(result.encode().unwrap()), ..PodEnd::default() };
    let expected = Expected { run: "run-1", policy_uid: POLICY, repository_id: None, allow_empty: false };
    outcome::judge(&end, &expected).0.reason
}

fn checked(result: &RunResult) -> Reason {
    let end = PodEnd { message: Some(result.encode().unwrap()), ..PodEnd::default() };
    outcome::of_maintenance(&end, "run-1", MaintenanceOperation::Check, None, None).0.reason
}

#[test]
fn files_are_stored_read_back_and_compared_with_the_parent() {
    let pod = Pod::with_repository();
    fs::write(pod.at("data/accounts"), "1000").unwrap();
    fs::write(pod.at("data/left-out.tmp"), "x").unwrap();
    let (_, first) = pod.run(&Pod::files());
    assert_eq!(judged(&first), Reason::Complete, "{first:?}");
    let snapshot = first.snapshot.unwrap();
    assert_eq!((snapshot.files, snapshot.bytes, snapshot.host.as_str()), (1, 4, POLICY));
    assert_eq!(pod.snapshots()[0]["id"], json!(snapshot.id));
    let mut plan = Pod::files();
    plan["parent"] = json!(snapshot.id);
    let (_, second) = pod.run(&plan);
    let second = second.snapshot.unwrap();
    assert_eq!((second.parent, second.files), (Some(snapshot.id), 1));
}

#[test]
fn a_parent_that_is_gone_does_not_keep_a_run_from_being_good() {
    let pod = Pod::with_repository();
    fs::write(pod.at("data/accounts"), "1000").unwrap();
    let [_, newer] = [1, 2].map(|_| pod.run(&Pod::files()).1.snapshot.unwrap().id);
    assert!(pod.restic(&["forget", &newer]).status.success());
    let mut plan = Pod::files();
    plan["parent"] = json!(newer);
    let (told, result) = pod.run(&plan);
    assert_eq!(judged(&result), Reason::Complete, "{result:?}");
    assert!(told.contains(&format!("snapshot {} to compare with was not found", &newer[..8])), "{told}");
    let snapshot = result.snapshot.unwrap();
    assert_eq!((snapshot.parent, snapshot.files), (None, 1), "nobody chose the older one, so everything is read");
}

#[test]
fn b9_an_empty_source_and_an_unreadable_file_are_no_good_points() {
    let pod = Pod::with_repository();
    let (_, empty) = pod.run(&Pod::files());
    assert_eq!(judged(&empty), Reason::EmptySource, "{empty:?}");
    fs::write(pod.at("data/accounts"), "1000").unwrap();
    // Even root cannot list a folder that another process has unmounted from below: a path that is not there is the same.
    let mut plan = Pod::files();
    plan["source"]["paths"] = json!(["/data", "/gone"]);
    let (_, partial) = pod.run(&plan);
    assert_eq!((partial.exit_code, judged(&partial)), (Some(3), Reason::Incomplete), "{partial:?}");
}

#[test]
fn b10_a_program_that_fails_half_way_leaves_no_snapshot() {
    let pod = Pod::with_repository();
    let source = |script: &str| json!({"kind": "command", "command": ["sh", "-c", script], "fileName": "out"});
    let plan = |script: &str| json!({"operation": "Backup", "host": POLICY, "source": source(script)});
    let (_, failed) = pod.run(&plan("echo half; exit 7"));
    assert_eq!((failed.source_exit_code, judged(&failed)), (Some(7), Reason::SourceFailed), "{failed:?}");
    assert!(pod.snapshots().is_empty());
    let (_, whole) = pod.run(&plan("echo whole"));
    assert_eq!(judged(&whole), Reason::Complete);
    let id = whole.snapshot.unwrap().id;
    assert_eq!(pod.restic(&["dump", &id, "/out"]).stdout, b"whole\n");
}

#[test]
fn of_a_tool_that_fails_the_end_of_its_log_is_its_message_without_credentials() {
    let pod = Pod::with_repository();
    let message = || fs::read_to_string(pod.at("dev/termination-log")).unwrap_or_default();
    let tool = |script: &str| {
        let source = json!({"kind": "command", "command": ["sh", "-c", script], "fileName": "out"});
        let _ = fs::remove_file(pod.at("dev/termination-log"));
        let ended = pod.command("tool", &json!({"operation": "Backup", "host": POLICY, "source": source})).output();
        assert!(ended.unwrap().status.success(), "the next container must run");
    };
    tool(&format!("echo it is {PASSWORD} >&2; exit 7"));
    assert!(message().contains("it is ***") && message().contains("ended in stage"), "{}", message());
    assert!(!message().contains(PASSWORD), "{}", message());
    tool("echo whole");
    assert_eq!(message(), "", "a run that goes well needs none");
}

#[test]
fn b16_a_wrong_password_a_missing_repository_and_a_lock_are_told_apart_and_no_secret_is_told() {
    let mut pod = Pod::new();
    fs::write(pod.at("data/a"), "a").unwrap();
    let (_, missing) = pod.run(&Pod::files());
    assert_eq!(judged(&missing), Reason::RepositoryMissing);
    assert!(!pod.at("repository/config").exists(), "a backup makes no repository");
    pod.run(&json!({"operation": "Initialize"}));
    let (_, another) = pod.run(&json!({"operation": "Check", "repositoryId": "0123"}));
    let expected = Expected { run: "run-1", policy_uid: POLICY, repository_id: Some("0123"), allow_empty: false };
    let end = PodEnd { message: Some(another.encode().unwrap()), ..PodEnd::default() };
    assert_eq!(outcome::judge(&end, &expected).0.reason, Reason::RepositoryReplaced);
    // Somebody else is alone with it.
    let mut holder = Command::new(&pod.restic);
    holder.args(["backup", "--stdin-from-command", "--", "sleep", "60"]).stdin(Stdio::null());
    holder.env("RESTIC_REPOSITORY", pod.at("repository")).env("RESTIC_PASSWORD", PASSWORD);
    let mut holder = holder.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    eventually(Duration::from_secs(20), || {
        let locks = fs::read_dir(pod.at("repository/locks")).unwrap().count();
        if locks > 0 { Ok(()) } else { Err("no lock".to_owned()) }
    });
    let (_, locked) = pod.run(&json!({"operation": "Prune", "forget": []}));
    assert_eq!(checked(&locked), Reason::RepositoryLocked, "{locked:?}");
    let end = PodEnd { message: Some(locked.encode().unwrap()), ..PodEnd::default() };
    let why = outcome::of_maintenance(&end, "run-1", MaintenanceOperation::Prune, None, None).0.message;
    assert!(why.contains("by restic on host "), "restic's words name the host: {why}");
    holder.kill().unwrap();
    holder.wait().unwrap();
    pod.password = "another-long-password";
    let (told, wrong) = pod.run(&Pod::files());
    assert_eq!(judged(&wrong), Reason::WrongPassword);
    assert!(!told.contains("another-long-password") && !told.contains(PASSWORD), "{told}");
}

#[test]
fn b16_where_a_repository_was_seen_none_is_made_anew() {
    let pod = Pod::with_repository();
    fs::write(pod.at("data/a"), "a").unwrap();
    let id = pod.run(&Pod::files()).1.repository_id.unwrap();
    fs::remove_dir_all(pod.at("repository")).unwrap();
    fs::create_dir(pod.at("repository")).unwrap();
    let upkeep = ["Initialize", "Check", "Prune", "Unlock"].map(|operation| json!({"operation": operation}));
    for mut plan in [Pod::files()].into_iter().chain(upkeep) {
        plan["repositoryId"] = json!(id);
        let (_, gone) = pod.run(&plan);
        let end = PodEnd { message: Some(gone.encode().unwrap()), ..PodEnd::default() };
        let expected = Expected { run: "run-1", policy_uid: POLICY, repository_id: Some(&id), allow_empty: false };
        let (told, _) = outcome::judge(&end, &expected);
        assert_eq!(told.reason, Reason::RepositoryMissing, "{plan}: {gone:?}");
        assert!(told.message.contains("makes no new one"), "{told:?}");
    }
    assert_eq!(fs::read_dir(pod.at("repository")).unwrap().count(), 0, "no new config, and no key");
}

/// A backup to an address where nobody listens any more, and its port.
fn to_nobody(pod: &Pod) -> (Value, u16) {
    fs::write(pod.at("data/a"), "a").unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut plan = Pod::files();
    plan["repository"] = json!(format!("rest:http://teller:hunter2-long@127.0.0.1:{port}/"));
    (plan, port)
}

#[test]
fn b16_a_repository_that_does_not_answer_is_told_when_the_run_is_ended() {
    let pod = Pod::new();
    let (plan, _) = to_nobody(&pod);
    // With a proxy nobody but restic knows whether anything answers there; for this host it takes none.
    let mut tool = pod.command("tool", &plan);
    tool.env("HTTP_PROXY", "http://127.0.0.1:9").stdout(Stdio::piped()).stderr(Stdio::null());
    let mut tool = tool.spawn().unwrap();
    // restic tries again for a quarter of an hour; the deadline of the run may end it earlier.
    let mut lines = BufReader::new(tool.stdout.take().unwrap()).lines();
    let told = lines.by_ref().map(Result::unwrap).find(|line| line.contains("connection refused"));
    assert!(told.is_some(), "what restic waits for is in the log");
    assert!(Command::new("kill").args(["-s", "TERM", &tool.id().to_string()]).status().unwrap().success());
    lines.for_each(drop);
    tool.wait().unwrap();
    pod.command("report", &plan).output().unwrap();
    let message = fs::read_to_string(pod.at("dev/termination-log")).unwrap();
    let result = RunResult::decode(Some(&message), "run-1").unwrap();
    assert_eq!((judged(&result), result.stage), (Reason::RepositoryUnreachable, RunnerStage::Open), "{result:?}");
    assert!(result.errors.iter().any(|error| error.contains("connection refused")), "{result:?}");
}

#[test]
fn b16_an_address_at_which_nothing_answers_is_told_at_once_and_given_up_when_patience_is_over() {
    let pod = Pod::new();
    let (mut plan, port) = to_nobody(&pod);
    plan["patienceSeconds"] = json!(3);
    let (told, result) = pod.run(&plan);
    assert_eq!((judged(&result), result.stage), (Reason::RepositoryUnreachable, RunnerStage::Open), "{result:?}");
    assert!(result.errors[0].starts_with(&format!("no connection to 127.0.0.1:{port} within 3 s (")), "{result:?}");
    assert!(told.contains(&format!("no connection to 127.0.0.1:{port} yet: ")), "{told}");
    assert!(!told.contains("hunter2"), "{told}");
}

#[test]
fn b16_an_address_at_which_nothing_answers_is_tried_on() {
    let pod = Pod::new();
    let (plan, port) = to_nobody(&pod);
    let mut tool = pod.command("tool", &plan).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(tool.stdout.take().unwrap()).lines();
    let told = lines.by_ref().map(Result::unwrap).find(|line| line.starts_with("no connection to "));
    assert!(told.is_some_and(|line| line.ends_with("it is tried for 300 s in all")));
    let back = TcpListener::bind(("127.0.0.1", port)).unwrap();
    back.set_nonblocking(true).unwrap();
    eventually(Duration::from_secs(20), || back.accept().map(drop).map_err(|error| error.to_string()));
    drop(back);
    assert!(Command::new("kill").args(["-s", "TERM", &tool.id().to_string()]).status().unwrap().success());
    lines.for_each(drop);
    tool.wait().unwrap();
}

#[test]
fn a_restore_brings_files_back_and_nothing_at_all_is_a_failure() {
    let pod = Pod::with_repository();
    fs::create_dir_all(pod.at("data/branch")).unwrap();
    fs::write(pod.at("data/branch/accounts"), "1000").unwrap();
    let id = pod.run(&Pod::files()).1.snapshot.unwrap().id;
    fs::remove_dir_all(pod.at("data/branch")).unwrap();
    let plan = |folder: &str| json!({"operation": "Restore", "restore": {"snapshot": id, "folder": folder}});
    let (_, back) = pod.run(&plan("/data"));
    assert_eq!((back.stage, back.exit_code), (RunnerStage::Done, Some(0)), "{back:?}");
    assert_eq!(fs::read(pod.at("data/branch/accounts")).unwrap(), b"1000");
    let (_, nothing) = pod.run(&plan("/nowhere"));
    assert_ne!(nothing.stage, RunnerStage::Done, "{nothing:?}");
    flip(&biggest(&pod.at("repository/data")));
    fs::remove_dir_all(pod.at("interlock/scratch/cache")).unwrap();
    fs::remove_dir_all(pod.at("data/branch")).unwrap();
    let (_, damaged) = pod.run(&plan("/data"));
    assert_ne!(damaged.stage, RunnerStage::Done, "{damaged:?}");
}

#[test]
fn a_restore_of_what_has_no_files_or_is_all_there_is_good() {
    let pod = Pod::with_repository();
    let restore = |restore: Value| pod.run(&json!({"operation": "Restore", "restore": restore})).1;
    let empty = pod.run(&Pod::files()).1.snapshot.unwrap();
    assert_eq!(empty.files, 0);
    let of_empty = restore(json!({"snapshot": empty.id, "folder": "/data", "files": 0}));
    assert_eq!((of_empty.stage, of_empty.exit_code), (RunnerStage::Done, Some(0)), "{of_empty:?}");
    let unsaid = restore(json!({"snapshot": empty.id, "folder": "/data"}));
    assert!(unsaid.stage != RunnerStage::Done && unsaid.errors[0].contains("no file"), "{unsaid:?}");
    fs::write(pod.at("data/accounts"), "1000").unwrap();
    let whole = pod.run(&Pod::files()).1.snapshot.unwrap();
    let over_the_same = restore(json!({"snapshot": whole.id, "folder": "/data", "files": 1}));
    assert_eq!(over_the_same.stage, RunnerStage::Done, "{over_the_same:?}");
}

#[test]
fn a_flipped_byte_is_found_by_a_check_that_reads_data() {
    let pod = Pod::with_repository();
    fs::write(pod.at("data/a"), vec![7_u8; 200_000]).unwrap();
    pod.run(&Pod::files());
    let (_, good) = pod.run(&json!({"operation": "Check", "readDataSubset": "1/1"}));
    assert_eq!(checked(&good), Reason::Complete, "{good:?}");
    flip(&biggest(&pod.at("repository/data")));
    let (_, bad) = pod.run(&json!({"operation": "Check", "readDataSubset": "1/1"}));
    assert_eq!(checked(&bad), Reason::Damaged, "{bad:?}");
}

fn biggest(folder: &Path) -> PathBuf {
    let folders = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = folders.flat_map(|folder| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
    files.max_by_key(|file| fs::metadata(file).unwrap().len()).unwrap()
}

fn flip(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 3;
    bytes[middle] ^= 0xff;
    let _ = Command::new("chmod").arg("u+w").arg(file).status();
    fs::write(file, bytes).unwrap();
}

#[test]
fn prune_forgets_exactly_what_it_is_told_and_what_is_gone_already_does_not_stop_it() {
    let pod = Pod::with_repository();
    let mut ids = Vec::new();
    for round in 0..3 {
        fs::write(pod.at("data/a"), format!("{round}")).unwrap();
        ids.push(pod.run(&Pod::files()).1.snapshot.unwrap().id);
    }
    let forget = json!({"operation": "Prune", "forget": [ids[0], ids[1], "f".repeat(64)], "maxUnusedPercent": 0});
    let (_, pruned) = pod.run(&forget);
    assert_eq!((pruned.stage, pruned.forgotten), (RunnerStage::Done, 2), "{pruned:?}");
    assert!(pruned.repository_bytes.is_some());
    let left: Vec<_> = pod.snapshots().iter().map(|snapshot| snapshot["id"].clone()).collect();
    assert_eq!(left, [json!(ids[2])]);
}

#[test]
fn a_key_is_exchanged_others_stay_and_doing_it_again_changes_nothing() {
    let mut pod = Pod::with_repository();
    fs::write(pod.at("in-the-safe"), "lies-in-a-safe").unwrap();
    let added = pod.restic(&["key", "add", "--new-password-file", pod.at("in-the-safe").to_str().unwrap()]);
    assert!(added.status.success(), "{}", printed(&added));
    fs::create_dir_all(pod.at("interlock/secrets/new-key")).unwrap();
    fs::write(pod.at("interlock/secrets/new-key/RESTIC_PASSWORD"), "a-new-long-password").unwrap();
    let (_, rotated) = pod.run(&json!({"operation": "RotateKey"}));
    assert_eq!(rotated.stage, RunnerStage::Done, "{rotated:?}");
    let (_, old) = pod.run(&json!({"operation": "Check"}));
    assert_eq!(checked(&old), Reason::WrongPassword);
    let keys = || fs::read_dir(pod.at("repository/keys")).unwrap().count();
    assert_eq!(keys(), 2, "the new one, and the one in the safe");
    let (_, again) = pod.run(&json!({"operation": "RotateKey"}));
    assert_eq!(again.stage, RunnerStage::Done, "a run that died after it had taken the old key away: {again:?}");
    assert_eq!(keys(), 2);
    for password in ["a-new-long-password", "lies-in-a-safe"] {
        pod.password = password;
        let (_, opened) = pod.run(&json!({"operation": "Check"}));
        assert_eq!(checked(&opened), Reason::Complete, "{password}");
    }
    pod.password = "a-new-long-password";
    let (_, again) = pod.run(&json!({"operation": "RotateKey"}));
    assert_eq!(again.stage, RunnerStage::Done, "the Secret has the new key: {again:?}");
    assert_eq!(fs::read_dir(pod.at("repository/keys")).unwrap().count(), 2);
}

#[test]
fn b6_a_pod_that_is_ended_leaves_no_lock_behind() {
    let pod = Pod::with_repository();
    let source = json!({"kind": "command", "command": ["sleep", "300"], "fileName": "out"});
    let plan = json!({"operation": "Backup", "host": POLICY, "source": source});
    let mut tool = pod.command("tool", &plan).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let locks = || fs::read_dir(pod.at("repository/locks")).unwrap().count();
    eventually(Duration::from_secs(20), || if locks() > 0 { Ok(()) } else { Err("no lock".to_owned()) });
    assert!(Command::new("kill").args(["-s", "TERM", &tool.id().to_string()]).status().unwrap().success());
    eventually(Duration::from_secs(20), || match tool.try_wait().unwrap() {
        Some(_) => Ok(()),
        None => Err("it goes on".to_owned()),
    });
    assert_eq!(locks(), 0);
    assert!(pod.snapshots().is_empty());
}

/// Whether a process of the group goes on.
fn goes_on(group: &str) -> bool {
    let stats =
        fs::read_dir("/proc").unwrap().filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("stat")).ok());
    // Its name may hold anything; then come state, parent and group.
    let mut after_names = stats.filter_map(|stat| stat.rsplit_once(')').map(|(_, rest)| rest.to_owned()));
    after_names.any(|rest| {
        let fields: Vec<&str> = rest.split_whitespace().take(3).collect();
        fields.first() != Some(&"Z") && fields.get(2) == Some(&group)
    })
}

#[test]
fn b6_a_program_that_does_not_end_when_it_is_asked_is_killed_with_what_it_started() {
    let pod = Pod::with_repository();
    let script = "trap '' TERM; sleep 300 & echo begun; wait; sleep 300";
    let source = json!({"kind": "command", "command": ["sh", "-c", script], "fileName": "out"});
    let plan = json!({"operation": "Backup", "host": POLICY, "source": source});
    let mut tool = pod.command("tool", &plan).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let locks = || fs::read_dir(pod.at("repository/locks")).unwrap().count();
    let group = eventually(Duration::from_secs(20), || {
        let group = fs::read_to_string(pod.at("interlock/run/source-group")).map_err(|error| error.to_string())?;
        if locks() > 0 && goes_on(&group) { Ok(group) } else { Err("it has not begun".to_owned()) }
    });
    assert!(Command::new("kill").args(["-s", "TERM", &tool.id().to_string()]).status().unwrap().success());
    // The grace of the pod is 60 s; five seconds are the program's.
    eventually(Duration::from_secs(30), || match tool.try_wait().unwrap() {
        Some(_) => Ok(()),
        None => Err("it goes on".to_owned()),
    });
    eventually(Duration::from_secs(5), || if goes_on(&group) { Err("it goes on".to_owned()) } else { Ok(()) });
    assert_eq!(locks(), 0);
    assert!(pod.snapshots().is_empty());
}
