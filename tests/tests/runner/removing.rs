//! Credentials that add and others that also remove, on real REST servers: one removes for nobody (`--append-only`), another
//! one serves the same data without that. Jobs are those that the core makes, with the Secrets that they name.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread,
};

use interlock_cluster::{Tool, Tools};
use interlock_core::backup::{
    outcome::{self, Outcome, PodEnd, Reason},
    plan::{MaintenanceWork, PLAN_VARIABLE, removes},
    pods::{Images, Owner, backup_job, maintenance_job},
    result::RunResult,
};
use interlock_crds::{BackupMode, BackupPolicySpec, BackupRepositorySpec, MaintenanceOperation, PinnedPolicy};
use serde_json::{Value, json};

use super::{POLICY, Pod, judged};

const IMAGES: Images<'_> = Images { interlock: "interlock:1", restic: "restic:1", postgres: "postgres:18" };
const OWNER: Owner<'_> =
    Owner { kind: "", name: "run-1", uid: "run-1", namespace: "teller", privileges_permitted: false };
/// Where the ConfigMap with the certificates of a repository is mounted.
const CA: &str = "interlock/secrets/ca/ca.crt";

/// Who asks a server: the Secret's name is the user's.
struct User {
    name: &'static str,
    password: &'static str,
    /// Of the password, as htpasswd files have it.
    digest: &'static str,
}

const ADDS: User = User { name: "append", password: "only-adds", digest: "{SHA}9yDsaTOh7kIrK4BDAIiVpMKOpeE=" };
const REMOVES: User = User { name: "full", password: "also-removes", digest: "{SHA}P4dBPUQQr0V5yeLPnx3B8rhvFfk=" };
/// What requests of the second begin with: `full:also-removes`.
const OF_REMOVES: &[u8] = b"Basic ZnVsbDphbHNvLXJlbW92ZXM=";

/// A server on the repository of a pod.
struct Server {
    process: Child,
    port: u16,
}

