//! Reading the files of intent again: what people have changed comes in effect, or becomes a problem.

use std::sync::Arc;

use super::load::Access;
use super::stored::was_set_aside;
use super::{
    CONFIG_FILE, Entry, Inner, REQUESTS_FILE, Snapshot, Sources, SpecProblem, Store, StoreError, load, lock, manifests,
    read, write,
};
use crate::model::{Record, Requests, ServerId};
use crate::requests;

impl Store {
    /// Checks the files of intent: their fingerprints first, and their text only where that could be another one than was read. Returns whether anything changed.
    ///
    /// # Errors
    /// When an accepted change cannot be recorded.
    pub fn refresh(&self, id: ServerId) -> Result<bool, StoreError> {
        let folder = self.folder(id);
        let (entry, new) = match self.entry(id) {
            Some(entry) => (entry, false),
            None if folder.join(CONFIG_FILE).exists() => (self.adopt_folder(id), true),
            None => return Ok(false),
        };
        let Ok(mut sources) = entry.for_writing() else { return Ok(false) };
        let before = read(&entry.snapshot).clone();
        if entry.is_quarantined() && !self.leave_quarantine(&entry, &mut sources) {
            return Ok(new);
        }
        let new = new || before.revision != read(&entry.snapshot).revision;
        let before = read(&entry.snapshot).clone();
        if !new && is_in_effect(&entry, &sources, &before) && manifests::fingerprints(&folder) == Some(*sources) {
            return Ok(false);
        }
        let files = manifests::read(&folder, id);
        if !new && *sources == files.sources() && !before.unrecorded && is_of_these_texts(&entry, &before, &files) {
            *lock(&entry.settled) = files.settled();
            return Ok(false);
        }
        let effective = files.effective();
        // Within one tick of the kernel's clock another text may have the same fingerprint.
        let same = match &effective {
            Ok(manifest) => before.problem.is_none() && before.manifest.as_deref() == Some(manifest),
            Err(problem) => before.problem.as_ref() == Some(problem) && before.manifest.is_some(),
        };
        if same && *sources == files.sources() && !new && !before.unrecorded {
            *lock(&entry.settled) = files.settled();
            if effective.is_ok() {
                *lock(&entry.text) = files.digest();
            }
            return Ok(false);
        }
        let after = self.accept(&entry, &mut sources, &files, Record::clone(&before.record))?;
        *lock(&entry.settled) = files.settled();
        drop(sources);
        let changed = new || after.revision != before.revision;
        if changed {
            self.changed(id);
        }
        Ok(changed)
    }

    /// Takes up a folder that came while the daemon runs, with the facts that it brings: it may be a server that was moved
    /// here.
    pub(super) fn adopt_folder(&self, id: ServerId) -> Arc<Entry> {
        let found = self.load_again(id);
        // No deletion that this daemon is about can be in a folder that its store does not know.
        found.drop_deletion();
        write(&self.inner.entries).entry(id).or_insert_with(|| Arc::new(found)).clone()
    }

    fn load_again(&self, id: ServerId) -> Entry {
        let Inner { servers, revisions, clock, .. } = &*self.inner;
        load::load(servers, id, Access::Write, revisions, clock.now()).unwrap_or_else(|| Entry::empty(id, revisions))
    }

    /// Reads a record again that could not be read. Returns whether it can be now, or is out of the way.
    pub(super) fn leave_quarantine(&self, entry: &Entry, sources: &mut Sources) -> bool {
        let found = self.load_again(entry.id);
        if found.is_quarantined() {
            return false;
        }
        *sources = *lock(&found.write);
        let known = read(&found.snapshot).clone();
        *write(&entry.sealed) = None;
        entry.publish(|next| *next = Snapshot::clone(&known));
        true
    }

