//! Manifests of servers that exist: the panel's configuration, replaced files.
//!
//! A change is on disk when its function returns, or did not happen. What a person has written in between is never written
//! over.

use std::sync::Arc;

use super::fingerprint::FileFingerprint;
use super::requests::accepted;
use super::{
    CONFIG_FILE, Entry, OVERRIDE_FILE, RECORD_FILE, Snapshot, Sources, Store, StoreError, frees_space, manifests, read,
};
use crate::atomic::Kept;
use crate::model::{ManagedBy, Manifest, Record, Requests, ServerId};
use crate::requests::{self, NewRequest};

impl Store {
    pub(super) fn render(&self, manifest: &Manifest) -> Result<String, StoreError> {
        manifests::render(manifest).map_err(|error| StoreError::Broken {
            path: self.folder(manifest.metadata.uuid).join(CONFIG_FILE),
            message: error.to_string(),
        })
    }

    /// Whether a text can be read back once it is a server's `config.yml`: nothing that the store writes may need a
    /// person to mend it.
    pub(super) fn check(&self, id: ServerId, text: &str) -> Result<Manifest, StoreError> {
        let manifest: Manifest =
            crate::yaml::parse(text).map_err(|error| self.broken(id, CONFIG_FILE, error.to_string()))?;
        manifests::validate(&manifest, id).map_err(|problem| self.broken(id, CONFIG_FILE, problem.message))?;
        Ok(manifest)
    }

    pub(super) fn broken(&self, id: ServerId, file: &str, message: String) -> StoreError {
        StoreError::Broken { path: self.folder(id).join(file), message }
    }

    /// Rewrites the `config.yml` of a server that its panel manages, with facts that belong to the change. What `edit` gets is the
    /// file without `override.yml`. A change that changes nothing writes nothing, and so does one of a server that a file manages.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when `expected` is given and no longer the revision, [`StoreError::Broken`]
    /// while the file does not parse, or the disk's error, after which the old file is in its place.
    pub fn sync(
        &self,
        id: ServerId,
        expected: Option<u64>,
        edit: impl FnOnce(&mut Manifest),
        facts: impl FnOnce(&mut Record),
    ) -> Result<Arc<Snapshot>, StoreError> {
        let entry = self.entry(id).ok_or(StoreError::Unknown(id))?;
        let mut sources = entry.for_writing()?;
        let before = read(&entry.snapshot).clone();
        entry.check_not_quarantined(|| self.folder(id).join(RECORD_FILE))?;
        if let Some(expected) = expected
            && expected != before.revision
        {
            return Err(StoreError::Conflict { id, expected, found: before.revision });
        }
        let folder = self.folder(id);
        let mut files = manifests::read(&folder, id);
        let (text, base) = files.base().map_err(|problem| self.broken(id, CONFIG_FILE, problem.message))?;
        if let Some(problem) = files.problem() {
            // A change that would not come in force must not look as if it had.
            return Err(self.broken(id, OVERRIDE_FILE, problem.message));
        }
        if base.metadata.managed_by == ManagedBy::File {
            return Ok(before);
        }
        let mut wanted = base.clone();
        edit(&mut wanted);
        let mut record = Record::clone(&before.record);
        facts(&mut record);
        let changed = wanted != base;
        let (mut kept, mut written) = (None, None);
        if !changed && record == *before.record {
            return Ok(before);
        }
        if changed {
            let edited = self.render(&wanted)?;
            self.check(id, &edited)?;
            let basis = files.sources().config;
            let frees = frees_space(Some(&base), Some(&wanted));
            if !self.with_reserve(frees, || self.write_over(id, &edited, basis, &mut kept))? {
                let read = manifests::read(&folder, id);
                let after = self.accept(&entry, &mut sources, &read, Record::clone(&before.record))?;
                drop(sources);
                self.changed(id);
                return Err(StoreError::Conflict { id, expected: before.revision, found: after.revision });
            }
            files = manifests::read(&folder, id);
            written = files.sources().config;
        }
        let snapshot = self.accept(&entry, &mut sources, &files, record).inspect_err(|_| {
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
            (None, Some(text)) => self.write_manifest(id, text).map(drop),
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

    /// Writes a new manifest over a server that the API no longer knows (parked, or being deleted), and what is asked of it. One
    /// that it knows by now is left as it is: another caller was faster with the same request.
    ///
    /// # Errors
    /// [`StoreError::Unknown`], or the disk's error.
    pub fn replace(
        &self,
        id: ServerId,
        manifest: Manifest,
        facts: impl FnOnce(&mut Record),
        new: impl IntoIterator<Item = NewRequest>,
    ) -> Result<(), StoreError> {
        let text = self.render(&manifest)?;
        self.replace_text(id, &text, |before| !before.is_listed(), facts, new)
    }

    /// Makes a text a server's `config.yml`, if it is `due` under the lock. The requests come first: a crash after them leaves a
    /// server that is still parked, or being deleted, and the same call completes it.
    pub(super) fn replace_text(
        &self,
        id: ServerId,
        text: &str,
        due: impl FnOnce(&Snapshot) -> bool,
        facts: impl FnOnce(&mut Record),
        new: impl IntoIterator<Item = NewRequest>,
    ) -> Result<(), StoreError> {
        let manifest = self.check(id, text)?;
        let entry = self.entry(id).ok_or(StoreError::Unknown(id))?;
        let mut sources = entry.for_writing()?;
        let before = read(&entry.snapshot).clone();
        if !due(&before) {
            return Ok(());
        }
        entry.check_not_quarantined(|| self.folder(id).join(RECORD_FILE))?;
        let mut record = Record::clone(&before.record);
        facts(&mut record);
        let fields = self.fields_of_next(&before, text);
        let requests = accepted(fields.as_ref().unwrap_or(&before.requests), &before.record, new);
        self.put_accepted(&entry, Arc::new(requests))?;
        let frees = frees_space(before.manifest.as_deref(), Some(&manifest));
        self.write_instead(&entry, &mut sources, text, record, frees).inspect_err(|_| {
            if let Err(error) = self.put_accepted(&entry, before.requests.clone()) {
                tracing::error!(server.id = %id, "requests that were refused stay in the file: {error}");
            }
        })?;
        drop(sources);
        self.changed(id);
        Ok(())
    }

    /// Writes a text over the `config.yml` that is there, and accepts it with this record.
    fn write_instead(
        &self,
        entry: &Entry,
        sources: &mut Sources,
        text: &str,
        record: Record,
        frees: bool,
    ) -> Result<(), StoreError> {
        let id = entry.id;
        self.ensure_folder(id)?;
        let path = self.folder(id).join(CONFIG_FILE);
        let (old, kept) = (std::fs::read_to_string(&path).ok(), Kept::keep(&path).ok());
        let written = self.with_reserve(frees, || self.write_manifest(id, text))?;
        let files = manifests::read(&self.folder(id), id);
        self.accept(entry, sources, &files, record)
            .inspect_err(|_| self.take_back(id, written, kept.as_ref(), old.as_deref()))?;
        Ok(())
    }

    /// The requests with those that the fields of a new manifest make for a server that is made again after its deletion. They come
    /// before the request that makes it.
    fn fields_of_next(&self, before: &Snapshot, text: &str) -> Option<Requests> {
        if before.wanted() {
            return None;
        }
        let overlay = std::fs::read_to_string(self.folder(before.id).join(OVERRIDE_FILE)).unwrap_or_default();
        let manifest = manifests::merge(text, &overlay).ok()?;
        let now = self.inner.clock.now();
        requests::declare_for_next(&before.requests, &before.record, &manifest.spec, now, true)
    }
}
