//! The heartbeat of a source: a record that a writer renews all the time, so that a restore tells how much was lost.
//!
//! In a file it is one object that is replaced as a whole; in a table each record is a row. The newest is the one with the
//! highest sequence number.

pub mod writer;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::result::HeartbeatRead;

/// Longest file that is read: a heartbeat is much shorter.
pub const MAX_FILE_BYTES: u64 = 4_096;
/// Digits of a nonce: 16 random bytes in hexadecimal.
pub const NONCE_DIGITS: usize = 32;

/// A heartbeat as it stands in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Beat {
    /// Uid of the policy whose writer wrote it.
    pub id: String,
    /// Sequence number: one more than that of the record before.
    pub seq: i64,
    /// When it was written (clock of the writer's node).
    pub time: Timestamp,
    /// 16 random bytes in hexadecimal: what was not written by the writer cannot be told to be.
    pub nonce: String,
}

impl Beat {
    /// The record in the text of a file. What stands there is never told: it may be somebody else's file.
    ///
    /// # Errors
    /// It is no heartbeat.
    pub fn decode(text: &str) -> Result<Self, String> {
        let beat: Self = serde_json::from_str(text)
            .map_err(|_| "it is no heartbeat: one JSON object with id, seq, time and nonce is expected".to_owned())?;
        if !is_nonce(&beat.nonce) {
            return Err(format!("its nonce is not {NONCE_DIGITS} hexadecimal digits"));
        }
        Ok(beat)
    }

    /// The record as it was read at this time.
    pub fn read(self, read_at: Timestamp) -> HeartbeatRead {
        HeartbeatRead { seq: self.seq, time: self.time, nonce: self.nonce, read_at: Some(read_at) }
    }
}

/// The query for the newest record of a table; of this policy alone if its uid is given. One line of JSON, or none.
pub fn query(table: &str, policy: Option<&str>) -> String {
    let time = |what: &str| format!(r#"to_char({what} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"#);
    let of = policy.map(|policy| format!(" where beat.id = {}", literal(policy))).unwrap_or_default();
    format!(
        "select json_build_object('seq', beat.seq, 'time', {}, 'nonce', beat.nonce, 'readAt', {}) from \"{table}\" beat{of} order by beat.seq desc limit 1",
        time(r#"beat."time""#),
        time("clock_timestamp()"),
    )
}

/// Reads the answer to [`query`].
///
/// # Errors
/// There is no record, or it is no heartbeat.
pub fn answer(line: Option<&str>) -> Result<HeartbeatRead, String> {
    let line = line.map(str::trim).filter(|line| !line.is_empty());
    let line = line.ok_or("the table has no record of this policy yet: look whether the writer runs")?;
    let read: HeartbeatRead = serde_json::from_str(line)
        .map_err(|_| "its newest row is no heartbeat: seq, time and nonce are expected".to_owned())?;
    if !is_nonce(&read.nonce) {
        return Err(format!("the nonce of its newest row is not {NONCE_DIGITS} hexadecimal digits"));
    }
    Ok(read)
}

/// The statement that adds a record to a table; the server gives number and time. It returns nothing, as the role may not
/// read.
pub fn insert(table: &str, policy: &str, nonce: &str) -> String {
    format!("insert into \"{table}\" (id, nonce) values ({}, {})", literal(policy), literal(nonce))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn is_nonce(text: &str) -> bool {
    text.len() == NONCE_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
