//! What a channel did, for the panel's activity log: entries of one kind are merged for some seconds, renames are not.
//!
//! Source: SFTP, "Activity rows". Wings merges by the minute. A crash of the daemon loses what is not recorded yet, so that time
//! is shorter here.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use crate::activity::{Activity, ActivityEvent, Entry};
use crate::model::ServerId;

/// How long entries are merged.
const MERGE: Duration = Duration::from_secs(5);
/// Most bytes of names in an entry. The log cuts a longer one.
const MAX_BYTES: usize = 8 << 10;

/// The entries of one channel.
pub struct Recorder {
    activity: Activity,
    server: ServerId,
    user: Uuid,
    ip: IpAddr,
    merged: Option<Merged>,
}

/// Files to which the same was done.
struct Merged {
    event: ActivityEvent,
    files: Vec<String>,
    bytes: usize,
    due: Instant,
}

impl Recorder {
    /// Nothing was done yet.
    pub fn new(activity: Activity, server: ServerId, user: Uuid, ip: IpAddr) -> Self {
        Self { activity, server, user, ip, merged: None }
    }

    /// Something was done to a file, which is named from the server's directory.
    pub fn note(&mut self, event: ActivityEvent, file: String, now: Instant) {
        let same = |merged: &Merged| merged.event == event && merged.bytes + file.len() <= MAX_BYTES;
        if !self.merged.as_ref().is_some_and(same) {
            self.flush();
        }
        let new = || Merged { event, files: Vec::new(), bytes: 0, due: now + MERGE };
        let merged = self.merged.get_or_insert_with(new);
        merged.bytes += file.len();
        merged.files.push(file);
    }

    /// A file was renamed. What was done before comes first.
    pub fn note_rename(&mut self, from: &str, to: &str) {
        self.flush();
        self.record(ActivityEvent::SftpRename, json!({"files": [{"from": from, "to": to}]}));
    }

    /// When entries have been merged long enough.
    pub fn due(&self) -> Option<Instant> {
        self.merged.as_ref().map(|merged| merged.due)
    }

    /// Records what has been merged long enough.
    pub fn flush_due(&mut self, now: Instant) {
        if self.due().is_some_and(|due| due <= now) {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if let Some(Merged { event, files, .. }) = self.merged.take() {
            self.record(event, json!({"files": files}));
        }
    }

    fn record(&self, event: ActivityEvent, metadata: Value) {
        let Self { server, user, ip, .. } = *self;
        self.activity.record(Entry { server, event, user: Some(user), ip: Some(ip), metadata });
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.flush();
    }
}
