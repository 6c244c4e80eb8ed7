//! A real node: containers, volumes, Services and NetworkPolicies as they really are. Needs Linux and root; without them
//! each test says so and ends. The first run on a machine also builds the node's programs.

// The lints' own exceptions cover test functions, not the helpers they share.
#![allow(clippy::panic, clippy::unwrap_used)]

mod world;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use interlock_cluster::{Cluster, Node, PodNetwork, ProcessId};

use world::{Kind, LIMIT, PLAIN, World, cgroups, named};

/// Set for the process that [`hold_a_node`] runs in.
const HOLDER: &str = "INTERLOCK_TEST_NODE_HOLDER";

type Step = (&'static str, fn(&World));

#[test]
fn pods_volumes_services_and_policies_are_real() {
    let Some(world) = World::start("node-enforced", PodNetwork::Enforced) else {
        return;
    };
    let steps: [Step; 6] = [
        ("Job", a_job_completes_and_its_log_can_be_read),
        ("Service", a_service_answers_and_pods_reach_each_other),
        ("policy", a_default_deny_policy_holds),
        ("volume", a_volume_outlives_its_pod),
        ("PostgreSQL", postgres_answers),
        ("restic", restic_restores_what_it_backed_up),
    ];
    for (name, step) in steps {
        let began = Instant::now();
        step(&world);
        eprintln!("{name}: {:.1} s", began.elapsed().as_secs_f32());
    }
    nothing_is_left(world);
}

/// Not a test of its own: another process, which [`a_killed_run_is_swept`] kills.
#[test]
fn hold_a_node() {
    if std::env::var_os(HOLDER).is_none() {
        return;
    }
    let Some(world) = World::start("node-killed", PodNetwork::Enforced) else {
        return;
    };
    world.pod(Kind::Server, "client", "busybox:1", "sleep 3600", PLAIN);
    println!("{HOLDER} {} {}", world.cluster.directory().display(), world.node.network().interface());
    std::thread::park();
}

#[test]
fn a_killed_run_is_swept() {
    if let Err(reason) = Node::check_possible() {
        eprintln!("skipped: {reason}");
        return;
    }
    let mut holder = Command::new(std::env::current_exe().unwrap());
    holder.args(["--exact", "hold_a_node", "--nocapture"]).env(HOLDER, "1").stdout(Stdio::piped());
    let mut holder = holder.spawn().unwrap();
    let said = BufReader::new(holder.stdout.take().unwrap()).lines().map_while(Result::ok).find_map(|line| {
        let (_, words) = line.split_once(HOLDER)?;
        let (folder, interface) = words.trim().split_once(' ')?;
        Some((folder.to_owned(), interface.to_owned()))
    });
    let (folder, interface) = said.unwrap();
    let cgroup = interface.replace("interlock", "interlock-node-");
    let (folder, interface) = (Path::new(&folder), Path::new("/sys/class/net").join(interface));
    // Also the watchdog, as when the machine runs out of memory: nobody is left to clean up at once.
    let watchdog = named(folder).into_iter().find(|pid| {
        fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default().windows(10).any(|part| part == b"\0watchdog\0")
    });
    assert!(Command::new("kill").args(["-KILL", &watchdog.unwrap()]).status().unwrap().success());
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert!(!named(folder).is_empty() && interface.exists() && !cgroups(&cgroup).is_empty());
    Cluster::all().unwrap();
    assert_eq!(named(folder), Vec::<String>::new());
    assert_eq!(cgroups(&cgroup), Vec::<String>::new());
    assert!(!folder.exists() && !interface.exists());
}

#[test]
fn without_enforcement_a_policy_does_nothing() {
    let Some(world) = World::start("node-unenforced", PodNetwork::Unenforced) else {
        return;
    };
    interlock_cluster::web("web:1").unwrap().import(&world.node).unwrap();
    web_server(&world, "default", "target");
    deny_all(&world);
    world.pod(Kind::Server, "denied/client", "busybox:1", "sleep 3600", PLAIN);
    let address = address(&world, "default", "target");
    assert_eq!(dial(&world, "denied/client", &address), Ok("one".to_owned()));
    nothing_is_left(world);
}

fn a_job_completes_and_its_log_can_be_read(world: &World) {
    world.apply(
        "{apiVersion: batch/v1, kind: Job, metadata: {name: job}, spec: {template: {spec: {restartPolicy: Never,
volumes: [{name: scratch, emptyDir: {}}], containers: [{name: c, image: 'busybox:1', imagePullPolicy: Never,
command: [sh, -c, 'echo kept > /scratch/file && cat /scratch/file'],
volumeMounts: [{name: scratch, mountPath: /scratch}]}]}}}}",
    );
    let began = Instant::now();
    world.kubectl(&format!("wait --for=condition=Complete job/job {LIMIT}")).unwrap();
    eprintln!("a Job completed after {:.1} s", began.elapsed().as_secs_f32());
    assert_eq!(world.kubectl("logs job/job"), Ok("kept".to_owned()));
}

