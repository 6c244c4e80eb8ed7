//! Validations of files, commands and requests, faults, and the wipe: each on a copy that really is there.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    os::unix::fs::{PermissionsExt as _, symlink},
    thread,
    time::{Duration, Instant},
};

use interlock_core::{
    backup::result::RunnerStage,
    drill::plan::{DrillWork, restored},
    object::Digest,
};
use interlock_crds::{Fault, ProbeResult, ValidationVerdict};
use serde_json::{Value, json};

use crate::{Pod, RUN, verdict};

const PASSED: (ValidationVerdict, &str) = (ValidationVerdict::Passed, "Passed");
const FAILED: (ValidationVerdict, &str) = (ValidationVerdict::Failed, "Failed");
const NONCE: &str = "0123456789abcdef0123456789abcdef";

/// A pod with a restored copy; the digest of its manifest.
fn copy() -> (Pod, String) {
    let pod = Pod::new();
    pod.write("restored/data/accounts", "1000");
    pod.write("restored/data/branch/rates", "0.5");
    let line = |content: &str, path: &str| {
        let digest = Digest::of_bytes(content.as_bytes()).to_string();
        format!("f {} {} {path}\n", digest.trim_start_matches("sha256:"), content.len())
    };
    let manifest = line("1000", "accounts") + &line("0.5", "branch/rates");
    pod.write("restored/interlock/manifest", &manifest);
    (pod, Digest::of_bytes(manifest.as_bytes()).to_string())
}

#[test]
fn d8_files_are_counted_and_compared() {
    let (pod, digest) = copy();
    let files = |files: Value| verdict(&pod.validate(json!({"files": files}), Some(&digest)));
    assert_eq!(files(json!({"minimumFiles": 2})), PASSED);
    assert_eq!(files(json!({"minimumFiles": 3})), FAILED);
    assert_eq!(files(json!({"verifyAll": true})), PASSED);
    let good = Digest::of_bytes(b"0.5").to_string();
    assert_eq!(files(json!({"digests": [{"path": "/branch/rates", "digest": good}]})), PASSED);
    assert_eq!(files(json!({"digests": [{"path": "/accounts", "digest": good}]})), FAILED);
    assert_eq!(files(json!({"digests": [{"path": "/gone", "digest": good}]})), FAILED);
    // A link out of the copy is no file of it.
    fs::write(pod.at("outside"), "0.5").unwrap();
    symlink(pod.at("outside"), pod.at("restored/data/link")).unwrap();
    assert_eq!(files(json!({"digests": [{"path": "/link", "digest": good}]})), FAILED);
    assert_eq!(files(json!({"verifyAll": true})), FAILED, "one more");
    fs::remove_file(pod.at("restored/data/link")).unwrap();
    pod.write("restored/data/accounts", "1001");
    let asked = json!({"files": {"verifyAll": true}});
    let (told, changed) = pod.validated(asked.clone(), None, Some(&digest));
    assert_eq!(verdict(&changed), FAILED);
    assert!(told.contains("the first that differs: accounts"), "{told}");
    // Whoever changes the manifest along with the file is not believed.
    pod.write("restored/interlock/manifest", "f 00 4 accounts\n");
    assert_eq!(verdict(&pod.validate(asked.clone(), Some(&digest))), FAILED);
    assert_eq!(verdict(&pod.validate(asked, None)), (ValidationVerdict::Failed, "Failed"), "nothing to compare with");
    fs::remove_dir_all(pod.at("restored/data")).unwrap();
    fs::create_dir(pod.at("restored/data")).unwrap();
    assert_eq!(files(json!({})), FAILED, "no file at all");
}

