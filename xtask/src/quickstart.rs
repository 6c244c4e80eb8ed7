//! `cargo xtask quickstart`: the main job on a real Kubernetes, step by step, with what a person would have typed.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use interlock_cluster::{ADMIN, Cluster, ClusterOptions};

use crate::shell::{self, ShellError};

/// How it is shown.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Leave everything running at the end, until Ctrl-C.
    #[arg(long)]
    keep: bool,
}

/// Why it failed.
#[derive(Debug, thiserror::Error)]
pub enum QuickstartError {
    /// A program failed.
    #[error(transparent)]
    Shell(#[from] ShellError),
    /// The cluster could not be brought up or down.
    #[error("the local cluster failed")]
    Cluster(#[source] Box<dyn std::error::Error>),
    /// A file could not be read or written.
    #[error("{0}")]
    File(String),
    /// Something did not come out as it should.
    #[error("{0}")]
    Unexpected(String),
}

type Outcome<T = ()> = Result<T, QuickstartError>;

/// The user whom kwok uses in the local cluster: it stands for kubelets.
const NODE_AGENT: &str = "interlock-kwok";
/// The examples that are applied, in order, before the first change.
const SETUP: [&str; 5] =
    ["00-namespace.yaml", "20-executor.yaml", "25-people-rbac.yaml", "30-app.yaml", "35-governors.yaml"];

/// Runs the quickstart.
pub fn run(arguments: &Arguments) -> Outcome {
    let started = Instant::now();
    say("Building Interlock");
    shell::run(&mut shell::cargo(&["build", "--quiet", "--package", "interlock"]))?;
    say("Starting a real Kubernetes (etcd, kube-apiserver, controller-manager, scheduler; kwok simulates nodes)");
    let cluster =
        Cluster::up(&ClusterOptions::ephemeral("quickstart")).map_err(|e| QuickstartError::Cluster(Box::new(e)))?;
    let shop = Shop { examples: shell::root().join("examples/quickstart"), binary: binary(), cluster: &cluster };
    let mut controller = shop.install()?;
    let told = shop.story();
    if told.is_ok() {
        say(&format!("Done in {} s", started.elapsed().as_secs()));
        if arguments.keep {
            println!(
                "   Everything keeps running until Ctrl-C. In another terminal:\n   export KUBECONFIG={}",
                cluster.admin_kubeconfig().display()
            );
            // Ctrl-C ends this process; leash and watchdog then end controller and cluster.
            loop {
                std::thread::park();
            }
        }
    } else {
        eprintln!("--- the controller's log ends with ---\n{}", tail(&shop.log()));
    }
    drop(controller.stdin.take());
    let _ = controller.wait();
    cluster.down().map_err(|e| QuickstartError::Cluster(Box::new(e)))?;
    told
}

struct Shop<'a> {
    examples: PathBuf,
    binary: PathBuf,
    cluster: &'a Cluster,
}

impl Shop<'_> {
    fn log(&self) -> PathBuf {
        self.cluster.directory().join("interlock.log")
    }

    /// Installs Interlock and starts its controller as a process on this machine.
    fn install(&self) -> Outcome<Child> {
        let webhook = free_port()?;
        let metrics = free_port()?;
        say("Installing Interlock: definitions, rights, keys, webhooks, and three people who govern the governors");
        let url = format!("https://127.0.0.1:{webhook}");
        let mut install = self.interlock(ADMIN);
        install.args(["install", "--apply", "--webhook-url", &url, "--node-agent", NODE_AGENT]);
        for person in ["alice", "bob", "carol"] {
            install.args(["--root-approver", person]);
        }
        typed(&install);
        shell::output(&mut install)?;
        say("Starting the controller, under its own ServiceAccount");
        let kubeconfig = self.controller_kubeconfig()?;
        let log = File::create(self.log()).map_err(|e| QuickstartError::File(e.to_string()))?;
        let mut controller = Command::new(&self.binary);
        controller.args(["run", "--lease-seconds", "3", "--webhook-host", "127.0.0.1"]).args([
            "--webhook-bind",
            &format!("127.0.0.1:{webhook}"),
            "--metrics-bind",
            &format!("127.0.0.1:{metrics}"),
        ]);
        typed(&controller);
        let child = leashed(&controller)
            .env("KUBECONFIG", &kubeconfig)
            .env("NO_COLOR", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|e| QuickstartError::File(format!("the controller could not be started: {e}")))?;
        self.until("the controller to be ready", Duration::from_mins(1), || {
            fs::read_to_string(self.log()).is_ok_and(|text| text.contains("serving"))
        })?;
        Ok(child)
    }

