//! Applying a person's manifest: its text comes in, and is the server's `config.yml`, on disk, when the function returns.

use super::{CONFIG_FILE, NewServer, OVERRIDE_FILE, Snapshot, SpecProblem, Store, StoreError, manifests};
use crate::model::{ManagedBy, Manifest, Record, ServerId};
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
    /// In lower case, for people and tools.
    pub fn as_str(self) -> &'static str {
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
    /// Makes a text the `config.yml` of a server, comments included. What the text does not say about the panel's script stays.
    /// An unchanged text asks for nothing. With `dry_run` nothing is written.
    ///
    /// # Errors
    /// The text's faults, or the disk's error.
    pub fn apply(&self, id: ServerId, text: &str, dry_run: bool) -> Result<Applied, ApplyError> {
        let manifest: Manifest = yaml::parse(text)?;
        let found = manifest.metadata.uuid;
        if found != id {
            return Err(ApplyError::OtherServer { expected: id, found });
        }
        manifests::validate(&manifest, id).map_err(ApplyError::Invalid)?;
        let Some(before) = self.get(id) else {
            if dry_run {
                return Ok(Applied::Created);
            }
            let new = NewServer { manifest, record: Record::default(), requests: Vec::new() };
            return match self.create_from(text.to_owned(), new) {
                // Another writer was faster.
                Err(StoreError::Exists(_)) => self.apply(id, text, dry_run),
                created => created.map(|_| Applied::Created).map_err(ApplyError::from),
            };
        };
        if before.is_being_deleted() {
            return Err(ApplyError::BeingDeleted(id));
        }
        let text = with_script(text, manifest.clone(), &before)?;
        // A server that is taken out of its panel's hands is parked no longer.
        let unparks = before.record.parked.is_some() && manifest.metadata.managed_by == ManagedBy::File;
        self.check_override(id, &text)?;
        let current = std::fs::read_to_string(self.folder(id).join(CONFIG_FILE));
        if !unparks && current.is_ok_and(|current| current == text) {
            return Ok(Applied::Unchanged);
        }
        if !dry_run {
            let facts = |record: &mut Record| {
                if unparks {
                    record.parked = None;
                }
            };
            self.replace_text(id, &text, |before| !before.is_being_deleted(), facts, [])?;
        }
        Ok(Applied::Changed)
    }
}

impl Store {
    /// Refuses a text that would not come in effect because of what `override.yml` says.
    fn check_override(&self, id: ServerId, text: &str) -> Result<(), StoreError> {
        match std::fs::read_to_string(self.folder(id).join(OVERRIDE_FILE)) {
            Ok(overlay) => manifests::merge(text, &overlay)
                .map(drop)
                .map_err(|error| self.broken(id, OVERRIDE_FILE, error.to_string())),
            Err(_) => Ok(()),
        }
    }
}

/// The text of a server that its panel manages, with the script that was fetched for it.
fn with_script(text: &str, mut manifest: Manifest, before: &Snapshot) -> Result<String, ApplyError> {
    let fetched = before.manifest.as_ref().and_then(|before| before.spec.script.as_ref());
    let (ManagedBy::Panel, None, Some(script)) = (manifest.metadata.managed_by, &manifest.spec.script, fetched) else {
        return Ok(text.to_owned());
    };
    manifest.spec.script = Some(script.clone());
    Ok(manifests::render(&manifest)?)
}

#[cfg(test)]
mod tests;
