//! One validation, to its end or until its time is over.

use std::time::Duration;

use interlock_core::drill::{plan::DrillWork, report::DrillReport};
use interlock_crds::CommandValidation;
use tokio::process::Command;

use super::{Pod, because, command, done, failed, failed_as, files, heartbeat, http, sql};

/// Does it.
pub(super) async fn execute(pod: &Pod<'_>, work: &DrillWork, report: &mut DrillReport) {
    let DrillWork::Validate { timeout_seconds, validation, heartbeat, manifest_digest } = work else { return };
    let limit = Duration::from_secs(u64::try_from(*timeout_seconds).unwrap_or_default());
    println!("validation {}", validation.name);
    if let Some(asked) = &validation.command {
        return run(asked, limit, report).await;
    }
    if let Some(asked) = &validation.http {
        if let Err(why) = http::validate(pod, asked, limit, report).await {
            failed_as(report, &why);
        }
        return;
    }
    if let Some(asked) = &validation.files {
        // Which file cannot be read stands in the log alone: names of files are data.
        if let Err(why) = files::validate(pod.place, asked, manifest_digest.as_deref(), limit, report) {
            failed(report, &why);
        }
        return;
    }
    let asked = match (&validation.sql, &validation.heartbeat, heartbeat) {
        (Some(asked), ..) => sql::validate(pod, asked, limit, report).await,
        (None, Some(_), Some(heartbeat)) => heartbeat::validate(pod, heartbeat, limit, report).await,
        _ => Err("the plan does not say what is validated".to_owned()),
    };
    // Without an exit code it was not run.
    if let Err(why) = asked {
        because(report, &why);
    }
}

async fn run(asked: &CommandValidation, limit: Duration, report: &mut DrillReport) {
    let Some((program, arguments)) = asked.command.split_first() else {
        return because(report, "there is no command");
    };
    let mut command = Command::new(program);
    command.args(arguments);
    match command::run(command, limit).await {
        // The core says that it was not run.
        Err(why) => because(report, &why),
        Ok(ended) => {
            done(report);
            (report.exit_code, report.signal, report.timed_out) = (ended.code, ended.signal, ended.timed_out);
        }
    }
}
