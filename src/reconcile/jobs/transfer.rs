//! Sends a server to another node: in rounds while it runs, or as one form when the planner has stopped it.
//!
//! The destination has the server when it answers 200, and reports that to the panel, which then deletes the server here. Everything
//! else is a failure: the server stays, and runs again if it ran. After a restart of the daemon rounds continue with what is missing, and
//! a form has failed, unless the panel has the server at the destination: a Wings reports a form that breaks off, and takes another one even
//! of a server that it has. It would unpack it over what has changed there since.
//! An incoming transfer that the API no longer receives is ended here.

mod batches;
mod extras;
mod rounds;
mod sending;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::{BackgroundJob, JobError, JobRun, Subject};
use crate::events::{EventKind, TransferStatus};
use crate::model::{
    Outgoing, PowerState, Reason, Record, Requester, RoundPhase, Rounds, Transfer, TransferDirection, TransferResult,
};
use crate::progress::Progress;
use crate::retry;
use crate::tasks::Blocking;
use crate::transfer::{FormWriter, Session, Target, pipe, progress_line};
use rounds::{Reached, Sender};
use sending::{Log, Sending};

/// How often administrators read how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);
/// How often a destination is asked for a session that cannot be reached.
const OPENING_ATTEMPTS: u32 = 3;
/// The time between two of these attempts.
const OPENING_DELAY: Duration = Duration::from_secs(1);
/// How long a destination is waited for that is to remove what it has.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);
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
                run.context.close_reception(run.server).await;
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
        sent = deliver(run, token, outgoing, &progress) => sent,
    };
    match sent {
        Ok(Sent::Waits(rounds)) => return stop(run, token, rounds).await,
        Ok(Sent::Unknown(error)) => return Err(error),
        Ok(Sent::Delivered(summary)) => end(run, transfer, Ok(summary)).await,
        Err(message) => end(run, transfer, Err(message)).await,
    }?;
    cancel_there(run, token).await;
    Ok(())
}

/// What a run has come to.
enum Sent {
    /// The destination has the server.
    Delivered(String),
    /// The server is to be stopped, for what follows: the last round, or a form.
    Waits(Option<Rounds>),
    /// The panel does not say whether the destination has the server.
    Unknown(JobError),
}

async fn deliver(run: &JobRun, token: Uuid, outgoing: &Outgoing, progress: &Progress) -> Result<Sent, String> {
    match &outgoing.rounds {
        Some(rounds) => send_rounds(run, token, outgoing, rounds, progress).await,
        None if outgoing.begun => match is_here(run).await {
            Ok(true) => Err("the daemon was restarted while it sent: start the transfer again in the panel".to_owned()),
            Ok(false) => Ok(Sent::Delivered("the panel has the server on the destination".to_owned())),
            Err(error) => Ok(Sent::Unknown(error)),
        },
        None => {
            edit(run, token, |outgoing| outgoing.begun = true).await?;
            stream(run, outgoing, progress).await.map(Sent::Delivered)
        }
    }
}

/// Whether the panel has the server on this node.
async fn is_here(run: &JobRun) -> Result<bool, JobError> {
    let here = run.sync()?.has_server(run.server).await;
    here.map_err(|error| {
        let message = format!("the panel does not say whether the destination has the server: {error}");
        JobError { pause: error.pause(), ..JobError::new(retry::PANEL, message) }
    })
}

fn target(outgoing: &Outgoing) -> Result<Target, String> {
    let url =
        Target::url(&outgoing.url).map_err(|reason| format!("the destination's address is unusable: {reason}"))?;
    Ok(Target { url, authorization: outgoing.authorization.clone(), pool: outgoing.pool.clone() })
}

/// Sends what differs until the server has to be stopped, or is there.
async fn send_rounds(
    run: &JobRun,
    token: Uuid,
    outgoing: &Outgoing,
    rounds: &Rounds,
    progress: &Progress,
) -> Result<Sent, String> {
    let log = Log { context: run.context.clone(), server: run.server };
    let target = target(outgoing)?;
    let session = run.context.operations.transfers().session(&target, run.server, &rounds.secret);
    let session = session.map_err(|error| error.to_string())?;
    if rounds.phase == RoundPhase::Opening {
        if !open(&session, &target).await? {
            return Ok(Sent::Waits(None));
        }
        enter(run, token, Some(Rounds { phase: RoundPhase::Live, ..rounds.clone() }), None).await?;
        log.status(TransferStatus::Processing);
        log.line("Preparing to stream server data to destination...");
    }
    let files = run.context.operations.files().shared(run.server).await;
    let sender = Arc::new(Sender::new(log.clone(), session, progress.clone(), files, token));
    let mut sending = Box::pin(sender.deliver(outgoing, rounds.phase));
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + PROGRESS_INTERVAL, PROGRESS_INTERVAL);
    let reached = loop {
        tokio::select! {
            reached = &mut sending => break reached,
            _ = ticks.tick() => log.line(&progress_line(progress.done(), progress.total())),
        }
    };
    match reached.map_err(|error| error.to_string())? {
        Reached::Stop => {
            let stopped = Some(run.context.clock.now());
            Ok(Sent::Waits(Some(Rounds { phase: RoundPhase::Last, stopped, ..rounds.clone() })))
        }
        Reached::Delivered(summary) => {
            let stopped = rounds.stopped.filter(|_| outgoing.then_start);
            let Some(stopped) = stopped else { return Ok(Sent::Delivered(summary)) };
            let milliseconds = run.context.clock.now().as_millis() - stopped.as_millis();
            let downtime = format!("the server was stopped for {:.1} seconds", milliseconds as f64 / 1000.0);
            log.line(&format!("The destination has the server: {downtime}."));
            Ok(Sent::Delivered(format!("{summary}; {downtime}")))
        }
    }
}

