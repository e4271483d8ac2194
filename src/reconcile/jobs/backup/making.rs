//! Makes the archive of a backup. Blocking.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use uuid::Uuid;

use crate::archive::backup::{
    self, Change, DefaultList, Estimate, Hashes, IgnoreError, IgnoreList, Summary, WriteOptions,
};
use crate::archive::{ArchiveError, spawn_helper};
use crate::files::source::Source;
use crate::files::tree::Tree;
use crate::files::{Background, FilesError, Layout};
use crate::model::backup::MAX_CHANGED;
use crate::model::{Backup, BackupArchive, BackupSource, Reason, ServerId};
use crate::progress::Progress;
use crate::reconcile::context::Context;
use crate::reconcile::jobs::freeze::freeze;

/// The longest name of a changed file that is kept, in characters.
const MAX_NAME: usize = 200;

/// Why there is no archive.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotMade {
    /// The disk has no room for it, whatever it compresses to.
    #[error("the archive may need {needed} bytes, and {free} bytes are free: free space in {}", folder.display())]
    NoSpace { needed: u64, free: u64, folder: PathBuf },
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Files(#[from] FilesError),
    #[error(transparent)]
    Ignore(#[from] IgnoreError),
}

/// What an archive is made of.
#[derive(Clone)]
pub(super) struct Making {
    context: Arc<Context>,
    server: ServerId,
    id: Uuid,
    ignore: String,
    progress: Progress,
}

impl Making {
    pub(super) fn new(context: &Arc<Context>, server: ServerId, backup: &Backup, progress: &Progress) -> Self {
        let (id, ignore) = (backup.id, backup.ignore.clone());
        Self { context: context.clone(), server, id, ignore, progress: progress.clone() }
    }

    /// Uses the archive that an earlier run has completed, or makes one.
    ///
    /// # Errors
    /// Nothing is left then.
    pub(super) fn run(self) -> Result<BackupArchive, NotMade> {
        match self.completed()? {
            Some(archive) => Ok(archive),
            None => self.make(),
        }
    }

    fn layout(&self) -> &Layout {
        &self.context.node.layout
    }

    /// An archive has its name only when it is complete, so one that is there is read for its checksum. One that turns out damaged is
    /// made again.
    fn completed(&self) -> Result<Option<BackupArchive>, NotMade> {
        let opened = self.layout().open_backup(self.server, self.id)?;
        let Some((file, entry)) = opened else { return Ok(None) };
        self.progress.set_total(entry.size);
        let hashes = Hashes { sha1: true, sha256: false };
        Ok(match backup::verify(file, hashes, None, &self.progress) {
            Ok(found) => Some(archive_of(&found, BackupSource::Live)),
            Err(error) if self.progress.is_cancelled() => return Err(error.into()),
            Err(error) => {
                tracing::warn!(server.id = %self.server, backup.id = %self.id, %error, "a damaged archive is made again");
                None
            }
        })
    }

    fn make(self) -> Result<BackupArchive, NotMade> {
        let (layout, server) = (self.layout(), self.server);
        // First, since it removes what an earlier process has left, and nothing is left of it after an error.
        let mut archive = layout.create_backup(server, self.id)?;
        let (source, ignore, estimate) = self.source()?;
        let (needed, free) = (estimate.max_archive(), layout.free_for_backups()?);
        if needed > free {
            return Err(NotMade::NoSpace { needed, free, folder: layout.backups(server) });
        }
        let (_, written) = self.pack(&source, &ignore, &mut archive)?;
        archive.keep()?;
        Ok(archive_of(&written, source.kind()))
    }

    /// Writes the archive to a sink that sends it away while it is made, where the disk has no room for it.
    ///
    /// # Errors
    /// As [`run`](Self::run); or the sink fails.
    pub(super) fn stream<W: Write>(&self, sink: W) -> Result<(W, BackupArchive), NotMade> {
        let (source, ignore, _) = self.source()?;
        let (sink, written) = self.pack(&source, &ignore, sink)?;
        Ok((sink, archive_of(&written, source.kind())))
    }

    /// The files, what is left out of them, and how much there is.
    fn source(&self) -> Result<(Source, IgnoreList, Estimate), NotMade> {
        let layout = self.layout();
        layout.sweep_sources(self.server)?;
        let source = layout.quiet_source(
            self.server,
            || freeze(&self.context, self.server, self.id),
            self.progress.cancelled(),
        )?;
        let ignore = self.ignore_list(source.tree())?;
        let estimate = backup::estimate(source.tree(), &ignore, &self.progress)?;
        self.progress.set_total(estimate.content);
        Ok((source, ignore, estimate))
    }

    fn pack<W: Write>(&self, source: &Source, ignore: &IgnoreList, sink: W) -> Result<(W, Summary), NotMade> {
        let _background = Background::begin();
        let pace = self.context.operations.pace();
        let options = WriteOptions {
            ignore,
            level: self.context.node.config.backups.level,
            hashes: Hashes { sha1: true, sha256: false },
            spawn: spawn_helper(self.context.store.blocking()),
            pace: Some(&pace),
            progress: &self.progress,
        };
        let written = backup::write(source.tree(), sink, options)?;
        match self.progress.is_cancelled() {
            true => Err(ArchiveError::Cancelled.into()),
            false => Ok(written),
        }
    }

    fn ignore_list(&self, tree: &Tree) -> Result<IgnoreList, NotMade> {
        if !self.ignore.trim().is_empty() {
            return Ok(IgnoreList::parse(&self.ignore)?);
        }
        let DefaultList { list, note } = DefaultList::read(tree);
        if let Some(note) = note {
            self.context.store.event(self.server, self.context.clock.now(), Reason::IgnoreListInvalid, &note);
        }
        Ok(list)
    }
}

fn archive_of(found: &Summary, source: BackupSource) -> BackupArchive {
    BackupArchive {
        sha1: found.digests.sha1.clone().unwrap_or_default(),
        bytes: found.bytes,
        content: found.content,
        source,
        changed: names(&found.changes.listed),
        changed_count: found.changes.count,
    }
}

/// The first names, as far as they are shown.
fn names(changes: &[Change]) -> Vec<String> {
    let name = |change: &Change| String::from_utf8_lossy(&change.path).chars().take(MAX_NAME).collect();
    changes.iter().take(MAX_CHANGED).map(name).collect()
}
