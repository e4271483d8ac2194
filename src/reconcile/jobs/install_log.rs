//! Copies the installer's output into the install log: it is followed while the installer runs, from where the file ends.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;

use super::read_on::{self, COMPARED, MAX_HELD, ReadOn};
use super::{BackgroundJob, JobError, JobRun};
use crate::events::EventKind;
use crate::events::frames::{INSTALL_OUTPUT, OutputBuilder};
use crate::files::FilesError;
use crate::files::install_log::InstallLog;
use crate::model::ServerId;
use crate::reconcile::context::Context;
use crate::retry;
use crate::runtime::lines::{Lines, display_text};
use crate::runtime::{ErrorKind, LogPart};
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

async fn copy(context: &Context, id: ServerId, container: &str, part: LogPart) -> Result<(), String> {
    let layout = context.node.layout.clone();
    let blocking = context.store.blocking();
    let opened = blocking.run(move || {
        let log = InstallLog::open(&layout, id)?;
        let head = log.head(COMPARED)?;
        Ok::<_, FilesError>((log, head))
    });
    let (mut log, head) = opened.await.map_err(|error| error.to_string())?;
    let mut read_on = ReadOn::new(log.written(), head);
    let mut output = match context.runtime.logs(container, part).await {
        Ok(output) => output,
        // There is no container, or its engine keeps no logs: another attempt would find nothing, too.
        Err(error) if matches!(error.kind, ErrorKind::NotFound | ErrorKind::Unsupported) => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    let (events, mut printed) = (context.store.events(), OutputBuilder::new(INSTALL_OUTPUT));
    let print = |printed: &mut OutputBuilder, line: &[u8]| {
        if events.is_watched(id) {
            printed.push(&display_text(line), 0);
        }
    };
    let publish = |printed: &mut OutputBuilder| {
        if let Some(output) = printed.take() {
            events.publish_output(id, || EventKind::Install(output));
        }
    };
    let mut lines = Lines::default();
    // A follower reads on although the log is full, so that it ends with the script.
    while part == LogPart::Follow || !log.is_full() {
        let pause = if read_on.holds() { wait::INSTALL_LOG_PAUSE } else { Duration::MAX };
        let (new, known, more) = match tokio::time::timeout(pause, output.next()).await {
            Ok(Some(piece)) => {
                let new = read_on.take(piece.map_err(|error| error.to_string())?);
                (new, read_on.is_full(), true)
            }
            Ok(None) => (Bytes::new(), true, false),
            // The engine has sent nothing for a while.
            Err(_) => (Bytes::new(), true, true),
        };
        let held = if known { read_on.release() } else { Vec::new() };
        if !new.is_empty() || !held.is_empty() {
            let appended = blocking.run(move || {
                let new = match held.is_empty() {
                    true => new,
                    false => read_on::new_in(held, &log.tail(MAX_HELD)?).into(),
                };
                log.append(&new)?;
                Ok::<_, FilesError>((log, new))
            });
            let new;
            (log, new) = appended.await.map_err(|error| error.to_string())?;
            lines.feed(&new, |line| print(&mut printed, line));
            publish(&mut printed);
        }
        if !more {
            break;
        }
    }
    lines.finish(|line| print(&mut printed, line));
    publish(&mut printed);
    // The container is removed soon, and with it the only other copy of its output.
    blocking.run(move || log.finish()).await.map_err(|error| error.to_string())
}
