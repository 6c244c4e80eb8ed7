//! A program as a child with a group of its own: ended with everything that it started, at the latest when its time is over.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{self, AsyncRead, AsyncReadExt as _},
    process::Command,
    time,
};

/// Most output that is kept.
pub(super) const MOST_OUTPUT: u64 = 64 * 1024;

/// How a program ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ended {
    /// Exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// The signal.
    pub signal: Option<i32>,
    /// It was ended for taking too long.
    pub timed_out: bool,
    /// The beginning of its output, if it was asked for.
    pub output: Vec<u8>,
    /// The beginning of its errors, if they were asked for.
    pub errors: Vec<u8>,
}

/// Runs a program whose output goes to the log.
///
/// # Errors
/// It cannot be started.
pub(super) async fn run(mut command: Command, limit: Duration) -> Result<Ended, String> {
    command.stdout(Stdio::inherit()).stderr(Stdio::inherit());
    ended(command, limit).await
}

/// Runs a program whose output is read.
///
/// # Errors
/// It cannot be started.
pub(super) async fn ask(mut command: Command, limit: Duration) -> Result<Ended, String> {
    command.stdout(Stdio::piped()).stderr(Stdio::inherit());
    ended(command, limit).await
}

/// Runs a program whose output and errors are read. The errors do not go to the log.
///
/// # Errors
/// It cannot be started.
pub(super) async fn ask_and_hear(mut command: Command, limit: Duration) -> Result<Ended, String> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    ended(command, limit).await
}

async fn ended(mut command: Command, limit: Duration) -> Result<Ended, String> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).process_group(0).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| format!("{program} cannot be started: {error}"))?;
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let end_group = || group.map(|group| kill_process_group(group, Signal::KILL));
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let mut found = Ended::default();
    let work = async {
        tokio::join!(beginning(stdout, &mut found.output), beginning(stderr, &mut found.errors));
        child.wait().await
    };
    let in_time = time::timeout(limit, work).await;
    if let Ok(status) = in_time {
        use std::os::unix::process::ExitStatusExt as _;
        let status = status.map_err(|error| format!("how {program} ended cannot be found out: {error}"))?;
        (found.code, found.signal) = (status.code(), status.signal());
    } else {
        println!("{program} took longer than {} s and is ended", limit.as_secs());
        found.timed_out = true;
    }
    // What it left running would go on reading.
    end_group();
    if found.timed_out {
        let _ = child.wait().await;
    }
    Ok(found)
}

/// What a program writes: the beginning, also if it never ends. What is too much is read as well, as the pipe would fill up and the
/// program wait.
async fn beginning(stream: Option<impl AsyncRead + Unpin>, bytes: &mut Vec<u8>) {
    if let Some(mut stream) = stream {
        let _ = (&mut stream).take(MOST_OUTPUT).read_to_end(bytes).await;
        let _ = io::copy(&mut stream, &mut io::sink()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn the_exit_code_and_the_output_are_those_of_the_program() {
        let ended = ask(shell("echo 7; exit 3"), Duration::from_secs(20)).await.unwrap();
        assert_eq!((ended.code, ended.output.as_slice(), ended.timed_out), (Some(3), b"7\n".as_slice(), false));
        let heard = ask_and_hear(shell("echo 7; echo no >&2; exit 1"), Duration::from_secs(20)).await.unwrap();
        assert_eq!((heard.output.as_slice(), heard.errors.as_slice()), (b"7\n".as_slice(), b"no\n".as_slice()));
        let killed = run(shell("kill -9 $$"), Duration::from_secs(20)).await.unwrap();
        assert_eq!((killed.code, killed.signal), (None, Some(9)));
        let missing = run(Command::new("/no/such/program"), Duration::from_secs(1)).await.unwrap_err();
        assert!(missing.contains("/no/such/program cannot be started"), "{missing}");
    }

    #[tokio::test]
    async fn a_program_that_writes_more_than_is_read_ends_as_it_would() {
        let script = "head -c 1000000 /dev/zero >&2; head -c 1000000 /dev/zero; exit 3";
        let ended = ask_and_hear(shell(script), Duration::from_secs(20)).await.unwrap();
        assert_eq!((ended.code, ended.timed_out), (Some(3), false));
        assert_eq!([ended.output.len(), ended.errors.len()], [MOST_OUTPUT as usize; 2]);
    }

    #[tokio::test]
    async fn what_was_said_before_the_time_was_over_is_kept() {
        let ended = ask_and_hear(shell("echo no >&2; exec sleep 60"), Duration::from_secs(2)).await.unwrap();
        assert_eq!((ended.timed_out, ended.errors.as_slice()), (true, b"no\n".as_slice()));
    }

    #[tokio::test]
    async fn what_takes_too_long_is_ended_with_everything_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("mark");
        let script = format!("(sleep 2; touch {}) & sleep 60", mark.display());
        let ended = run(shell(&script), Duration::from_millis(300)).await.unwrap();
        assert_eq!((ended.code, ended.timed_out), (None, true));
        time::sleep(Duration::from_millis(2_500)).await;
        assert!(!mark.exists(), "the child of the child went on");
    }
}
