//! The images that drills and tests use.

use std::path::Path;

use crate::debian::{self, DebianError};
use crate::image::Image;
use crate::modules::Tool;
use crate::node_error::NodeError;
use crate::tools::Tools;

/// What `postgres` starts with: a new database cluster if there is none, open to the cluster's network.
const POSTGRES_START: &str = r#"#!/bin/sh
set -e
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  initdb --pgdata="$PGDATA" --username=postgres --auth=trust --encoding=UTF8 --locale=C
  echo 'host all all all trust' >> "$PGDATA/pg_hba.conf"
  echo 'host replication all all trust' >> "$PGDATA/pg_hba.conf"
fi
exec postgres -D "$PGDATA" -c listen_addresses='*' -c unix_socket_directories=/tmp -c jit=off "$@"
"#;

/// Debian's number for nobody in particular; `initdb` needs a user that has a name and is not root.
const POSTGRES_USER: u32 = 70;

/// A shell and the usual commands.
pub fn busybox() -> Result<Image, NodeError> {
    with_busybox("busybox:1")
}

fn with_busybox(name: &str) -> Result<Image, NodeError> {
    let root = debian::unpacked("busybox", &["busybox-static"])?;
    let program = ["bin/busybox", "usr/bin/busybox"].map(|path| root.join(path)).into_iter().find(|p| p.is_file());
    let program = program.ok_or_else(|| DebianError::missing("busybox-static"))?;
    let mut image = Image::new(name)
        .file(&program, "/bin/busybox")
        .text("/etc/passwd", "root:x:0:0::/:/bin/sh\npostgres:x:70:70::/tmp:/bin/sh\n")
        .text("/etc/group", "root:x:0:\npostgres:x:70:\n")
        .folder("/tmp")
        .folder("/data");
    for command in debian::output(&program, "busybox-static", &["--list"])?.lines() {
        if command != "busybox" {
            image = image.link("/bin/busybox", &format!("/bin/{command}"));
        }
    }
    Ok(image)
}

/// restic, a shell, and the C library that a debug build of Interlock's runner needs.
pub fn restic() -> Result<Image, NodeError> {
    with_restic("restic:1", "/usr/local/bin/restic")
}

/// The same with a shell script in front of restic: `$*` is what restic is asked, and what does not exit goes on to it.
pub fn restic_behind(name: &str, script: &str) -> Result<Image, NodeError> {
    let image = with_restic(name, "/usr/local/bin/restic.real")?;
    Ok(image.text("/usr/local/bin/restic", &format!("#!/bin/sh\n{script}\nexec restic.real \"$@\"\n")))
}

fn with_restic(name: &str, at: &str) -> Result<Image, NodeError> {
    let tools = Tools::ensure_these(&[Tool::Restic])?;
    let root = debian::unpacked("libc", &["libc6", "libgcc-s1"])?;
    let image = with_busybox(name)?.tree(&root).file(tools.path(Tool::Restic), at);
    Ok(image.env("RESTIC_CACHE_DIR", "/tmp/restic-cache"))
}

/// restic's REST server, without anything else.
pub fn rest_server() -> Result<Image, NodeError> {
    let tools = Tools::ensure_these(&[Tool::RestServer])?;
    let image = Image::new("rest-server:1").file(tools.path(Tool::RestServer), "/rest-server").folder("/data");
    Ok(image.folder("/tmp").entrypoint(&["/rest-server"]))
}

/// The tests' web server, at port 8080.
pub fn web(name: &str) -> Result<Image, NodeError> {
    let tools = Tools::ensure_these(&[Tool::Web])?;
    Ok(Image::new(name).file(tools.path(Tool::Web), "/web").entrypoint(&["/web"]))
}

/// The program at `program` (that of Interlock, linked against Debian's C library) as the entrypoint.
pub fn interlock(name: &str, program: &Path) -> Result<Image, NodeError> {
    let root = debian::unpacked("libc", &["libc6", "libgcc-s1"])?;
    let image = Image::new(name).tree(&root).file(program, "/usr/local/bin/interlock");
    Ok(image.folder("/tmp").entrypoint(&["/usr/local/bin/interlock"]))
}

/// `PostgreSQL` 15 with its clients. Its data lies in `$PGDATA`, which is `/data/postgres`.
pub fn postgres() -> Result<Image, NodeError> {
    let root = debian::unpacked("postgresql", &postgres_packages()?)?;
    let binaries = "/usr/lib/postgresql/15/bin";
    let image = with_busybox("postgres:15")?
        .tree(&root)
        .text("/usr/local/bin/start", POSTGRES_START)
        .env("PATH", &format!("/usr/local/bin:{binaries}:/usr/bin:/bin"))
        .env("PGDATA", "/data/postgres")
        .env("PGHOST", "/tmp")
        .env("PGUSER", "postgres")
        .user(POSTGRES_USER)
        .entrypoint(&["/usr/local/bin/start"]);
    Ok(image)
}

/// The server, its clients and every library they need. Compiling queries at run time would need half a gigabyte more.
fn postgres_packages() -> Result<Vec<String>, DebianError> {
    let needed = |name: &String| {
        let library = name.starts_with("lib")
            && !["libllvm", "libperl", "libz3", "libelogind"].iter().any(|p| name.starts_with(p));
        library && !name.ends_with("-perl")
            || ["postgresql-15", "postgresql-client-15", "tzdata", "zlib1g"].contains(&name.as_str())
    };
    Ok(debian::closure(&["postgresql-15"])?.into_iter().filter(needed).collect())
}
