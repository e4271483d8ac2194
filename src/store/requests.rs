//! Accepting requests, and removing them once a deleted server is gone.

use std::sync::Arc;

use super::entry::Writer;
use super::{Entry, REQUESTS_FILE, Snapshot, Store, StoreError, read};
use crate::model::{Record, Request, Requests, ServerId};
use crate::requests::{self, NewRequest};

impl Store {
    /// Accepts requests. They are on disk when this returns.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if `expected` is given and no longer the revision, or the disk's error, after which the requests
    /// are not accepted.
    pub fn request(
        &self,
        id: ServerId,
        expected: Option<u64>,
        new: impl IntoIterator<Item = NewRequest>,
    ) -> Result<Arc<Snapshot>, StoreError> {
        let entry = self.entry(id).ok_or(StoreError::Unknown(id))?;
        let writer = entry.for_writing()?;
        let before = read(&entry.snapshot).clone();
        before.check_revision(expected)?;
        self.check_not_quarantined(id, &writer, REQUESTS_FILE)?;
        let accepted = accepted(&before.requests, &before.record, new);
        let snapshot = self.put_accepted(&entry, &writer, Arc::new(accepted))?;
        drop(writer);
        if snapshot.revision != before.revision {
            self.changed(id);
        }
        Ok(snapshot)
    }

    /// Publishes requests once they are on disk. Requests that are published already are not written again.
    pub(super) fn put_accepted(
        &self,
        entry: &Entry,
        writer: &Writer,
        requests: Arc<Requests>,
    ) -> Result<Arc<Snapshot>, StoreError> {
        let before = read(&entry.snapshot).clone();
        if requests == before.requests {
            return Ok(before);
        }
        self.put_requests(entry, writer, &requests)?;
        let earlier = |request: &Request| before.requests.accepted.iter().any(|old| old.sequence == request.sequence);
        for request in requests.accepted.iter().filter(|request| !earlier(request)) {
            let (action, requester) = (request.verb.as_str(), request.by.as_str());
            tracing::info!(server.id = %before.id, request.id = request.id, action, requester, "accepted a request");
        }
        Ok(entry.publish(|next| next.requests = requests))
    }

    /// Notes in `requests.json` that the record has the result of an installation: an older copy of the record, from a backup, would run
    /// the script again. The record is on disk by now, so an error is no error of the change; the next one notes it.
    pub(super) fn note_installation(
        &self,
        entry: &Entry,
        writer: &Writer,
        requests: &Arc<Requests>,
        record: &Record,
    ) -> Arc<Requests> {
        let installed_through = requests::installed_through(record);
        if installed_through <= requests.installed_through {
            return requests.clone();
        }
        let noted = Requests { installed_through, ..Requests::clone(requests) };
        match self.put_requests(entry, writer, &noted) {
            Ok(()) => Arc::new(noted),
            Err(error) => {
                tracing::warn!(server.id = %entry.id, %error, "cannot note in requests.json that an installation is done");
                requests.clone()
            }
        }
    }

    /// Removes the deletion of a server that is gone and that is to be created again, with everything that was requested before it.
    /// Returns whether it did; otherwise the server is not wanted, or is not being deleted.
    ///
    /// # Errors
    /// The disk's error; the next call finishes the rest.
    pub fn make_again(&self, id: ServerId) -> Result<bool, StoreError> {
        let entry = self.entry(id).ok_or(StoreError::Unknown(id))?;
        let writer = entry.for_writing()?;
        let before = read(&entry.snapshot).clone();
        let Some(deletion) = requests::deletion(&before.requests).filter(|_| before.wanted()) else { return Ok(false) };
        // Accepted for the server that is made now.
        let of_next = |at| at >= deletion.at;
        let backups = before.record.backups.iter().filter(|backup| backup.is_pending() && of_next(backup.at));
        let record = Record {
            backups: backups.cloned().collect(),
            restore: before.record.pending_restore().filter(|restore| of_next(restore.at)).cloned(),
            generation: before.record.generation,
            accepted_hash: before.record.accepted_hash.clone(),
            synced_at: before.record.synced_at,
            synced_hash: before.record.synced_hash.clone(),
            ..Record::default()
        };
        let mut requests = Requests::clone(&before.requests);
        requests.accepted.retain(|request| request.sequence > deletion.sequence);
        (requests.completed_through, requests.installed_through) = (None, 0);
        // The deletion goes last: after a crash in between it is found again, with nothing left to delete.
        self.put_record(&entry, &writer, &writer.sources, before.manifest.as_ref(), &record)?;
        self.put_requests(&entry, &writer, &requests)?;
        entry.publish(|next| (next.record, next.requests) = (Arc::new(record), Arc::new(requests)));
        drop(writer);
        self.changed(id);
        Ok(true)
    }
}

/// The requests after `new` ones were accepted.
pub(super) fn accepted(before: &Requests, record: &Record, new: impl IntoIterator<Item = NewRequest>) -> Requests {
    let mut requests = before.clone();
    for new in new {
        requests::accept(&mut requests, record, new);
    }
    requests
}