impl Server {
    /// Lets this user in.
    fn start(pod: &Pod, user: &User, more: &[&str]) -> Self {
        let tools = Tools::ensure_these(&[Tool::RestServer]).unwrap();
        let users = pod.at(&format!("users-{}", user.name));
        fs::write(&users, format!("{}:{}\n", user.name, user.digest)).unwrap();
        let mut command = Command::new(tools.path(Tool::RestServer));
        command.arg("--path").arg(pod.at("repository")).arg("--htpasswd-file").arg(users);
        command.args(["--listen", "127.0.0.1:0"]).args(more).stdin(Stdio::null()).stdout(Stdio::null());
        let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap()).lines().map(Result::unwrap);
        let listens = log.find_map(|line| line.strip_prefix("start server on 127.0.0.1:").map(ToOwned::to_owned));
        // It ends when nobody reads its log.
        thread::spawn(move || log.for_each(drop));
        Self { process, port: listens.expect("a server that listens").parse().unwrap() }
    }

    fn url(&self, scheme: &str) -> String {
        format!("rest:{scheme}://127.0.0.1:{}/", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn repository(restic: &Value) -> BackupRepositorySpec {
    let prune = json!({"schedule": "0 5 * * *", "maxUnusedPercent": 0});
    serde_json::from_value(json!({"restic": restic, "retryLock": "1s", "prune": prune})).unwrap()
}

/// What the Job does, with the Secret that it names.
fn carried_out(pod: &Pod, job: &Value) -> RunResult {
    let tool = job.pointer("/spec/template/spec/initContainers").and_then(Value::as_array).unwrap().last().unwrap();
    let plan = tool["env"].as_array().unwrap().iter().find(|one| one["name"] == PLAN_VARIABLE).unwrap();
    let plan: Value = serde_json::from_str(plan["value"].as_str().unwrap()).unwrap();
    let secret = &tool["envFrom"][0]["secretRef"]["name"];
    let user = [ADDS, REMOVES].into_iter().find(|user| secret == user.name).unwrap();
    pod.run_with(&plan, &[("RESTIC_REST_USERNAME", user.name), ("RESTIC_REST_PASSWORD", user.password)]).1
}

fn upkeep(
    pod: &Pod,
    repository: &BackupRepositorySpec,
    operation: MaintenanceOperation,
    forget: &[String],
) -> (Outcome, RunResult) {
    let work = MaintenanceWork { forget: forget.to_vec(), part: None };
    let job = maintenance_job(&OWNER, "run-1", operation, repository, None, &work, &IMAGES).unwrap();
    let result = carried_out(pod, &job);
    let end = PodEnd { message: Some(result.encode().unwrap()), ..PodEnd::default() };
    let elsewhere = repository.restic.maintenance_url.as_deref().filter(|_| removes(operation));
    (outcome::of_maintenance(&end, "run-1", operation, None, elsewhere).0, result)
}

/// A backup of changed data; the id of its snapshot.
fn backup(pod: &Pod, repository: &BackupRepositorySpec, content: &str) -> String {
    fs::write(pod.at("data/accounts"), content).unwrap();
    let policy: BackupPolicySpec = serde_json::from_value(json!({
        "repositoryRef": {"name": "vault"}, "source": {"files": {"persistentVolumeClaim": "data"}}, "retention": {"keepLast": 1},
    }))
    .unwrap();
    let pinned = PinnedPolicy {
        policy_uid: POLICY.into(),
        policy_generation: 1,
        policy_digest: "sha256:0".into(),
        repository: "vault".into(),
        repository_uid: "vault-uid".into(),
        repository_id: None,
        parent: None,
        base_id: None,
    };
    let result =
        carried_out(pod, &backup_job(&OWNER, &policy, repository, &pinned, BackupMode::Full, &IMAGES).unwrap());
    assert_eq!(judged(&result), Reason::Complete, "{result:?}");
    result.snapshot.unwrap().id
}

fn ids(pod: &Pod) -> Vec<String> {
    pod.snapshots().iter().map(|snapshot| snapshot["id"].as_str().unwrap().to_owned()).collect()
}

/// Whoever may only add makes, fills and checks the repository, and takes nothing away; `both` says who may.
fn adds_and_removes(pod: &Pod, alone: &BackupRepositorySpec, both: &BackupRepositorySpec) {
    let (made, result) = upkeep(pod, alone, MaintenanceOperation::Initialize, &[]);
    assert_eq!(made.reason, Reason::Complete, "{result:?}");
    let first = backup(pod, alone, "1000");
    let second = backup(pod, both, "2000");
    let (checked, result) = upkeep(pod, both, MaintenanceOperation::Check, &[]);
    assert_eq!(checked.reason, Reason::Complete, "{result:?}");

    let (refused, result) = upkeep(pod, alone, MaintenanceOperation::Prune, std::slice::from_ref(&first));
    assert_eq!((refused.reason, result.forgotten), (Reason::NotRemoved, 0), "{result:?}");
    assert!(refused.message.contains("403") && refused.message.contains("maintenanceSecretRef"), "{refused:?}");
    assert!(!refused.message.contains(ADDS.password), "{refused:?}");
    assert_eq!(ids(pod), [first.clone(), second.clone()], "everything is still there");
    assert_eq!(fs::read_dir(pod.at("repository/locks")).unwrap().count(), 0, "its own lock it may take away");

    let (pruned, result) = upkeep(pod, both, MaintenanceOperation::Prune, &[first]);
    assert_eq!((pruned.reason, result.forgotten), (Reason::Complete, 1), "{result:?}");
    assert!(result.freed_bytes > 0, "{result:?}");
    assert_eq!(ids(pod), [second]);
    backup(pod, both, "3000");
}

#[test]
fn b11_what_removes_goes_by_its_own_secret_to_a_server_that_removes_where_the_other_removes_for_nobody() {
    let pod = Pod::new();
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    fs::create_dir_all(pod.at(CA).parent().unwrap()).unwrap();
    for (path, content) in [("tls.crt", &certificate), (CA, &certificate), ("tls.key", &key.serialize_pem())] {
        fs::write(pod.at(path), content).unwrap();
    }
    let files = ["tls.crt", "tls.key"].map(|file| pod.at(file).display().to_string());
    let tls = ["--tls", "--tls-cert", &files[0], "--tls-key", &files[1]];
    let adding = Server::start(&pod, &ADDS, &[&tls[..], &["--append-only"][..]].concat());
    let removing = Server::start(&pod, &REMOVES, &tls);
    let mut restic = json!({
        "url": adding.url("https"), "secretRef": {"name": ADDS.name}, "caConfigMapRef": {"name": "ca"},
    });
    let alone = repository(&restic);
    restic["maintenanceSecretRef"] = json!({"name": REMOVES.name});
    restic["maintenanceUrl"] = json!(removing.url("https"));
    adds_and_removes(&pod, &alone, &repository(&restic));

    // Nobody removes at that address with the credentials of the runs.
    restic["url"] = json!(removing.url("https"));
    restic["maintenanceSecretRef"] = json!({"name": ADDS.name});
    let (refused, result) = upkeep(&pod, &repository(&restic), MaintenanceOperation::Prune, &ids(&pod));
    assert_eq!(refused.reason, Reason::RepositoryUnreachable, "{result:?}");
    assert_eq!(ids(&pod).len(), 2);
}

/// One address for both, as of a bucket whose rules go by who asks: a connection is that of its first request's user. The port.
fn front(adding: u16, removing: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            // A connection that breaks is made anew by restic.
            thread::spawn(move || connect(&mut client, adding, removing));
        }
    });
    port
}

fn connect(client: &mut TcpStream, adding: u16, removing: u16) -> io::Result<()> {
    let (mut head, mut part) = (Vec::new(), [0; 4096]);
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        match client.read(&mut part)? {
            0 => return Ok(()),
            read => head.extend_from_slice(&part[..read]),
        }
    }
    let removes = head.windows(OF_REMOVES.len()).any(|found| found == OF_REMOVES);
    let mut server = TcpStream::connect(("127.0.0.1", if removes { removing } else { adding }))?;
    server.write_all(&head)?;
    let (mut answers, mut back) = (server.try_clone()?, client.try_clone()?);
    thread::spawn(move || io::copy(&mut answers, &mut back));
    io::copy(client, &mut server)?;
    server.shutdown(Shutdown::Write)
}

#[test]
fn b11_at_one_address_for_both_the_secret_decides_who_removes() {
    let pod = Pod::new();
    let adding = Server::start(&pod, &ADDS, &["--append-only"]);
    let removing = Server::start(&pod, &REMOVES, &[]);
    let url = format!("rest:http://127.0.0.1:{}/", front(adding.port, removing.port));
    let mut restic = json!({"url": url, "secretRef": {"name": ADDS.name}});
    let alone = repository(&restic);
    restic["maintenanceSecretRef"] = json!({"name": REMOVES.name});
    adds_and_removes(&pod, &alone, &repository(&restic));
}
