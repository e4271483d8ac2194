//! Changes of intent that come through the store: new servers, edits of a `config.yml`, whole new intents.
//!
//! A change is on disk when its function returns, or did not happen. What a person has written in between is never written
//! over.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::fingerprint::FileFingerprint;
use super::{
    CONFIG_FILE, Entry, OVERRIDE_FILE, RECORD_FILE, Snapshot, Sources, Store, StoreError, frees_space, intent, lock,
    read, write,
};
use crate::atomic::Kept;
use crate::model::{Manifest, Record, ServerId};

impl Store {
    /// Writes a new server. Its files are on disk when this returns.
    ///
    /// # Errors
    /// [`StoreError::Exists`], or the disk's refusal, after which nothing of it is left.
    pub fn create(&self, manifest: Manifest, record: Record) -> Result<Arc<Snapshot>, StoreError> {
        self.create_then(manifest, record, || {})
    }

    /// As [`Store::create`]; once the server is on disk, and before anybody is woken for it, `then` is done.
    ///
    /// # Errors
    /// As [`Store::create`]. Then `then` was not done.
    pub fn create_then(
        &self,
        manifest: Manifest,
        record: Record,
        then: impl FnOnce(),
    ) -> Result<Arc<Snapshot>, StoreError> {
        let text = self.render(&manifest)?;
        self.create_from(&text, manifest, record, then)
    }

    pub(super) fn render(&self, manifest: &Manifest) -> Result<String, StoreError> {
        intent::render(manifest).map_err(|error| StoreError::Broken {
            path: self.folder(manifest.metadata.uuid).join(CONFIG_FILE),
            message: error.to_string(),
        })
    }

    /// Writes a new server whose `config.yml` is this text, which means `manifest`.
    pub(super) fn create_from(
        &self,
        text: &str,
        manifest: Manifest,
        record: Record,
        then: impl FnOnce(),
    ) -> Result<Arc<Snapshot>, StoreError> {
        let id = manifest.metadata.uuid;
        self.check(id, text)?;
        if self.entry(id).is_none() && self.folder(id).join(CONFIG_FILE).exists() {
            // A person was faster, and the watch has not said so yet.
            self.refresh(id)?;
            return Err(StoreError::Exists(id));
        }
        let entry = Arc::new(Entry::empty(id, &self.inner.revisions));
        let mut sources = lock(&entry.write);
        {
            let mut entries = write(&self.inner.entries);
            if let Some(other) = entries.get(&id).cloned() {
                drop(entries);
                // It may be in the making. Whoever hears that it exists must find it whole.
                drop(lock(&other.write));
                return Err(StoreError::Exists(id));
            }
            entries.insert(id, entry.clone());
        }
        match self.write_new(&entry, &mut sources, text, manifest, record) {
            Ok(snapshot) => {
                then();
                drop(sources);
                self.changed(id);
                Ok(snapshot)
            }
            Err(error) => {
                entry.gone.store(true, Ordering::Release);
                write(&self.inner.entries).remove(&id);
                // Best effort: the error that is returned is the one that matters.
                for file in [CONFIG_FILE, RECORD_FILE] {
                    let _ = std::fs::remove_file(self.folder(id).join(file));
                }
                let _ = std::fs::remove_dir(self.folder(id));
                Err(error)
            }
        }
    }

    pub(super) fn write_new(
        &self,
        entry: &Entry,
        sources: &mut Sources,
        text: &str,
        manifest: Manifest,
        mut record: Record,
    ) -> Result<Arc<Snapshot>, StoreError> {
        self.ensure_folder(entry.id)?;
        let fingerprint = self.write_intent(entry.id, text)?;
        let files = intent::read(&self.folder(entry.id), entry.id);
        if let Some(problem) = files.problem() {
            // An override that waited for the server, and is broken: without it for now.
            record.generation += 1;
            record.accepted_hash = manifest.hash();
            sources.config = fingerprint;
            return self.put_record(entry, sources, Some(Arc::new(manifest)), record, Some(problem));
        }
        self.accept(entry, sources, files, record)
    }

    /// Whether a text can be read back once it is a server's `config.yml`: nothing that the store writes may need a
    /// person to mend it.
    pub(super) fn check(&self, id: ServerId, text: &str) -> Result<Manifest, StoreError> {
        let manifest: Manifest =
            crate::yaml::parse(text).map_err(|error| self.broken(id, CONFIG_FILE, error.to_string()))?;
        intent::validate(&manifest, id).map_err(|problem| self.broken(id, CONFIG_FILE, problem.message))?;
        Ok(manifest)
    }

    pub(super) fn broken(&self, id: ServerId, file: &str, message: String) -> StoreError {
        StoreError::Broken { path: self.folder(id).join(file), message }
    }

    /// Changes a server's intent in `config.yml`, keeping a person's comments and layout. What `edit` sees is the file
    /// without `override.yml`. A change that changes nothing writes nothing.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when `expected` is given and no longer the revision, [`StoreError::Broken`]
    /// while the file does not parse, or the disk's refusal, after which the old file is whole.
    pub fn change(
        &self,
        id: ServerId,
        expected: Option<u64>,
        edit: impl FnOnce(&mut Manifest),
    ) -> Result<Arc<Snapshot>, StoreError> {
        self.change_with(id, expected, edit, |_| {})
    }

    /// As [`Store::change`], with facts that belong to the change.
    ///
    /// # Errors
    /// As [`Store::change`].
    pub fn change_with(
        &self,
        id: ServerId,
        expected: Option<u64>,
        edit: impl FnOnce(&mut Manifest),
        facts: impl FnOnce(&mut Record),
    ) -> Result<Arc<Snapshot>, StoreError> {
        self.change_by(id, expected, |manifest, _| edit(manifest), facts)
    }

