//! The end of a restored copy whose storage stays: every file is overwritten once and deleted.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;

use interlock_core::drill::{
    plan::{DATA_FOLDER, MANIFEST_FOLDER, RESTORED_PATH},
    report::DrillReport,
};

use super::super::Place;
use super::{damage::writable, done, failed, serve::SERVER_FOLDER};

const BUFFER: usize = 1 << 20;

/// Overwrites and deletes everything that a drill put on the volume. What cannot be is told, and the rest goes on.
pub(super) fn execute(place: &Place, report: &mut DrillReport) {
    let mut wiped = Wiped::default();
    for folder in [DATA_FOLDER, MANIFEST_FOLDER, SERVER_FOLDER] {
        wiped.remove(&place.at(&format!("{RESTORED_PATH}/{folder}")));
    }
    println!("{} files were overwritten and deleted", wiped.files);
    report.error_count = wiped.left;
    if wiped.left == 0 {
        done(report);
    } else {
        failed(report, &format!("{} files and folders are left, or were not overwritten", wiped.left));
    }
}

#[derive(Default)]
struct Wiped {
    files: u64,
    left: u64,
}

impl Wiped {
    fn remove(&mut self, root: &Path) {
        // A folder stands on the stack twice: before what is in it, and after it.
        let mut pending = vec![(root.to_owned(), false)];
        while let Some((path, is_emptied)) = pending.pop() {
            let Ok(found) = fs::symlink_metadata(&path) else { continue };
            let gone = if is_emptied {
                fs::remove_dir(&path)
            } else if found.is_dir() {
                use std::os::unix::fs::PermissionsExt as _;
                let _ = fs::set_permissions(&path, fs::Permissions::from_mode(found.permissions().mode() | 0o700));
                pending.push((path.clone(), true));
                fs::read_dir(&path).map(|inside| {
                    pending.extend(inside.filter_map(Result::ok).map(|entry| (entry.path(), false)));
                })
            } else {
                if found.is_file() {
                    writable(&path);
                    if let Err(error) = overwrite(&path, found.len()) {
                        eprintln!("error: {} is not overwritten: {error}", path.display());
                        self.left += 1;
                    }
                }
                self.files += 1;
                fs::remove_file(&path)
            };
            if let Err(error) = gone {
                eprintln!("error: {} is left: {error}", path.display());
                self.left += 1;
            }
        }
    }
}

/// Zeros over all of it. Holes are left as they are: nothing is stored there, and filling them may need more room than there is.
fn overwrite(path: &Path, length: u64) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    let zeros = vec![0; BUFFER];
    let mut at = 0;
    while let Some((begin, end)) = stored(&file, at, length) {
        file.seek(SeekFrom::Start(begin))?;
        at = begin;
        while at < end {
            let part = zeros.get(..usize::try_from(end - at).unwrap_or(BUFFER).min(BUFFER)).unwrap_or(&zeros);
            file.write_all(part)?;
            at += part.len() as u64;
        }
    }
    file.sync_all()
}

/// The next part of a file that is stored, from here on.
fn stored(file: &File, from: u64, length: u64) -> Option<(u64, u64)> {
    use rustix::fs::{SeekFrom, seek};
    if from >= length {
        return None;
    }
    match seek(file, SeekFrom::Data(from)) {
        Ok(begin) => Some((begin, seek(file, SeekFrom::Hole(begin)).unwrap_or(length).min(length))),
        Err(rustix::io::Errno::NXIO) => None,
        // A storage that does not know holes stores everything.
        Err(_) => Some((from, length)),
    }
}
