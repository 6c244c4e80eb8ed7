//! The pods of restore drills with real restic and PostgreSQL, without a cluster: what they would do, below a folder, and what
//! the core makes of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "helpers of tests are tests"
)]

mod drills;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use interlock_cluster::{Tool, Tools};
use interlock_core::{
    backup::outcome::PodEnd,
    drill::{
        outcome::{self, Validated},
        plan::{DrillPlan, DrillWork, PLAN_VARIABLE},
        reason::{Ending, Reason},
        report::{DrillReport, RestoredReport},
    },
    object::Digest,
};
use interlock_crds::{ChosenPoint, DrillValidation, ValidationVerdict};
use interlock_tests::world::binary;
use serde_json::{Value, json};
use tempfile::TempDir;

const PASSWORD: &str = "correct-horse-battery";
const RUN: &str = "5f3a9c1e-run";

/// A pod's files.
struct Pod {
    root: TempDir,
    password: &'static str,
    /// Host and port of the application.
    application: (String, u16),
    /// The user that programs run as, if it is not this one.
    user: Option<(u32, u32)>,
}

impl Pod {
    fn new() -> Self {
        let root = TempDir::new().unwrap();
        for folder in ["data", "dev", "restored", "interlock/bin", "interlock/run", "interlock/scratch"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        Self { root, password: PASSWORD, application: ("127.0.0.1".to_owned(), 5432), user: None }
    }

    fn with_repository() -> Self {
        let pod = Self::new();
        assert!(pod.restic(&["init"]).status.success());
        pod
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        fs::write(self.at(path), text).unwrap();
    }

    /// A command of the runner, as its container starts it.
    fn command(&self, container: &str, plan: &DrillPlan) -> Command {
        let mut command = match self.user {
            Some((user, group)) => {
                let mut command = Command::new("setpriv");
                command.args([format!("--reuid={user}"), format!("--regid={group}"), "--clear-groups".to_owned()]);
                command.arg(binary());
                command
            }
            None => Command::new(binary()),
        };
        command.args(["runner", "--root"]).arg(self.root.path());
        command.args(["--application", &self.application.0, "--postgres-port", &self.application.1.to_string()]);
        command.arg(container).env(PLAN_VARIABLE, plan.text()).env("RESTIC_PASSWORD", self.password);
        command.env("RESTIC_CACHE_DIR", self.at("interlock/scratch/cache")).env("TMPDIR", self.at("interlock/scratch"));
        command.stdin(Stdio::null()).current_dir("/");
        command
    }

    /// The containers of a work; what they printed, and the report.
    fn run(&self, work: DrillWork) -> (String, DrillReport) {
        fs::remove_dir_all(self.at("interlock/run")).unwrap();
        fs::create_dir_all(self.at("interlock/run")).unwrap();
        fs::set_permissions(self.at("interlock/run"), fs::Permissions::from_mode(0o777)).unwrap();
        let _ = fs::remove_file(self.at("dev/termination-log"));
        let restores = matches!(work, DrillWork::Restore { .. });
        let plan = DrillPlan::new(RUN, work);
        let mut told = String::new();
        let first = self.command(if restores { "restore" } else { "drill" }, &plan).output().unwrap();
        told += &printed(&first);
        if restores || plan.work.tool().is_some() {
            assert!(first.status.success(), "the next container must run: {told}");
            told += &printed(&self.command("report", &plan).output().unwrap());
        }
        let message = fs::read_to_string(self.at("dev/termination-log")).expect(&told);
        (told, DrillReport::decode(Some(&message), RUN).unwrap())
    }

    fn restore(&self, snapshots: &[String]) -> (String, DrillReport) {
        self.run(self.restoring(snapshots, None))
    }

    fn restoring(&self, snapshots: &[String], repository_id: Option<&str>) -> DrillWork {
        use_restic(&self.at("interlock/bin/restic"));
        DrillWork::Restore {
            repository: "/repository".to_owned(),
            repository_id: repository_id.map(ToOwned::to_owned),
            retry_lock_seconds: 1,
            patience_seconds: None,
            ca_file: None,
            snapshots: snapshots.to_vec(),
        }
    }

    fn validate(&self, validation: Value, manifest_digest: Option<&str>) -> Validated {
        self.validated(validation, None, manifest_digest).1
    }

    /// A validation, and what the core makes of it.
    fn validated(&self, validation: Value, heartbeat: Option<Value>, digest: Option<&str>) -> (String, Validated) {
        let mut whole = json!({"name": "check", "timeout": "20s"});
        whole.as_object_mut().unwrap().extend(validation.as_object().unwrap().clone());
        let validation: DrillValidation = serde_json::from_value(whole).unwrap();
        let work = DrillWork::Validate {
            timeout_seconds: validation.timeout.seconds(),
            validation: Box::new(validation.clone()),
            heartbeat: heartbeat.map(|heartbeat| serde_json::from_value(heartbeat).unwrap()),
            manifest_digest: digest.map(ToOwned::to_owned),
        };
        let (told, report) = self.run(work);
        (told, outcome::validation(&validation, &end(&report), false, RUN))
    }

    fn restic(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(restic());
        command.args(arguments).env("RESTIC_REPOSITORY", self.at("repository")).env("RESTIC_PASSWORD", PASSWORD);
        command.env("RESTIC_CACHE_DIR", self.at("cache")).output().unwrap()
    }

    /// A snapshot of the source's folder.
    fn back_up(&self) -> ChosenPoint {
        let data = self.at("data");
        Self::chosen(&self.restic(&["backup", "--json", &data.display().to_string()]))
    }

    /// A snapshot of what a program printed.
    fn back_up_stream(&self, name: &str, script: &str) -> ChosenPoint {
        let name = format!("/{name}");
        let arguments =
            ["backup", "--json", "--stdin-filename", &name, "--stdin-from-command", "--", "sh", "-c", script];
        Self::chosen(&self.restic(&arguments))
    }

    fn chosen(output: &Output) -> ChosenPoint {
        assert!(output.status.success(), "{}", printed(output));
        let lines: Vec<Value> = String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        let summary = lines.iter().find(|line| line["message_type"] == "summary").unwrap();
        serde_json::from_value(json!({
            "backup": "nightly", "uid": "u", "snapshotId": summary["snapshot_id"], "dataTime": "2026-11-23T02:00:00Z",
            "strategy": "Latest", "files": summary["total_files_processed"], "bytes": summary["total_bytes_processed"],
        }))
        .unwrap()
    }
}

fn restic() -> PathBuf {
    Tools::ensure_these(&[Tool::Restic]).unwrap().path(Tool::Restic).to_owned()
}

/// restic where the runner looks for it first, unless something else stands there.
fn use_restic(path: &Path) {
    if !path.exists() {
        std::os::unix::fs::symlink(restic(), path).unwrap();
    }
}

fn printed(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

fn end(report: &DrillReport) -> PodEnd {
    PodEnd { message: Some(report.encode().unwrap()), ..PodEnd::default() }
}

fn judged(report: &DrillReport, chosen: &ChosenPoint) -> Result<RestoredReport, Reason> {
    outcome::restore(&end(report), false, RUN, None, chosen).map_err(|ending: Ending| ending.reason)
}

fn ids(chosen: &ChosenPoint) -> Vec<String> {
    vec![chosen.snapshot_id.clone()]
}

#[test]
fn files_of_a_volume_come_back_below_the_data_and_are_counted_there() {
    let pod = Pod::with_repository();
    pod.write("data/branch/accounts", "1000");
    pod.write("data/rates", "0.5");
    pod.write("data/empty", "");
    let chosen = pod.back_up();
    let (told, report) = pod.restore(&ids(&chosen));
    let restored = judged(&report, &chosen).unwrap_or_else(|reason| panic!("{reason:?} {told}"));
    assert_eq!((restored.files, restored.bytes, restored.verified), (3, 7, true));
    assert_eq!(fs::read(pod.at("restored/data/branch/accounts")).unwrap(), b"1000");
    let manifest = fs::read(pod.at("restored/interlock/manifest")).unwrap();
    assert_eq!(restored.manifest_digest, Digest::of_bytes(&manifest).to_string());
    assert!(!told.contains(PASSWORD), "{told}");
    // What lies there already would be taken for what came back.
    let (told, again) = pod.restore(&ids(&chosen));
    assert_eq!(judged(&again, &chosen), Err(Reason::RestoreFailed), "{told}");
    assert!(told.contains("the volume is not empty"), "{told}");
}

#[test]
fn a_stream_lies_at_the_top_of_the_data_and_a_base_is_restored_below_its_additions() {
    let pod = Pod::with_repository();
    let dump = pod.back_up_stream("dump.sql", "echo 'select 1;'");
    let (told, report) = pod.restore(&ids(&dump));
    assert_eq!(judged(&report, &dump).map(|restored| restored.files), Ok(1), "{told}");
    assert_eq!(fs::read(pod.at("restored/data/dump.sql")).unwrap(), b"select 1;\n");
    let pod = Pod::with_repository();
    pod.write("data/old", "1");
    let base = pod.back_up();
    fs::remove_file(pod.at("data/old")).unwrap();
    pod.write("data/new", "22");
    let mut chosen = pod.back_up();
    chosen.base_id = Some(base.snapshot_id.clone());
    let (told, report) = pod.restore(&[base.snapshot_id.clone(), chosen.snapshot_id.clone()]);
    assert_eq!(judged(&report, &chosen).map(|restored| (restored.files, restored.bytes)), Ok((2, 3)), "{told}");
}

#[test]
fn d1_a_flipped_byte_in_the_repository_is_damage() {
    let pod = Pod::with_repository();
    pod.write("data/a", vec![7_u8; 300_000]);
    pod.write("data/b", (0..300_000_u32).map(|n| (n * 7 % 251) as u8).collect::<Vec<_>>());
    let chosen = pod.back_up();
    flip(&biggest(&pod.at("repository/data")));
    let (told, report) = pod.restore(&ids(&chosen));
    assert_eq!(judged(&report, &chosen), Err(Reason::DataCorrupt), "{report:?} {told}");
}

#[test]
fn d2_d3_a_tool_that_says_it_is_done_and_did_nothing_is_not_believed() {
    let pod = Pod::with_repository();
    pod.write("data/a", "1");
    pod.write("data/b", "2");
    let chosen = pod.back_up();
    let lying = |instead: &str| {
        let script = format!(
            "#!/bin/sh\ncase \" $* \" in *\" restore \"*) {instead};; *) exec {} \"$@\";; esac\n",
            restic().display()
        );
        let _ = fs::remove_file(pod.at("interlock/bin/restic"));
        pod.write("interlock/bin/restic", script);
        fs::set_permissions(pod.at("interlock/bin/restic"), fs::Permissions::from_mode(0o755)).unwrap();
        for folder in ["restored/data", "restored/interlock"] {
            let _ = fs::remove_dir_all(pod.at(folder));
        }
        pod.restore(&ids(&chosen))
    };
    let summary = r#"echo '{"message_type":"summary","files_restored":2,"total_files":2}'; exit 0"#;
    let (told, report) = lying(summary);
    assert_eq!(judged(&report, &chosen), Err(Reason::EmptyRestore), "{report:?} {told}");
    let half = format!("echo x > {}; exit 0", pod.at("restored/data/a").display());
    let (told, report) = lying(&half);
    assert_eq!(judged(&report, &chosen), Err(Reason::RestoreIncomplete), "{report:?} {told}");
    let (told, report) = lying("kill -9 $$");
    assert_eq!((report.signal, judged(&report, &chosen)), (Some(9), Err(Reason::RestoreFailed)), "{told}");
}

#[test]
fn a_wrong_password_another_repository_and_none_are_told_apart() {
    let mut pod = Pod::with_repository();
    pod.write("data/a", "1");
    let chosen = pod.back_up();
    let (_, other) = pod.run(pod.restoring(&ids(&chosen), Some("0123")));
    let reason = outcome::restore(&end(&other), false, RUN, Some("0123"), &chosen).unwrap_err().reason;
    assert_eq!(reason, Reason::RepositoryReplaced, "{other:?}");
    let empty = || {
        let _ = fs::remove_dir_all(pod.at("restored/data"));
    };
    empty();
    let (_, gone) = pod.restore(&["f".repeat(64)]);
    assert!(judged(&gone, &chosen).is_err(), "{gone:?}");
    empty();
    pod.password = "another-long-password";
    let (told, wrong) = pod.restore(&ids(&chosen));
    assert_eq!(judged(&wrong, &chosen), Err(Reason::WrongPassword), "{wrong:?}");
    assert!(!told.contains("another-long-password"), "{told}");
    let _ = fs::remove_dir_all(pod.at("restored/data"));
    fs::rename(pod.at("repository"), pod.at("elsewhere")).unwrap();
    let (_, missing) = pod.restore(&ids(&chosen));
    assert_eq!(judged(&missing, &chosen), Err(Reason::RepositoryUnreachable), "{missing:?}");
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
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(file, bytes).unwrap();
}

fn verdict(found: &Validated) -> (ValidationVerdict, &'static str) {
    (found.verdict, found.reason)
}
