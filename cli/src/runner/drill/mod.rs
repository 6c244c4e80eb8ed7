//! The pods of restore drills: restore, damage, serve, validate, wipe, and tell.
//!
//! Where the tool of a work is in another image, its container leaves a note and always ends well, and the next one reports;
//! else one container does all of it and writes the report itself. What an answer means is the core's. No answer holds data:
//! of a query at most one number or boolean.

mod command;
mod damage;
mod dump;
mod files;
mod heartbeat;
mod http;
mod manifest;
mod probe;
mod report;
mod restore;
mod serve;
mod sql;
mod validate;
mod wipe;

use std::{fs, process::ExitCode};

use clap::Args;
use interlock_core::{
    backup::result::RunnerStage,
    drill::{
        plan::{DATA_FOLDER, DrillPlan, DrillWork, PLAN_VARIABLE, PLAN_VERSION, RESTORED_PATH},
        report::DrillReport,
        validate::APPLICATION_HOST,
    },
};

use super::{Place, note, redact::Secrets};
pub(super) use report::execute as report;
pub(super) use restore::execute as restore;
pub(super) use serve::ready;

/// Where the application of the sandbox is.
#[derive(Args, Clone, Debug)]
pub(super) struct Application {
    /// Its host, for tests.
    #[arg(long, default_value = APPLICATION_HOST, hide = true)]
    application: String,
    /// Its port, if it is a PostgreSQL server, for tests.
    #[arg(long, default_value_t = 5432, hide = true)]
    postgres_port: u16,
}

/// A pod of a sandbox.
struct Pod<'a> {
    place: &'a Place,
    /// Uid of the DrillRun.
    run: &'a str,
    application: &'a Application,
}

/// Where the kubelet reads the message of a container that ended.
const MESSAGE_PATH: &str = "/dev/termination-log";

/// Whether this pod is one of a drill.
pub(super) fn is_planned() -> bool {
    std::env::var_os(PLAN_VARIABLE).is_some()
}

/// The plan of the pod.
///
/// # Errors
/// There is none, or it cannot be read.
fn plan() -> Result<DrillPlan, String> {
    let text = std::env::var(PLAN_VARIABLE)
        .map_err(|_| format!("{PLAN_VARIABLE} is not set: this runs in pods of restore drills"))?;
    let plan: DrillPlan =
        serde_json::from_str(&text).map_err(|error| format!("{PLAN_VARIABLE} cannot be read: {error}"))?;
    if plan.version != PLAN_VERSION {
        return Err(format!("the plan has version {}, and this release reads version {PLAN_VERSION}", plan.version));
    }
    Ok(plan)
}

/// Where the restored data lies.
fn data(place: &Place) -> String {
    place.text(&format!("{RESTORED_PATH}/{DATA_FOLDER}"))
}

/// Does the work of the pod.
pub(super) async fn execute(place: &Place, application: &Application) -> ExitCode {
    let plan = match plan() {
        Ok(plan) => plan,
        Err(why) => {
            eprintln!("error: {why}");
            return ExitCode::FAILURE;
        }
    };
    let pod = Pod { place, run: &plan.run, application };
    let mut report = DrillReport::new(&plan.run);
    report.stage = RunnerStage::Work;
    match &plan.work {
        DrillWork::Serve { mode, recover_before_end_seconds } => {
            return serve::execute(&pod, *mode, *recover_before_end_seconds).await;
        }
        DrillWork::Restore { .. } => {
            eprintln!("error: a restore is done by `interlock runner restore`");
            return ExitCode::FAILURE;
        }
        DrillWork::Probe { address, port, seconds } => probe::execute(address, *port, *seconds, &mut report).await,
        DrillWork::Fault { fault, path, heartbeat } => {
            let target = damage::Target { path: path.as_deref(), heartbeat: heartbeat.as_ref() };
            damage::execute(&pod, *fault, &target, &mut report).await;
        }
        DrillWork::Validate { .. } => validate::execute(&pod, &plan.work, &mut report).await,
        DrillWork::Wipe => wipe::execute(place, &mut report),
    }
    if plan.work.tool().is_some() {
        // Whatever happened, the next container tells it.
        if let Err(why) = note::leave_drill(place, &report) {
            eprintln!("error: {why}");
        }
        return ExitCode::SUCCESS;
    }
    tell(place, &report)
}

/// Writes the report. The exit code says whether all is well, for whoever looks at the pod.
fn tell(place: &Place, report: &DrillReport) -> ExitCode {
    let message = match report.encode() {
        Ok(message) => message,
        Err(error) => {
            eprintln!("error: the report cannot be written: {error}");
            return ExitCode::FAILURE;
        }
    };
    // A nonce that is known could be written back.
    let nonce = report.heartbeat.as_ref().map(|heartbeat| heartbeat.nonce.as_str()).filter(|nonce| !nonce.is_empty());
    println!("{}", nonce.map_or_else(|| message.clone(), |nonce| message.replace(nonce, "***")));
    if let Err(error) = fs::write(place.at(MESSAGE_PATH), &message) {
        eprintln!("error: {MESSAGE_PATH} cannot be written: {error}");
        return ExitCode::FAILURE;
    }
    let done = report.exit_code == Some(0) && report.stage == RunnerStage::Done;
    if done { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Notes that it was done.
fn done(report: &mut DrillReport) {
    (report.exit_code, report.stage) = (Some(0), RunnerStage::Done);
}

/// Notes that it was tried in vain, and why, which quotes no data.
fn failed_as(report: &mut DrillReport, why: &str) {
    because(report, why);
    report.exit_code = Some(1);
}

/// Notes why it could not be done, which quotes no data: in the log, and for whoever reads the outcome.
fn because(report: &mut DrillReport, why: &str) {
    let why = Secrets::of_environment(None).redact(why);
    eprintln!("error: {why}");
    report.error_count += 1;
    report.errors.push(why);
}

/// Notes that it was tried in vain; why stands in the log alone.
fn failed(report: &mut DrillReport, why: &str) {
    eprintln!("error: {why}");
    report.exit_code = Some(1);
}