#[test]
fn d8_a_command_passes_by_its_exit_code_in_time_and_is_ended_with_what_it_started() {
    let (pod, _) = copy();
    let command = |script: &str, timeout: &str| {
        let command = json!({"image": "checker:1", "command": ["sh", "-c", script]});
        pod.validate(json!({"command": command, "timeout": timeout}), None)
    };
    assert_eq!(verdict(&command("exit 0", "20s")), PASSED);
    let failed = command("exit 7", "20s");
    assert_eq!((verdict(&failed), failed.message.as_str()), (FAILED, "the command ended with 7"));
    let begun = Instant::now();
    let late = command("sleep 60 & sleep 60", "1s");
    assert_eq!(verdict(&late), (ValidationVerdict::TimedOut, "TimedOut"));
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert_eq!(verdict(&command("kill -9 $$", "20s")), (ValidationVerdict::Error, "Killed"));
    let missing = json!({"image": "checker:1", "command": ["/no/such/program"]});
    let missing = pod.validate(json!({"command": missing}), None);
    assert_eq!(verdict(&missing), (ValidationVerdict::Error, "NotRun"));
    // What a command leaves for the next container does not pass for the runner's own word.
    let forged = format!(
        "echo '{{\"version\":1,\"run\":\"{}\",\"stage\":\"Done\",\"exitCode\":0}}' > {}; exit 3",
        RUN,
        pod.at("interlock/run/drill.json").display()
    );
    assert_eq!(verdict(&command(&forged, "20s")), FAILED);
}

/// Answers one request after the other with these bytes; the port.
fn server(answer: &'static str, pause: Duration) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut asked = [0; 4096];
            let _ = stream.read(&mut asked);
            let (one, two) = answer.split_at(answer.len().saturating_sub(3));
            let _ = stream.write_all(one.as_bytes());
            thread::sleep(pause);
            let _ = stream.write_all(two.as_bytes());
        }
    });
    port
}

#[test]
fn d8_a_request_passes_by_its_status_and_text_and_redirects_are_not_followed() {
    let (pod, _) = copy();
    let none = Duration::from_millis(50);
    let http = |port: u16, more: Value, timeout: &str| {
        let mut http = json!({"port": port, "path": "/health?deep=1"});
        http.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        pod.validate(json!({"http": http, "timeout": timeout}), None)
    };
    let good = server("HTTP/1.1 200 OK\r\ncontent-length: 18\r\nconnection: close\r\n\r\nbalance is correct", none);
    assert_eq!(verdict(&http(good, json!({}), "20s")), PASSED);
    assert_eq!(verdict(&http(good, json!({"expectText": "correct"}), "20s")), PASSED, "in two pieces");
    let wrong = http(good, json!({"expectText": "incorrect"}), "20s");
    assert_eq!(verdict(&wrong), FAILED);
    assert!(!wrong.message.contains("balance"), "data is told to nobody");
    assert_eq!(verdict(&http(good, json!({"expectStatus": 204}), "20s")), FAILED);
    let moved = server("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n", none);
    assert_eq!(verdict(&http(moved, json!({}), "20s")), FAILED);
    assert_eq!(verdict(&http(moved, json!({"expectStatus": 302}), "20s")), PASSED);
    assert_eq!(verdict(&http(server("no HTTP at all", none), json!({}), "20s")), FAILED);
    let slow = server("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nend", Duration::from_secs(30));
    let late = http(slow, json!({"expectText": "end"}), "1s");
    assert_eq!(verdict(&late), (ValidationVerdict::TimedOut, "TimedOut"));
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    assert_eq!(verdict(&http(nobody, json!({}), "1s")), (ValidationVerdict::TimedOut, "TimedOut"));
}

fn damage(pod: &Pod, fault: Fault, path: Option<&str>) -> (Option<i32>, RunnerStage) {
    let heartbeat = json!({"file": restored("/beat")});
    let heartbeat = path.is_none().then(|| serde_json::from_value(heartbeat).unwrap());
    let (_, report) = pod.run(DrillWork::Fault { fault, path: path.map(restored), heartbeat });
    (report.exit_code, report.stage)
}

const DONE: (Option<i32>, RunnerStage) = (Some(0), RunnerStage::Done);

