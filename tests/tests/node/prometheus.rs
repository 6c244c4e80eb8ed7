//! A Prometheus on this machine that reads the tests' web servers.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use interlock_cluster::Prometheus;
use interlock_tests::{Api, World, eventually, world::SOON};
use serde_json::{Value, json};

const CONFIG: &str = "global: {scrape_interval: 500ms, scrape_timeout: 500ms}
scrape_configs:
- {job_name: pods, file_sd_configs: [{files: [targets.json]}]}
";

/// A running server.
pub struct Server {
    process: Child,
    port: u16,
    folder: tempfile::TempDir,
    ended: Arc<AtomicBool>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Server {
    /// Reads every pod that is `app: web` twice a second, and labels what it reads with the pod's hash.
    pub fn start(world: &World) -> Self {
        let programs = Prometheus::ensure().expect("Prometheus");
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("config"), CONFIG).expect("its configuration");
        fs::write(folder.path().join("targets.json"), "[]").expect("its targets");
        let ended = Arc::new(AtomicBool::new(false));
        follow_pods(world.admin().clone(), folder.path(), Arc::clone(&ended));
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|free| free.local_addr()).expect("port").port();
        let process = Command::new(&programs.server)
            .args(["--config.file=config", "--storage.tsdb.path=data"])
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.path().join("log")).expect("its log"))
            .spawn()
            .expect("prometheus");
        Self { process, port, folder, ended }
    }

    /// Where it answers.
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Waits until it has read so many pods.
    pub fn wait_for(&self, pods: usize) {
        eventually(SOON, || {
            let answer = get(self.port, "/api/v1/query?query=sum(up)").map_err(|error| {
                format!("{error}; its log:\n{}", fs::read_to_string(self.folder.path().join("log")).unwrap_or_default())
            })?;
            if answer.contains(&format!(",\"{pods}\"]")) { Ok(()) } else { Err(answer) }
        });
    }
}

/// Debian's build of the server cannot ask Kubernetes by itself.
fn follow_pods(api: Api, folder: &Path, ended: Arc<AtomicBool>) {
    let (targets, new) = (folder.join("targets.json"), folder.join("targets.new"));
    thread::spawn(move || {
        let mut written = Vec::new();
        while !ended.load(Ordering::Relaxed) {
            if let Ok(pods) = api.get("/api/v1/pods?labelSelector=app=web") {
                let found: Vec<Value> = pods["items"].as_array().into_iter().flatten().filter_map(target).collect();
                // What cannot be written now is written at the next look.
                let is_written = found != written
                    && fs::write(&new, Value::from(found.clone()).to_string()).is_ok()
                    && fs::rename(&new, &targets).is_ok();
                if is_written {
                    written = found;
                }
            }
            thread::sleep(Duration::from_millis(200));
        }
    });
}

fn target(pod: &Value) -> Option<Value> {
    let address = pod["status"]["podIP"].as_str()?;
    let hash = &pod["metadata"]["labels"]["pod-template-hash"];
    Some(json!({"targets": [format!("{address}:8080")], "labels": {"hash": hash, "pod": pod["metadata"]["name"]}}))
}

fn get(port: u16, path: &str) -> std::io::Result<String> {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
