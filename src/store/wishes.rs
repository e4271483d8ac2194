//! What people want, written into the state folder: a whole file of intent, or a power wish.
//!
//! A text or a wish comes in, and is on disk when the function returns.

use super::{Snapshot, SpecProblem, Store, StoreError, intent};
use crate::model::{InstallIntent, ManagedBy, Manifest, PowerIntent, Reason, Record, ServerId};
use crate::yaml::{self, YamlError};

/// What an applied file has changed, or would.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// There was no such server.
    Created,
    /// Its intent was another one.
    Changed,
    /// It was so already.
    Unchanged,
}

impl Applied {
    /// One word for people and tools.
    pub fn word(self) -> &'static str {
        match self {
            Applied::Created => "created",
            Applied::Changed => "changed",
            Applied::Unchanged => "unchanged",
        }
    }
}

/// Why a file was not applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The text is no record of intent.
    #[error("{0}")]
    Text(#[from] YamlError),
    /// The record makes no sense.
    #[error("{}", .0.message)]
    Invalid(SpecProblem),
    /// The text is about another server.
    #[error("metadata.uuid is {found}, and {expected} was asked for")]
    OtherServer {
        /// Who was asked for.
        expected: ServerId,
        /// Who it is about.
        found: ServerId,
    },
    /// The server is on its way out.
    #[error("server {0} is being deleted; apply the file again when `alula get` no longer shows it")]
    BeingDeleted(ServerId),
    /// The state folder refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Makes a text the intent of a server. A new server gets the text as it is, comments included; in the `config.yml`
    /// of one that exists only what differs is changed. What the text does not say about power, installation and the
    /// panel's script stays as it is, and a wish in it that is over already does not take the place of a later one: applied
    /// again, an unchanged file asks for nothing. With `dry_run` nothing is written.
    ///
    /// # Errors
    /// The text's faults, or the disk's refusal.
    pub fn apply(&self, id: ServerId, text: &str, dry_run: bool) -> Result<Applied, ApplyError> {
        let manifest: Manifest = yaml::parse(text)?;
        let found = manifest.metadata.uuid;
        if found != id {
            return Err(ApplyError::OtherServer { expected: id, found });
        }
        intent::validate(&manifest, id).map_err(ApplyError::Invalid)?;
        let Some(before) = self.get(id) else {
            if dry_run {
                return Ok(Applied::Created);
            }
            return match self.create_from(text, manifest, Record::default(), || {}) {
                // Somebody was faster.
                Err(StoreError::Exists(_)) => self.apply(id, text, dry_run),
                created => created.map(|_| Applied::Created).map_err(ApplyError::from),
            };
        };
        if before.record.deletion.is_some() {
            return Err(ApplyError::BeingDeleted(id));
        }
        // Whoever takes a server out of its panel's hands has found it: it is parked no longer.
        let found = manifest.metadata.managed_by == ManagedBy::File;
        let facts = |record: &mut Record| {
            if found {
                record.parked = None;
            }
        };
        if before.problem.as_ref().is_some_and(|problem| problem.reason == Reason::SpecMissing) {
            if !dry_run {
                let text = restored(&before, text, manifest)?;
                self.replace_text(id, &text, |_| true, facts)?;
            }
            return Ok(Applied::Changed);
        }
        if dry_run {
            return self.would_change(&before, manifest);
        }
        let after = self.change_by(id, None, |current, record| put(current, manifest, record), facts)?;
        Ok(if after.revision == before.revision { Applied::Unchanged } else { Applied::Changed })
    }

    fn would_change(&self, before: &Snapshot, manifest: Manifest) -> Result<Applied, ApplyError> {
        let folder = self.folder(before.id);
        let (_, current) = intent::read(&folder, before.id).base().map_err(|problem| StoreError::Broken {
            path: folder.join(super::CONFIG_FILE),
            message: problem.message,
        })?;
        let mut wanted = current.clone();
        let unparks = before.record.parked.is_some() && manifest.metadata.managed_by == ManagedBy::File;
        put(&mut wanted, manifest, &before.record);
        Ok(if wanted == current && !unparks { Applied::Unchanged } else { Applied::Changed })
    }

    /// Writes a power wish into `config.yml`; while a person's half-done edit keeps that from being changed, the wish is
    /// kept in the record and counts all the same.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when `expected` is given and no longer the revision, or the disk's refusal.
    #[cfg(test)]
    pub fn wish_power(&self, id: ServerId, expected: Option<u64>, power: PowerIntent) -> Result<(), StoreError> {
        let wish = power.clone();
        match self.change(id, expected, move |manifest| manifest.spec.power = Some(wish)) {
            Err(StoreError::Broken { .. }) => {
                self.commit(id, |record| record.pending_power = Some(power))?;
                self.wake(id);
                Ok(())
            }
            result => result.map(drop),
        }
    }
}

/// The text for a server whose file has vanished, with the wishes that are later than the text's.
fn restored(before: &Snapshot, text: &str, manifest: Manifest) -> Result<String, ApplyError> {
    let Some(mut wanted) = before.manifest.as_deref().cloned() else { return Ok(text.to_owned()) };
    put(&mut wanted, manifest.clone(), &before.record);
    if wanted == manifest { Ok(text.to_owned()) } else { Ok(intent::edit(text, &manifest, &wanted)?) }
}

/// Lays a file over what is there. Wishes that the file repeats give way to those that came after them.
fn put(current: &mut Manifest, mut wanted: Manifest, record: &Record) {
    let now = &current.spec;
    // Under the id of the present wish, another word is a person's new word.
    let repeated = |power: &PowerIntent| {
        now.power.as_ref().is_none_or(|now| now.id != power.id) && record.power_closed(&power.id, power.want)
    };
    wanted.spec.power = wanted.spec.power.take().filter(|power| !repeated(power)).or_else(|| now.power.clone());
    let repeated = |install: &InstallIntent| {
        now.install.as_ref().is_none_or(|now| now.token != install.token) && record.install_over(&install.token)
    };
    wanted.spec.install =
        wanted.spec.install.take().filter(|install| !repeated(install)).or_else(|| now.install.clone());
    if wanted.metadata.managed_by == ManagedBy::Panel {
        wanted.spec.script = wanted.spec.script.or_else(|| current.spec.script.take());
    }
    *current = wanted;
}

#[cfg(test)]
mod tests;