/// Asks for a session. Returns whether the destination has sessions.
async fn open(session: &Session, target: &Target) -> Result<bool, String> {
    let mut attempt = 1;
    loop {
        match session.open(target).await {
            Err(error) if !error.is_final() && attempt < OPENING_ATTEMPTS => {
                tracing::debug!(%error, attempt, "the destination is asked for a session again");
                tokio::time::sleep(OPENING_DELAY).await;
                attempt += 1;
            }
            opened => return opened.map_err(|error| error.to_string()),
        }
    }
}

/// The planner stops the server, and starts this job again when it has ended.
async fn stop(run: &JobRun, token: Uuid, rounds: Option<Rounds>) -> Result<(), JobError> {
    let status = run.context.store.status(run.server);
    let runs = status.is_some_and(|status| matches!(status.state, PowerState::Starting | PowerState::Running));
    enter(run, token, rounds, Some(runs)).await.map_err(|message| JobError::new(retry::FILES, message))?;
    run.context.store.wake(run.server);
    Ok(())
}

/// Records how a transfer goes on.
async fn enter(run: &JobRun, token: Uuid, rounds: Option<Rounds>, then_start: Option<bool>) -> Result<(), String> {
    let entered = move |outgoing: &mut Outgoing| {
        outgoing.rounds = rounds;
        outgoing.then_start = then_start.unwrap_or(outgoing.then_start);
    };
    edit(run, token, entered).await
}

/// Changes what is recorded of a transfer that goes on.
async fn edit(run: &JobRun, token: Uuid, edit: impl FnOnce(&mut Outgoing) + Send + 'static) -> Result<(), String> {
    let server = run.server;
    let edit = move |record: &mut Record| {
        if let Some(outgoing) = record.outgoing_mut(token) {
            edit(outgoing);
        }
    };
    let committed = run.context.store.run(move |store| store.commit(server, edit)).await;
    committed.map(drop).map_err(|error| error.to_string())
}

/// After a failure the destination removes what it has. Where it cannot be reached, it does so after a day by itself.
async fn cancel_there(run: &JobRun, token: Uuid) {
    let Some(transfer) = current(run, token) else { return };
    let failed = transfer.result.as_ref().is_some_and(|result| !result.succeeded);
    let Some(outgoing) = transfer.outgoing().filter(|_| failed) else { return };
    // This run may have opened the session.
    let Some(rounds) = outgoing.rounds.as_ref().filter(|rounds| rounds.phase != RoundPhase::Opening) else { return };
    let Ok(target) = target(outgoing) else { return };
    let Ok(session) = run.context.operations.transfers().session(&target, run.server, &rounds.secret) else { return };
    match tokio::time::timeout(CANCEL_TIMEOUT, session.cancel()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(server.id = %run.server, %error, "the destination was not reached"),
        Err(_) => tracing::debug!(server.id = %run.server, "the destination does not answer"),
    }
}

/// Sends everything. Returns a summary for people.
async fn stream(run: &JobRun, outgoing: &Outgoing, progress: &Progress) -> Result<String, String> {
    let context = &run.context;
    let log = Log { context: context.clone(), server: run.server };
    log.status(TransferStatus::Processing);
    log.line("Preparing to stream server data to destination...");
    let target = target(outgoing)?;
    let boundary = Uuid::new_v4().simple().to_string();
    let content_type = FormWriter::<Vec<u8>>::content_type(&boundary);
    let (sender, receiver) = pipe();
    let sending = Sending { log: log.clone(), backups: outgoing.backups.clone(), progress: progress.clone() };
    // Always on threads: the two sides wait for each other.
    let files = context.operations.files().shared(run.server).await;
    let rate = context.operations.upload_rate().clone();
    let write = Blocking::Pool.run(move || {
        let _files = files;
        sending.write(sender.into_writer(&rate), boundary)
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
async fn end(run: &JobRun, transfer: &Transfer, sent: Result<String, String>) -> Result<(), JobError> {
    let (context, server, token) = (&run.context, run.server, transfer.token);
    let was_never_stopped = transfer.lets_run();
    let at = context.clock.now();
    let succeeded = sent.is_ok();
    let message = sent.unwrap_or_else(|message| message);
    let result = TransferResult { succeeded, message: message.clone(), at };
    let record = move |record: &mut Record| {
        if let Some(transfer) = record.transfer_mut(token).filter(|transfer| transfer.is_pending()) {
            transfer.result = Some(result);
            if let TransferDirection::Outgoing(outgoing) = &mut transfer.direction {
                outgoing.then_start &= !was_never_stopped;
            }
        }
    };
    context.store.run(move |store| store.commit(server, record)).await?;
    context.servers.drop_sent_manifests(server);
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
    run.request_start(format!("transfer:{token}"), Requester::Panel).await?;
    let (context, server) = (&run.context, run.server);
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
