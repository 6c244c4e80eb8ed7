//! The program whose output is stored: run as a child, so that how it ended is noted whatever restic makes of it.

use std::process::ExitCode;

use interlock_core::backup::plan::PlannedSource;
use rustix::process::setpgid;
use tokio::process::Command;

use super::{Place, note, plan, postgres};

/// The argument that stands for the dump of the plan's PostgreSQL server.
pub(super) const POSTGRES: &str = "postgres";

/// Runs it; its standard output is that of this process.
pub(super) async fn execute(place: &Place, command: &[String]) -> ExitCode {
    lead(place);
    let code = match command {
        [only] if only == POSTGRES => match plan() {
            Ok(plan) => match &plan.source {
                Some(PlannedSource::Postgres { host, port, databases, ssl_mode, .. }) => {
                    postgres::dump(place, &postgres::Server { host, port: *port, ssl_mode: *ssl_mode }, databases).await
                }
                _ => failed("the plan names no PostgreSQL server"),
            },
            Err(why) => failed(&why),
        },
        [program, arguments @ ..] => match Command::new(program).args(arguments).status().await {
            // A signal counts like in a shell.
            Ok(status) => status.code().unwrap_or_else(|| 128 + signal(status)),
            Err(error) => failed(&format!("{program} cannot be started: {error}")),
        },
        [] => failed("there is no program to run"),
    };
    if let Err(why) = note::leave_source(place, code) {
        eprintln!("{why}");
        return ExitCode::from(125);
    }
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// Makes this process the first of a group with everything that it starts, and leaves word of it: restic kills this process alone.
fn lead(place: &Place) {
    let alone = setpgid(None, None).map_err(|error| error.to_string());
    if let Err(why) = alone.and_then(|()| note::leave_source_group(place, std::process::id())) {
        eprintln!("what is started cannot be ended as a group: {why}");
    }
}

fn signal(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    status.signal().unwrap_or_default()
}

pub(super) fn failed(why: &str) -> i32 {
    eprintln!("{why}");
    127
}
