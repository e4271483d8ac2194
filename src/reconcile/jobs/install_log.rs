//! The installer's output on its way into the log: followed while it runs, read on from where the file ends.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};

use super::read_on::{self, COMPARED, MAX_HELD, ReadOn};
use super::{BackgroundJob, JobError, JobOutput, JobRun};
use crate::console::lines::{Lines, display_text};
use crate::events::EventKind;
use crate::files::FilesError;
use crate::files::install_log::InstallLog;
use crate::model::ServerId;
use crate::reconcile::context::Context;
use crate::reconcile::job::JobKind;
use crate::retry;
use crate::runtime::{ErrorKind, LogPart, RuntimeError};

/// Reading what is left of a finished installer's output takes no longer than this.
const CLOSE_LIMIT: Duration = Duration::from_secs(20);

/// Output that is held back until it is known what of it is new is held back no longer than this.
const PAUSE: Duration = Duration::from_secs(2);

/// Follows a running installer.
pub(super) struct FollowInstallLog;

#[async_trait]
impl BackgroundJob for FollowInstallLog {
    async fn run(&self, run: &JobRun) -> Result<JobOutput, JobError> {
        let copied = copy(&run.context, run.server, &run.subject.to_string(), LogPart::Follow).await;
        copied.map(|()| JobOutput::Nothing).map_err(|error| JobError::new(retry::STEP, error))
    }
}

/// Brings the log of a finished installer to its end.
///
/// # Errors
/// What stood in the way, for people.
pub async fn close(context: &Context, id: ServerId, container: &str) -> Result<(), String> {
    // The follower is reading the same bytes into the same file; only one may.
    context.with_server(id, |state| state.end_jobs(|job| job.kind == JobKind::InstallLog));
    match tokio::time::timeout(CLOSE_LIMIT, copy(context, id, container, LogPart::All)).await {
        Ok(result) => result,
        Err(_) => {
            Err(format!("reading the rest of the install log took longer than {} seconds", CLOSE_LIMIT.as_secs()))
        }
    }
}

enum Piece {
    Output(Result<Bytes, RuntimeError>),
    /// Nothing came for a while.
    Pause,
    End,
}

/// The next piece of output; with `impatient` a pause is noticed too.
async fn next(output: &mut (impl Stream<Item = Result<Bytes, RuntimeError>> + Unpin), impatient: bool) -> Piece {
    let limit = if impatient { PAUSE } else { Duration::MAX };
    match tokio::time::timeout(limit, output.next()).await {
        Ok(Some(piece)) => Piece::Output(piece),
        Ok(None) => Piece::End,
        Err(_) => Piece::Pause,
    }
}

async fn copy(context: &Context, id: ServerId, container: &str, part: LogPart) -> Result<(), String> {
    let layout = context.layout.clone();
    let blocking = context.store.blocking();
    let opened = blocking.run(move || {
        let log = InstallLog::open(&layout, id)?;
        let head = log.head(COMPARED)?;
        Ok::<_, FilesError>((log, head))
    });
    let (log, head) = opened.await.map_err(|error| error.to_string())?;
    let mut full = log.is_full();
    let mut read_on = ReadOn::new(log.written(), head);
    let log = Arc::new(Mutex::new(log));
    let mut output = match context.runtime.logs(container, part).await {
        Ok(output) => output,
        // There is no container, or its engine keeps no logs: there is nothing to be had, however often it is asked for.
        Err(error) if matches!(error.kind, ErrorKind::NotFound | ErrorKind::Unsupported) => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    let publish = |line: &[u8]| {
        context.store.events().publish_output(id, || EventKind::Install { line: display_text(line).into() });
    };
    let mut lines = Lines::default();
    // Who follows reads on, so that its end is that of the script.
    while part == LogPart::Follow || !full {
        let (new, known, more) = match next(&mut output, read_on.holds()).await {
            Piece::Output(piece) => {
                let new = read_on.take(piece.map_err(|error| error.to_string())?);
                (new, read_on.is_full(), true)
            }
            Piece::Pause => (Bytes::new(), true, true),
            Piece::End => (Bytes::new(), true, false),
        };
        let held = if known { read_on.release() } else { Vec::new() };
        if !new.is_empty() || !held.is_empty() {
            let log = log.clone();
            let appended = blocking.run(move || {
                let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
                let new = match held.is_empty() {
                    true => new,
                    false => read_on::new_in(held, &log.tail(MAX_HELD)?).into(),
                };
                log.append(&new)?;
                Ok::<_, FilesError>((log.is_full(), new))
            });
            let (is_full, new) = appended.await.map_err(|error| error.to_string())?;
            full = is_full;
            lines.feed(&new, publish);
        }
        if !more {
            break;
        }
    }
    lines.finish(publish);
    // The container goes soon, and with it the only other copy of what it printed.
    let finish = move || match Arc::try_unwrap(log) {
        Ok(log) => log.into_inner().unwrap_or_else(PoisonError::into_inner).finish(),
        Err(_) => Ok(()),
    };
    blocking.run(finish).await.map_err(|error| error.to_string())
}
