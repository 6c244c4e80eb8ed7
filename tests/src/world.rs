//! A cluster with Interlock in it.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        LazyLock, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use interlock_cluster::{ADMIN, Audit, Cluster, ClusterOptions, Node, NodeOptions, USERS};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::{Api, Refusal, audit};

/// How long anything may take that a person would call immediate, on a busy machine.
pub const SOON: Duration = Duration::from_mins(2);

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
});

/// Runs what is asynchronous to its end, where the requests of [`Api`] run.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    RUNTIME.block_on(future)
}

/// The API server of a kubeconfig.
pub fn api(kubeconfig: &Path) -> Api {
    Api::new(&RUNTIME, kubeconfig)
}

/// The cluster that all tests of this binary share.
pub fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    static TRIED: AtomicBool = AtomicBool::new(false);
    WORLD.get_or_init(|| {
        // What failed for the first test would fail as slowly for each of the others.
        assert!(!TRIED.swap(true, Ordering::Relaxed), "the cluster could not be set up: see the first failure");
        World::up(&Installation::default())
    })
}

/// Looks until `find` finds something; panics with what it said last when that takes too long.
pub fn eventually<T>(limit: Duration, mut find: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match find() {
            Ok(found) => return found,
            Err(why) if start.elapsed() > limit => panic!("waited {} s in vain: {why}", limit.as_secs()),
            Err(_) => thread::sleep(Duration::from_millis(40)),
        }
    }
}

/// How Interlock is installed.
#[derive(Clone, Debug)]
pub struct Installation {
    pub name: &'static str,
    pub audit: Audit,
    /// Whether the root System is locked once the people are known.
    pub lock: bool,
    /// Whether RBAC lets every user do everything, so that what is denied then, Interlock denies.
    pub open: bool,
    /// A real node in place of the simulated ones. Needs [`Node::check_possible`].
    pub node: Option<NodeOptions>,
    /// So long whoever takes over from a controller that was killed waits, in seconds.
    pub lease_seconds: u8,
}

impl Default for Installation {
    fn default() -> Self {
        Self { name: "e2e", audit: Audit::Bodies, lock: false, open: true, node: None, lease_seconds: 3 }
    }
}

/// A cluster with Interlock in it, and its controller as a process of this machine.
pub struct World {
    cluster: Cluster,
    node: Option<Node>,
    apis: BTreeMap<&'static str, Api>,
    controller: Mutex<Option<Controller>>,
    webhook: u16,
    metrics: u16,
    executor_rbac: String,
    lease_seconds: u8,
    stages: AtomicUsize,
}

/// A controller. A shell is between it and this process, so that it ends with this process however that ends.
pub struct Controller {
    shell: Child,
    /// Closed, the shell kills the controller.
    leash: Option<ChildStdin>,
    pid: u32,
}

impl Controller {
    /// `STOP`, `CONT`, `KILL`.
    pub fn signal(&self, name: &str) {
        // It may have ended by itself.
        let _ = Command::new("kill").args(["-s", name, &self.pid.to_string()]).status();
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        // The shell collects it.
        self.signal("KILL");
        drop(self.leash.take());
        let _ = self.shell.wait();
    }
}

impl World {
    /// Brings up a cluster and installs Interlock in it.
    pub fn up(installation: &Installation) -> Self {
        let mut options = ClusterOptions::ephemeral(installation.name).with_audit(installation.audit);
        options.real_node = installation.node.is_some();
        let mut cluster = Cluster::up(&options).unwrap_or_else(|error| panic!("no cluster: {error:?}"));
        let node = installation.node.as_ref().map(|options| {
            Node::start(&mut cluster, options).unwrap_or_else(|error| panic!("no real node: {error:?}"))
        });
        let apis = USERS.iter().map(|user| user.name).chain([ADMIN]);
        let apis = apis.map(|user| (user, api(&cluster.kubeconfig(user)))).collect();
        let (webhook, metrics) = (free_port(), free_port());
        let mut world = Self {
            cluster,
            node,
            apis,
            controller: Mutex::new(None),
            webhook,
            metrics,
            executor_rbac: String::new(),
            lease_seconds: installation.lease_seconds,
            stages: AtomicUsize::new(0),
        };
        world.install(&[]);
        world.executor_rbac =
            world.interlock(ADMIN, &["install", "--print-executor", "the-namespace/the-executor", "--with-role"]);
        if installation.open {
            world.let_everyone_in();
        }
        world.write_controller_kubeconfig();
        world.start_controller();
        world.introduce_people();
        if installation.lock {
            world.install(&["--lock"]);
        }
        world
    }

