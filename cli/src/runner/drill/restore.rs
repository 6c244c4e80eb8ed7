//! The restore of a drill: snapshots one over the other into a volume that was empty, each read back by restic itself.
//!
//! What it brought back is counted by the next container; here only how restic ended is noted.

use std::fs;

use interlock_core::{
    backup::{
        plan::{RunnerPlan, SOURCE_PATH},
        result::{RunnerOperation, RunnerStage},
    },
    drill::{
        plan::{DrillWork, MANIFEST_FOLDER, RESTORED_PATH},
        report::{DrillReport, RestoredReport},
    },
};
use serde_json::Value;

use super::super::{
    Place, note,
    redact::Secrets,
    restic::{Came, Restic},
    tool,
};
use super::{data, plan, serve::SERVER_FOLDER};

/// Restores, and leaves a note of how it ended.
pub(in super::super) async fn execute(place: &Place) {
    let plan = match plan() {
        Ok(plan) => plan,
        Err(why) => return eprintln!("error: {why}"),
    };
    let mut report = DrillReport::new(&plan.run);
    match for_restic(&plan.run, &plan.work) {
        Some((restic, snapshots)) => {
            tool::provide_restic(place);
            let work = Work { place, plan: &restic, secrets: &tool::secrets(place), snapshots };
            work.run(&mut report).await;
        }
        None => wrong(&mut report, "the plan is none of a restore".to_owned()),
    }
    println!("ended in stage {:?} with {:?}", report.stage, report.exit_code);
    if let Err(why) = note::leave_drill(place, &report) {
        eprintln!("error: {why}");
    }
}

/// What restic is told, in the form that the runner of backups has.
fn for_restic<'a>(run: &str, work: &'a DrillWork) -> Option<(RunnerPlan, &'a [String])> {
    let DrillWork::Restore { repository, repository_id, retry_lock_seconds, patience_seconds, ca_file, snapshots } =
        work
    else {
        return None;
    };
    let plan = RunnerPlan {
        repository_id: repository_id.clone(),
        retry_lock_seconds: *retry_lock_seconds,
        patience_seconds: *patience_seconds,
        ca_file: ca_file.clone(),
        ..RunnerPlan::at(run, RunnerOperation::Restore, repository.clone())
    };
    Some((plan, snapshots))
}

struct Work<'a> {
    place: &'a Place,
    plan: &'a RunnerPlan,
    secrets: &'a Secrets,
    snapshots: &'a [String],
}

/// A snapshot as the repository has it.
struct Found {
    id: String,
    /// Whether its files lie below the folder that sources are mounted at, instead of being one stream at the top.
    of_folder: bool,
}

impl Work<'_> {
    fn restic(&self) -> Restic<'_> {
        Restic::new(self.place, self.plan, self.secrets)
    }

    async fn run(&self, report: &mut DrillReport) {
        if let Err(why) = self.empty() {
            return wrong(report, why);
        }
        report.stage = RunnerStage::Open;
        let opened = tool::open(&self.restic()).await;
        report.repository_id = opened.id;
        ended(report, &opened.came);
        if !opened.came.is_good() {
            return;
        }
        let known = self.plan.repository_id.as_ref();
        if known.is_some_and(|known| report.repository_id.as_ref() != Some(known)) {
            return wrong(report, "the repository has another id than before; nothing was restored".to_owned());
        }
        report.stage = RunnerStage::Work;
        for snapshot in self.snapshots {
            if !self.restore(snapshot, report).await {
                return;
            }
        }
    }

    /// What lies on the volume already would be taken for what came back.
    fn empty(&self) -> Result<(), String> {
        for folder in [super::DATA_FOLDER, MANIFEST_FOLDER, SERVER_FOLDER] {
            let path = self.place.at(&format!("{RESTORED_PATH}/{folder}"));
            if path.symlink_metadata().is_ok() {
                return Err(format!(
                    "the volume is not empty, it has a folder {folder}: a drill restores into an empty volume, so that only what came back is there; wipe it, or give the drill another StorageClass"
                ));
            }
        }
        let data = data(self.place);
        fs::create_dir(&data).map_err(|error| {
            format!("{data} cannot be made: {error}; the volume must be writable for the user or the group of the pod (sandbox.pod)")
        })
    }

    /// Restores one snapshot; whether that went well.
    async fn restore(&self, snapshot: &str, report: &mut DrillReport) -> bool {
        let found = match self.find(snapshot).await {
            Ok(found) => found,
            Err(came) => {
                ended(report, &came);
                if came.is_good() {
                    wrong(report, format!("restic ended well, but listed no snapshot {snapshot}"));
                }
                return false;
            }
        };
        let folder = if found.of_folder { format!(":{}", self.place.text(SOURCE_PATH)) } else { String::new() };
        let (what, target) = (format!("{}{folder}", found.id), data(self.place));
        println!("restores snapshot {what}");
        let came = self.restic().run(&["restore", "--json", "--verify", "--target", &target, "--", &what]).await;
        ended(report, &came);
        report.restored = Some(RestoredReport {
            snapshot_id: found.id,
            files: 0,
            bytes: 0,
            verified: came.is_good(),
            manifest_digest: String::new(),
        });
        came.is_good()
    }

    /// Files of a volume were copied from the folder that it was mounted at, and go back to the top of the data; a dump, or the
    /// output of a command, is one file at the top already.
    async fn find(&self, snapshot: &str) -> Result<Found, Came> {
        let source = self.place.text(SOURCE_PATH);
        let (mut id, mut of_folder) = (None, false);
        let came = self
            .restic()
            .run_with(&["ls", "--json", "--no-lock", snapshot, &source], |line| {
                let text = |field: &str| line.get(field).and_then(Value::as_str).unwrap_or_default();
                match (text("message_type"), text("type")) {
                    ("snapshot", _) => id = Some(text("id").to_owned()),
                    ("node", "dir") if text("path") == source => of_folder = true,
                    _ => {}
                }
            })
            .await;
        match id {
            Some(id) if came.is_good() && id.starts_with(snapshot) => Ok(Found { id, of_folder }),
            _ => Err(came),
        }
    }
}

fn wrong(report: &mut DrillReport, why: String) {
    eprintln!("error: {why}");
    report.error_count += 1;
    report.errors.push(why);
}

fn ended(report: &mut DrillReport, came: &Came) {
    (report.exit_code, report.signal) = (came.code, came.signal);
    if !came.is_good() {
        report.errors.extend(came.errors.iter().cloned());
        report.error_count = report.error_count.max(came.error_count);
    }
}
