//! Sends a server to another node. The planner has stopped it, and nothing else uses its files.
//!
//! The destination has the server when it answers 200, and reports that to the panel, which then deletes the server here. Everything
//! else is a failure: the server stays, and runs again if it ran. A run after a restart of the daemon begins with the first byte.
//! An incoming transfer that the API no longer receives is ended here.

mod sending;

use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::{BackgroundJob, JobError, JobRun, Subject};
use crate::events::{EventKind, TransferStatus};
use crate::model::{Outgoing, Reason, Record, Requester, Transfer, TransferDirection, TransferResult, Verb};
use crate::progress::Progress;
use crate::requests::NewRequest;
use crate::tasks::Blocking;
use crate::transfer::{FormWriter, Target, pipe, progress_line};
use sending::{Log, Sending};

/// How often administrators read how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);
/// How long the end of the writing is waited for after the destination has answered.
const WRITER_TIMEOUT: Duration = Duration::from_secs(10);

/// The transfer in the record, as far as there is something to do for it.
pub(super) struct TransferServer;

#[async_trait]
impl BackgroundJob for TransferServer {
    async fn run(&self, run: &JobRun) -> Result<(), JobError> {
        let Subject::Transfer(token) = run.subject else { return Ok(()) };
        let Some(transfer) = current(run, token) else { return Ok(()) };
        match (&transfer.direction, &transfer.result) {
            (TransferDirection::Outgoing(outgoing), None) => send(run, &transfer, outgoing).await,
            (TransferDirection::Outgoing(outgoing), Some(_)) if outgoing.then_start => start_again(run, token).await,
            (TransferDirection::Incoming(_), None) => {
                let _files = run.context.operations.files().exclusive(run.server).await;
                let message = if transfer.cancelled { "it was cancelled" } else { "it has broken off" };
                run.context.fail_incoming(run.server, token, message).await
            }
            _ => Ok(()),
        }
    }
}

fn current(run: &JobRun, token: Uuid) -> Option<Transfer> {
    let snapshot = run.context.store.get(run.server)?;
    snapshot.record.transfer.clone().filter(|transfer| transfer.token == token)
}

async fn send(run: &JobRun, transfer: &Transfer, outgoing: &Outgoing) -> Result<(), JobError> {
    let token = transfer.token;
    let operation = run.context.operations.begin(run.server, &run.subject);
    let progress = operation.progress().clone();
    let unwanted =
        |record: &Record| record.pending_transfer().is_none_or(|pending| pending.token != token || pending.cancelled);
    let sent = tokio::select! {
        biased;
        () = run.when_unwanted(unwanted) => {
            progress.cancel();
            Err("it was cancelled".to_owned())
        }
        sent = stream(run, outgoing, &progress) => sent,
    };
    end(run, token, sent).await
}

/// Sends everything. Returns a summary for people.
async fn stream(run: &JobRun, outgoing: &Outgoing, progress: &Progress) -> Result<String, String> {
    let context = &run.context;
    let log = Log { context: context.clone(), server: run.server };
    log.status(TransferStatus::Processing);
    log.line("Preparing to stream server data to destination...");
    let url =
        Target::url(&outgoing.url).map_err(|reason| format!("the destination's address is unusable: {reason}"))?;
    let target = Target { url, authorization: outgoing.authorization.clone(), pool: outgoing.pool.clone() };
    let boundary = Uuid::new_v4().simple().to_string();
    let content_type = FormWriter::<Vec<u8>>::content_type(&boundary);
    let (sender, receiver) = pipe();
    let sending = Sending { log: log.clone(), backups: outgoing.backups.clone(), progress: progress.clone() };
    // Always on threads: the two sides wait for each other.
    let files = context.operations.files().shared(run.server).await;
    let write = Blocking::Pool.run(move || {
        let _files = files;
        sending.write(sender.into_writer(), boundary)
    });
    let mut send = Box::pin(context.operations.transfers().send(&target, &content_type, receiver));
    tokio::pin!(write);
    let mut written = None;
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + PROGRESS_INTERVAL, PROGRESS_INTERVAL);
    let sent = loop {
        tokio::select! {
            sent = &mut send => break sent,
            ended = &mut write, if written.is_none() => written = Some(ended),
            _ = ticks.tick() => log.line(&progress_line(progress.done(), progress.total())),
        }
    };
    // A writer that waits for the connection ends with it.
    drop(send);
    let written = match written {
        Some(written) => Some(written),
        None => tokio::time::timeout(WRITER_TIMEOUT, write).await.ok(),
    };
    match (sent, written) {
        (Ok(()), Some(Ok(summary))) => Ok(summary),
        // The destination reads nothing that it has already.
        (Ok(()), _) if outgoing.pool.is_some() => {
            Ok("the destination has the files in the same storage pool".to_owned())
        }
        (_, Some(Err(error))) if !error.is_of_the_connection() => Err(error.to_string()),
        (Err(error), _) => Err(error.to_string()),
        (Ok(()), _) => Err("the destination has answered before it had everything".to_owned()),
    }
}

/// Records the result.
async fn end(run: &JobRun, token: Uuid, sent: Result<String, String>) -> Result<(), JobError> {
    let (context, server) = (&run.context, run.server);
    let at = context.clock.now();
    let succeeded = sent.is_ok();
    let message = sent.unwrap_or_else(|message| message);
    let result = TransferResult { succeeded, message: message.clone(), at };
    let record = move |record: &mut Record| {
        if let Some(transfer) = record.transfer_mut(token).filter(|transfer| transfer.is_pending()) {
            transfer.result = Some(result);
        }
    };
    context.store.run(move |store| store.commit(server, record)).await?;
    let (reason, text) = match succeeded {
        true => (Reason::TransferCompleted, format!("the server was sent to another node: {message}")),
        false => (Reason::TransferFailed, format!("the server was not transferred: {message}")),
    };
    context.store.event(server, at, reason, &text);
    let log = Log { context: context.clone(), server };
    if !succeeded {
        log.line(&format!("The transfer has failed: {message}"));
    }
    Ok(())
}

/// Requests the start of a server that ran before its transfer failed. Once for each transfer.
async fn start_again(run: &JobRun, token: Uuid) -> Result<(), JobError> {
    let (context, server) = (&run.context, run.server);
    let (id, at) = (format!("transfer:{token}"), context.clock.now());
    let start = NewRequest { id, at, expires_at: None, timeout: None, by: Requester::Panel, verb: Verb::Start };
    context.store.run(move |store| store.request(server, None, [start])).await?;
    let requested = move |record: &mut Record| {
        if let Some(Transfer { direction: TransferDirection::Outgoing(outgoing), .. }) = record.transfer_mut(token) {
            outgoing.then_start = false;
        }
    };
    context.store.run(move |store| store.commit(server, requested)).await?;
    Ok(())
}

impl Log {
    fn status(&self, status: TransferStatus) {
        self.context.store.events().publish_output(self.server, || EventKind::TransferStatus(status));
    }
}