    fn install(&self, more: &[&str]) {
        let url = format!("https://127.0.0.1:{}", self.webhook);
        let mut arguments = vec!["install", "--apply", "--webhook-url", &url, "--node-agent", "interlock-kwok"];
        for approver in ["alice", "bob", "carol"] {
            arguments.extend(["--root-approver", approver]);
        }
        arguments.extend(more);
        self.interlock(ADMIN, &arguments);
    }

    fn let_everyone_in(&self) {
        let subjects: Vec<Value> = ["developers", "sre", "branch-ops", "incident-commander"]
            .into_iter()
            .map(|group| json!({"kind": "Group", "name": group, "apiGroup": "rbac.authorization.k8s.io"}))
            .collect();
        self.admin()
            .create(&json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
                "metadata": {"name": "everyone"}, "subjects": subjects,
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            }))
            .unwrap();
    }

    /// Everybody but mallory is a known person; alice and bob have a second identity.
    fn introduce_people(&self) {
        for (name, identities) in [
            ("alice", vec!["alice", "alice-admin"]),
            ("bob", vec!["bob", "bob-admin"]),
            ("dave", vec!["dave"]),
            ("erin", vec!["erin"]),
            ("frank", vec!["frank"]),
        ] {
            let person = json!({
                "apiVersion": "interlock.dev/v1alpha1", "kind": "Person", "metadata": {"name": name},
                "spec": {"displayName": {"en": name}, "identities": identities},
            });
            let path = crate::path_of(&person);
            eventually(SOON, || {
                let written = match self.admin().get(&path) {
                    Ok(_) => self.admin().merge(&path, &json!({"spec": {"identities": identities}})),
                    Err(_) => self.admin().create(&person),
                };
                written.map_err(|refusal| refusal.to_string())
            });
        }
        let valid = |person: &Value| condition(person, "Valid").is_some_and(|c| c["status"] == "True");
        eventually(SOON, || {
            let persons = self.admin().get("/apis/interlock.dev/v1alpha1/persons").map_err(|e| e.to_string())?;
            let items = persons["items"].as_array().unwrap();
            if items.iter().all(valid) { Ok(()) } else { Err(format!("not every Person is valid: {items:?}")) }
        });
    }

    fn write_controller_kubeconfig(&self) {
        let token = self
            .admin()
            .post(
                "/api/v1/namespaces/interlock-system/serviceaccounts/interlock-controller/token",
                &json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 86_400}}),
            )
            .unwrap();
        let text = fs::read_to_string(self.cluster.admin_kubeconfig()).unwrap();
        let mut config: Value = serde_saphyr::from_str(&text).unwrap();
        config["users"][0]["user"] = json!({"token": token["status"]["token"]});
        fs::write(self.controller_kubeconfig(), serde_json::to_string(&config).unwrap()).unwrap();
    }

    fn controller_kubeconfig(&self) -> PathBuf {
        self.cluster.directory().join("controller.kubeconfig")
    }

    /// Starts the controller and waits until it serves. Does nothing if it runs.
    pub fn start_controller(&self) {
        self.launch_controller();
        self.wait_ready();
    }

    /// Starts the controller without waiting for anything.
    pub fn launch_controller(&self) {
        let mut controller = self.lock();
        if controller.is_none() {
            *controller = Some(self.spawn(self.webhook, self.metrics, &self.controller_log()));
        }
    }

    /// Starts a second controller beside the first: it may lead, and the API server asks the first one's webhooks.
    pub fn second_controller(&self) -> Controller {
        self.spawn(free_port(), free_port(), &self.controller_log().with_file_name("second.log"))
    }

    fn spawn(&self, webhook: u16, metrics: u16, log: &Path) -> Controller {
        let script = r#""$0" "$@" 2>>"$LOG" </dev/null & echo $!; cat >/dev/null; kill -9 $! 2>/dev/null"#;
        let mut shell = Command::new("sh")
            .args(["-c", script])
            .arg(binary())
            .args(["run", "--webhook-bind", &format!("127.0.0.1:{webhook}")])
            .args(["--metrics-bind", &format!("127.0.0.1:{metrics}")])
            .args(["--webhook-host", "127.0.0.1", "--lease-seconds", &self.lease_seconds.to_string()])
            .arg("--analysis-loopback")
            .args(["--image", "interlock:test", "--restic-image", "restic:1", "--postgres-image", "postgres:15"])
            .env("KUBECONFIG", self.controller_kubeconfig())
            .env("NO_COLOR", "1")
            .env("LOG", log)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut line = String::new();
        BufReader::new(shell.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let pid = line.trim().parse().expect("the controller's process id");
        Controller { leash: shell.stdin.take(), shell, pid }
    }

    /// Waits until the controller serves.
    pub fn wait_ready(&self) {
        eventually(SOON, || match self.http("/readyz") {
            Ok(answer) if answer.starts_with("HTTP/1.1 200") => Ok(()),
            other => Err(format!("the controller is not ready: {other:?}; its log:\n{}", tail(&self.controller_log()))),
        });
    }

    /// SIGKILL: nothing is finished, written or handed over.
    pub fn kill_controller(&self) {
        drop(self.lock().take());
    }

    /// How many calls of the API server the controller made since its start, leases aside.
    pub fn api_calls(&self) -> f64 {
        let metrics = self.http("/metrics").expect("metrics");
        metrics
            .lines()
            .filter(|l| l.contains("api_calls_total{") && !l.contains("resource=\"leases\""))
            .filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// Kills the controller and does what its webhooks would refuse, for instance to store what ended years ago. Start it
    /// again afterwards.
    pub fn unguarded(&self, work: impl FnOnce()) {
        self.kill_controller();
        let guards = ["validatingwebhookconfigurations", "mutatingwebhookconfigurations"].map(|kind| {
            let path = format!("/apis/admissionregistration.k8s.io/v1/{kind}");
            let list = self.admin().get(&path).expect("the webhooks");
            let ours: Vec<Value> = list["items"].as_array().cloned().unwrap_or_default();
            for guard in &ours {
                let name = guard["metadata"]["name"].as_str().unwrap_or_default();
                self.admin().delete(&format!("{path}/{name}")).expect("a guard");
            }
            (path, ours)
        });
        work();
        for (path, ours) in guards {
            for mut guard in ours {
                let metadata = guard["metadata"].as_object_mut().expect("metadata");
                for field in ["resourceVersion", "uid", "creationTimestamp", "generation", "managedFields"] {
                    metadata.remove(field);
                }
                self.admin().post(&path, &guard).expect("a guard");
            }
        }
    }

    /// The controller's process id.
    pub fn controller_process(&self) -> u32 {
        self.lock().as_ref().expect("a controller runs").pid
    }

    fn lock(&self) -> MutexGuard<'_, Option<Controller>> {
        self.controller.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn controller_log(&self) -> PathBuf {
        self.cluster.directory().join("logs").join("interlock.log")
    }

    /// `/metrics` and the like of the controller, with the HTTP head.
    pub fn http(&self, path: &str) -> std::io::Result<String> {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, self.metrics))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// The API server as that user of the cluster.
    pub fn user(&self, name: &str) -> &Api {
        self.apis.get(name).unwrap_or_else(|| panic!("no user {name}"))
    }

    pub fn admin(&self) -> &Api {
        self.user(ADMIN)
    }

    /// As one of the cluster's users, or, by impersonation, as one of their second identities.
    pub fn identity(&self, name: &str) -> Api {
        match self.apis.get(name) {
            Some(api) => api.clone(),
            None => self.admin().acting_as(name, &["sre"]),
        }
    }

    /// The real node, if it was asked for.
    pub fn node(&self) -> Option<&Node> {
        self.node.as_ref()
    }

    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// kubectl as a person uses it: what it prints, on both streams, and whether it succeeded.
    pub fn kubectl(&self, user: &str, arguments: &[&str], input: &str) -> (bool, String) {
        let mut command = self.cluster.kubectl(user);
        command.args(arguments);
        let (code, output) = run(command, input);
        (code == Some(0), output)
    }

    /// The `interlock` command as a person uses it; panics if it fails.
    pub fn interlock(&self, user: &str, arguments: &[&str]) -> String {
        let (well, output) = self.interlock_status(user, arguments);
        assert!(well, "interlock {arguments:?}: {output}");
        output
    }

    /// The `interlock` command, and whether it succeeded.
    pub fn interlock_status(&self, user: &str, arguments: &[&str]) -> (bool, String) {
        let (code, output) = self.interlock_code(user, arguments);
        (code == Some(0), output)
    }

    /// The `interlock` command, and its exit code.
    pub fn interlock_code(&self, user: &str, arguments: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new(binary());
        command.args(arguments).env("KUBECONFIG", self.cluster.kubeconfig(user)).env("NO_COLOR", "1");
        run(command, "")
    }

    /// Roles by which Interlock may act as the executor, and what that may write.
    pub fn executor_rbac(&self, namespace: &str, name: &str) -> Vec<Value> {
        let text = self.executor_rbac.replace("the-namespace", namespace).replace("the-executor", name);
        text.split("\n---\n")
            .filter_map(|document| serde_saphyr::from_str::<Value>(document).ok())
            .filter(Value::is_object)
            .collect()
    }

    /// Requests so far whose line in the audit log contains `needle`.
    pub fn audit(&self, needle: &str) -> Vec<audit::Event> {
        audit::events(&self.cluster.audit_log().expect("an audit log"), needle)
    }

    /// A number that no other stage of this world has.
    pub(crate) fn next_stage(&self) -> usize {
        self.stages.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Creates an object, or finds it.
    pub fn ensure(&self, object: &Value) -> Result<(), Refusal> {
        match self.admin().create(object) {
            Err(refusal) if refusal.code == 409 => Ok(()),
            other => other.map(|_| ()),
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.kill_controller();
    }
}

/// A condition of an object.
pub fn condition<'a>(object: &'a Value, type_: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == type_)
}

