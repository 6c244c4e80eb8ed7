//! A dump that the runner of backups made: roles and tablespaces, then databases.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::{
    io::AsyncWriteExt as _,
    process::{ChildStdin, Command},
};

/// What the last comment of a dump is.
const COMPLETE: [&str; 2] = ["-- PostgreSQL database dump complete", "-- PostgreSQL database cluster dump complete"];
/// The last comment is looked for in so much of the end.
const TAIL: i64 = 4096;
/// The part before the first database is not longer.
const MOST_HEAD: u64 = 16 << 20;
const BUFFER: usize = 1 << 20;

/// A dump, complete.
pub(super) struct Dump {
    path: PathBuf,
    /// The lines before the first database.
    head: Vec<String>,
    /// Length of them, in bytes.
    head_length: u64,
}

impl Dump {
    /// Reads the beginning and the end of a dump.
    ///
    /// # Errors
    /// It cannot be read, or its end is missing.
    pub fn read(path: &Path) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
        let mut file = File::open(path).map_err(failed)?;
        let (mut head, mut head_length) = (Vec::new(), 0);
        let mut reader = BufReader::new((&mut file).take(MOST_HEAD));
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).map_err(failed)? > 0 {
            let text = String::from_utf8_lossy(&line).into_owned();
            if text.starts_with("\\connect ") || text.starts_with("CREATE DATABASE ") || !line.ends_with(b"\n") {
                break;
            }
            head_length += line.len() as u64;
            head.push(text);
            line.clear();
        }
        let mut tail = Vec::new();
        let length = file.metadata().map_err(failed)?.len() as i64;
        file.seek(SeekFrom::End(-TAIL.min(length))).and_then(|_| file.read_to_end(&mut tail)).map_err(failed)?;
        if !is_complete(&String::from_utf8_lossy(&tail)) {
            return Err(format!("{} is no whole dump: its end is missing", path.display()));
        }
        Ok(Self { path: path.to_owned(), head, head_length })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The role that the server is made with: memberships of roles were granted by it, and can be only if it is the first one
    /// here too.
    pub fn superuser(&self) -> Option<String> {
        let mut superusers = self.head.iter().filter_map(|line| {
            let (name, rights) = line.strip_prefix("ALTER ROLE ")?.split_once(" WITH ")?;
            rights.starts_with("SUPERUSER").then(|| unquoted(name))
        });
        let first = superusers.next()?;
        if first == "postgres" { Some(first) } else { superusers.find(|name| name == "postgres").or(Some(first)) }
    }

    /// Whether it makes tablespaces.
    pub fn has_tablespaces(&self) -> bool {
        self.head.iter().any(|line| line.starts_with("CREATE TABLESPACE "))
    }

    /// Loads it. The first error ends it.
    ///
    /// # Errors
    /// There was one.
    pub async fn load(&self, owner: &str, mut psql: Command) -> Result<(), String> {
        psql.stdin(Stdio::piped()).stdout(Stdio::null()).kill_on_drop(true);
        let mut child = psql.spawn().map_err(|error| format!("psql cannot be started: {error}"))?;
        // What psql does not take any more it has given up: how it ended says more than the broken pipe.
        let written = match child.stdin.take() {
            Some(stdin) => self.write(owner, stdin).await,
            None => Err("psql takes nothing".to_owned()),
        };
        let status = child.wait().await.map_err(|error| format!("how psql ended cannot be found out: {error}"))?;
        match (status.success(), written) {
            (false, _) => {
                Err(format!("{} could not be loaded ({status}); the error stands above", self.path.display()))
            }
            (true, Err(why)) => Err(why),
            (true, Ok(())) => Ok(()),
        }
    }

    async fn write(&self, owner: &str, mut to: ChildStdin) -> Result<(), String> {
        use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
        let failed = |error: std::io::Error| format!("{} could not be loaded whole: {error}", self.path.display());
        for line in &self.head {
            to.write_all(fitted(line, owner).as_bytes()).await.map_err(failed)?;
        }
        let mut file = tokio::fs::File::open(&self.path).await.map_err(failed)?;
        file.seek(SeekFrom::Start(self.head_length)).await.map_err(failed)?;
        let mut buffer = vec![0; BUFFER];
        loop {
            let read = file.read(&mut buffer).await.map_err(failed)?;
            if read == 0 {
                return to.shutdown().await.map_err(failed);
            }
            to.write_all(buffer.get(..read).unwrap_or_default()).await.map_err(failed)?;
        }
    }
}

