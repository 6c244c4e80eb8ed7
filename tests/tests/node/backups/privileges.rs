//! What nobody but root may read: copied and given back by pods with the few privileges for that, where the owner of the
//! namespace permits it, to a repository behind a server.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
};

use interlock_cluster::POOL;
use interlock_tests::{
    eventually,
    vault::{RUN, Scene, named, own, policy},
    world::{SOON, condition},
};
use serde_json::{Value, json};

/// Label by which the owner of a namespace permits it.
const LABEL: &str = "interlock.dev/backup-privileges";
/// Whose file it is.
const OWNER: u32 = 1_234;
const PORT: u16 = 8_000;

/// restic's REST server, and its Service.
pub(super) fn server() -> [Value; 2] {
    let labels = json!({"app": "rest"});
    let arguments = ["--no-auth", "--path", "/data", "--listen", &format!(":{PORT}")];
    [
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "rest"},
            "spec": {"selector": {"matchLabels": labels}, "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{
                    "name": "main", "image": "rest-server:1", "args": arguments,
                    "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
                }]},
            }},
        }),
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "rest"},
            "spec": {"selector": labels, "ports": [{"port": PORT}]},
        }),
    ]
}

/// The file comes back with its owner and mode. Without the label nothing is read, and the policy says what is missing.
pub(super) fn read_all(scene: &Scene<'_>) {
    let sealed = scene.volume("private").join("sealed");
    fs::write(&sealed, "4000").unwrap();
    fs::set_permissions(&sealed, fs::Permissions::from_mode(0o600)).unwrap();
    chown(&sealed, Some(OWNER), Some(OWNER)).unwrap();
    permit(scene, &json!("permitted"));
    let server = scene.stage.get("services/rest")["spec"]["clusterIP"].as_str().unwrap().to_owned();
    let served = json!({
        "restic": {"url": format!("rest:http://{server}:{PORT}/private/"), "secretRef": {"name": "vault"}},
    });
    let source = json!({"files": {"persistentVolumeClaim": "private"}});
    let private = policy("private", "served", source, &json!({"pod": {"readAll": true}}));
    scene.agreed("protect-private", vec![own("BackupRepository", "served", served), private]);
    scene.backup("private", &[]);

    restored(scene);
    let back = scene.volume("private-again").join("sealed");
    let found = fs::metadata(&back).unwrap();
    assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (OWNER, OWNER, 0o600));
    assert_eq!(fs::read(back).unwrap(), fs::read(sealed).unwrap());

    permit(scene, &Value::Null);
    let (well, told) = scene.run("private", &[]);
    assert!(!well && told.contains(&format!("needs the label {LABEL}=permitted")), "{told}");
    eventually(SOON, || {
        let policy = scene.stage.get("backuppolicies/private");
        let valid = condition(&policy, "Valid").cloned().unwrap_or_default();
        let names_it = valid["message"].as_str().is_some_and(|said| said.contains(LABEL));
        if valid["status"] == "False" && names_it { Ok(()) } else { Err(format!("{valid:#}")) }
    });
}

/// The owner of the namespace permits it, or does not.
fn permit(scene: &Scene<'_>, label: &Value) {
    let namespace = format!("/api/v1/namespaces/{}", scene.stage.namespace);
    scene.world.admin().merge(&namespace, &json!({"metadata": {"labels": {LABEL: label}}})).unwrap();
}

fn restored(scene: &Scene<'_>) {
    let to = ["--to-claim", "private-again", "--storage-class", POOL, "--size", "100Mi"];
    let asks = ["restore", "private", "-n", &scene.stage.namespace, "--reason", "its owner asks for it", "--yes"];
    let told = scene.world.interlock("alice", &[asks.as_slice(), to.as_slice()].concat());
    let request = scene.stage.get(&format!("changerequests/{}", named(&told, "changerequest")));
    let change = scene.stage.change_of(&request);
    change.approve(&["bob"]);
    eventually(RUN, || {
        let status = change.status();
        if status["phase"] == "Succeeded" { Ok(()) } else { Err(format!("{status:#}")) }
    });
}
