//! What lies on the volume: every file counted, read and hashed, in one order.
//!
//! A line each: kind (`f` file, `l` link, `o` anything else), SHA-256 (of the content, or of where a link leads), size, path
//! below the data; bytes of a path that are no printable text are written as `%XX`. The digest of all lines is the manifest's.

use std::fmt::Write as _;
use std::fs::{self, File, Metadata};
use std::io::{BufRead as _, BufReader, Lines, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use interlock_core::object::Digest;
use ring::digest::{Context, SHA256};

const BUFFER: usize = 1 << 20;

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Summed {
    /// Number of files.
    pub files: i64,
    /// Bytes of them.
    pub bytes: i64,
    /// Digest of the manifest.
    pub digest: Digest,
}

/// Goes over everything below a folder that is no folder, in the order of the names. Links are not followed.
///
/// # Errors
/// Something cannot be looked at.
pub(super) fn walk(root: &Path, each: &mut dyn FnMut(&Path, &Metadata) -> Result<(), String>) -> Result<(), String> {
    let mut pending = vec![root.to_owned()];
    while let Some(path) = pending.pop() {
        let failed = |error: std::io::Error| format!("{} cannot be looked at: {error}", path.display());
        let found = fs::symlink_metadata(&path).map_err(failed)?;
        if !found.is_dir() {
            each(&path, &found)?;
            continue;
        }
        let entries = fs::read_dir(&path).map_err(failed)?.map(|entry| entry.map(|entry| entry.path()));
        let mut inside: Vec<PathBuf> = entries.collect::<Result<_, _>>().map_err(failed)?;
        inside.sort_unstable_by(|one, other| other.cmp(one));
        pending.append(&mut inside);
    }
    Ok(())
}

/// Reads everything below a folder; each line of the manifest is told to `each`.
///
/// # Errors
/// Something cannot be read, it takes too long, or `each` fails.
pub(super) fn sum(
    data: &Path,
    until: Option<Instant>,
    each: &mut dyn FnMut(&str) -> Result<(), String>,
) -> Result<Summed, String> {
    let (mut files, mut bytes, mut whole) = (0, 0, Context::new(&SHA256));
    walk(data, &mut |path, found| {
        let (kind, digest, size) = if found.is_file() {
            let (digest, size) = hash(path, until)?;
            files += 1;
            bytes += size;
            ('f', digest, size)
        } else if found.is_symlink() {
            let target = fs::read_link(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
            let target = target.as_os_str().as_bytes();
            ('l', Digest::of_bytes(target), target.len() as i64)
        } else {
            ('o', Digest::of_bytes(&[]), 0)
        };
        let path = path.strip_prefix(data).unwrap_or(path);
        let digest = digest.to_string();
        let hexadecimal = digest.trim_start_matches("sha256:");
        let line = format!("{kind} {hexadecimal} {size} {}\n", printable(path.as_os_str().as_bytes()));
        whole.update(line.as_bytes());
        each(&line)
    })?;
    Ok(Summed { files, bytes, digest: finish(whole) })
}

/// SHA-256 and size of a file.
///
/// # Errors
/// It cannot be read, or it takes too long.
pub(super) fn hash(path: &Path, until: Option<Instant>) -> Result<(Digest, i64), String> {
    let failed = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
    let mut file = File::open(path).map_err(failed)?;
    let (mut context, mut size, mut buffer) = (Context::new(&SHA256), 0_i64, vec![0; BUFFER]);
    loop {
        if until.is_some_and(|until| until <= Instant::now()) {
            return Err(TOO_LONG.to_owned());
        }
        match file.read(&mut buffer).map_err(failed)? {
            0 => return Ok((finish(context), size)),
            read => {
                context.update(buffer.get(..read).unwrap_or_default());
                size += read as i64;
            }
        }
    }
}

/// The error of what takes too long.
pub(super) const TOO_LONG: &str = "it took too long";

/// A manifest on the volume, compared line by line with what is there now.
pub(super) struct Comparison {
    recorded: Option<Lines<BufReader<File>>>,
    first: Option<String>,
}

impl Comparison {
    /// With this manifest; with none, if it cannot be read.
    pub fn with(manifest: &Path) -> Self {
        Self { recorded: File::open(manifest).ok().map(|file| BufReader::new(file).lines()), first: None }
    }

    fn next(&mut self) -> Option<String> {
        self.recorded.as_mut()?.next()?.ok()
    }

    /// Compares the next line.
    pub fn line(&mut self, line: &str) {
        if self.first.is_some() {
            return;
        }
        let line = line.trim_end_matches('\n');
        self.first = match self.next() {
            Some(known) if known == line => None,
            Some(known) => Some(path(&known).min(path(line)).to_owned()),
            None => Some(path(line).to_owned()),
        };
    }

    /// The path of the first line that differs.
    pub fn end(mut self) -> Option<String> {
        let left = self.next();
        self.first.or_else(|| left.map(|line| path(&line).to_owned()))
    }
}

fn path(line: &str) -> &str {
    line.splitn(4, ' ').last().unwrap_or_default()
}

fn finish(context: Context) -> Digest {
    let mut digest = [0; 32];
    // SHA-256 always has 32 bytes: zip cannot cut anything off.
    for (to, from) in digest.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    Digest(digest)
}

fn printable(path: &[u8]) -> String {
    let mut text = String::with_capacity(path.len());
    let escape = |text: &mut String, bytes: &[u8]| {
        for byte in bytes {
            let _ = write!(text, "%{byte:02X}");
        }
    };
    for chunk in path.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() || character == '%' {
                escape(&mut text, character.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                text.push(character);
            }
        }
        escape(&mut text, chunk.invalid());
    }
    text
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("b/c")).unwrap();
        fs::write(folder.path().join("b/c/two"), "22").unwrap();
        fs::write(folder.path().join("a"), "1").unwrap();
        fs::write(folder.path().join(OsStr::from_bytes(b"new\nline\xff%")), "333").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link")).unwrap();
        folder
    }

    fn manifest(folder: &Path) -> (String, Summed) {
        let mut text = String::new();
        let summed = sum(folder, None, &mut |line| {
            text.push_str(line);
            Ok(())
        });
        (text, summed.unwrap())
    }

    #[test]
    fn every_file_has_a_line_in_one_order_and_links_are_not_followed() {
        let folder = folder();
        let (text, summed) = manifest(folder.path());
        assert_eq!((summed.files, summed.bytes), (3, 6));
        assert_eq!(summed.digest, Digest::of_bytes(text.as_bytes()));
        let paths: Vec<_> = text.lines().map(|line| line.splitn(4, ' ').last().unwrap()).collect();
        assert_eq!(paths, ["a", "b/c/two", "link", "new%0Aline%FF%25"]);
        let one = Digest::of_bytes(b"1").to_string();
        assert!(text.starts_with(&format!("f {} 1 a\n", one.trim_start_matches("sha256:"))), "{text}");
        assert!(text.lines().nth(2).unwrap().starts_with("l "), "{text}");
    }

    #[test]
    fn a_difference_is_named_by_its_path() {
        let folder = folder();
        let other = tempfile::tempdir().unwrap();
        let file = other.path().join("manifest");
        fs::write(&file, manifest(folder.path()).0).unwrap();
        let difference = || {
            let mut comparison = Comparison::with(&file);
            manifest(folder.path()).0.split_inclusive('\n').for_each(|line| comparison.line(line));
            comparison.end()
        };
        assert_eq!(difference(), None);
        fs::write(folder.path().join("b/c/two"), "23").unwrap();
        assert_eq!(difference().as_deref(), Some("b/c/two"));
        fs::write(folder.path().join("b/c/two"), "22").unwrap();
        fs::write(folder.path().join("b/another"), "").unwrap();
        assert_eq!(difference().as_deref(), Some("b/another"));
        fs::remove_file(folder.path().join("b/another")).unwrap();
        fs::remove_file(folder.path().join("link")).unwrap();
        assert_eq!(difference().as_deref(), Some("link"));
        fs::remove_file(folder.path().join(OsStr::from_bytes(b"new\nline\xff%"))).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link")).unwrap();
        assert_eq!(difference().as_deref(), Some("new%0Aline%FF%25"), "the last one");
    }

    #[test]
    fn reading_ends_when_its_time_is_over() {
        let folder = folder();
        let over = sum(folder.path(), Some(Instant::now()), &mut |_| Ok(()));
        assert_eq!(over.unwrap_err(), TOO_LONG);
    }
}
