//! Copies the installer's output into the install log: it is followed while the installer runs, from where the file ends.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};

use super::read_on::{self, COMPARED, MAX_HELD, ReadOn};
use super::{BackgroundJob, JobError, JobRun};
use crate::console::lines::{Lines, display_text};
use crate::events::EventKind;
use crate::files::FilesError;
use crate::files::install_log::InstallLog;
use crate::model::ServerId;
use crate::reconcile::context::Context;
use crate::retry;
use crate::runtime::{ErrorKind, LogPart, RuntimeError};
use crate::wait;

/// Follows a running installer.
pub(super) struct FollowInstallLog;

#[async_trait]
impl BackgroundJob for FollowInstallLog {
    async fn run(&self, run: &JobRun) -> Result<(), JobError> {
        let copied = copy(&run.context, run.server, &run.subject.to_string(), LogPart::Follow).await;
        copied.map_err(|error| JobError::new(retry::STEP, error))
    }
}

/// Completes the log of an installer that has ended.
///
/// # Errors
/// Why the output cannot be read or written.
pub async fn close(context: &Context, id: ServerId, container: &str) -> Result<(), String> {
    // The follower writes the same bytes into the same file, which only one may.
    context.servers.closing_install_log(id);
    let limit = wait::INSTALL_LOG_CLOSE;
    let copied = tokio::time::timeout(limit, copy(context, id, container, LogPart::All)).await;
    copied.unwrap_or_else(|_| Err(format!("reading the rest of the install log took longer than {limit:?}")))
}

enum Piece {
    Output(Result<Bytes, RuntimeError>),
    /// The engine has sent nothing for a while.
    Pause,
    End,
}

/// The next piece of output. With `notice_pause` a pause is one, too.
async fn next(output: &mut (impl Stream<Item = Result<Bytes, RuntimeError>> + Unpin), notice_pause: bool) -> Piece {
    let limit = if notice_pause { wait::INSTALL_LOG_PAUSE } else { Duration::MAX };
    match tokio::time::timeout(limit, output.next()).await {
        Ok(Some(piece)) => Piece::Output(piece),
        Ok(None) => Piece::End,
        Err(_) => Piece::Pause,
    }
}

async fn copy(context: &Context, id: ServerId, container: &str, part: LogPart) -> Result<(), String> {
    let layout = context.node.layout.clone();
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
        // There is no container, or its engine keeps no logs: another attempt would find nothing, too.
        Err(error) if matches!(error.kind, ErrorKind::NotFound | ErrorKind::Unsupported) => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    let publish = |line: &[u8]| {
        context.store.events().publish_output(id, || EventKind::Install { line: display_text(line).into() });
    };
    let mut lines = Lines::default();
    // A follower reads on although the log is full, so that it ends with the script.
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
    // The container is removed soon, and with it the only other copy of its output.
    let finish = move || match Arc::try_unwrap(log) {
        Ok(log) => log.into_inner().unwrap_or_else(PoisonError::into_inner).finish(),
        Err(_) => Ok(()),
    };
    blocking.run(finish).await.map_err(|error| error.to_string())
}
