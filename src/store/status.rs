//! `status.yml`: the current status and recent events, for people and tools. No decision depends on it.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::entry::Entry;
use super::{DiskOp, STATUS_FILE, Store, StoreError, read, write};
use crate::atomic::AtomicError;
use crate::events::EventKind;
use crate::model::{Condition, Event, Reason, ServerId, Status, Timestamp};

/// The largest `status.yml` that is read, bytes.
const MAX_STATUS: u64 = 1024 * 1024;

impl Store {
    /// Changes a server's status, and publishes it. Returns whether `status.yml` is stale, because this status differs from the one
    /// before or because an event was added since; then [`Store::write_status`] is due.
    pub fn set_status(&self, id: ServerId, edit: impl FnOnce(&mut Status)) -> bool {
        let Some(entry) = self.entry(id) else { return false };
        let mut current = write(&entry.status);
        let mut status = Status::clone(&current);
        edit(&mut status);
        if **current == status {
            return entry.unwritten_events.load(Ordering::Acquire);
        }
        if self.inner.events.has_subscribers() {
            self.publish_changes(id, &current, &status);
        }
        *current = Arc::new(status);
        drop(current);
        self.inner.revisions.notify();
        true
    }

    /// Adds an event of a server.
    pub fn event(&self, id: ServerId, at: Timestamp, reason: Reason, message: &str) {
        let Some(entry) = self.entry(id) else { return };
        tracing::info!(server.id = %id, reason = reason.as_str(), "{message}");
        let mut current = write(&entry.status);
        let mut status = Status::clone(&current);
        status.push_event(self.inner.events.next_number(at), at, reason, message);
        // Under the lock, as every event: a subscriber that reads the status afterwards gets each event from one or both.
        self.publish_latest_event(id, &status);
        *current = Arc::new(status);
        entry.unwritten_events.store(true, Ordering::Release);
    }

    /// Publishes the differences to subscribers.
    fn publish_changes(&self, id: ServerId, before: &Status, after: &Status) {
        let events = &self.inner.events;
        if before.events.last() != after.events.last() {
            self.publish_latest_event(id, after);
        }
        if before.state != after.state {
            for state in after.state.shown_after(before.state) {
                events.publish(id, None, || EventKind::State { state });
            }
        }
        if after.suspended && !before.suspended {
            events.publish_output(id, || EventKind::Suspended);
        }
        let same = |a: &Condition, b: &Condition| (a.status, a.reason, &a.message) == (b.status, b.reason, &b.message);
        for condition in &after.conditions {
            if !before.condition(condition.condition_type).is_some_and(|before| same(before, condition)) {
                events.publish(id, None, || EventKind::Condition { condition: condition.clone() });
            }
        }
    }

    fn publish_latest_event(&self, id: ServerId, status: &Status) {
        let Some(Event { number, at, reason, message, count }) = status.events.last() else { return };
        let make = || EventKind::Event { number: *number, reason: *reason, message: message.clone(), count: *count };
        self.inner.events.publish(id, Some(*at), make);
    }

    /// Whether [`Store::recall`] has nothing left to read.
    pub fn is_recalled(&self, id: ServerId) -> bool {
        self.entry(id).is_none_or(|entry| entry.recalled.load(Ordering::Acquire))
    }

    /// Reads the status that an earlier run of the daemon left in `status.yml`, unless that was done. Its state, and since when its
    /// conditions hold, count until the first one of this run is published. Its events stay.
    pub fn recall(&self, id: ServerId) {
        let Some(entry) = self.entry(id) else { return };
        if let Ok(_writer) = entry.for_writing() {
            self.recall_once(&entry, &self.folder(id).join(STATUS_FILE));
        }
    }

    /// Writes `status.yml`: atomic, not durable. The first write keeps the events of an earlier run of the daemon that are in it.
    ///
    /// # Errors
    /// The disk's error; nothing depends on the file.
    pub fn write_status(&self, id: ServerId) -> Result<(), StoreError> {
        let Some(entry) = self.entry(id) else { return Ok(()) };
        let Ok(_writer) = entry.for_writing() else { return Ok(()) };
        let path = self.folder(id).join(STATUS_FILE);
        self.recall_once(&entry, &path);
        // Before the status is read: later events are not in it.
        entry.unwritten_events.store(false, Ordering::Release);
        let status = read(&entry.status).clone();
        let text = crate::yaml::to_string(&*status).map_err(|error| self.broken(id, STATUS_FILE, error.to_string()))?;
        let temporary = path.with_file_name(".status.yml.tmp");
        let replace = || {
            let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
            file.write_all(text.as_bytes())?;
            std::fs::rename(&temporary, &path)
        };
        let result = self
            .observed(id, DiskOp::WriteStatus, "write", &path, || replace().map_err(AtomicError::at("write", &path)));
        if result.is_err() {
            entry.unwritten_events.store(true, Ordering::Release);
        }
        result
    }

    /// Call with the entry's lock for writing.
    fn recall_once(&self, entry: &Entry, path: &Path) {
        if entry.recalled.load(Ordering::Acquire) {
            return;
        }
        let earlier = earlier_status(path).filter(|earlier| earlier.uuid == entry.id);
        let mut current = write(&entry.status);
        if let Some(mut earlier) = earlier {
            let mut status = Status::clone(&current);
            let events = std::mem::take(&mut earlier.events);
            // Nothing was published before.
            if status.conditions.is_empty() {
                status = Status { suspended: status.suspended, events: status.events, ..earlier };
            }
            status.insert_earlier(events);
            self.inner.events.number_is_used(status.events.last().map_or(0, |last| last.number));
            *current = Arc::new(status);
        }
        entry.recalled.store(true, Ordering::Release);
    }
}

/// The content of a `status.yml`; none where it cannot be read, since nothing depends on it.
fn earlier_status(path: &Path) -> Option<Status> {
    if std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file() || metadata.len() > MAX_STATUS) {
        return None;
    }
    crate::yaml::parse(&std::fs::read_to_string(path).ok()?).ok()
}
