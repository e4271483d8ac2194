//! Stores what a form has, beside the server's files and archives. All functions block.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use sha1::Sha1;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::parts::InvalidPart;
use super::pipe::PipeReader;
use crate::archive::ArchiveError;
use crate::archive::backup::{self, Hashes, UnpackOptions};
use crate::files::backup_files::NewArchive;
use crate::files::denylist::Denylist;
use crate::files::replacement::{Present, ReplacementError, Staging};
use crate::files::{FilesError, Layout};
use crate::model::{BackupArchive, ServerId};
use crate::progress::Progress;
use crate::rate::Rate;
use crate::replication::ReplicationError;

/// Bytes that are read at once.
const BUFFER: usize = 128 << 10;
/// The most bytes of an install log that are kept: what this node would write itself.
const MAX_LOG: u64 = 20 << 20;
/// The most backups of one server.
const MAX_BACKUPS: usize = 1000;

/// Why a server was not received.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The request has no form.
    #[error("the request has no multipart form")]
    NoForm,
    /// The form, or the connection, has broken off.
    #[error("the form has broken off: {0}")]
    Broken(String),
    /// A part's name.
    #[error(transparent)]
    Part(#[from] InvalidPart),
    /// A part that a form has once.
    #[error("the form has the part {0} twice")]
    Twice(&'static str),
    /// Too much of something small.
    #[error("{0}")]
    TooMany(&'static str),
    /// The archive.
    #[error("the archive cannot be unpacked: {0}")]
    Archive(#[from] ArchiveError),
    /// There is none.
    #[error("missing archive")]
    NoArchive,
    /// There is no checksum of it.
    #[error("archive checksum missing")]
    NoChecksum,
    /// It is another one.
    #[error("archive checksum mismatch")]
    Checksum,
    /// There is no checksum of a backup.
    #[error("checksum missing for backup {0}")]
    NoBackupChecksum(Uuid),
    /// It is another one.
    #[error("backup {0} checksum mismatch")]
    BackupChecksum(Uuid),
    /// The disk, or the server's limit.
    #[error(transparent)]
    Replacement(#[from] ReplacementError),
    /// The disk.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// A file that is written here.
    #[error("cannot write {}: {source}", path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A tree that comes in rounds.
    #[error(transparent)]
    Replication(#[from] ReplicationError),
    /// The state folder.
    #[error("{0}")]
    State(String),
    /// The panel or an operator has ended it.
    #[error("the transfer was cancelled")]
    Cancelled,
}

impl ReceiveError {
    /// Whether the sender is to blame.
    pub fn is_of_sender(&self) -> bool {
        match self {
            Self::Archive(error) => !matches!(error, ArchiveError::Cancelled),
            Self::Replication(error) => error.is_of_peer(),
            Self::Replacement(error) => matches!(error, ReplacementError::OverLimit { .. }),
            Self::Files(_) | Self::Disk { .. } | Self::State(_) | Self::Cancelled => false,
            _ => true,
        }
    }
}

/// Where a server's parts go.
#[derive(Clone)]
#[allow(missing_docs)]
pub struct Destination {
    pub layout: Layout,
    pub server: ServerId,
    /// Names the directories of this transfer.
    pub token: Uuid,
    /// The server's disk limit, in bytes.
    pub limit: Option<u64>,
    /// What its egg denies.
    pub denylist: Arc<Denylist>,
    pub rate: Arc<Rate>,
    pub progress: Progress,
}

/// The files of a server, complete but for their verification.
pub struct ReceivedArchive {
    staging: Staging,
    sha256: String,
    files: u64,
    content: u64,
}

/// The archive of a backup, under a temporary name. Dropping it removes it.
pub struct ReceivedBackup {
    file: NewArchive,
    known: BackupArchive,
    sha256: String,
}

/// What of a form was read.
#[derive(Default)]
pub struct Received {
    archive: Option<ReceivedArchive>,
    archive_checksum: Option<String>,
    backups: BTreeMap<Uuid, ReceivedBackup>,
    backup_checksums: BTreeMap<Uuid, String>,
}

impl Destination {
    /// Unpacks an archive while it arrives. The rest of the part is read and hashed, too.
    ///
    /// # Errors
    /// The archive is damaged, refused, or over the limit; or the disk fails.
    pub fn archive(&self, part: PipeReader) -> Result<ReceivedArchive, ReceiveError> {
        let cancelled = self.progress.cancelled();
        let staging =
            self.layout.begin_replacement(self.server, self.token, Present::Discard, self.limit, cancelled)?;
        let tree = staging.tree().with_denylist(self.denylist.clone());
        let mut part = HashingReader::new(part);
        let options = UnpackOptions {
            only: None,
            denylist: true,
            hashes: Hashes::default(),
            pace: Some(&|bytes| self.rate.take_blocking(bytes)),
            progress: &self.progress,
            entry: &mut |_| (),
        };
        let unpacked = backup::unpack(&mut part, &tree, options)?;
        let rest = io::copy(&mut part, &mut io::sink());
        rest.map_err(|error| ReceiveError::Broken(error.to_string()))?;
        let (sha256, files, content) = (part.sha256(), unpacked.files, unpacked.content);
        Ok(ReceivedArchive { staging, sha256, files, content })
    }

    /// Stores the archive of a backup.
    ///
    /// # Errors
    /// The data breaks off, or the disk fails.
    pub fn backup(&self, id: Uuid, mut part: impl Read) -> Result<ReceivedBackup, ReceiveError> {
        let mut file = self.layout.create_backup(self.server, id)?;
        let (mut sha1, mut sha256, mut bytes) = (Sha1::new(), Sha256::new(), 0);
        let mut buffer = vec![0; BUFFER];
        loop {
            let length = part.read(&mut buffer).map_err(|error| ReceiveError::Broken(error.to_string()))?;
            if length == 0 {
                break;
            }
            if self.progress.is_cancelled() {
                return Err(ReceiveError::Cancelled);
            }
            let piece = &buffer[..length];
            self.rate.take_blocking(length as u64);
            sha1.update(piece);
            sha256.update(piece);
            let path = self.layout.backup_archive(self.server, id);
            file.write_all(piece).map_err(|source| ReceiveError::Disk { path, source })?;
            bytes += length as u64;
            self.progress.add(length as u64);
        }
        let known = BackupArchive { sha1: hex(&sha1.finalize()), bytes, ..BackupArchive::default() };
        Ok(ReceivedBackup { file, known, sha256: hex(&sha256.finalize()) })
    }

    /// Stores the install log, as far as it is kept.
    ///
    /// # Errors
    /// The data breaks off, or the disk fails.
    pub fn install_log(&self, mut part: impl Read) -> Result<(), ReceiveError> {
        let path = self.layout.install_log(self.server);
        let mut options = OpenOptions::new();
        let flags = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
        options.write(true).create(true).truncate(true).mode(0o600).custom_flags(flags);
        let mut file = options.open(&path).map_err(|source| ReceiveError::Disk { path, source })?;
        let broken = |error: io::Error| ReceiveError::Broken(error.to_string());
        io::copy(&mut (&mut part).take(MAX_LOG), &mut file).map_err(broken)?;
        io::copy(&mut part, &mut io::sink()).map_err(broken)?;
        Ok(())
    }
}

impl ReceivedBackup {
    /// Gives the archive its name, and returns what is known of it. It is on disk then.
    ///
    /// # Errors
    /// The disk fails.
    pub fn keep(self) -> Result<BackupArchive, ReceiveError> {
        self.file.keep()?;
        Ok(self.known)
    }
}

impl Received {
    /// Keeps the server's files.
    pub fn add_archive(&mut self, archive: ReceivedArchive) {
        self.archive = Some(archive);
    }

    /// Checks, before a part is read, whether it may be there.
    ///
    /// # Errors
    /// It was there already, or there are too many.
    pub fn check_archive(&self) -> Result<(), ReceiveError> {
        self.archive.is_none().then_some(()).ok_or(ReceiveError::Twice("archive"))
    }

    /// The same for a backup.
    ///
    /// # Errors
    /// As above.
    pub fn check_backup(&self, id: Uuid) -> Result<(), ReceiveError> {
        if self.backups.contains_key(&id) {
            return Err(ReceiveError::Twice("backup"));
        }
        match self.backups.len() < MAX_BACKUPS {
            true => Ok(()),
            false => Err(ReceiveError::TooMany("the form has too many backups")),
        }
    }

    /// Keeps a backup.
    pub fn add_backup(&mut self, id: Uuid, backup: ReceivedBackup) {
        self.backups.insert(id, backup);
    }

    /// Keeps the checksum of the archive.
    pub fn add_archive_checksum(&mut self, text: &str) {
        self.archive_checksum.get_or_insert(normal(text));
    }

    /// Keeps the checksum of a backup.
    ///
    /// # Errors
    /// There are too many.
    pub fn add_backup_checksum(&mut self, id: Uuid, text: &str) -> Result<(), ReceiveError> {
        if self.backup_checksums.len() >= MAX_BACKUPS {
            return Err(ReceiveError::TooMany("the form has too many checksums"));
        }
        self.backup_checksums.insert(id, normal(text));
        Ok(())
    }

    /// Compares all checksums.
    ///
    /// # Errors
    /// The archive or a checksum is missing, or one is another.
    pub fn verified(&self) -> Result<(), ReceiveError> {
        let archive = self.archive.as_ref().ok_or(ReceiveError::NoArchive)?;
        let expected = self.archive_checksum.as_ref().ok_or(ReceiveError::NoChecksum)?;
        if *expected != archive.sha256 {
            return Err(ReceiveError::Checksum);
        }
        for (id, backup) in &self.backups {
            let expected = self.backup_checksums.get(id).ok_or(ReceiveError::NoBackupChecksum(*id))?;
            if *expected != backup.sha256 {
                return Err(ReceiveError::BackupChecksum(*id));
            }
        }
        Ok(())
    }

    /// The backups.
    pub fn backups(&self) -> Vec<Uuid> {
        self.backups.keys().copied().collect()
    }

    /// Makes the files those of the server, and gives the backups their names. Returns what is known of these, and a summary for
    /// people. The caller has recorded their ids: it removes them where this fails.
    ///
    /// # Errors
    /// Something was not verified, or the disk fails.
    pub fn exchange(self, at: &Destination) -> Result<(Vec<(Uuid, BackupArchive)>, String), ReceiveError> {
        self.verified()?;
        let Some(archive) = self.archive else { return Err(ReceiveError::NoArchive) };
        archive.staging.finish(at.progress.cancelled())?;
        let mut kept = Vec::new();
        for (id, backup) in self.backups {
            kept.push((id, backup.keep()?));
        }
        if at.progress.is_cancelled() {
            return Err(ReceiveError::Cancelled);
        }
        at.layout.exchange_replacement(at.server, at.token)?;
        let (files, content, backups) = (archive.files, archive.content, kept.len());
        Ok((kept, format!("received {files} files with {content} bytes, and {backups} backups")))
    }
}

/// Hashes what is read.
struct HashingReader<R> {
    inner: R,
    sha256: Sha256,
}

impl<R> HashingReader<R> {
    fn new(inner: R) -> Self {
        Self { inner, sha256: Sha256::new() }
    }

    fn sha256(self) -> String {
        hex(&self.sha256.finalize())
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(into)?;
        self.sha256.update(&into[..length]);
        Ok(length)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A checksum as it is compared.
fn normal(text: &str) -> String {
    text.trim().to_ascii_lowercase()
}