    /// Accepts freshly read files: a good spec comes in effect, and its declarative fields make requests; a bad one becomes a
    /// problem. `record` and the requests are on disk when this returns.
    pub(super) fn accept(
        &self,
        entry: &Entry,
        sources: &mut Sources,
        files: &manifests::Files,
        mut record: Record,
    ) -> Result<Arc<Snapshot>, StoreError> {
        let before = read(&entry.snapshot).clone();
        let manifest = match files.effective() {
            Ok(manifest) => manifest,
            Err(problem) => return self.note_problem(entry, sources, problem, record),
        };
        record.accept_hash(manifest.hash());
        let manifest = match &before.manifest {
            Some(old) if **old == manifest => old.clone(),
            _ => Arc::new(manifest),
        };
        let (first, now) = (before.manifest.is_none(), self.inner.clock.now());
        let declared = requests::declare(&before.requests, &record, &manifest.spec, now, first);
        let put_record = || self.put_record(entry, &files.sources(), Some(&manifest), &record);
        let put_requests = || self.put_if_new(entry, declared, &before);
        // The record comes first: where the requests cannot be written then, the next look makes them again. Those of the first
        // spec come before the record: a later daemon that finds a record takes the spec for a changed one.
        let requests = if first || before.unrecorded {
            let requests = put_requests()?;
            let recorded = put_record().and_then(|()| self.put_with_record(entry, requests.clone()));
            recorded.inspect_err(|_| {
                // They are on disk all the same: who refuses the spec takes them back.
                if requests != before.requests {
                    entry.publish(|next| next.requests = requests.clone());
                }
            })?
        } else {
            put_record()?;
            self.put_with_record(entry, put_requests()?)?
        };
        // Only what is recorded counts as read: a disk that refuses now is asked again at the next look.
        *sources = files.sources();
        *lock(&entry.text) = files.digest();
        Ok(entry.publish(|next| {
            (next.manifest, next.record, next.requests) = (Some(manifest), Arc::new(record), requests);
            (next.problem, next.unrecorded) = (None, false);
        }))
    }

    /// The last good spec stays in effect while the files are bad.
    fn note_problem(
        &self,
        entry: &Entry,
        sources: &Sources,
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
            // A spec that is in effect and that only the files knew is recorded now: the next start of the daemon no longer finds
            // it in them, and would go back to an older one.
            requests = self.put_if_new(entry, None, &before)?;
            self.put_record(entry, sources, before.manifest.as_ref(), &record)?;
            requests = self.put_with_record(entry, requests)?;
        }
        Ok(entry.publish(|next| {
            (next.record, next.requests) = (Arc::new(record), requests);
            (next.problem, next.unrecorded) = (Some(problem), false);
        }))
    }

    /// Has on disk that there is a record again, once one was written: from now on it says what is completed.
    fn put_with_record(&self, entry: &Entry, requests: Arc<Requests>) -> Result<Arc<Requests>, StoreError> {
        if requests.completed_through.is_none() {
            return Ok(requests);
        }
        let requests = Requests { completed_through: None, ..Requests::clone(&requests) };
        self.put_requests(entry, &requests)?;
        Ok(Arc::new(requests))
    }

    /// Has requests on disk that are new, or that only the memory knows.
    fn put_if_new(&self, entry: &Entry, new: Option<Requests>, before: &Snapshot) -> Result<Arc<Requests>, StoreError> {
        let requests = match new {
            Some(new) => Arc::new(new),
            // One that was set aside is replaced, also by one that says nothing: it would be taken for lost at each start.
            None if before.unrecorded
                && (*before.requests != Requests::default()
                    || was_set_aside(&self.folder(entry.id).join(REQUESTS_FILE))) =>
            {
                before.requests.clone()
            }
            None => return Ok(before.requests.clone()),
        };
        self.put_requests(entry, &requests)?;
        Ok(requests)
    }
}

/// Whether the spec in effect is that of these texts.
fn is_of_these_texts(entry: &Entry, snapshot: &Snapshot, files: &manifests::Files) -> bool {
    let digest = files.digest();
    snapshot.manifest.is_some() && snapshot.problem.is_none() && digest.is_some() && *lock(&entry.text) == digest
}

/// Whether what the files said when they were last read is in effect, and only another fingerprint can mean another text.
fn is_in_effect(entry: &Entry, sources: &Sources, snapshot: &Snapshot) -> bool {
    snapshot.manifest.is_some()
        && snapshot.problem.is_none()
        && !snapshot.unrecorded
        && *lock(&entry.settled) == Some(*sources)
}
