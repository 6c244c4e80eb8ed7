//! A repository over SFTP, at OpenSSH's own server: what a pod brings is the program itself, and the Secret.

use std::{
    fs::{self, File},
    net::TcpListener,
    os::{
        fd::OwnedFd,
        unix::fs::{MetadataExt as _, PermissionsExt as _},
        unix::process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use interlock_cluster::OpenSsh;
use interlock_core::backup::{
    outcome::{self, Expected, PodEnd, Reason},
    result::RunnerStage,
};
use serde_json::{Value, json};

use super::{POLICY, Pod, checked, judged};

/// Whom a server without root's rights lets in where the tests have them: itself.
const ACCOUNT: &str = "backup";

/// A server, and who may log in there.
struct Vault {
    port: u16,
    user: String,
    folder: PathBuf,
    programs: OpenSsh,
}

impl Vault {
    fn open(pod: &Pod) -> Self {
        let programs = OpenSsh::ensure().unwrap();
        let folder = pod.at("ssh");
        fs::create_dir_all(folder.join("vault")).unwrap();
        let at = |name: &str| folder.join(name);
        for name in ["host", "another-host", "user", "stranger"] {
            let mut keygen = Command::new(&programs.keygen);
            run(keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]).arg(at(name)));
        }
        let config = format!(
            "HostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nSubsystem sftp internal-sftp\n",
            at("host").display(),
            at("user.pub").display()
        );
        fs::write(at("config"), config).unwrap();
        // It runs as somebody who may not look into the cache.
        fs::copy(&programs.server, at("sshd")).unwrap();
        if let Some(libraries) = &programs.libraries {
            run(Command::new("cp").arg("-RL").arg(libraries).arg(at("lib")));
        }
        fs::set_permissions(pod.root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let is_root = fs::metadata(&folder).unwrap().uid() == 0;
        let user = if is_root {
            run(Command::new("chown").args(["-R", &format!("{ACCOUNT}:")]).arg(&folder));
            ACCOUNT.to_owned()
        } else {
            let name = Command::new("id").arg("-un").output().unwrap();
            String::from_utf8(name.stdout).unwrap().trim().to_owned()
        };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let home = folder.clone();
        thread::spawn(move || serve(&listener, &home));
        Self { port, user, folder, programs }
    }

    /// What the Secret has.
    fn secret(&self, pod: &Pod, known_hosts: &str, key: &str) {
        let secret = pod.at("interlock/secrets/repository");
        fs::create_dir_all(&secret).unwrap();
        fs::write(secret.join("known_hosts"), known_hosts).unwrap();
        fs::copy(self.folder.join(key), secret.join("ssh-privatekey")).unwrap();
    }

    /// The line of a host key.
    fn line(&self, key: &str) -> String {
        let public = fs::read_to_string(self.folder.join(key).with_extension("pub")).unwrap();
        format!("[127.0.0.1]:{} {public}", self.port)
    }

    fn plan(&self, mut plan: Value) -> Value {
        let (user, port, folder) = (&self.user, self.port, self.folder.join("vault"));
        plan["repository"] = json!(format!("sftp://{user}@127.0.0.1:{port}/{}", folder.display()));
        plan
    }

    fn count(&self, kind: &str) -> usize {
        fs::read_dir(self.folder.join("vault").join(kind)).unwrap().count()
    }

    /// What the server wrote.
    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}

/// Each connection has a process of its own, so no port has to be found for the server.
fn serve(listener: &TcpListener, folder: &Path) {
    let log = File::create(folder.join("log")).unwrap();
    let owner = fs::metadata(folder).unwrap();
    for client in listener.incoming() {
        let client = client.unwrap();
        let mut server = Command::new(folder.join("sshd"));
        server.args(["-i", "-e", "-f"]).arg(folder.join("config")).env("LD_LIBRARY_PATH", folder.join("lib"));
        server.stdin(OwnedFd::from(client.try_clone().unwrap())).stdout(OwnedFd::from(client));
        server.stderr(log.try_clone().unwrap()).uid(owner.uid()).gid(owner.gid());
        let mut session = server.spawn().unwrap();
        thread::spawn(move || session.wait());
    }
}

#[test]
fn a_repository_over_sftp_is_made_filled_read_back_checked_restored_and_pruned() {
    let pod = Pod::new();
    let vault = Vault::open(&pod);
    vault.secret(&pod, &vault.line("host"), "user");
    run(Command::new(&vault.programs.keygen)
        .args(["-H", "-f"])
        .arg(pod.at("interlock/secrets/repository/known_hosts")));
    let (_, made) = pod.run(&vault.plan(json!({"operation": "Initialize"})));
    assert_eq!((made.stage, made.exit_code), (RunnerStage::Done, Some(0)), "{made:?}: {}", vault.log());

    // More than what may be under way at once, in each direction.
    let mut accounts = vec![0; 12 << 20];
    fastrand::Rng::with_seed(7).fill(&mut accounts);
    fs::write(pod.at("data/accounts"), &accounts).unwrap();
    let (_, first) = pod.run(&vault.plan(Pod::files()));
    assert_eq!(judged(&first), Reason::Complete, "{first:?}: {}", vault.log());
    fs::write(pod.at("data/more"), "1000").unwrap();
    let (_, second) = pod.run(&vault.plan(Pod::files()));
    assert_eq!(judged(&second), Reason::Complete, "{second:?}: {}", vault.log());
    let [first, second] = [first, second].map(|result| result.snapshot.unwrap());
    assert_eq!((first.files, second.files), (1, 2));

    let (_, whole) = pod.run(&vault.plan(json!({"operation": "Check", "readDataSubset": "1/1"})));
    assert_eq!(checked(&whole), Reason::Complete, "{whole:?}: {}", vault.log());
    fs::remove_file(pod.at("data/accounts")).unwrap();
    let restore = json!({"operation": "Restore", "restore": {"snapshot": second.id, "folder": "/data"}});
    let (_, back) = pod.run(&vault.plan(restore));
    assert_eq!((back.stage, back.exit_code), (RunnerStage::Done, Some(0)), "{back:?}: {}", vault.log());
    assert!(fs::read(pod.at("data/accounts")).unwrap() == accounts, "what was stored comes back");

    let prune = json!({"operation": "Prune", "forget": [first.id], "maxUnusedPercent": 0});
    let (_, pruned) = pod.run(&vault.plan(prune));
    assert_eq!((pruned.stage, pruned.forgotten), (RunnerStage::Done, 1), "{pruned:?}: {}", vault.log());
    assert_eq!((vault.count("snapshots"), vault.count("locks")), (1, 0));
}

/// The sentence with which a run is refused.
fn refused(pod: &Pod, vault: &Vault) -> String {
    // The names of whoever runs the tests would count as secrets.
    let (told, result) = pod.run_with(&vault.plan(Pod::files()), &[("USER", ""), ("LOGNAME", "")]);
    assert_eq!(
        (judged(&result), result.stage),
        (Reason::RepositoryUnreachable, RunnerStage::Open),
        "{result:?}: {told}"
    );
    let (user, port) = (&vault.user, vault.port);
    let begins = format!("the SSH session of {user}@127.0.0.1:{port} failed: ");
    let why = result.errors[0].strip_prefix(&begins).unwrap_or_else(|| panic!("{result:?}: {told}")).to_owned();
    let end = PodEnd { message: Some(result.encode().unwrap()), ..PodEnd::default() };
    let expected = Expected { run: "run-1", policy_uid: POLICY, repository_id: None, allow_empty: false };
    let outcome = outcome::judge(&end, &expected).0;
    assert!(outcome.message.ends_with(&why), "nothing is cut: {outcome:?}");
    why
}

#[test]
fn b16_a_server_or_a_user_that_is_not_known_over_ssh_is_refused_with_what_to_do() {
    let pod = Pod::new();
    let vault = Vault::open(&pod);
    fs::write(pod.at("data/accounts"), "1000").unwrap();
    let shown = format!("[127.0.0.1]:{} shows the ssh-ed25519 key SHA256:", vault.port);

    vault.secret(&pod, "", "user");
    let unknown = refused(&pod, &vault);
    assert!(unknown.starts_with(&shown) && unknown.contains("has no key of that type for it"), "{unknown}");
    assert!(unknown.contains(&format!("`ssh-keyscan -p {} 127.0.0.1`", vault.port)), "{unknown}");

    vault.secret(&pod, &vault.line("another-host"), "user");
    let another = refused(&pod, &vault);
    assert!(another.starts_with(&shown) && another.contains("has another one"), "{another}");

    vault.secret(&pod, &format!("{0}@revoked {0}", vault.line("host")), "user");
    let revoked = refused(&pod, &vault);
    assert!(revoked.starts_with(&shown) && revoked.contains("marks as @revoked"), "{revoked}");

    vault.secret(&pod, &vault.line("host"), "stranger");
    let stranger = refused(&pod, &vault);
    assert!(stranger.starts_with(&format!("the server does not let {} in", vault.user)), "{stranger}");
    let public = fs::read_to_string(vault.folder.join("stranger.pub")).unwrap();
    assert!(stranger.ends_with(public.trim_end().strip_suffix(" stranger").unwrap()), "{stranger}");

    fs::remove_file(pod.at("interlock/secrets/repository/ssh-privatekey")).unwrap();
    let missing = refused(&pod, &vault);
    assert!(missing.starts_with("ssh-privatekey of the repository's Secret cannot be read ("), "{missing}");
    assert_eq!(fs::read_dir(vault.folder.join("vault")).unwrap().count(), 0, "nobody was let in");
}
