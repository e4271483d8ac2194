//! Manifests of servers that exist: synced from the panel, or replaced.
//!
//! A change is on disk when its function returns, or did not happen. A file that a person has saved in between is never
//! overwritten.

use std::io;
use std::sync::Arc;

use super::entry::Writer;
use super::fingerprint::FileFingerprint;
use super::requests::accepted;
use super::{
    CONFIG_FILE, Entry, OVERRIDE_FILE, RECORD_FILE, Snapshot, Store, StoreError, frees_space, manifests, read,
};
use crate::atomic::{self, Kept};
use crate::model::{ManagedBy, Manifest, Record, Requests, ServerId};
use crate::requests::{self, NewRequest};

impl Store {
    pub(super) fn render(&self, manifest: &Manifest) -> Result<String, StoreError> {
        manifests::render(manifest).map_err(|error| self.broken(manifest.metadata.uuid, CONFIG_FILE, error.to_string()))
    }

    /// Parses and validates a text that is about to become a server's `config.yml`: the store writes no file that a person would
    /// have to fix.
    pub(super) fn check(&self, id: ServerId, text: &str) -> Result<Manifest, StoreError> {
        let manifest: Manifest =
            crate::yaml::parse(text).map_err(|error| self.broken(id, CONFIG_FILE, error.to_string()))?;
        manifests::validate(&manifest, id).map_err(|problem| self.broken(id, CONFIG_FILE, problem.message))?;
        Ok(manifest)
    }

    pub(super) fn broken(&self, id: ServerId, file: &str, message: String) -> StoreError {
        StoreError::Broken { path: self.folder(id).join(file), message }
    }

    /// Rewrites the `config.yml` of a server that its panel manages, and the record with it. `edit` gets the file without
    /// `override.yml`. An edit that changes nothing writes nothing. The file of a server that a file manages is never changed.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if `expected` is given and no longer the revision. [`StoreError::Broken`] while the file does not
    /// parse. The disk's error, after which the old file is in place.
    pub fn sync(
        &self,
        id: ServerId,
        expected: Option<u64>,
        edit: impl FnOnce(&mut Manifest),
        edit_record: impl FnOnce(&mut Record),
    ) -> Result<Arc<Snapshot>, StoreError> {
        let entry = self.entry(id).ok_or(StoreError::Unknown(id))?;
        let mut writer = entry.for_writing()?;
        let before = read(&entry.snapshot).clone();
        self.check_not_quarantined(id, &writer, RECORD_FILE)?;
        before.check_revision(expected)?;
        let files = manifests::read(&self.folder(id), id);
        let base = files.base().map_err(|problem| self.broken(id, CONFIG_FILE, problem.message))?;
        if let Some(problem) = files.problem() {
            // A change that would not take effect must not be reported as done.
            return Err(self.broken(id, OVERRIDE_FILE, problem.message));
        }
        if base.metadata.managed_by == ManagedBy::File {
            return Ok(before);
        }
        let mut wanted = base.clone();
        edit(&mut wanted);
        let mut record = Record::clone(&before.record);
        edit_record(&mut record);
        let snapshot = if wanted != base {
            let text = self.render(&wanted)?;
            self.check(id, &text)?;
            let frees = frees_space(Some(&base), Some(&wanted));
            self.put_manifest(&entry, &mut writer, &text, files.sources().config, record, frees)
        } else if record != *before.record {
            self.accept(&entry, &mut writer, &files, record)
        } else {
            return Ok(before);
        };
        drop(writer);
        self.after_change(id, snapshot)
    }

    /// Wakes the server after a change. After a conflict the file is accepted that a person has saved meanwhile.
    fn after_change<T>(&self, id: ServerId, result: Result<T, StoreError>) -> Result<T, StoreError> {
        match &result {
            Ok(_) => self.changed(id),
            Err(StoreError::Conflict(_)) => drop(self.refresh(id)?),
            Err(_) => {}
        }
        result
    }

