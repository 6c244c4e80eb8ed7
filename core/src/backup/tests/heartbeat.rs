//! What a heartbeat looks like.

use super::at;
use crate::backup::heartbeat::{Beat, answer, insert, query};

const NONCE: &str = "00112233445566778899aabbccddeeff";

#[test]
fn a_heartbeat_is_read_as_it_was_written_and_nothing_of_another_file_is_told() {
    let beat = Beat { id: "policy-1".into(), seq: 7, time: at("2026-11-23T02:00:00Z"), nonce: NONCE.into() };
    let text = serde_json::to_string(&beat).unwrap();
    assert_eq!(Beat::decode(&text).unwrap(), beat);
    let read = beat.read(at("2026-11-23T02:00:09Z"));
    assert_eq!((read.seq, read.read_at), (7, Some(at("2026-11-23T02:00:09Z"))));
    for other in ["", "password: hunter2", r#"{"id": "x", "seq": "hunter2", "time": "", "nonce": ""}"#] {
        let why = Beat::decode(other).unwrap_err();
        assert!(why.contains("no heartbeat") && !why.contains("hunter2"), "{why}");
    }
    assert!(Beat::decode(&text.replace(NONCE, "short")).unwrap_err().contains("nonce"));
}

#[test]
fn a_table_is_asked_for_the_newest_record_of_the_policy() {
    let asked = query("beats", Some("o'brien"));
    assert!(
        asked.contains(r#"from "beats" beat where beat.id = 'o''brien' order by beat.seq desc limit 1"#),
        "{asked}"
    );
    assert!(!query("beats", None).contains("where"));
    assert_eq!(insert("beats", "p", "n"), r#"insert into "beats" (id, nonce) values ('p', 'n')"#);
    let line = format!(
        r#"{{"seq" : 3, "time" : "2026-11-23T02:00:00.250000Z", "nonce" : "{NONCE}", "readAt" : "2026-11-23T02:00:01.000000Z"}}"#
    );
    assert_eq!(answer(Some(&line)).unwrap().seq, 3);
    assert!(answer(Some("\n")).unwrap_err().contains("no record"));
    assert!(answer(Some(&line.replace(NONCE, &"x".repeat(32)))).unwrap_err().contains("nonce"));
}
