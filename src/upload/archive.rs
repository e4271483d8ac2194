//! The upload of an archive that is on disk.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use uuid::Uuid;

use super::attempt::{Source, Tally};
use super::error::UploadError;
use super::journal::{self, Begun, Journal};
use super::send::{MAX_ROUNDS, PartError, Uploads};
use crate::panel::{Panel, Part};
use crate::progress::Progress;

/// Parts that are sent at once, whatever the panel allows.
const MAX_CONCURRENT: u32 = 16;

impl Uploads {
    /// Sends an archive and returns its parts in order, for the report. The journal is beside the archive ([`journal_path`](super::journal_path)): after
    /// a crash, or an error, the next call sends the missing parts; where there are none, it returns the parts without a request. The caller
    /// removes the journal when the panel has acknowledged the report.
    ///
    /// # Errors
    /// [`UploadError::Links`] may be tried again. All others but those of files are final: the upload begins again with another backup.
    pub async fn upload(
        &self,
        panel: &dyn Panel,
        backup: Uuid,
        archive: &Path,
        progress: &Progress,
    ) -> Result<Vec<Part>, UploadError> {
        tokio::select! {
            biased;
            () = progress.when_cancelled() => Err(UploadError::Cancelled),
            result = self.run(panel, backup, archive, progress) => result,
        }
    }

    async fn run(
        &self,
        panel: &dyn Panel,
        backup: Uuid,
        archive: &Path,
        progress: &Progress,
    ) -> Result<Vec<Part>, UploadError> {
        let (opened, path) = (archive.to_owned(), journal::path_for(archive));
        let open = move || File::open(&opened).and_then(|file| Ok((file.metadata()?.len(), Arc::new(file))));
        let opened = self.blocking.run(open).await;
        let (size, file) = opened.map_err(UploadError::file(format!("open {}", archive.display())))?;
        progress.set_total(size);
        let earlier = path.clone();
        let earlier = self.blocking.run(move || Journal::open(&earlier, size)).await;
        let mut journal = match earlier.map_err(at_journal(&path))? {
            Some(journal) => journal,
            None => self.begin(panel, backup, size, &path, 1).await?,
        };
        let tally = Arc::new(Tally::new(progress.clone()));
        loop {
            tally.restart();
            journal.etags.keys().for_each(|number| tally.add(journal.begun.range(*number).1));
            let round = journal.begun.round;
            journal = match self.send_missing(journal, &file, &path, &tally).await {
                Ok(parts) => return Ok(parts),
                Err(PartError::Failed(error)) => return Err(error),
                Err(PartError::Expired(last)) if round >= MAX_ROUNDS => {
                    return Err(UploadError::TooSlow { rounds: round, last });
                }
                Err(PartError::Expired(last)) => {
                    tracing::info!(backup.id = %backup, round, error = %last, "links of an upload expired");
                    self.begin(panel, backup, size, &path, round + 1).await?
                }
            };
        }
    }

    /// Requests links and begins a journal with them.
    async fn begin(
        &self,
        panel: &dyn Panel,
        backup: Uuid,
        size: u64,
        path: &Path,
        round: u32,
    ) -> Result<Journal, UploadError> {
        let begun = self.links(panel, backup, size, round).await?;
        let target = path.to_owned();
        self.blocking.run(move || Journal::begin(&target, begun)).await.map_err(at_journal(path))
    }

    /// Sends the parts that the store does not have, and returns all.
    async fn send_missing(
        &self,
        mut journal: Journal,
        file: &Arc<File>,
        path: &Path,
        tally: &Arc<Tally>,
    ) -> Result<Vec<Part>, PartError> {
        let begun: Arc<Begun> = Arc::new(journal.begun.clone());
        let at_once = begun.links.max_concurrent.unwrap_or(1).clamp(1, MAX_CONCURRENT);
        let part = |number| {
            let (begun, (offset, length)) = (begun.clone(), begun.range(number));
            let source = Source { file: file.clone(), offset, length };
            async move { self.part(&begun, number, &source, tally).await }
        };
        // The first error drops the parts that are under way.
        let mut parts = stream::iter(journal.missing()).map(part).buffer_unordered(at_once as usize);
        while let Some(part) = parts.next().await {
            let part = part?;
            let add = move || journal.add(part).map(|()| journal);
            journal = self.blocking.run(add).await.map_err(at_journal(path))?;
        }
        journal.complete().ok_or_else(|| UploadError::TooLong { bytes: begun.size }.into())
    }
}

fn at_journal(path: &Path) -> impl FnOnce(std::io::Error) -> UploadError {
    UploadError::file(format!("write {}", path.display()))
}