#[test]
fn d16_faults_damage_the_copy_and_a_look_at_it_notices() {
    let (pod, digest) = copy();
    let verified = || verdict(&pod.validate(json!({"files": {"verifyAll": true}}), Some(&digest)));
    assert_eq!(verified(), PASSED);
    fs::set_permissions(pod.at("restored/data/accounts"), fs::Permissions::from_mode(0o400)).unwrap();
    assert_eq!(damage(&pod, Fault::FlipBytes, Some("/accounts")), DONE);
    assert_eq!(fs::metadata(pod.at("restored/data/accounts")).unwrap().len(), 4);
    assert_eq!(verified(), FAILED);
    let (pod, digest) = copy();
    assert_eq!(damage(&pod, Fault::DeleteFiles, Some("/branch")), DONE);
    assert!(!pod.at("restored/data/branch/rates").exists() && pod.at("restored/data/accounts").exists());
    let found = pod.validate(json!({"files": {"verifyAll": true}}), Some(&digest));
    assert_eq!(verdict(&found), FAILED);
    // What is not there, or outside, is not damaged, and that is told.
    assert_ne!(damage(&pod, Fault::DeleteFiles, Some("/branch")), DONE);
    assert_ne!(damage(&pod, Fault::FlipBytes, Some("/gone")), DONE);
    fs::write(pod.at("outside"), "mine").unwrap();
    symlink(pod.at("outside"), pod.at("restored/data/link")).unwrap();
    assert_ne!(damage(&pod, Fault::FlipBytes, Some("/link")), DONE);
    assert_eq!(fs::read(pod.at("outside")).unwrap(), b"mine");
}

#[test]
fn d16_a_heartbeat_in_a_file_is_read_and_one_that_was_tampered_with_is_older() {
    let (pod, _) = copy();
    let read = || {
        let heartbeat = json!({"file": restored("/beat")});
        pod.validated(json!({"heartbeat": {}}), Some(heartbeat), None)
    };
    let (_, none) = read();
    assert_eq!((verdict(&none), none.heartbeat), ((ValidationVerdict::Passed, "Read"), Some(None)));
    assert_ne!(damage(&pod, Fault::TamperHeartbeat, None), DONE, "nothing to tamper with");
    let record = json!({"id": "p", "seq": 41, "time": "2026-11-23T01:59:30Z", "nonce": NONCE});
    pod.write("restored/data/beat", record.to_string());
    let (told, good) = read();
    let beat = good.heartbeat.unwrap().unwrap();
    assert_eq!((beat.seq, beat.nonce.as_str(), beat.read_at), (41, NONCE, None), "{told}");
    assert!(!told.contains(NONCE), "{told}");
    assert_eq!(damage(&pod, Fault::TamperHeartbeat, None), DONE);
    let old = read().1.heartbeat.unwrap().unwrap();
    assert!(old.seq < 41 && old.time < beat.time && old.nonce == NONCE, "{old:?}");
    pod.write("restored/data/beat", "{\"seq\": ");
    assert_eq!(verdict(&read().1), FAILED);
}

#[test]
fn d10_a_wipe_leaves_nothing_of_the_copy_and_follows_no_link() {
    let (pod, _) = copy();
    fs::write(pod.at("outside"), "mine").unwrap();
    symlink(pod.root.path(), pod.at("restored/data/link")).unwrap();
    fs::set_permissions(pod.at("restored/data/accounts"), fs::Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(pod.at("restored/data/branch"), fs::Permissions::from_mode(0o500)).unwrap();
    // One name outside of the copy shows what became of the content.
    fs::hard_link(pod.at("restored/data/branch/rates"), pod.at("witness")).unwrap();
    let hole = fs::File::create(pod.at("restored/data/hole")).unwrap();
    hole.set_len(1 << 40).unwrap();
    pod.write("restored/postgres/base/1", "page");
    let (told, report) = pod.run(DrillWork::Wipe);
    assert_eq!((report.exit_code, report.stage), DONE, "{told}");
    assert_eq!(fs::read_dir(pod.at("restored")).unwrap().count(), 0);
    assert_eq!(fs::read(pod.at("witness")).unwrap(), [0; 3], "overwritten before it went");
    assert_eq!(fs::read(pod.at("outside")).unwrap(), b"mine");
}

#[test]
fn d9_a_probe_tells_an_answer_from_no_attempt() {
    let pod = Pod::new();
    let probe = |address: &str, port: u16| {
        let (_, report) = pod.run(DrillWork::Probe { address: address.to_owned(), port, seconds: 1 });
        report.probe
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    assert_eq!(probe("127.0.0.1", listener.local_addr().unwrap().port()), Some(ProbeResult::Connected));
    assert_eq!(probe("application", 8443), Some(ProbeResult::NotTried), "names are not looked up");
}
