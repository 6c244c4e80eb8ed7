//! Running other programs, with what a person would have typed shown.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum ShellError {
    /// The program could not be started.
    #[error("{program} could not be started")]
    Start {
        /// Which program.
        program: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The program failed.
    #[error("`{command}` failed ({status}){output}")]
    Failed {
        /// What was run.
        command: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it printed, if that was not shown.
        output: String,
    },
}

/// The root of the checkout.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_path_buf)
}

/// `cargo` in the root of the checkout.
pub fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    command
}

/// Builds the program `interlock` and an example with the features that the tests of the whole workspace have, so that nothing
/// is built twice: cargo unites the features of what is selected, and those of `--package` alone are others.
pub fn build_with_example(example: &str) -> Result<(), ShellError> {
    run(&mut cargo(&["build", "--quiet", "--workspace", "--bin", "interlock", "--example", example]))
}

/// An example that [`build_with_example`] built.
pub fn example(name: &str) -> Command {
    in_root(target().join("debug/examples").join(name))
}

/// The program `interlock` that [`build_with_example`] built.
pub fn interlock() -> Command {
    in_root(target().join("debug/interlock"))
}

fn in_root(program: PathBuf) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    command
}

/// Runs a command whose output is shown.
pub fn run(command: &mut Command) -> Result<(), ShellError> {
    let status = command.status().map_err(|source| start(command, source))?;
    if status.success() {
        Ok(())
    } else {
        Err(ShellError::Failed { command: shown(command), status, output: String::new() })
    }
}

/// Runs a command and returns what it printed on standard output.
pub fn output(command: &mut Command) -> Result<String, ShellError> {
    let output = command.output().map_err(|source| start(command, source))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let text = format!(": {}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Err(ShellError::Failed { command: shown(command), status: output.status, output: text.trim_end().to_owned() })
}

fn start(command: &Command, source: std::io::Error) -> ShellError {
    ShellError::Start { program: command.get_program().to_string_lossy().into_owned(), source }
}

/// The command as a person would type it whose kubeconfig is set already.
pub fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut words = vec![program];
    let mut arguments = command.get_args().map(|a| a.to_string_lossy().into_owned());
    while let Some(argument) = arguments.next() {
        if matches!(argument.as_str(), "--kubeconfig" | "--cache-dir") {
            arguments.next();
        } else {
            words.push(argument);
        }
    }
    words.join(" ")
}

/// Where cargo puts what it builds.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}
