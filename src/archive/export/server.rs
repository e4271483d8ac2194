//! The stream of a server of this node: made of its files and backups, and read into the place of a server that is brought back.

use std::io::{self, Read, Write};

use super::super::backup::{UnpackOptions, WriteOptions};
use super::super::error::ArchiveError;
use super::{Exporter, Importing, read};
use crate::files::trash::{DeletedServer, Import};
use crate::files::{FilesError, Layout};
use crate::model::{ServerId, Timestamp};
use crate::yaml::{self, YamlError};
use uuid::Uuid;

/// Why a server was not exported or imported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The stream itself.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// Files of this node.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// The description of the server.
    #[error("the description of the server cannot be read: {0}; was it exported by another version?")]
    Description(#[from] serde_json::Error),
    /// The manifest.
    #[error("the manifest cannot be written: {0}")]
    Manifest(#[from] YamlError),
    /// It has no manifest.
    #[error("the server {0} has no valid manifest: correct it first")]
    NoManifest(ServerId),
    /// It is here.
    #[error("the server {0} is on this node: delete it first, and wait until it is gone")]
    Exists(ServerId),
}

/// Writes a server into a sink: its description, its files, and its local backups if the description has some.
///
/// # Errors
/// It has no valid manifest, something cannot be read, the sink fails, or the operation is cancelled.
pub fn write_server<W: Write>(
    layout: &Layout,
    server: &DeletedServer,
    sink: W,
    options: WriteOptions<'_>,
) -> Result<(), ExportError> {
    let id = server.server;
    let manifest = server.manifest.as_ref().ok_or(ExportError::NoManifest(id))?;
    let (description, config) = (serde_json::to_vec(server)?, yaml::to_string(manifest)?);
    let mut exporter = Exporter::new(sink, &description, config.as_bytes())?;
    layout.sweep_sources(id)?;
    let source = layout.quiet_source(id, || (), options.progress.cancelled())?;
    exporter.data(source.tree(), options)?;
    drop(source);
    for backup in &server.record.backups {
        // One that was deleted meanwhile is left out.
        if let Some((file, entry)) = layout.open_backup(id, backup.id)? {
            exporter.backup(backup.id, entry.size, file)?;
        }
    }
    exporter.finish()?;
    Ok(())
}

/// Reads a server into the place of deleted servers, from where it can be brought back. `exists` is whether a server is on this node.
///
/// # Errors
/// The stream is damaged or incomplete, the server is here, or its files do not fit. Nothing is left.
pub fn read_server(
    layout: &Layout,
    at: Timestamp,
    exists: impl Fn(ServerId) -> bool,
    source: impl Read,
    options: UnpackOptions<'_>,
) -> Result<DeletedServer, ExportError> {
    let begin = |description: &[u8]| {
        let described: DeletedServer = serde_json::from_slice(description)?;
        let (id, manifest) = (described.server, described.manifest.as_ref());
        if manifest.is_none_or(|manifest| manifest.metadata.uuid != id) {
            return Err(ExportError::NoManifest(id));
        }
        if exists(id) {
            return Err(ExportError::Exists(id));
        }
        let import = layout.begin_import(DeletedServer { at, data: None, backups: None, ..described })?;
        Ok((import.tree().clone(), import))
    };
    let (import, _) = read(source, begin, options)?;
    Ok(import.finish()?)
}

impl Importing for Import {
    fn backup(&mut self, id: Uuid) -> io::Result<Box<dyn Write>> {
        Ok(Box::new(Import::backup(self, id)?))
    }
}
