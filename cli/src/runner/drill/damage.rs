//! Faults: the restored copy is damaged, so that the drill proves that it would notice.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use interlock_core::{backup::plan::PlannedHeartbeat, drill::report::DrillReport};
use interlock_crds::Fault;

use super::super::Place;
use super::{Pod, data, done, failed, heartbeat, manifest};

/// How long a change of a table may take.
const LIMIT: Duration = Duration::from_secs(240);
/// So many bytes of a file are changed, spread over it.
const FLIPPED: u64 = 16;

/// What is damaged.
pub(super) struct Target<'a> {
    /// File or folder, in the pod.
    pub path: Option<&'a str>,
    /// Where the heartbeat is.
    pub heartbeat: Option<&'a PlannedHeartbeat>,
}

/// Damages it.
pub(super) async fn execute(pod: &Pod<'_>, fault: Fault, target: &Target<'_>, report: &mut DrillReport) {
    let of_file: fn(&Path) -> Result<bool, String> = match fault {
        Fault::TamperHeartbeat => {
            let Some(heartbeat) = target.heartbeat else {
                return failed(report, "the policy has no heartbeat");
            };
            if let Err(why) = heartbeat::tamper(pod, heartbeat, LIMIT, report).await {
                eprintln!("error: {why}");
            }
            return;
        }
        Fault::FlipBytes => flip,
        Fault::DeleteFiles => delete,
        Fault::Delay => return failed(report, "a delay is no damage"),
    };
    let files =
        match target.path.ok_or_else(|| "the plan names no path".to_owned()).and_then(|path| files(pod.place, path)) {
            Ok(files) => files,
            Err(why) => return failed(report, &why),
        };
    let mut damaged = 0;
    for file in &files {
        match of_file(file) {
            Ok(is_damaged) => damaged += u64::from(is_damaged),
            Err(why) => return failed(report, &why),
        }
    }
    println!("{fault:?}: {damaged} of {} files", files.len());
    if damaged == 0 { failed(report, "there was nothing to damage") } else { done(report) }
}

/// The file, or every file below the folder; nothing outside the restored data.
fn files(place: &Place, path: &str) -> Result<Vec<PathBuf>, String> {
    let path = within(place, path)?;
    let mut files = Vec::new();
    manifest::walk(&path, &mut |path, found| {
        if found.is_file() {
            files.push(path.to_owned());
        }
        Ok(())
    })?;
    Ok(files)
}

/// The path as it is without links, if it is within the restored data.
///
/// # Errors
/// It is not there, or elsewhere.
pub(super) fn within(place: &Place, path: &str) -> Result<PathBuf, String> {
    let whole = |path: &Path| {
        fs::canonicalize(path).map_err(|error| format!("{} cannot be looked at: {error}", path.display()))
    };
    let (data, path) = (whole(data(place).as_ref())?, whole(&place.at(path))?);
    if path.starts_with(&data) { Ok(path) } else { Err(format!("{} is outside the restored data", path.display())) }
}

fn flip(path: &Path) -> Result<bool, String> {
    let failed = |error: std::io::Error| format!("{} cannot be changed: {error}", path.display());
    writable(path);
    let mut file = OpenOptions::new().read(true).write(true).open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let mut byte = [0];
    for part in 0..FLIPPED.min(length) {
        let at = SeekFrom::Start(length / FLIPPED.min(length) * part);
        file.seek(at).and_then(|_| file.read_exact(&mut byte)).map_err(failed)?;
        byte = byte.map(|byte| byte ^ 0xff);
        file.seek(at).and_then(|_| file.write_all(&byte)).map_err(failed)?;
    }
    file.sync_all().map_err(failed)?;
    Ok(length > 0)
}

fn delete(path: &Path) -> Result<bool, String> {
    fs::remove_file(path).map(|()| true).map_err(|error| format!("{} cannot be deleted: {error}", path.display()))
}

/// Files without the right to write came back without it too; whoever owns them gives it to himself.
pub(super) fn writable(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    if let Ok(file) = File::open(path).and_then(|file| file.metadata()) {
        let mode = file.permissions().mode();
        if mode & 0o200 == 0 {
            let _ = fs::set_permissions(path, fs::Permissions::from_mode(mode | 0o200));
        }
    }
}