/// The exit code, none after a signal, and what was printed.
fn run(mut command: Command, input: &str) -> (Option<i32>, String) {
    use std::io::Write as _;
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    // A program that reads nothing closes the pipe.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (output.status.code(), text)
}

/// The built `interlock`.
pub fn binary() -> PathBuf {
    let path = std::env::var_os("INTERLOCK_BIN").map_or_else(
        || {
            let test = std::env::current_exe().unwrap();
            // target/debug/deps/e2e-... beside target/debug/interlock
            test.parent().and_then(Path::parent).unwrap().join("interlock")
        },
        PathBuf::from,
    );
    assert!(
        path.is_file(),
        "there is no {}: run `cargo build -p interlock` or `cargo xtask test`, or set INTERLOCK_BIN",
        path.display()
    );
    path
}

/// A port that is free and that the kernel gives no outgoing connection, so that it is still free when a controller starts
/// again: one below those, another first one in each process.
fn free_port() -> u16 {
    const FIRST: u32 = 20_000;
    const COUNT: u32 = 12_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let own = std::process::id().wrapping_mul(97);
    let ports = (0..COUNT).map(|_| FIRST + own.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT);
    let mut ports = ports.filter_map(|port| u16::try_from(port).ok());
    ports.find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()).expect("a free port")
}

fn tail(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
