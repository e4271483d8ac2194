//! Sends a server in rounds: what differs, again and again, while it runs, and the rest when it has ended.
//!
//! After a break the destination is asked what it has: nothing that is on its disk is sent again.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::future::try_join_all;
use tokio::time::Instant;
use uuid::Uuid;

use super::batches::Batches;
use super::extras::Extras;
use super::sending::Log;
use crate::files::tree::Tree;
use crate::files::{DiskAccount, FilesError, ScratchFile};
use crate::model::{Outgoing, RoundPhase};
use crate::progress::Progress;
use crate::rate::Rate;
use crate::reconcile::file_locks::FilesLock;
use crate::reconcile::server_state::SentManifests;
use crate::replication::{
    FrameWriter, ManifestReader, ManifestWriter, ReplicationError, Scan, Span, Summary, longest_answer, scan,
    send_blocks, send_manifest, settled_before,
};
use crate::tasks::Blocking;
use crate::transfer::{SendError, Session, SessionPhase, TransferPart, pipe};

/// Connections that send blocks at the same time.
const CONNECTIONS: usize = 4;
/// Bytes that are sent and acknowledged at once: few enough that a break costs little.
const BATCH: u64 = 16 << 20;
/// The most bytes of files that are read for them.
const MAX_READ: u64 = 16 * BATCH;
/// The most files that they are of.
const FILES: usize = 1000;
/// Files that no program has mapped are known to be complete when they were not changed for this long.
const SETTLES_AFTER: Duration = Duration::from_secs(60);
/// A rest that takes so many seconds is sent when the server has ended.
const SMALL: f64 = 2.0;
/// A rest that is still this part of the one before does not shrink.
const SHRINKS: f64 = 0.9;
/// The most rounds while the server runs.
const MAX_ROUNDS: u32 = 30;
/// The most rounds when it has ended: something else writes into its files then.
const MAX_LAST_ROUNDS: u32 = 5;
/// Nothing that the destination has acknowledged for this long: the transfer has failed.
const GIVE_UP: Duration = Duration::from_secs(3600);
/// The first delay after a break, and the longest one.
const DELAYS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// Why a round was not completed.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotSent {
    #[error(transparent)]
    Send(#[from] SendError),
    #[error("the server's files cannot be sent: {0}")]
    Replication(#[from] ReplicationError),
    #[error(transparent)]
    Files(#[from] FilesError),
    #[error("the destination has ended the transfer: {0}")]
    Ended(String),
    #[error("the files did not converge: something changes them although the server has ended")]
    NotConverged,
}

impl NotSent {
    /// Whether the same attempt can succeed later.
    fn is_final(&self) -> bool {
        match self {
            Self::Send(error) => error.is_final(),
            // The side that reads or writes a pipe, whose other side has the reason.
            Self::Replication(error) => !matches!(error, ReplicationError::Io { .. }),
            Self::Files(_) | Self::Ended(_) | Self::NotConverged => true,
        }
    }
}

/// How far the rounds have come.
pub(super) enum Reached {
    /// The rest is small: the server is to be stopped.
    Stop,
    /// The destination has the server.
    Delivered(String),
}

/// A server on its way.
pub(super) struct Sender {
    pub(super) log: Log,
    pub(super) session: Session,
    pub(super) progress: Progress,
    /// Work that goes on when the job was dropped has it.
    files: FilesLock,
    /// The latest manifest of each part.
    former: Arc<SentManifests>,
    /// When the destination last acknowledged something.
    acknowledged: Mutex<Instant>,
}

/// A round that was sent.
struct Round {
    summary: Summary,
    /// Bytes of blocks that differed.
    missing: u64,
    /// Bytes that have travelled for them.
    sent: u64,
    seconds: f64,
}

impl Sender {
    pub(super) fn new(log: Log, session: Session, progress: Progress, files: FilesLock, token: Uuid) -> Self {
        let former = log.context.servers.sent_manifests(log.server, token);
        Self { log, session, progress, files, former, acknowledged: Mutex::new(Instant::now()) }
    }

    /// Sends until the server has to be stopped, or is there. Continues after each break.
    ///
    /// # Errors
    /// Another attempt cannot succeed, or nothing was acknowledged for too long.
    pub(super) async fn deliver(self: &Arc<Self>, outgoing: &Outgoing, phase: RoundPhase) -> Result<Reached, NotSent> {
        let mut delay = DELAYS.0;
        loop {
            let before = *self.acknowledged();
            match self.attempt(outgoing, phase).await {
                Err(error) if !error.is_final() && self.acknowledged().elapsed() < GIVE_UP => {
                    if *self.acknowledged() > before {
                        delay = DELAYS.0;
                    }
                    self.log.line(&format!("{error}. It is continued in {:.1} seconds.", delay.as_secs_f64()));
                    tokio::time::sleep(delay).await;
                    delay = (delay * 2).min(DELAYS.1);
                }
                reached => return reached,
            }
        }
    }

    async fn attempt(self: &Arc<Self>, outgoing: &Outgoing, phase: RoundPhase) -> Result<Reached, NotSent> {
        let state = self.session.state().await?;
        match state.phase {
            SessionPhase::Completed => return Ok(Reached::Delivered(state.message)),
            SessionPhase::Failed => return Err(NotSent::Ended(state.message)),
            SessionPhase::Receiving => {}
        }
        if !state.extras {
            self.send_extras(outgoing).await?;
        }
        match phase {
            RoundPhase::Opening | RoundPhase::Live => self.send_while_it_runs().await.map(|()| Reached::Stop),
            RoundPhase::Last => self.send_last().await.map(Reached::Delivered),
        }
    }

    /// Backups do not change.
    async fn send_extras(self: &Arc<Self>, outgoing: &Outgoing) -> Result<(), NotSent> {
        for _ in 0..MAX_LAST_ROUNDS {
            let extras = Extras::new(self.log.clone(), outgoing.backups.clone());
            let round = self.round(TransferPart::Extras, Origin::Extras(extras)).await?;
            if round.missing == 0 {
                self.session.finish(TransferPart::Extras, &round.summary.root).await?;
                self.note_acknowledged();
                self.log.line("The backups and the install log are at the destination.");
                return Ok(());
            }
        }
        Err(NotSent::NotConverged)
    }

    async fn send_while_it_runs(self: &Arc<Self>) -> Result<(), NotSent> {
        let mut before = None;
        for number in 1..=MAX_ROUNDS {
            let round = self.round(TransferPart::Files, self.files(Origin::Running)?).await?;
            self.log.line(&format!(
                "Round {number}: blocks with {} of {} bytes differed; {} bytes were sent for them in {:.1} seconds.",
                round.missing, round.summary.bytes, round.sent, round.seconds
            ));
            let shrinks = before.is_none_or(|before: u64| (round.sent as f64) < before as f64 * SHRINKS);
            if round.seconds <= SMALL || !shrinks {
                return Ok(());
            }
            before = Some(round.sent);
        }
        Ok(())
    }

    async fn send_last(self: &Arc<Self>) -> Result<String, NotSent> {
        for _ in 0..MAX_LAST_ROUNDS {
            let round = self.round(TransferPart::Files, self.files(Origin::Stopped)?).await?;
            let Round { missing, sent, .. } = round;
            self.log
                .line(&format!("Last round: blocks with {missing} bytes differed; {sent} bytes were sent for them."));
            match self.session.finish(TransferPart::Files, &round.summary.root).await {
                // It has compared what it has: another round sends what differs.
                Err(SendError::Rejected { status, .. }) if status == http::StatusCode::CONFLICT => {}
                finished => {
                    finished?;
                    let Summary { entries, bytes, .. } = round.summary;
                    return Ok(format!("{entries} names with {bytes} bytes"));
                }
            }
        }
        Err(NotSent::NotConverged)
    }

    /// Sends what the destination lacks.
    async fn round(self: &Arc<Self>, part: TransferPart, origin: Origin) -> Result<Round, NotSent> {
        let (scanning, at) = (self.clone(), origin.clone());
        let (manifest, summary) = Blocking::Pool.run(move || scanning.scan(part, &at)).await?;
        let answer = self.send_manifest(part, &manifest, longest_answer(&summary)).await?;
        self.note_acknowledged();
        let batches = Blocking::Pool.run(move || Batches::new(&manifest, &answer)).await?;
        let total = batches.missing_bytes();
        self.progress.set_total(self.progress.done() + total);
        let began = Instant::now();
        let batches = Arc::new(Mutex::new(batches));
        let sent = try_join_all((0..CONNECTIONS).map(|_| self.send_batches(part, &origin, &batches))).await?;
        Ok(Round { summary, missing: total, sent: sent.iter().sum(), seconds: began.elapsed().as_secs_f64() })
    }

    fn scan(&self, part: TransferPart, origin: &Origin) -> Result<(Arc<ScratchFile>, Summary), NotSent> {
        let context = &self.log.context;
        let file = Arc::new(context.node.layout.scratch_file(self.log.server)?);
        let writer = ManifestWriter::local(file.writer());
        let mut slot = self.former[part as usize].lock().unwrap_or_else(PoisonError::into_inner);
        let former = slot.as_ref().map(|former| former.reader()).transpose().map_err(scratch)?;
        let options = Scan {
            former: former.map(ManifestReader::<BufReader<File>>::local),
            settled_before: origin.settled_before()?,
            cancelled: self.progress.cancelled(),
        };
        let summary = match origin {
            Origin::Running(tree) | Origin::Stopped(tree) => scan(tree, options, writer)?.1,
            Origin::Extras(extras) => extras.scan(options, writer)?.1,
        };
        *slot = Some(file.clone());
        Ok((file, summary))
    }

    /// Returns the answer: the list of missing blocks, and the hashes of pages.
    async fn send_manifest(
        &self,
        part: TransferPart,
        manifest: &ScratchFile,
        longest: u64,
    ) -> Result<ScratchFile, NotSent> {
        let list = self.log.context.node.layout.scratch_file(self.log.server)?;
        let (from, rate) = (manifest.reader().map_err(scratch)?, self.upload_rate());
        let ((sender, body), (answer, receiver)) = (pipe(), pipe());
        let write = Blocking::Pool.run(move || {
            let mut pipe = send_manifest(from, sender.into_writer(&rate))?;
            pipe.flush().map_err(scratch)?;
            // As below.
            let _closed = pipe.finish();
            Ok::<_, ReplicationError>(())
        });
        let read = Blocking::Pool.run(move || {
            let mut to = list.writer();
            let mut from = receiver.into_reader().take(longest + 1);
            let copied = io::copy(&mut from, &mut to).and_then(|length| to.flush().map(|()| length));
            drop(to);
            match copied.map_err(scratch)? {
                length if length > longest => {
                    Err(ReplicationError::Invalid { what: "list of missing blocks", why: "it is too long" })
                }
                _ => Ok(list),
            }
        });
        let (sent, written, read) = tokio::join!(self.session.manifest(part, body, answer), write, read);
        sent?;
        written?;
        Ok(read?)
    }

    /// Sends batches over one connection after another, as long as there are blocks. Returns the bytes.
    async fn send_batches(
        &self,
        part: TransferPart,
        origin: &Origin,
        batches: &Arc<Mutex<Batches>>,
    ) -> Result<u64, NotSent> {
        let mut bytes = 0;
        loop {
            let next = batches.clone();
            let Some(first) = Blocking::Pool.run(move || take(&next)).await? else { return Ok(bytes) };
            let (sender, body) = pipe();
            let (origin, progress, files) = (origin.clone(), self.progress.clone(), self.files.clone());
            let (batches, rate) = (batches.clone(), self.upload_rate());
            let write = Blocking::Pool.run(move || {
                let _files = files;
                let mut frames = FrameWriter::new(sender.into_writer(&rate))?;
                let read = write_batch(&origin, first, &batches, &mut frames, progress.cancelled())?;
                let sent = frames.sent();
                let mut pipe = frames.finish()?;
                pipe.flush().map_err(scratch)?;
                // A destination may answer as soon as it has read the last frame.
                let _closed = pipe.finish();
                Ok::<_, ReplicationError>((read, sent))
            });
            let (answered, written) = tokio::join!(self.session.blocks(part, body), write);
            answered?;
            let (read, sent) = written?;
            self.progress.add(read);
            bytes += sent;
            self.note_acknowledged();
        }
    }

    fn upload_rate(&self) -> Arc<Rate> {
        self.log.context.operations.upload_rate().clone()
    }

    fn files(&self, of: fn(Tree) -> Origin) -> Result<Origin, NotSent> {
        let root = self.log.context.node.layout.open_data(self.log.server)?;
        let account = DiskAccount::new(None, 0);
        Ok(of(Tree::new(root, Arc::default(), account)))
    }

    fn acknowledged(&self) -> std::sync::MutexGuard<'_, Instant> {
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_acknowledged(&self) {
        *self.acknowledged() = Instant::now();
    }
}

/// Where a part is read.
#[derive(Clone)]
enum Origin {
    /// The files of a server that may run.
    Running(Tree),
    /// Those of one that has ended.
    Stopped(Tree),
    Extras(Extras),
}

impl Origin {
    fn settled_before(&self) -> Result<SystemTime, ReplicationError> {
        match self {
            Self::Running(tree) => settled_before(tree),
            // No program has mapped them, and a sync would take time.
            Self::Stopped(_) | Self::Extras(_) => Ok(SystemTime::now() - SETTLES_AFTER),
        }
    }

    fn send<W: Write>(
        &self,
        span: Span,
        to: &mut FrameWriter<W>,
        cancelled: &AtomicBool,
    ) -> Result<u64, ReplicationError> {
        match self {
            Self::Running(tree) | Self::Stopped(tree) => send_blocks(|path| tree.open(path), &[span], to, cancelled),
            Self::Extras(extras) => send_blocks(|path| extras.open(path), &[span], to, cancelled),
        }
    }
}

fn take(batches: &Mutex<Batches>) -> Result<Option<(Span, u64)>, ReplicationError> {
    batches.lock().unwrap_or_else(PoisonError::into_inner).next_span()
}

/// Writes blocks, and those that follow, until they are enough for one acknowledgement. Returns the bytes that were read.
fn write_batch<W: Write>(
    origin: &Origin,
    first: (Span, u64),
    batches: &Mutex<Batches>,
    to: &mut FrameWriter<W>,
    cancelled: &AtomicBool,
) -> Result<u64, ReplicationError> {
    let (mut next, mut count, mut read) = (Some(first), 0, 0);
    while let Some((span, _)) = next {
        let in_pages = span.pages.is_some();
        read += origin.send(span, to, cancelled)?;
        if in_pages {
            // Much is read for few bytes: the destination does not wait for the next ones too long.
            to.flush()?;
        }
        count += 1;
        let is_enough = to.sent() >= BATCH || read >= MAX_READ || count >= FILES;
        next = if is_enough { None } else { take(batches)? };
    }
    Ok(read)
}

fn scratch(source: io::Error) -> ReplicationError {
    ReplicationError::Io { action: "use a file of a round", source }
}
