//! `interlock runner`: what runs inside the pods of backups, maintenance and restore drills.
//!
//! One pod, its containers in a row: `install` copies this program where the others find it, `install-tool` the tool of an
//! image beside it, `tool` does the work in the image of the source and always leaves a note of how it ended, `report` reads
//! back what was stored and alone writes the result. What an outcome means is the core's.

mod drill;
mod ending;
mod heartbeat;
mod install;
mod log;
mod note;
mod physical;
mod postgres;
mod reach;
mod recover;
mod redact;
mod report;
mod restic;
mod source;
mod spool;
mod ssh;
mod tool;
mod wal;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use interlock_core::backup::plan::{PLAN_VARIABLE, RunnerPlan};

/// What a container of a pod does.
#[derive(Args, Clone, Debug)]
pub struct RunnerArgs {
    /// Below which the paths of the pod lie, for tests.
    #[arg(long, default_value = "/", hide = true)]
    root: PathBuf,
    #[command(flatten)]
    application: drill::Application,
    #[command(subcommand)]
    command: RunnerCommand,
}

#[derive(Subcommand, Clone, Debug)]
enum RunnerCommand {
    /// Copy this program into a folder
    Install {
        /// The folder.
        dir: PathBuf,
    },
    /// Copy a tool of this image into a folder
    InstallTool {
        /// Name of the tool.
        name: String,
        /// The folder.
        dir: PathBuf,
    },
    /// Do what the plan says
    Tool,
    /// Read back and tell
    Report,
    /// Receive the write-ahead log of a PostgreSQL server, until the pod is deleted
    Wal {
        /// Only say, by the exit code, whether it is received.
        #[arg(long)]
        check: bool,
    },
    /// Write the heartbeat of a policy until the pod is ended
    #[command(hide = true)]
    Heartbeat {
        /// Only say whether it is being written.
        #[arg(long)]
        ready: bool,
    },
    /// Restore what the plan of a drill says
    Restore,
    /// Do what the plan of a drill says
    Drill,
    /// Whether the server of a drill answers, and everything is loaded
    Ready,
    /// Carry SFTP between restic and a server
    #[command(hide = true)]
    Ssh {
        /// `sftp://USER@HOST:PORT/`.
        address: String,
    },
    /// Run the program whose output is stored, and note how it ended
    #[command(hide = true)]
    Source {
        /// `postgres`, or a program and its arguments after `--`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
}

/// Where things lie in the pod.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    root: PathBuf,
}

impl Place {
    /// An absolute path of the pod.
    pub fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// The same as text.
    pub fn text(&self, path: &str) -> String {
        self.at(path).display().to_string()
    }

    fn root(&self) -> &Path {
        &self.root
    }
}

/// Does what the container is for.
pub async fn execute(args: &RunnerArgs) -> ExitCode {
    let place = Place { root: args.root.clone() };
    if matches!(&args.command, RunnerCommand::Tool | RunnerCommand::Restore | RunnerCommand::Report) {
        ending::listen();
    }
    let done = match &args.command {
        RunnerCommand::Install { dir } => install::own(dir),
        RunnerCommand::InstallTool { name, dir } => install::tool(name, dir),
        RunnerCommand::Ssh { address } => return ssh::execute(&place, address).await,
        RunnerCommand::Source { command } => return source::execute(&place, command).await,
        // Whatever happens, the next container tells it.
        RunnerCommand::Tool => {
            tool::execute(&place).await;
            Ok(())
        }
        RunnerCommand::Heartbeat { ready: true } => heartbeat::is_ready(&place),
        RunnerCommand::Heartbeat { ready: false } => heartbeat::write(&place).await,
        RunnerCommand::Restore => {
            drill::restore(&place).await;
            Ok(())
        }
        RunnerCommand::Drill => return drill::execute(&place, &args.application).await,
        RunnerCommand::Ready => drill::ready(&place, &args.application).await,
        RunnerCommand::Report if drill::is_planned() => return drill::report(&place),
        RunnerCommand::Report => return report::execute(&place).await,
        RunnerCommand::Wal { check: true } => wal::check(&place),
        RunnerCommand::Wal { check: false } => return wal::execute(&place).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

/// The plan of the pod.
///
/// # Errors
/// There is none, or it cannot be read.
fn plan() -> Result<RunnerPlan, String> {
    let text = std::env::var(PLAN_VARIABLE)
        .map_err(|_| format!("{PLAN_VARIABLE} is not set: this runs in pods of Interlock"))?;
    let plan: RunnerPlan =
        serde_json::from_str(&text).map_err(|error| format!("{PLAN_VARIABLE} cannot be read: {error}"))?;
    let own = interlock_core::backup::result::RESULT_VERSION;
    if plan.version != own {
        return Err(format!("the plan has version {}, and this release reads version {own}", plan.version));
    }
    Ok(plan)
}
