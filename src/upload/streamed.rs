//! The upload of an archive while it is made, for a disk without room for it.
//!
//! The links are for the size without compression, which is enough. One part at a time is in a file, of which no name is left.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::attempt::{Source, Tally};
use super::error::UploadError;
use super::journal::Begun;
use super::send::{PartError, Uploads};
use crate::panel::{Panel, Part};
use crate::progress::Progress;

/// A part in the file, to be sent.
struct Filled {
    length: u64,
    last: bool,
    /// The store has it.
    sent: oneshot::Sender<()>,
}

/// Where the archive is written to, by a blocking thread. [`finish`](Self::finish) ends it; dropping it earlier fails the upload.
pub struct PartSink {
    file: Arc<File>,
    /// Bytes in the file.
    filled: u64,
    /// Bytes of earlier parts.
    sent: u64,
    part_size: u64,
    parts: mpsc::Sender<Filled>,
}

/// The other side of a [`PartSink`].
pub struct StreamedUpload<'a> {
    uploads: &'a Uploads,
    begun: Begun,
    file: Arc<File>,
    filled: mpsc::Receiver<Filled>,
}

impl Uploads {
    /// Begins the upload of an archive of at most `bound` bytes. `folder` gets a file of one part at most. After a crash the backup begins
    /// again, with other links.
    ///
    /// # Errors
    /// No links, or no file.
    pub async fn streamed(
        &self,
        panel: &dyn Panel,
        backup: Uuid,
        bound: u64,
        folder: &Path,
    ) -> Result<(PartSink, StreamedUpload<'_>), UploadError> {
        let path = folder.join(format!("{backup}.part"));
        let created = path.clone();
        let file = self.blocking.run(move || nameless(&created)).await;
        let file = Arc::new(file.map_err(UploadError::file(format!("create {}", path.display())))?);
        let begun = self.links(panel, backup, bound, 1).await?;
        // The writer waits for each part.
        let (parts, filled) = mpsc::channel(1);
        let sink = PartSink { file: file.clone(), filled: 0, sent: 0, part_size: begun.links.part_size, parts };
        Ok((sink, StreamedUpload { uploads: self, begun, file, filled }))
    }
}

impl StreamedUpload<'_> {
    /// Sends the parts as they are filled, until the last one. Must run at the same time as the writer. An error ends the writer's next
    /// call with an error, and so does dropping this. The progress is only asked for cancellation.
    ///
    /// # Errors
    /// Any; the upload is lost.
    pub async fn run(mut self, progress: &Progress) -> Result<Vec<Part>, UploadError> {
        let tally = Arc::new(Tally::new(progress.uncounted()));
        tokio::select! {
            biased;
            () = progress.when_cancelled() => Err(UploadError::Cancelled),
            result = self.send(&tally) => result,
        }
    }

    async fn send(&mut self, tally: &Arc<Tally>) -> Result<Vec<Part>, UploadError> {
        let mut parts = Vec::new();
        for number in 1.. {
            let Some(filled) = self.filled.recv().await else { break };
            let source = Source { file: self.file.clone(), offset: 0, length: filled.length };
            let part = self.uploads.part(&self.begun, number, &source, tally).await;
            parts.push(part.map_err(|error| match error {
                PartError::Expired(last) => UploadError::Expired { last },
                PartError::Failed(error) => error,
            })?);
            // A writer that does not wait has ended: the next receive finds that out.
            let _ = filled.sent.send(());
            if filled.last {
                return Ok(parts);
            }
        }
        let source = io::Error::other("its writer ended early");
        Err(UploadError::File { action: "make the archive".into(), source })
    }
}

impl PartSink {
    /// Sends what is left as the last part, and returns the size of the archive. Blocks until the store has it.
    ///
    /// # Errors
    /// The upload has ended; its own error says why.
    pub fn finish(mut self) -> io::Result<u64> {
        self.hand_over(true)?;
        Ok(self.sent)
    }

    fn hand_over(&mut self, last: bool) -> io::Result<()> {
        let ended = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the upload has ended");
        let (sent, wait) = oneshot::channel();
        let filled = Filled { length: self.filled, last, sent };
        self.parts.blocking_send(filled).map_err(|error| ended(error.to_string()))?;
        wait.blocking_recv().map_err(|error| ended(error.to_string()))?;
        self.sent += std::mem::take(&mut self.filled);
        self.file.set_len(0)
    }
}

impl Write for PartSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A full part is handed over when more follows: the last one may be full, too.
        if self.filled == self.part_size && !bytes.is_empty() {
            self.hand_over(false)?;
        }
        let room = usize::try_from(self.part_size - self.filled).unwrap_or(usize::MAX);
        let taken = &bytes[..bytes.len().min(room)];
        self.file.write_all_at(taken, self.filled)?;
        self.filled += taken.len() as u64;
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file whose name is removed at once, so that no crash leaves it.
fn nameless(path: &Path) -> io::Result<File> {
    // Of a crash between the two steps below.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
    std::fs::remove_file(path)?;
    Ok(file)
}