    /// Replaces the `config.yml` that a change is based on, and accepts the new one with this record. It is a conflict if a person
    /// has saved the file since.
    fn put_manifest(
        &self,
        entry: &Entry,
        writer: &mut Writer,
        text: &str,
        basis: Option<FileFingerprint>,
        record: Record,
        frees: bool,
    ) -> Result<Arc<Snapshot>, StoreError> {
        let id = entry.id;
        self.ensure_folder(id)?;
        let kept = self.with_reserve(frees, || self.write_manifest(id, text, basis))?;
        let kept = kept.ok_or(StoreError::Conflict(id))?;
        let files = manifests::read(&self.folder(id), id);
        self.accept(entry, writer, &files, record).inspect_err(|_| self.take_back(id, files.sources().config, kept))
    }

    /// Restores the `config.yml` that was replaced: a change that could not be recorded is reported as failed, and must not take
    /// effect later. The disk may be full, and the `kept` file needs no space. If even that fails, the change does take effect: the
    /// next pass records what the file says. A file that is no longer the one `written` was saved by a person since, and stays.
    fn take_back(&self, id: ServerId, written: Option<FileFingerprint>, kept: io::Result<Kept>) {
        let path = self.folder(id).join(CONFIG_FILE);
        if FileFingerprint::of(&path).ok() != written {
            return;
        }
        let restored = match kept {
            Ok(kept) => kept.put_back(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                atomic::remove_file(&path).map_err(io::Error::from)
            }
            Err(error) => Err(error),
        };
        if let Err(error) = restored {
            tracing::error!(server.id = %id, %error, "a failed change stays in the file");
        }
    }

    /// Writes a new manifest over a server that the API no longer knows (parked, or being deleted), and new requests. A server that
    /// the API knows by now is not changed: another caller was faster with the same request.
    ///
    /// # Errors
    /// [`StoreError::Unknown`], [`StoreError::Conflict`] if a person has saved the file meanwhile, or the disk's error.
    pub fn replace(
        &self,
        id: ServerId,
        manifest: Manifest,
        edit_record: impl FnOnce(&mut Record),
        new: impl IntoIterator<Item = NewRequest>,
    ) -> Result<(), StoreError> {
        let text = self.render(&manifest)?;
        self.replace_text(id, &text, |before| !before.is_listed(), edit_record, new)
    }

    /// Makes a text a server's `config.yml`, if it is `due` under the lock. The requests are written first: a crash after them
    /// leaves a server that is still parked, or being deleted, and the same call completes it.
    pub(super) fn replace_text(
        &self,
        id: ServerId,
        text: &str,
        due: impl FnOnce(&Snapshot) -> bool,
        edit_record: impl FnOnce(&mut Record),
        new: impl IntoIterator<Item = NewRequest>,
    ) -> Result<(), StoreError> {
        let manifest = self.check(id, text)?;
        let entry = self.entry(id).ok_or(StoreError::Unknown(id))?;
        let mut writer = entry.for_writing()?;
        let before = read(&entry.snapshot).clone();
        if !due(&before) {
            return Ok(());
        }
        self.check_not_quarantined(id, &writer, RECORD_FILE)?;
        let basis = FileFingerprint::of(&self.folder(id).join(CONFIG_FILE)).ok();
        let mut record = Record::clone(&before.record);
        edit_record(&mut record);
        let fields = self.fields_of_next(&before, text);
        let requests = accepted(fields.as_ref().unwrap_or(&before.requests), &before.record, new);
        self.put_accepted(&entry, &writer, Arc::new(requests))?;
        let frees = frees_space(before.manifest.as_deref(), Some(&manifest));
        let replaced = self.put_manifest(&entry, &mut writer, text, basis, record, frees);
        if replaced.is_err()
            && let Err(error) = self.put_accepted(&entry, &writer, before.requests.clone())
        {
            tracing::error!(server.id = %id, %error, "requests of a failed change stay in the file");
        }
        drop(writer);
        self.after_change(id, replaced.map(drop))
    }

    /// The requests, and those that the fields of a new manifest make for a server that is created again after its deletion. They
    /// come before the request that creates it.
    fn fields_of_next(&self, before: &Snapshot, text: &str) -> Option<Requests> {
        if before.wanted() {
            return None;
        }
        let manifest = manifests::effective(text, &self.folder(before.id), before.id).ok()?;
        let now = self.inner.clock.now();
        requests::declare_for_next(&before.requests, &before.record, &manifest.spec, now, true)
    }
}
