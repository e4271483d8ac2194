//! Writes the form of a transfer. Blocking. Source: HTTP API, "Transfers between daemons".

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::archive::backup::{self, Hashes, IgnoreList, Summary, WriteOptions};
use crate::archive::{ArchiveError, spawn_helper};
use crate::events::EventKind;
use crate::files::tree::Tree;
use crate::files::{DiskAccount, FilesError};
use crate::model::ServerId;
use crate::progress::Progress;
use crate::reconcile::context::Context;
use crate::tasks::Blocking;
use crate::transfer::{FormWriter, PipeWriter, log_line};

/// Bytes that are read at once.
const BUFFER: usize = 128 << 10;
/// The most bytes of an install log that are sent.
const MAX_LOG: u64 = 20 << 20;

/// What administrators read of a transfer.
#[derive(Clone)]
pub(super) struct Log {
    pub(super) context: Arc<Context>,
    pub(super) server: ServerId,
}

impl Log {
    pub(super) fn line(&self, text: &str) {
        let line = || EventKind::TransferLog(log_line(self.context.clock.now(), text).into());
        self.context.store.events().publish_output(self.server, line);
    }
}

/// Why not everything was written.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotWritten {
    #[error("the server's files cannot be read: {0}")]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Files(#[from] FilesError),
    #[error("the backup {id} cannot be read: {source}")]
    Backup { id: Uuid, source: io::Error },
    #[error("the data cannot be sent: {0}")]
    Pipe(#[from] io::Error),
}

impl NotWritten {
    /// Whether the connection was closed, which has another reason.
    pub(super) fn is_of_the_connection(&self) -> bool {
        match self {
            Self::Pipe(_) | Self::Archive(ArchiveError::Cancelled) => true,
            Self::Archive(ArchiveError::Io(error)) => error.kind() == io::ErrorKind::BrokenPipe,
            _ => false,
        }
    }
}

/// What is sent.
pub(super) struct Sending {
    pub(super) log: Log,
    pub(super) backups: Vec<Uuid>,
    pub(super) progress: Progress,
}

impl Sending {
    /// Writes everything. Returns a summary for people.
    ///
    /// # Errors
    /// The connection is closed, or files cannot be read.
    pub(super) fn write(self, pipe: PipeWriter, boundary: String) -> Result<String, NotWritten> {
        let mut form = FormWriter::new(pipe, boundary);
        self.log.line("Streaming archive to destination...");
        let written = self.archive(&mut form)?;
        let backups = self.write_backups(&mut form)?;
        self.log.line("Finished streaming archive and backups to destination.");
        if let Some(log) = self.install_log() {
            form.file("install_logs", "install.log")?.write_all(&log)?;
            self.log.line("Finished streaming the install logs to destination.");
        }
        let mut pipe = form.finish()?;
        pipe.flush()?;
        // A destination may answer as soon as it has read the end of the form.
        let _closed = pipe.finish();
        Ok(format!("{} files with {} bytes, and {backups} backups", written.files, written.content))
    }

    fn archive(&self, form: &mut FormWriter<PipeWriter>) -> Result<Summary, NotWritten> {
        let context = &self.log.context;
        let root = context.node.layout.open_data(self.log.server)?;
        let tree = Tree::new(root, Arc::default(), DiskAccount::new(None, 0));
        let ignore = IgnoreList::default();
        self.progress.set_total(backup::estimate(&tree, &ignore, &self.progress)?.content);
        let options = WriteOptions {
            ignore: &ignore,
            level: context.node.config.backups.level,
            hashes: Hashes { sha1: false, sha256: true },
            spawn: spawn_helper(Blocking::Pool),
            pace: None,
            progress: &self.progress,
        };
        let (_, written) = backup::write(&tree, form.file("archive", "archive.tar.gz")?, options)?;
        let sha256 = written.digests.sha256.clone().unwrap_or_default();
        // Each daemon has its own name, and ignores the other one.
        form.field("checksum_archive", &sha256)?;
        form.field("checksum", &sha256)?;
        losses(&written).iter().for_each(|line| self.log.line(line));
        Ok(written)
    }

    /// Returns how many were there.
    fn write_backups(&self, form: &mut FormWriter<PipeWriter>) -> Result<usize, NotWritten> {
        let layout = &self.log.context.node.layout;
        let mut found = Vec::new();
        for id in &self.backups {
            match layout.open_backup(self.log.server, *id)? {
                Some((file, entry)) => found.push((*id, file, entry.size)),
                None => self.log.line(&format!("The backup {id} is not on this node and is not transferred.")),
            }
        }
        if found.is_empty() {
            return Ok(0);
        }
        let count = found.len();
        self.progress.set_total(self.progress.done() + found.iter().map(|(_, _, size)| size).sum::<u64>());
        self.log.line(&format!("Streaming {count} backup files to destination..."));
        self.log.line(&format!("Starting transfer of {count} backup files"));
        for (number, (id, file, _)) in (1..).zip(found) {
            self.write_backup(form, id, file)?;
            self.log.line(&format!("Backup {number}/{count} completed: {id}.tar.gz"));
        }
        Ok(count)
    }

    fn write_backup(&self, form: &mut FormWriter<PipeWriter>, id: Uuid, mut file: File) -> Result<(), NotWritten> {
        let sink = form.file(&format!("backup_{id}.tar.gz"), &format!("{id}.tar.gz"))?;
        let (mut sha256, mut buffer) = (Sha256::new(), vec![0; BUFFER]);
        loop {
            if self.progress.is_cancelled() {
                return Err(ArchiveError::Cancelled.into());
            }
            let length = file.read(&mut buffer).map_err(|source| NotWritten::Backup { id, source })?;
            if length == 0 {
                break;
            }
            sha256.update(&buffer[..length]);
            sink.write_all(&buffer[..length])?;
            self.progress.add(length as u64);
        }
        let digest: String = sha256.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(form.field(&format!("checksum_backup_{id}.tar.gz"), &digest)?)
    }

    /// The install log. Problems with it are no problems of the transfer.
    fn install_log(&self) -> Option<Vec<u8>> {
        let path = self.log.context.node.layout.install_log(self.log.server);
        let file = File::open(path).ok().filter(|file| file.metadata().is_ok_and(|found| found.is_file()))?;
        let mut text = Vec::new();
        file.take(MAX_LOG).read_to_end(&mut text).ok()?;
        (!text.is_empty()).then_some(text)
    }
}

/// What another daemon than this one does not keep.
fn losses(written: &Summary) -> Vec<String> {
    let mut lines = Vec::new();
    if written.links > 0 {
        lines.push(format!(
            "{} links are sent as links. A destination that runs Wings makes empty files of them.",
            written.links
        ));
    }
    if written.directories > 1 {
        lines.push(format!(
            "{} directories are sent with their modes and times. A destination that runs Wings keeps neither, and no empty directory.",
            written.directories
        ));
    }
    if written.skipped > 0 {
        lines.push(format!("{} pipes, sockets or devices are not transferred.", written.skipped));
    }
    if written.changes.count > 0 {
        lines.push(format!("{} files changed while they were read.", written.changes.count));
    }
    lines
}
