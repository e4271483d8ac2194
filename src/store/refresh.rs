//! Reading the manifest files again: a person's change takes effect, or becomes a problem.

use std::sync::Arc;
use std::time::Duration;

use super::entry::Writer;
use super::load::Access;
use super::stored::was_quarantined;
use super::{
    Entry, Inner, RECORD_FILE, REQUESTS_FILE, Snapshot, SpecProblem, Store, StoreError, load, lock, manifests, read,
    write,
};
use crate::model::{Record, Requests, ServerId};
use crate::requests;

impl Store {
    /// Checks the manifest files: first their fingerprints, and their texts only if these may have changed. Returns whether
    /// anything changed.
    ///
    /// # Errors
    /// An accepted change could not be recorded.
    pub fn refresh(&self, id: ServerId) -> Result<bool, StoreError> {
        let folder = self.folder(id);
        let (entry, adopted) = match self.entry(id) {
            Some(entry) => (entry, false),
            None if manifests::is_there(&folder) => (self.adopt_folder(id), true),
            None => return Ok(false),
        };
        let Ok(mut writer) = entry.for_writing() else { return Ok(false) };
        let mut new = adopted;
        if writer.quarantine.is_some() {
            if !self.leave_quarantine(&entry, &mut writer) {
                return Ok(new);
            }
            new = true;
        }
        let before = read(&entry.snapshot).clone();
        if before.manifest.is_none() && !manifests::is_there(&folder) && !folder.join(RECORD_FILE).exists() {
            // It was never a server, and the next start would not find it either.
            self.drop_entry(id, writer);
            return Ok(true);
        }
        let applied = before.manifest.is_some() && before.problem.is_none();
        let recorded = !new && !before.unrecorded;
        let settled = writer.settled == Some(writer.sources);
        if recorded && applied && settled && manifests::fingerprints(&folder) == Some(writer.sources) {
            return Ok(false);
        }
        let files = manifests::read(&folder, id);
        if recorded && writer.sources == files.sources() && is_known(&writer, &before, &files) {
            writer.settled = files.settled();
            if before.problem.is_none() {
                writer.text = files.digest();
            }
            return Ok(false);
        }
        let after = self.accept(&entry, &mut writer, &files, Record::clone(&before.record))?;
        writer.settled = files.settled();
        drop(writer);
        let changed = new || after.revision != before.revision;
        if changed {
            self.changed(id);
        }
        Ok(changed)
    }

    /// How long to wait until the changed files of a server count as complete, if no event states that they were closed.
    pub fn unsettled(&self, id: ServerId) -> Option<Duration> {
        let found = manifests::fingerprints(&self.folder(id))?;
        let known = self.entry(id).map(|entry| lock(&entry.write).sources);
        found.unsettled(self.inner.clock.now()).filter(|_| known != Some(found))
    }

    /// Adds a folder that appeared while the daemon runs, with its record: it may be a server that was moved here.
    pub(super) fn adopt_folder(&self, id: ServerId) -> Arc<Entry> {
        let found = self.load_again(id);
        // A deletion in a folder that the store does not know was requested elsewhere.
        found.drop_deletion();
        write(&self.inner.entries).entry(id).or_insert_with(|| Arc::new(found)).clone()
    }

    fn load_again(&self, id: ServerId) -> Entry {
        let Inner { servers, revisions, clock, .. } = &*self.inner;
        load::load(servers, id, Access::Write, revisions, clock.now()).unwrap_or_else(|| Entry::empty(id, revisions))
    }

    /// Reads the files of a quarantined server again. Returns whether they can be read now, or are out of the way.
    pub(super) fn leave_quarantine(&self, entry: &Entry, writer: &mut Writer) -> bool {
        let found = self.load_again(entry.id);
        let loaded = lock(&found.write);
        if loaded.quarantine.is_some() {
            return false;
        }
        (writer.sources, writer.quarantine) = (loaded.sources, None);
        let known = read(&found.snapshot).clone();
        entry.publish(|next| *next = Snapshot::clone(&known));
        true
    }

