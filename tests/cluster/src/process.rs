//! Processes that outlive the function that started them: named by pid and start time, so that a recycled pid is never
//! taken for the process that had it before.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::str::FromStr;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::wait;

/// How long a killed process may take to be gone: it has nothing to say in that, only the kernel has.
const KILL_LIMIT: Duration = Duration::from_secs(20);

/// Writes its own pid file, then becomes the component. Written by the process itself, because between the parent's
/// `fork` and a pid file written by the parent, the parent may be killed and leave a component nobody knows of. If the
/// cluster was taken down in the meantime, the file cannot be moved into place and the component never starts.
const LAUNCHER: &str = r#"
start_time() { read -r stat < "/proc/$1/stat" && set -- ${stat##*) } && echo "${20}"; }
pid_file=$1; shift
started=$(start_time $$) && echo "$$ $started" > "$pid_file.new" && mv "$pid_file.new" "$pid_file" && exec "$@"
"#;

/// Waits for the end of its input, which comes when the owner is gone for whatever reason (the kernel closes the pipe),
/// and takes the cluster's folder and processes down. The folder is renamed first: a component that is just starting
/// then fails to write its pid file, and one that has written it is found.
const WATCHDOG: &str = r#"
cluster=$1
doomed="$cluster.doomed-$$"
cat > /dev/null
mv "$cluster" "$doomed" 2> /dev/null || exit 0
alive() { read -r stat 2> /dev/null < "/proc/$1/stat" && set -- "$2" ${stat##*) } && [ "${21}" = "$1" ] && [ "$2" != Z ]; }
for file in "$doomed"/pids/*; do
  read -r pid started < "$file" || continue
  alive "$pid" "$started" && kill -KILL "$pid"
done
for file in "$doomed"/pids/*; do
  read -r pid started < "$file" || continue
  while alive "$pid" "$started"; do sleep 0.05; done
done
[ ! -f "$doomed/teardown" ] || sh "$doomed/teardown" || exit
rm -rf "$doomed"
"#;

/// Why a process could not be handled.
#[derive(Debug, Error)]
pub enum ProcessError {
    /// It could not be started.
    #[error("cannot start {program}")]
    Start {
        /// The program.
        program: String,
        /// The system's reason.
        source: io::Error,
    },
    /// It could not be told to end.
    #[error("cannot end process {pid}")]
    End {
        /// The process.
        pid: i32,
        /// The system's reason.
        source: io::Error,
    },
    /// It is still there after it was killed.
    #[error("process {pid} is still there {} s after it was killed", KILL_LIMIT.as_secs())]
    Unkillable {
        /// The process.
        pid: i32,
    },
}

/// One process of this boot: the kernel may give the pid to another process later, but not with this start time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    pid: i32,
    /// Clock ticks since boot, field 22 of `/proc/PID/stat` (`proc_pid_stat(5)`).
    start_time: u64,
}

/// What `/proc/PID/stat` says that matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    state: char,
    start_time: u64,
}

impl FromStr for Stat {
    type Err = ();

    /// The second field is the program's name in parentheses and may hold spaces and parentheses itself, so fields are
    /// counted from the last one.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (_, fields) = text.rsplit_once(") ").ok_or(())?;
        let mut fields = fields.split_ascii_whitespace();
        let state = fields.next().and_then(|field| field.chars().next()).ok_or(())?;
        let start_time = fields.nth(18).and_then(|field| field.parse().ok()).ok_or(())?;
        Ok(Self { state, start_time })
    }
}

impl ProcessId {
    /// The calling process.
    pub fn own() -> Option<Self> {
        Self::of(i32::try_from(std::process::id()).ok()?)
    }

    pub(crate) fn of(pid: i32) -> Option<Self> {
        let Stat { start_time, .. } = stat(pid)?;
        Some(Self { pid, start_time })
    }

    /// What a pid file says, if it says it completely.
    pub(crate) fn read(pid_file: &Path) -> Option<Self> {
        let text = fs::read_to_string(pid_file).ok()?;
        let (pid, start_time) = text.trim_end().split_once(' ')?;
        Some(Self { pid: pid.parse().ok()?, start_time: start_time.parse().ok()? })
    }

    /// As [`ProcessId::read`] reads it.
    pub(crate) fn written(self) -> String {
        format!("{} {}\n", self.pid, self.start_time)
    }

    /// The pid alone, to show to a person.
    pub fn pid(self) -> i32 {
        self.pid
    }

    /// Whether this very process still runs. A zombie does not: it only waits for its parent to look.
    pub fn is_alive(self) -> bool {
        stat(self.pid).is_some_and(|now| now.start_time == self.start_time && !matches!(now.state, 'Z' | 'X'))
    }

    /// Kills this process, and no other that may have got its pid since: the check is made after the pidfd, which names
    /// one process for good, is open.
    pub(crate) fn kill(self) -> Result<(), ProcessError> {
        let failed = |source: rustix::io::Errno| ProcessError::End { pid: self.pid, source: source.into() };
        let Some(pid) = Pid::from_raw(self.pid) else {
            return Ok(());
        };
        let handle = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => handle,
            Err(rustix::io::Errno::SRCH) => return Ok(()),
            Err(reason) => return Err(failed(reason)),
        };
        if !self.is_alive() {
            return Ok(());
        }
        match pidfd_send_signal(&handle, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(reason) => Err(failed(reason)),
        }
    }
}

fn stat(pid: i32) -> Option<Stat> {
    fs::read_to_string(format!("/proc/{pid}/stat")).ok()?.parse().ok()
}

/// Kills the processes and returns when none of them is left. They are test components whose data is thrown away with
/// them, so there is nothing for them to finish.
pub(crate) fn kill_all(processes: &[ProcessId]) -> Result<(), ProcessError> {
    for process in processes {
        process.kill()?;
    }
    for process in processes {
        wait::poll(KILL_LIMIT, || Ok((!process.is_alive()).then_some(())))?
            .ok_or(ProcessError::Unkillable { pid: process.pid })?;
    }
    Ok(())
}

/// Starts a component that survives its parent and is not reached by the terminal's interrupt key.
pub(crate) fn launch(
    program: &Path,
    arguments: &[String],
    environment: &[(String, String)],
    pid_file: &Path,
    log: &Path,
) -> Result<Child, ProcessError> {
    let failed = |source| ProcessError::Start { program: program.display().to_string(), source };
    let output = File::options().create(true).append(true).open(log).map_err(failed)?;
    let errors = output.try_clone().map_err(failed)?;
    Command::new("sh")
        .args(["-c", LAUNCHER, "launch"])
        .arg(pid_file)
        .arg(program)
        .args(arguments)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .process_group(0)
        .spawn()
        .map_err(failed)
}

/// Takes a cluster down when the process that holds this value is gone, even if it was killed.
#[derive(Debug)]
pub(crate) struct Watchdog {
    process: Child,
    /// Open as long as this process lives, and not inherited by those it starts.
    leash: Option<ChildStdin>,
}

impl Watchdog {
    /// Must be started before the first component.
    pub(crate) fn start(cluster: &Path) -> Result<Self, ProcessError> {
        let mut process = Command::new("sh")
            .args(["-c", WATCHDOG, "watchdog"])
            .arg(cluster)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|source| ProcessError::Start { program: "the watchdog".to_owned(), source })?;
        let leash = process.stdin.take();
        Ok(Self { process, leash })
    }

    /// Ends the watchdog, so that the cluster outlives this process.
    pub(crate) fn disarm(mut self) -> Result<(), ProcessError> {
        let failed = |source| ProcessError::Start { program: "the cluster on its own".to_owned(), source };
        // Killed before its input ends: it never gets to act on the end.
        self.process.kill().map_err(failed)?;
        self.process.wait().map_err(failed)?;
        Ok(())
    }

    /// Ends the watchdog after the cluster is gone.
    pub(crate) fn release(&mut self) {
        drop(self.leash.take());
        // It has nothing left to do and nobody to report to; waiting only spares a zombie.
        let _ = self.process.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::{Child, Command, Stdio};
    use std::time::Duration;

    use super::{ProcessId, Stat, Watchdog, kill_all, launch};
    use crate::wait::poll;

    /// A process to act upon. It ends with the test, also when that fails, and holds none of its outputs open.
    struct Sleeper {
        child: Child,
        id: ProcessId,
    }

    impl Sleeper {
        fn start() -> Self {
            let mut command = Command::new("sleep");
            command.arg("600").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let child = command.spawn().unwrap();
            let id = ProcessId::of(i32::try_from(child.id()).unwrap()).unwrap();
            Self { child, id }
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
        }
    }

    #[test]
    fn reads_the_start_time_behind_a_hostile_program_name() {
        let line = "4711 (a) b) S 1 4711 4711 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1000 2 184";
        assert_eq!(line.parse(), Ok(Stat { state: 'S', start_time: 987_654 }));
        assert_eq!("4711 (sh) S 1".parse::<Stat>(), Err(()));
    }

    #[test]
    fn a_recycled_pid_is_neither_alive_nor_killed() {
        let sleeper = Sleeper::start();
        let current = sleeper.id;
        let earlier = ProcessId { start_time: current.start_time - 1, ..current };
        assert!(current.is_alive());
        assert!(!earlier.is_alive());
        kill_all(&[earlier]).unwrap();
        assert!(current.is_alive(), "the process that has the pid now was killed");
        kill_all(&[current]).unwrap();
        assert!(!current.is_alive());
        drop(sleeper);
        kill_all(&[current]).unwrap();
    }

    #[test]
    fn a_component_writes_its_own_pid_file_and_keeps_its_identity() {
        let folder = tempfile::tempdir().unwrap();
        let (pid_file, log) = (folder.path().join("pid"), folder.path().join("log"));
        let script = ["-c".to_owned(), "echo $WORD; exec sleep 600".to_owned()];
        let environment = [("WORD".to_owned(), "started".to_owned())];
        let mut child = launch("sh".as_ref(), &script, &environment, &pid_file, &log).unwrap();
        let id = poll(Duration::from_secs(10), || Ok::<_, ()>(ProcessId::read(&pid_file))).unwrap().unwrap();
        assert_eq!(u32::try_from(id.pid).unwrap(), child.id());
        let said = poll(Duration::from_secs(10), || {
            Ok::<_, ()>(fs::read_to_string(&log).ok().filter(|text| !text.is_empty()))
        });
        assert_eq!(said.unwrap().unwrap(), "started\n");
        assert!(id.is_alive());
        kill_all(&[id]).unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_component_of_a_removed_cluster_does_not_start() {
        let folder = tempfile::tempdir().unwrap();
        let (pid_file, log) = (folder.path().join("removed/pid"), folder.path().join("log"));
        let mut child = launch("sleep".as_ref(), &["600".to_owned()], &[], &pid_file, &log).unwrap();
        assert!(!child.wait().unwrap().success());
    }

    #[test]
    fn the_watchdog_takes_the_cluster_down_when_its_owner_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let cluster = folder.path().join("c");
        fs::create_dir_all(cluster.join("pids")).unwrap();
        let (owned, bystander) = (Sleeper::start(), Sleeper::start());
        let (owned_id, bystander_id) = (owned.id, bystander.id);
        fs::write(cluster.join("pids/etcd"), format!("{} {}\n", owned_id.pid, owned_id.start_time)).unwrap();
        let recycled = format!("{} {}\n", bystander_id.pid, bystander_id.start_time + 1);
        fs::write(cluster.join("pids/kwok"), recycled).unwrap();
        Watchdog::start(&cluster).unwrap().release();
        assert!(!owned_id.is_alive());
        assert!(bystander_id.is_alive());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "something was left behind");
    }

    #[test]
    fn a_disarmed_watchdog_leaves_the_cluster_alone() {
        let folder = tempfile::tempdir().unwrap();
        let cluster = folder.path().join("c");
        fs::create_dir_all(cluster.join("pids")).unwrap();
        Watchdog::start(&cluster).unwrap().disarm().unwrap();
        assert!(cluster.exists());
    }

    #[test]
    fn the_watchdog_has_nothing_to_do_after_an_orderly_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut watchdog = Watchdog::start(&folder.path().join("gone")).unwrap();
        watchdog.release();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
