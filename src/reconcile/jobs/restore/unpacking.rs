//! Unpacks an archive beside a server's files, and verifies it.

use std::fs::File;
use std::io::{BufReader, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::archive::backup::{self, Hashes, UnpackOptions};
use crate::events::EventKind;
use crate::files::Background;
use crate::files::replacement::{Phase, Present};
use crate::files::user_path::UserPath;
use crate::model::{BackupArchive, Restore, RestoreFrom, ServerId};
use crate::progress::Progress;
use crate::reconcile::context::Context;
use crate::reconcile::file_locks::FilesLock;
use crate::remote_download::{BackupDownloads, BackupReader};

/// Bytes of the archive that are read at once.
const BUFFER: usize = 256 << 10;
/// Names that are shown to users before they are shown only now and then.
const NAMES: u32 = 50;
/// The least time between two names after that.
const NAME_INTERVAL: Duration = Duration::from_secs(1);

/// What is unpacked.
#[derive(Clone)]
pub(super) struct Unpacking {
    context: Arc<Context>,
    server: ServerId,
    restore: Restore,
    /// What the record has of the archive.
    archive: Option<BackupArchive>,
    /// The server's disk limit.
    limit: Option<u64>,
    progress: Progress,
    /// Held until the blocking work has ended, whatever became of the job.
    _files: FilesLock,
}

impl Unpacking {
    pub(super) fn new(
        context: &Arc<Context>,
        server: ServerId,
        restore: &Restore,
        progress: &Progress,
        files: FilesLock,
    ) -> Result<Self, String> {
        let snapshot = context.store.get(server).ok_or("there is no such server")?;
        let manifest = snapshot.manifest.as_ref().ok_or("the server has no valid manifest")?;
        let known = snapshot.record.backup(restore.backup);
        Ok(Self {
            context: context.clone(),
            server,
            restore: restore.clone(),
            archive: known.and_then(|known| known.archive.clone()),
            limit: manifest.spec.settings.build.disk_limit(),
            progress: progress.clone(),
            _files: files,
        })
    }

    /// Brings the replacement to the point where it can be exchanged. Returns a summary for people.
    ///
    /// # Errors
    /// For people. The server's files are as they were.
    pub(super) async fn run(self) -> Result<String, String> {
        let blocking = self.context.store.blocking();
        let (layout, server, token) = (self.context.node.layout.clone(), self.server, self.restore.token);
        let found = blocking.run(move || layout.replacement(server, token)).await.map_err(|error| error.to_string())?;
        if found.is_some_and(|found| found.phase >= Phase::Ready) {
            return Ok("continued after a restart of the daemon".to_owned());
        }
        match self.restore.from.clone() {
            RestoreFrom::Local => blocking.run(move || self.unpack_local()).await,
            RestoreFrom::Url(url) => self.unpack_remote(url).await,
            RestoreFrom::Former { .. } => Err("nothing is unpacked to undo a restore".to_owned()),
        }
    }

    fn unpack_local(self) -> Result<String, String> {
        let backup = self.restore.backup;
        let opened = self.context.node.layout.open_backup(self.server, backup).map_err(|error| error.to_string())?;
        let (file, entry): (File, _) = opened.ok_or_else(|| format!("the archive of the backup {backup} is gone"))?;
        self.progress.set_total(entry.size);
        self.unpack(BufReader::with_capacity(BUFFER, file))
    }

    async fn unpack_remote(self, url: String) -> Result<String, String> {
        let downloads = BackupDownloads::new(self.context.node.config.backups.restore_hosts.clone());
        let stream =
            downloads.map_err(|error| error.to_string())?.open(&url).await.map_err(|error| error.to_string())?;
        self.progress.set_total(stream.length().unwrap_or(0));
        // What is unpacked counts.
        let source = BackupReader::new(stream, self.progress.uncounted());
        self.context.store.blocking().run(move || self.unpack(source)).await
    }

    /// Unpacks and verifies an archive, and makes the result durable.
    fn unpack(&self, source: impl Read) -> Result<String, String> {
        let (layout, server, cancelled) = (&self.context.node.layout, self.server, self.progress.cancelled());
        let present =
            if self.restore.truncate && self.restore.only.is_empty() { Present::Discard } else { Present::Keep };
        if let Some(archive) = &self.archive {
            layout.check_space_beside(server, archive.content).map_err(|error| error.to_string())?;
        }
        let begun = layout.begin_replacement(server, self.restore.token, present, self.limit, cancelled);
        let staging = begun.map_err(|error| error.to_string())?;
        let only: Result<Vec<UserPath>, _> =
            self.restore.only.iter().map(|path| UserPath::parse(path.as_ref())).collect();
        let only = only.map_err(|error| error.to_string())?;
        let mut names = Names::default();
        let mut entry = |path: &UserPath| {
            if names.is_due() {
                let notice = || EventKind::Notice(format!("(restoring): {}", path.as_path().display()).into());
                self.context.store.events().publish_output(server, notice);
            }
        };
        let _background = Background::begin();
        let pace = self.context.operations.pace();
        let expected = self.archive.as_ref().map(|archive| archive.sha1.as_str()).filter(|sha1| !sha1.is_empty());
        let options = UnpackOptions {
            only: (!only.is_empty()).then_some(&only),
            denylist: false,
            hashes: Hashes { sha1: expected.is_some(), sha256: false },
            pace: Some(&pace),
            progress: &self.progress,
            entry: &mut entry,
        };
        let unpacked = backup::unpack(source, staging.tree(), options).map_err(|error| error.to_string())?;
        if let (Some(expected), Some(found)) = (expected, &unpacked.digests.sha1)
            && expected != found
        {
            let backup: Uuid = self.restore.backup;
            return Err(format!("the archive of the backup {backup} is damaged: its SHA-1 is {found}, not {expected}"));
        }
        if !only.is_empty() && unpacked.files + unpacked.links + unpacked.directories == 0 {
            return Err(format!("the backup {} has none of these paths", self.restore.backup));
        }
        staging.finish(cancelled).map_err(|error| error.to_string())?;
        Ok(format!("restored {} files with {} bytes", unpacked.files, unpacked.content))
    }
}

/// Which names users are shown.
#[derive(Default)]
struct Names {
    shown: u32,
    last: Option<Instant>,
}

impl Names {
    fn is_due(&mut self) -> bool {
        let due = self.shown < NAMES || self.last.is_none_or(|last| last.elapsed() >= NAME_INTERVAL);
        if due {
            self.shown += 1;
            self.last = Some(Instant::now());
        }
        due
    }
}
