//! A backup that goes to an object store: made, sent by the panel's links, and removed here.

use super::making::{Making, NotMade};
use super::{Failed, archive, reading, record_archive};
use crate::archive::ArchiveError;
use crate::model::{Backup, BackupArchive, UploadedPart};
use crate::panel::{COMMIT_TIME, PanelError};
use crate::progress::Progress;
use crate::reconcile::jobs::{JobError, JobRun, backup_hooks};
use crate::retry;
use crate::upload::UploadError;

/// Makes the archive and uploads it, or both at once where the disk has no room.
pub(super) async fn make_and_upload(
    run: &JobRun,
    backup: &Backup,
    progress: &Progress,
) -> Result<(BackupArchive, Vec<UploadedPart>), Failed> {
    let made = Making::new(&run.context, run.server, backup, progress);
    let made = match archive(run, backup, progress).await {
        Err(Failed::NoSpace { needed, .. }) => stream(run, backup, made, needed, progress).await?,
        made => {
            let archive = made?;
            let path = run.context.node.layout.backup_archive(run.server, backup.id);
            let uploads = run.context.operations.uploads();
            let parts = uploads.upload(run.sync()?.panel(), backup.id, &path, progress).await;
            (archive, parts.map_err(|error| failed(run, backup, error))?)
        }
    };
    Ok(made)
}

/// Sends the archive while it is made. After a crash it begins again.
async fn stream(
    run: &JobRun,
    backup: &Backup,
    making: Making,
    bound: u64,
    progress: &Progress,
) -> Result<(BackupArchive, Vec<UploadedPart>), Failed> {
    let context = &run.context;
    let folder = context.node.layout.backups(run.server);
    let panel = run.sync()?.panel();
    // Before the links, which expire.
    let files = reading(run, progress).await?;
    let begun = context.operations.uploads().streamed(panel, backup.id, bound, &folder).await;
    let (sink, upload) = begun.map_err(|error| failed(run, backup, error))?;
    let write = context.store.blocking().run(move || {
        let _files = files;
        let (sink, archive) = making.stream(sink)?;
        // The upload's own error says why.
        sink.finish().map(|_| archive).map_err(|error| NotMade::Archive(ArchiveError::Io(error)))
    });
    let write = backup_hooks::around(run, backup.id, progress, write);
    let (archive, parts) = tokio::join!(write, upload.run(progress));
    let archive = archive?;
    let parts = match (&archive, parts) {
        // The upload has ended because there was nothing more to send.
        (Err(_), Err(UploadError::File { .. })) => Vec::new(),
        (_, parts) => parts.map_err(|error| failed(run, backup, error))?,
    };
    let archive = archive?;
    record_archive(run, backup.id, &archive).await?;
    Ok((archive, parts))
}

/// The panel may be away, or not know the backup yet.
fn failed(run: &JobRun, backup: &Backup, error: UploadError) -> Failed {
    match error {
        UploadError::Links(error) if error.is_unknown() && run.context.clock.now() < backup.at + COMMIT_TIME => {
            Failed::Later(JobError::new(retry::PANEL, error.to_string()))
        }
        // Each request begins an upload at the store, so one whose links are useless is not repeated.
        UploadError::Links(error @ PanelError::InvalidResponse { .. }) => Failed::Ended(error.to_string()),
        UploadError::Links(error) if !error.is_final() => Failed::Later(error.into()),
        error => Failed::Ended(error.to_string()),
    }
}