/// The web server of the tests, which answers `one`.
fn web_server(world: &World, namespace: &str, name: &str) {
    world.apply(&format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: {namespace}, labels: {{app: web}}}}, spec: {{containers: [{{name: c,
ports: [{{name: http, containerPort: 8080}}], image: 'web:1', imagePullPolicy: Never, env: [{{name: VERSION, value: one}}],
readinessProbe: {{httpGet: {{path: /healthz, port: 8080}}, periodSeconds: 1}}}}]}}}}"
    ));
    world.kubectl(&format!("wait --for=condition=Ready pod/{name} --namespace {namespace} {LIMIT}")).unwrap();
}

fn address(world: &World, namespace: &str, pod: &str) -> String {
    let ip = world.kubectl(&format!("get pod {pod} --namespace {namespace} --output=jsonpath={{.status.podIP}}"));
    format!("{}:8080", ip.unwrap())
}

/// `-T`, wget's own limit, crashes Debian's static busybox.
fn dial(world: &World, from: &str, address: &str) -> Result<String, String> {
    world.exec(from, &format!("timeout 2 wget -q -O - http://{address}/"))
}

fn a_service_answers_and_pods_reach_each_other(world: &World) {
    interlock_cluster::web("web:1").unwrap().import(&world.node).unwrap();
    web_server(world, "default", "web-a");
    web_server(world, "default", "web-b");
    world.apply(
        "{apiVersion: v1, kind: Service, metadata: {name: web},
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}}",
    );
    world.pod(Kind::Server, "client", "busybox:1", "sleep 3600", PLAIN);
    let service = world.kubectl("get service web --output=jsonpath={.spec.clusterIP}").unwrap();
    world.eventually("the Service to answer", |world| dial(world, "client", &service) == Ok("one".to_owned()));
    assert_eq!(dial(world, "client", &address(world, "default", "web-a")), Ok("one".to_owned()));
    // The API server, which runs on the machine itself, calls webhooks so.
    let url = format!("http://{service}/");
    let said = Command::new("curl").args(["--silent", "--max-time", "5", &url]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&said.stdout), "one");
    // The API server answers inside too, by a certificate that names its address there.
    let folder = world.cluster.directory();
    let init = fs::read_to_string(folder.join("pids/node-init")).unwrap();
    let mut curl = Command::new("nsenter");
    curl.args(["--target", init.split(' ').next().unwrap(), "--net", "--", "curl", "--silent", "--cacert"]);
    let inside = world.kubectl("get service kubernetes --output=jsonpath={.spec.clusterIP}").unwrap();
    let said = curl.arg(folder.join("pki/ca.crt")).arg(format!("https://{inside}/readyz")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&said.stdout), "ok");
    let api = world.exec("client", "timeout 2 wget -q -O - http://$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT/");
    assert!(api.as_ref().is_err_and(|said| said.contains("400 Bad Request")), "{api:?}");
    // Both pods are behind it, and each counts its answers.
    for _ in 0..40 {
        dial(world, "client", &service).unwrap();
    }
    for pod in ["web-a", "web-b"] {
        let url = format!("wget -q -O - http://{}/metrics", address(world, "default", pod));
        let metrics = world.exec("client", &url).unwrap();
        let good = metrics.lines().find(|line| line.contains("code=\"200\"")).unwrap();
        let count: u32 = good.rsplit(' ').next().unwrap().parse().unwrap();
        assert!(count > 0, "{pod} was never asked through the Service");
    }
}

fn deny_all(world: &World) {
    world.kubectl("create namespace denied").unwrap();
    world.apply(
        "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: deny, namespace: denied},
spec: {podSelector: {}, policyTypes: [Ingress, Egress]}}",
    );
}

fn a_default_deny_policy_holds(world: &World) {
    deny_all(world);
    world.pod(Kind::Server, "denied/client", "busybox:1", "sleep 3600", PLAIN);
    let (target, service) = (
        address(world, "default", "web-a"),
        world.kubectl("get service web --output=jsonpath={.spec.clusterIP}").unwrap(),
    );
    let listener = std::net::TcpListener::bind((world.node.network().machine(), 0)).unwrap();
    let outside = listener.local_addr().unwrap();
    // Whoever gets through is hung up on, which ends `nc` well.
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let machine = format!("timeout 2 nc {} {} < /dev/null", outside.ip(), outside.port());
    for _ in 0..2 {
        assert!(dial(world, "denied/client", &target).is_err());
        assert!(dial(world, "denied/client", &service).is_err());
        assert!(world.exec("denied/client", &machine).is_err());
        assert_eq!(dial(world, "client", &target), Ok("one".to_owned()));
        assert!(world.exec("client", &machine).is_ok());
    }
    world.apply(
        "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: allow, namespace: denied},
spec: {podSelector: {matchLabels: {app: client}}, policyTypes: [Egress],
egress: [{to: [{namespaceSelector: {}, podSelector: {matchLabels: {app: web}}}], ports: [{port: 8080}]}]}}",
    );
    world.eventually("the exception to hold", |world| dial(world, "denied/client", &target) == Ok("one".to_owned()));
    assert!(world.exec("denied/client", &machine).is_err());
    // Ready, because the node's own probes always pass, and yet out of reach.
    web_server(world, "denied", "web");
    let denied = address(world, "denied", "web");
    assert!(dial(world, "client", &denied).is_err());
    world.apply(
        "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: welcome, namespace: denied},
spec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress], ingress: [{ports: [{port: http}],
from: [{namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: NotIn, values: [denied]}]},
podSelector: {matchLabels: {app: client}}}]}]}}",
    );
    world.eventually("the welcome to hold", |world| dial(world, "client", &denied) == Ok("one".to_owned()));
    assert!(dial(world, "denied/client", &denied).is_err());
}