    /// Accepts files that were just read: a good spec takes effect, and its declarative fields make requests; a bad one becomes a
    /// problem. `record` and the requests are on disk when this returns.
    pub(super) fn accept(
        &self,
        entry: &Entry,
        writer: &mut Writer,
        files: &manifests::Files,
        mut record: Record,
    ) -> Result<Arc<Snapshot>, StoreError> {
        let before = read(&entry.snapshot).clone();
        let manifest = match files.effective() {
            Ok(manifest) => manifest,
            Err(problem) => return self.note_problem(entry, writer, problem, record),
        };
        record.accept_hash(manifest.hash(), self.inner.clock.now());
        let manifest = match &before.manifest {
            Some(old) if **old == manifest => old.clone(),
            _ => Arc::new(manifest),
        };
        let (first, now) = (before.manifest.is_none(), self.inner.clock.now());
        let declared = requests::declare(&before.requests, &record, &manifest.spec, now, first);
        let put_record = || self.put_record(entry, writer, &files.sources(), Some(&manifest), &record);
        let put_requests = || self.put_if_new(entry, writer, declared, &before);
        // The record comes first: if the requests cannot be written then, the next pass makes them again. Those of the first spec
        // come before the record, because a later daemon that finds a record takes the spec for a changed one.
        let requests = if first || before.unrecorded {
            let requests = put_requests()?;
            let recorded = put_record().and_then(|()| self.put_with_record(entry, writer, requests.clone()));
            recorded.inspect_err(|_| {
                // The requests are on disk. A caller that rejects the spec removes them again.
                if requests != before.requests {
                    entry.publish(|next| next.requests = requests.clone());
                }
            })?
        } else {
            put_record()?;
            self.put_with_record(entry, writer, put_requests()?)?
        };
        // Only what is recorded counts as read: the next pass tries again after an error of the disk.
        writer.sources = files.sources();
        writer.text = files.digest();
        Ok(entry.publish(|next| {
            (next.manifest, next.record, next.requests) = (Some(manifest), Arc::new(record), requests);
            (next.problem, next.unrecorded) = (None, false);
        }))
    }

    /// The last good spec stays in effect while the files are bad.
    fn note_problem(
        &self,
        entry: &Entry,
        writer: &Writer,
        problem: SpecProblem,
        record: Record,
    ) -> Result<Arc<Snapshot>, StoreError> {
        let before = read(&entry.snapshot).clone();
        let recorded = record == *before.record && !before.unrecorded;
        if recorded && before.problem.as_ref() == Some(&problem) {
            return Ok(before);
        }
        let mut requests = before.requests.clone();
        if !recorded {
            // A spec in effect that only the files had is recorded now: after a restart the daemon no longer finds it in them, and
            // would go back to an older one.
            requests = self.put_if_new(entry, writer, None, &before)?;
            self.put_record(entry, writer, &writer.sources, before.manifest.as_ref(), &record)?;
            requests = self.put_with_record(entry, writer, requests)?;
        }
        Ok(entry.publish(|next| {
            (next.record, next.requests) = (Arc::new(record), requests);
            (next.problem, next.unrecorded) = (Some(problem), false);
        }))
    }

    /// Notes on disk that a record was written again: from now on it states what is completed.
    fn put_with_record(
        &self,
        entry: &Entry,
        writer: &Writer,
        requests: Arc<Requests>,
    ) -> Result<Arc<Requests>, StoreError> {
        if requests.completed_through.is_none() {
            return Ok(requests);
        }
        let requests = Requests { completed_through: None, ..Requests::clone(&requests) };
        self.put_requests(entry, writer, &requests)?;
        Ok(Arc::new(requests))
    }

    /// Writes requests that are new, or that are not on disk yet.
    pub(super) fn put_if_new(
        &self,
        entry: &Entry,
        writer: &Writer,
        new: Option<Requests>,
        before: &Snapshot,
    ) -> Result<Arc<Requests>, StoreError> {
        // A quarantined file is replaced even by an empty one: otherwise it would count as lost at each start.
        let due =
            || *before.requests != Requests::default() || was_quarantined(&self.folder(entry.id).join(REQUESTS_FILE));
        let requests = match new {
            Some(new) => Arc::new(new),
            None if before.unrecorded && due() => before.requests.clone(),
            None => return Ok(before.requests.clone()),
        };
        self.put_requests(entry, writer, &requests)?;
        Ok(requests)
    }
}

/// Whether the files mean what they meant when they were accepted. Within one tick of the kernel's clock another text may have the
/// same fingerprint.
fn is_known(writer: &Writer, before: &Snapshot, files: &manifests::Files) -> bool {
    let same_text = writer.text.is_some() && writer.text == files.digest();
    before.manifest.is_some()
        && match (&before.problem, same_text) {
            (None, true) => true,
            (None, false) => files.effective().ok().as_ref() == before.manifest.as_deref(),
            (Some(problem), _) => files.problem().as_ref() == Some(problem),
        }
}