/// A line as it is loaded: the role that the server was made with is there already, and tablespaces lie among its own files.
fn fitted(line: &str, owner: &str) -> String {
    let made = line.strip_prefix("CREATE ROLE ").map(|role| role.trim_end().trim_end_matches(';'));
    if made.is_some_and(|role| unquoted(role) == owner) {
        return "\n".to_owned();
    }
    match line.strip_prefix("CREATE TABLESPACE ").and_then(|rest| rest.split_once(" LOCATION ")) {
        Some((space, _)) => format!("CREATE TABLESPACE {space} LOCATION '';\n"),
        None => line.to_owned(),
    }
}

fn unquoted(name: &str) -> String {
    match name.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inner) => inner.replace("\"\"", "\""),
        None => name.to_owned(),
    }
}

fn is_complete(tail: &str) -> bool {
    let counts = |line: &&str| !line.is_empty() && *line != "--" && !line.starts_with("\\unrestrict ");
    tail.lines().rev().map(str::trim_end).find(counts).is_some_and(|line| COMPLETE.contains(&line))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const GLOBALS: &str = "--\n-- PostgreSQL database cluster dump\n--\n\nCREATE ROLE \"a-b\";\nALTER ROLE \"a-b\" WITH SUPERUSER INHERIT;\nCREATE ROLE postgres;\nALTER ROLE postgres WITH SUPERUSER INHERIT LOGIN;\nCREATE ROLE teller;\nALTER ROLE teller WITH NOSUPERUSER LOGIN;\nCREATE TABLESPACE fast OWNER postgres LOCATION '/disks/fast';\n--\n-- PostgreSQL database cluster dump complete\n--\n\n";
    const DATABASE: &str = "CREATE DATABASE bank;\n\\connect bank\nCREATE ROLE postgres;\n--\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict abc\n\n";

    fn dump(text: &str) -> Result<Dump, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dump.sql");
        fs::write(&path, text).unwrap();
        Dump::read(&path)
    }

    #[test]
    fn the_head_ends_with_the_first_database_and_is_fitted_to_the_new_server() {
        let dump = dump(&format!("{GLOBALS}{DATABASE}")).unwrap();
        assert_eq!(dump.head_length as usize, GLOBALS.len());
        assert_eq!(dump.superuser().as_deref(), Some("postgres"));
        assert!(dump.has_tablespaces());
        let fitted: String = dump.head.iter().map(|line| fitted(line, "postgres")).collect();
        assert!(!fitted.contains("CREATE ROLE postgres;") && fitted.contains("CREATE ROLE teller;"), "{fitted}");
        assert!(fitted.contains("CREATE TABLESPACE fast OWNER postgres LOCATION '';\n"), "{fitted}");
        assert_eq!(super::fitted("CREATE ROLE \"a-b\";\n", "a-b"), "\n");
    }

    #[test]
    fn another_first_role_is_found_and_a_cut_dump_is_refused() {
        let other = GLOBALS.replace("postgres", "admin");
        assert_eq!(dump(&other.replace("PostgreSQL admin", "x")).unwrap().superuser().as_deref(), Some("a-b"));
        for cut in ["", "CREATE ROLE x;\n", &format!("{GLOBALS}{}", &DATABASE[..40])] {
            assert!(dump(cut).is_err(), "{cut}");
        }
    }
}
