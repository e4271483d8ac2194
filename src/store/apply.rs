//! Applying a person's manifest: its text becomes the server's `config.yml`.

use serde::Serialize;

use super::{CONFIG_FILE, NewServer, OVERRIDE_FILE, Snapshot, SpecProblem, Store, StoreError, manifests};
use crate::model::{Declared, ManagedBy, Manifest, Record, ServerId};
use crate::yaml::{self, YamlError};

/// What applying a file has changed, or would change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Applied {
    /// The server was created.
    Created,
    /// The server's manifest was another one.
    Changed,
    /// The server has this manifest already.
    Unchanged,
}

/// Why a file was not applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The text is not a manifest.
    #[error("{0}")]
    Text(#[from] YamlError),
    /// The manifest is invalid.
    #[error("{}", .0.message)]
    Invalid(SpecProblem),
    /// The text is about another server.
    #[error("metadata.uuid is {found}, expected {expected}")]
    OtherServer {
        /// The server that was requested.
        expected: ServerId,
        /// The server in the text.
        found: ServerId,
    },
    /// The server is being deleted.
    #[error("server {0} is being deleted; apply the file again when `alula get` no longer shows it")]
    BeingDeleted(ServerId),
    /// The store could not write it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Makes a text the `config.yml` of a server, comments included. A text without a script keeps the script that was fetched from
    /// the panel. An unchanged text makes no request. With `dry_run` nothing is written.
    ///
    /// # Errors
    /// What is wrong with the text, or the disk's error.
    pub fn apply(&self, id: ServerId, text: &str, dry_run: bool) -> Result<Applied, ApplyError> {
        let manifest: Manifest = yaml::parse_strict(text)?;
        let found = manifest.metadata.uuid;
        if found != id {
            return Err(ApplyError::OtherServer { expected: id, found });
        }
        manifests::validate(&manifest, id).map_err(ApplyError::Invalid)?;
        let Some(before) = self.get(id) else {
            if dry_run {
                return Ok(Applied::Created);
            }
            let new =
                NewServer { manifest, record: Record::default(), requests: Vec::new(), declared: Declared::default() };
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
        // A server that its panel no longer manages is no longer parked.
        let unparks = before.record.parked.is_some() && manifest.metadata.managed_by == ManagedBy::File;
        // A text that would not take effect because of the override is rejected.
        manifests::effective(&text, &self.folder(id), id)
            .map_err(|problem| self.broken(id, OVERRIDE_FILE, problem.message))?;
        let current = std::fs::read_to_string(self.folder(id).join(CONFIG_FILE));
        if !unparks && current.is_ok_and(|current| current == text) {
            return Ok(Applied::Unchanged);
        }
        if !dry_run {
            let unpark = |record: &mut Record| record.parked = record.parked.filter(|_| !unparks);
            self.replace_text(id, &text, |before| !before.is_being_deleted(), unpark, [])?;
        }
        Ok(Applied::Changed)
    }
}

/// The text for a server that its panel manages, with the script that was fetched for it.
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