    fn controller_kubeconfig(&self) -> Outcome<PathBuf> {
        let mut create = self.cluster.kubectl(ADMIN);
        create.args([
            "create",
            "token",
            "interlock-controller",
            "--namespace",
            "interlock-system",
            "--duration",
            "24h",
        ]);
        let token = shell::output(&mut create)?;
        let view = |path: &str| {
            let mut view = self.cluster.kubectl(ADMIN);
            view.args([
                "config",
                "view",
                "--raw",
                "--minify",
                "-o",
                &format!("jsonpath={{.clusters[0].cluster.{path}}}"),
            ]);
            shell::output(&mut view)
        };
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: interlock\n\
             clusters: [{{name: interlock, cluster: {{server: \"{}\", certificate-authority-data: \"{}\"}}}}]\n\
             users: [{{name: interlock, user: {{token: \"{}\"}}}}]\n\
             contexts: [{{name: interlock, context: {{cluster: interlock, user: interlock}}}}]\n",
            view("server")?.trim(),
            view("certificate-authority-data")?.trim(),
            token.trim()
        );
        let path = self.cluster.directory().join("interlock-controller.kubeconfig");
        fs::write(&path, text).map_err(|e| QuickstartError::File(format!("{}: {e}", path.display())))?;
        Ok(path)
    }

    /// The story: a good change that waits, is approved and carried out; then a bad one that goes back by itself.
    fn story(&self) -> Outcome {
        say("Putting the shop under governance: its System, who is who, who may approve, and who carries changes out");
        for file in SETUP {
            self.apply(ADMIN, file)?;
        }
        self.until("the System to be ready", Duration::from_secs(30), || {
            self.read(&["get", "system", "shop", "-o", "jsonpath={.status.phase}"]).is_ok_and(|phase| phase == "Ready")
        })?;
        self.until("the shop to run", Duration::from_mins(1), || self.available() == "3")?;

        say("Alice tries to change the Deployment by hand");
        let mut edit = self.cluster.kubectl("alice");
        edit.args(["set", "image", "deployment/shop", "shop=shop:1.1.0", "--namespace", "shop"]);
        typed(&edit);
        let denied = edit.output().map_err(|e| QuickstartError::Unexpected(e.to_string()))?;
        if denied.status.success() {
            return Err(QuickstartError::Unexpected("the edit should have been denied".to_owned()));
        }
        println!("{}", indented(&String::from_utf8_lossy(&denied.stderr)));

        say("So she asks for a change, and it waits");
        self.apply("alice", "40-change-good.yaml")?;
        self.digest("shop-1-1-0")?;
        self.show("alice", &["why", "cr/shop-1-1-0", "--namespace", "shop"])?;

        say("Bob and Carol approve it");
        self.show("bob", &["approve", "cr/shop-1-1-0", "--namespace", "shop", "--reason", "reviewed the difference"])?;
        self.show("carol", &["approve", "cr/shop-1-1-0", "--namespace", "shop", "--reason", "reviewed the tests"])?;
        self.show("alice", &["status", "cr/shop-1-1-0", "--namespace", "shop", "--watch"])?;
        self.expect("shop-1-1-0", "Succeeded", "shop:1.1.0")?;

        say("The next version is broken: its pods never become ready");
        self.apply("alice", "50-change-bad.yaml")?;
        let bad = "shop-1-2-0";
        self.digest(bad)?;
        for person in ["bob", "carol"] {
            self.show(person, &["approve", &format!("cr/{bad}"), "--namespace", "shop", "--reason", "looks good"])?;
        }
        self.show("alice", &["status", &format!("cr/{bad}"), "--namespace", "shop", "--watch"])?;
        self.expect(bad, "RolledBack", "shop:1.1.0")?;

        say("What Kubernetes says at the end");
        let mut get = self.cluster.kubectl(ADMIN);
        get.args(["get", "changerequests,approvals,deployments", "--namespace", "shop"]);
        typed(&get);
        println!("{}", indented(&shell::output(&mut get)?));
        Ok(())
    }

    fn apply(&self, user: &str, file: &str) -> Outcome {
        let mut apply = self.cluster.kubectl(user);
        let path = self.examples.join(file);
        apply.args(["apply", "-f"]).arg(&path);
        println!("   {user}$ kubectl apply -f examples/quickstart/{file}");
        println!("{}", indented(&shell::output(&mut apply)?));
        Ok(())
    }

    /// Runs a command of Interlock whose exit code tells of the change, not of a failure.
    fn show(&self, user: &str, arguments: &[&str]) -> Outcome {
        let mut command = self.interlock(user);
        command.args(arguments);
        println!("   {user}$ interlock {}", quoted(arguments));
        let output = command.output().map_err(|e| QuickstartError::Unexpected(e.to_string()))?;
        println!("{}", indented(&String::from_utf8_lossy(&output.stdout)));
        match output.status.code() {
            Some(0 | 4 | 5) => Ok(()),
            _ => Err(QuickstartError::Unexpected(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
        }
    }

    fn digest(&self, change: &str) -> Outcome {
        self.until("the change to be looked at", Duration::from_secs(30), || {
            self.read(&["get", "cr", change, "-n", "shop", "-o", "jsonpath={.status.changeDigest}"])
                .is_ok_and(|d| !d.is_empty())
        })
    }

    fn expect(&self, change: &str, phase: &str, image: &str) -> Outcome {
        let found = self.read(&["get", "cr", change, "-n", "shop", "-o", "jsonpath={.status.phase}"])?;
        let running = self.read(&[
            "get",
            "deployment",
            "shop",
            "-n",
            "shop",
            "-o",
            "jsonpath={.spec.template.spec.containers[0].image}",
        ])?;
        if found == phase && running == image {
            println!("   {change} is {found}; the shop runs {running}\n");
            return Ok(());
        }
        Err(QuickstartError::Unexpected(format!(
            "{change} should be {phase} with {image}, but is {found} with {running}"
        )))
    }

    fn available(&self) -> String {
        self.read(&["get", "deployment", "shop", "-n", "shop", "-o", "jsonpath={.status.availableReplicas}"])
            .unwrap_or_default()
    }

    fn read(&self, arguments: &[&str]) -> Result<String, ShellError> {
        shell::output(self.cluster.kubectl(ADMIN).args(arguments))
    }

    fn interlock(&self, user: &str) -> Command {
        let mut command = Command::new(&self.binary);
        let kubeconfig = if user == ADMIN { self.cluster.admin_kubeconfig() } else { self.cluster.kubeconfig(user) };
        command.env("KUBECONFIG", kubeconfig).stdin(Stdio::null());
        command
    }

    fn until(&self, what: &str, limit: Duration, mut done: impl FnMut() -> bool) -> Outcome {
        let deadline = Instant::now() + limit;
        while !done() {
            if Instant::now() > deadline {
                return Err(QuickstartError::Unexpected(format!(
                    "waited {} s for {what}\n{}",
                    limit.as_secs(),
                    tail(&self.log())
                )));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }
}

/// The command under a shell that ends it when this process ends, however that is: the shell waits at a pipe that only
/// this process holds open.
fn leashed(command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", "\"$@\" </dev/null & child=$!; cat >/dev/null; kill $child; wait $child", "leash"]);
    shell.arg(command.get_program()).args(command.get_args());
    shell
}

fn binary() -> PathBuf {
    shell::target().join("debug/interlock")
}

fn free_port() -> Outcome<u16> {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    port.map(|address| address.port()).map_err(|e| QuickstartError::File(format!("no free port: {e}")))
}

fn say(what: &str) {
    println!("\n== {what}");
}

fn typed(command: &Command) {
    println!("   $ {}", shell::shown(command));
}

fn quoted(arguments: &[&str]) -> String {
    let each = arguments.iter().map(|a| if a.contains(' ') { format!("'{a}'") } else { (*a).to_owned() });
    each.collect::<Vec<_>>().join(" ")
}

fn indented(text: &str) -> String {
    text.trim_end().lines().map(|line| format!("     {line}")).collect::<Vec<_>>().join("\n")
}

fn tail(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