fn claim(world: &World, name: &str) {
    world.apply(&format!(
        "{{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {{name: {name}}}, spec: {{storageClassName: pool,
accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Gi}}}}}}}}"
    ));
    world.kubectl(&format!("wait --for=jsonpath={{.status.phase}}=Bound pvc/{name} {LIMIT}")).unwrap();
}

fn with_claim(name: &str) -> String {
    format!(
        ", volumeMounts: [{{name: data, mountPath: /data}}]}}],
volumes: [{{name: data, persistentVolumeClaim: {{claimName: {name}}}}}]}}"
    )
}

fn a_volume_outlives_its_pod(world: &World) {
    claim(world, "data");
    world.pod(Kind::Job, "writer", "busybox:1", "echo kept > /data/file", &with_claim("data"));
    world.kubectl("delete pod writer").unwrap();
    world.pod(Kind::Job, "reader", "busybox:1", "cat /data/file", &with_claim("data"));
    assert_eq!(world.kubectl("logs reader"), Ok("kept".to_owned()));
}

fn postgres_answers(world: &World) {
    interlock_cluster::postgres().unwrap().import(&world.node).unwrap();
    claim(world, "database");
    let probe = format!(
        ", readinessProbe: {{exec: {{command: [pg_isready, -h, localhost]}}, periodSeconds: 1}} {}",
        with_claim("database")
    );
    world.pod(Kind::Server, "postgres", "postgres:15", "exec start", &probe);
    let made = world.exec("postgres", "psql -qAt -c 'create table t as select generate_series(1, 1000) as n'");
    assert_eq!(made, Ok(String::new()));
    assert_eq!(world.exec("postgres", "psql -qAt -c 'select sum(n) from t'"), Ok("500500".to_owned()));
    let dumped = world.exec("postgres", "pg_dump --table=t postgres | grep -c '^[0-9]*$'").unwrap();
    assert!(dumped.parse::<u32>().unwrap() >= 1000, "{dumped}");
    let verified = "pg_basebackup -D /tmp/base -X fetch && pg_verifybackup /tmp/base && pg_receivewal --version";
    assert!(world.exec("postgres", verified).unwrap().contains("backup successfully verified"));
}

fn restic_restores_what_it_backed_up(world: &World) {
    interlock_cluster::restic().unwrap().import(&world.node).unwrap();
    claim(world, "repository");
    let backup = "export RESTIC_PASSWORD=p RESTIC_REPOSITORY=/data/r; mkdir /tmp/d && echo kept > /tmp/d/file &&
restic init && restic backup /tmp/d";
    world.pod(Kind::Job, "backup", "restic:1", backup, &with_claim("repository"));
    let restore = "export RESTIC_PASSWORD=p RESTIC_REPOSITORY=/data/r; restic restore -q latest --target /tmp/r &&
cat /tmp/r/tmp/d/file";
    world.pod(Kind::Job, "restore", "restic:1", restore, &with_claim("repository"));
    let said = world.kubectl("logs restore").unwrap();
    assert!(said.ends_with("\nkept"), "{said}");
}

/// Takes the cluster down and looks for what it made outside its folder.
fn nothing_is_left(world: World) {
    let network = world.node.network();
    let folder = world.cluster.directory().to_owned();
    let processes: Vec<ProcessId> = world.cluster.processes().into_iter().filter_map(|(_, process)| process).collect();
    assert!(!named(&folder).is_empty() && !cgroups(&network.cgroup()).is_empty());
    let began = Instant::now();
    world.cluster.down().unwrap();
    eprintln!("down after {:.1} s", began.elapsed().as_secs_f32());
    assert!(processes.iter().all(|process| !process.is_alive()));
    assert_eq!(named(&folder), Vec::<String>::new());
    assert_eq!(cgroups(&network.cgroup()), Vec::<String>::new());
    assert!(!Path::new("/sys/class/net").join(network.interface()).exists());
    assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains(&*folder.to_string_lossy()));
    assert!(!folder.exists());
}
