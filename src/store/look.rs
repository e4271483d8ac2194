//! Looking at the files of intent: what people have changed comes in force, or becomes a problem.

use std::sync::Arc;

use super::load::Access;
use super::{CONFIG_FILE, Entry, Inner, Snapshot, Sources, Store, StoreError, intent, load, lock, read, write};
use crate::model::{Record, ServerId};

impl Store {
    /// Looks at the files of intent again: at their fingerprints first, and at their text only where that could be another one
    /// than was read. Returns whether anything changed.
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
        if entry.is_sealed() && !self.unseal(&entry, &mut sources) {
            return Ok(new);
        }
        let new = new || before.revision != read(&entry.snapshot).revision;
        let before = read(&entry.snapshot).clone();
        if !new && is_in_force(&entry, &sources, &before) && intent::fingerprints(&folder) == Some(*sources) {
            return Ok(false);
        }
        let files = intent::read(&folder, id);
        let effective = files.effective();
        let waits = before.record.pending_power.is_some() && effective.is_ok();
        // Within one tick of the kernel's clock another text may have the same fingerprint.
        let same = match &effective {
            Ok(manifest) => before.problem.is_none() && before.manifest.as_deref() == Some(manifest),
            Err(problem) => before.problem.as_ref() == Some(problem) && before.manifest.is_some(),
        };
        if same && *sources == files.sources() && !new && !waits {
            *lock(&entry.settled) = files.settled();
            return Ok(false);
        }
        let mut record = Record::clone(&before.record);
        if before.manifest.is_none()
            && load::facts_were_lost(&folder)
            && let Ok(manifest) = files.effective()
        {
            load::assume_all_was_done(&mut record, &manifest);
        }
        let files = if waits { self.take_home(id, files, &mut record) } else { files };
        let settled = files.settled();
        let after = self.accept(&entry, &mut sources, files, record)?;
        *lock(&entry.settled) = settled;
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
        found.forget_deletion();
        write(&self.inner.entries).entry(id).or_insert_with(|| Arc::new(found)).clone()
    }

    fn load_again(&self, id: ServerId) -> Entry {
        let Inner { servers, revisions, .. } = &*self.inner;
        load::load(servers, id, Access::Write, revisions).unwrap_or_else(|| Entry::empty(id, revisions))
    }

    /// Reads a record again that could not be read. Returns whether it can be now, or is out of the way.
    pub(super) fn unseal(&self, entry: &Entry, sources: &mut Sources) -> bool {
        let found = self.load_again(entry.id);
        if found.is_sealed() {
            return false;
        }
        *sources = *lock(&found.write);
        let known = read(&found.snapshot).clone();
        *write(&entry.sealed) = None;
        entry.publish(known.manifest.clone(), known.record.clone(), known.problem.clone(), known.unrecorded);
        true
    }

    /// Writes a power wish into the file that was broken when it was made. Until that has succeeded the record keeps it.
    pub(super) fn take_home(&self, id: ServerId, files: intent::Files, record: &mut Record) -> intent::Files {
        let Ok((text, base)) = files.base() else { return files };
        if !record.pending_counts(base.spec.power.as_ref()) {
            return files;
        }
        let mut wanted = base.clone();
        wanted.spec.power = record.pending_power.clone();
        let edited =
            intent::edit(&text, &base, &wanted).map_err(|error| self.broken(id, CONFIG_FILE, error.to_string()));
        let written = edited.and_then(|edited| {
            self.check(id, &edited)?;
            self.write_over(id, &edited, files.sources().config, &mut None)
        });
        match written {
            Ok(true) => {
                record.pending_power = None;
                intent::read(&self.folder(id), id)
            }
            // Saved in this moment: that is news, and looked at next.
            Ok(false) => files,
            Err(error) => {
                tracing::warn!(server.id = %id, "a power wish stays in the record for now: {error}");
                files
            }
        }
    }

    /// Puts freshly read files in force: good ones replace the last good intent, broken ones become a problem.
    pub(super) fn accept(
        &self,
        entry: &Entry,
        sources: &mut Sources,
        files: intent::Files,
        mut record: Record,
    ) -> Result<Arc<Snapshot>, StoreError> {
        let before = read(&entry.snapshot).clone();
        match files.effective() {
            Ok(mut manifest) => {
                if record.pending_counts(manifest.spec.power.as_ref()) {
                    manifest.spec.power = record.pending_power.clone();
                } else {
                    record.pending_power = None;
                }
                let old = before.manifest.as_ref().and_then(|old| old.spec.power.as_ref());
                record.supersede_power(old, manifest.spec.power.as_ref());
                let hash = manifest.hash();
                if hash != record.accepted_hash {
                    record.generation += 1;
                    record.accepted_hash = hash;
                }
                let manifest = match &before.manifest {
                    Some(old) if **old == manifest => old.clone(),
                    _ => Arc::new(manifest),
                };
                // Only what is recorded counts as read: a disk that refuses now is asked again at the next look.
                let snapshot = self.put_record(entry, &files.sources(), Some(manifest), record, None)?;
                *sources = files.sources();
                Ok(snapshot)
            }
            Err(problem) => {
                if before.problem.as_ref() == Some(&problem) && record == *before.record {
                    return Ok(before);
                }
                if record == *before.record && !before.unrecorded {
                    // Nothing to write: the problem is read from the files again at the next boot.
                    return Ok(entry.publish(before.manifest.clone(), before.record.clone(), Some(problem), false));
                }
                // An intent that is in force and that only the files knew is recorded now: the next boot finds it in them no
                // longer, and would go back to an older one.
                self.put_record(entry, sources, before.manifest.clone(), record, Some(problem))
            }
        }
    }
}

/// Whether what the files said when they were last read is in force, nothing waits to be written into them, and only another
/// fingerprint can mean another text.
fn is_in_force(entry: &Entry, sources: &Sources, snapshot: &Snapshot) -> bool {
    snapshot.manifest.is_some()
        && snapshot.problem.is_none()
        && !snapshot.unrecorded
        && snapshot.record.pending_power.is_none()
        && *lock(&entry.settled) == Some(*sources)
}