    /// As [`Store::change_with`], by an edit that depends on facts.
    pub(super) fn change_by(
        &self,
        id: ServerId,
        expected: Option<u64>,
        edit: impl FnOnce(&mut Manifest, &Record),
        facts: impl FnOnce(&mut Record),
    ) -> Result<Arc<Snapshot>, StoreError> {
        let entry = self.entry(id).ok_or(StoreError::Unknown(id))?;
        let mut sources = entry.for_writing()?;
        let before = read(&entry.snapshot).clone();
        entry.whole(|| self.folder(id).join(RECORD_FILE))?;
        if let Some(expected) = expected
            && expected != before.revision
        {
            return Err(StoreError::Conflict { id, expected, found: before.revision });
        }
        let folder = self.folder(id);
        let mut files = intent::read(&folder, id);
        let (text, base) = files.base().map_err(|problem| self.broken(id, CONFIG_FILE, problem.message))?;
        if let Some(problem) = files.problem() {
            // A change that would not come in force must not look as if it had.
            return Err(self.broken(id, OVERRIDE_FILE, problem.message));
        }
        let mut wanted = base.clone();
        edit(&mut wanted, &before.record);
        // A wish that could not be written while the file was broken goes home, if the file is whole by now.
        if before.record.pending_counts(base.spec.power.as_ref()) && wanted.spec.power == base.spec.power {
            wanted.spec.power = before.record.pending_power.clone();
        }
        let mut record = Record::clone(&before.record);
        facts(&mut record);
        record.pending_power = None;
        let changed = wanted != base;
        let (mut kept, mut written) = (None, None);
        if !changed && record == *before.record {
            return Ok(before);
        }
        if changed {
            let edited =
                intent::edit(&text, &base, &wanted).map_err(|error| self.broken(id, CONFIG_FILE, error.to_string()))?;
            self.check(id, &edited)?;
            let basis = files.sources().config;
            let frees = frees_space(Some(&base), Some(&wanted));
            if !self.with_reserve(frees, || self.write_over(id, &edited, basis, &mut kept))? {
                let after =
                    self.accept(&entry, &mut sources, intent::read(&folder, id), Record::clone(&before.record))?;
                drop(sources);
                self.changed(id);
                return Err(StoreError::Conflict { id, expected: before.revision, found: after.revision });
            }
            files = intent::read(&folder, id);
            written = files.sources().config;
        }
        let snapshot = self.accept(&entry, &mut sources, files, record).inspect_err(|_| {
            if changed {
                self.take_back(id, written, kept.as_ref(), Some(&text));
            }
        })?;
        drop(sources);
        self.changed(id);
        Ok(snapshot)
    }

    /// What could not be recorded was refused, so it must not come in force at the next look. The disk may be full, and the file
    /// that was `kept` needs no room; its `text` is written again only where the file system keeps none. If even that fails, the
    /// change does come in force: then the file says what is wanted, and the next look records it. A file that is no longer the
    /// one `written` was saved by a person since, and stays.
    fn take_back(&self, id: ServerId, written: Option<FileFingerprint>, kept: Option<&Kept>, text: Option<&str>) {
        let path = self.folder(id).join(CONFIG_FILE);
        if FileFingerprint::of(&path).ok() != written {
            return;
        }
        let taken = match (kept, text) {
            (Some(kept), _) => kept.put_back().map_err(|source| StoreError::Disk { action: "put back", path, source }),
            (None, Some(text)) => self.write_intent(id, text).map(drop),
            (None, None) => crate::atomic::remove_file(&path).map_err(|error| StoreError::Disk {
                action: "remove",
                path,
                source: error.into(),
            }),
        };
        if let Err(error) = taken {
            tracing::error!(server.id = %id, "a refused change stays in the file: {error}");
        }
    }

    /// Writes a whole new intent over a server that the API no longer knows (parked, or being deleted). One that it knows
    /// by now is left as it is: somebody was faster with the same request.
    ///
    /// # Errors
    /// [`StoreError::Unknown`], or the disk's refusal.
    pub fn replace(&self, id: ServerId, manifest: Manifest, facts: impl FnOnce(&mut Record)) -> Result<(), StoreError> {
        let text = self.render(&manifest)?;
        self.replace_text(id, &text, |before| !before.is_listed(), facts)
    }

    /// Makes a text a server's `config.yml`, if it is `due` when its turn has come.
    pub(super) fn replace_text(
        &self,
        id: ServerId,
        text: &str,
        due: impl FnOnce(&Snapshot) -> bool,
        facts: impl FnOnce(&mut Record),
    ) -> Result<(), StoreError> {
        self.check(id, text)?;
        let entry = self.entry(id).ok_or(StoreError::Unknown(id))?;
        let mut sources = entry.for_writing()?;
        let before = read(&entry.snapshot).clone();
        if !due(&before) {
            return Ok(());
        }
        entry.whole(|| self.folder(id).join(RECORD_FILE))?;
        let mut record = Record::clone(&before.record);
        facts(&mut record);
        record.pending_power = None;
        self.ensure_folder(id)?;
        let path = self.folder(id).join(CONFIG_FILE);
        let (old, kept) = (std::fs::read_to_string(&path).ok(), Kept::keep(&path).ok());
        let written = self.write_intent(id, text)?;
        let files = intent::read(&self.folder(id), id);
        self.accept(&entry, &mut sources, files, record)
            .inspect_err(|_| self.take_back(id, written, kept.as_ref(), old.as_deref()))?;
        drop(sources);
        self.changed(id);
        Ok(())
    }
}
