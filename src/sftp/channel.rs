//! One channel: takes requests, has a [`Session`] handle them on the pool of blocking threads, and sends the answers.
//!
//! Requests that have arrived are handled together, up to some answers: a switch to another thread costs more than most of
//! them. While answers are encrypted and sent, the next requests are handled.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use russh::ChannelWriteHalf;
use russh::server::Msg;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Service;
use super::inbox::Inbox;
use super::limits::ANSWERS;
use super::login::Access;
use super::progress::Progress;
use super::session::{Refused, Session};
use super::wire::{Malformed, Replies};
use crate::files::tree::Tree;
use crate::server_files::Access as Availability;

/// Room for answers beyond [`ANSWERS`]: the last one of a round, which may be as long as a packet.
const SPARE: usize = 64 << 10;

/// A channel with the subsystem.
pub struct Channel {
    pub service: Arc<Service>,
    pub access: Arc<Access>,
    pub inbox: Arc<Inbox>,
    pub answers: ChannelWriteHalf<Msg>,
    pub progress: Arc<Progress>,
    /// Ends the connection.
    pub cut: CancellationToken,
}

/// What is handled on a blocking thread.
struct Work {
    session: Session,
    requests: BytesMut,
}

/// Locked on blocking threads, and here between them.
type SharedWork = Arc<Mutex<Work>>;

/// How a channel ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The client has closed it.
    Closed,
    /// It does not follow the protocol.
    Malformed,
    /// The connection ends.
    Gone,
}

impl Channel {
    /// Serves the channel until its end.
    pub async fn serve(self) {
        let _end = EndOnDrop(self.inbox.clone());
        let end = self.cut.run_until_cancelled(self.run()).await.unwrap_or(End::Gone);
        match end {
            End::Gone => return,
            End::Malformed => tracing::debug!(peer = %self.access.peer, "sftp channel closed: a packet cannot be read"),
            End::Closed => {}
        }
        // Where one of them fails the connection has ended.
        let _ = self.answers.exit_status(u32::from(end != End::Closed)).await;
        let _ = self.answers.eof().await;
        let _ = self.answers.close().await;
    }

    async fn run(&self) -> End {
        let cancelled = Arc::new(AtomicBool::new(false));
        let _cancel = CancelOnDrop(cancelled.clone());
        let session = Session::new(self.service.clone(), self.access.clone(), cancelled);
        let work = Arc::new(Mutex::new(Work { session, requests: BytesMut::new() }));
        loop {
            let due = lock(&work).session.due();
            let arrived = match due {
                None => self.inbox.take().await,
                Some(due) => match tokio::time::timeout_at(due, self.inbox.take()).await {
                    Ok(arrived) => arrived,
                    Err(_) => {
                        lock(&work).session.record(Instant::now());
                        continue;
                    }
                },
            };
            let Some(arrived) = arrived else { return End::Closed };
            lock(&work).add(arrived);
            if let Err(end) = self.handle(&work).await {
                return end;
            }
        }
    }

    /// Handles all complete requests.
    async fn handle(&self, work: &SharedWork) -> Result<(), End> {
        loop {
            let (more, replies) = self.handle_some(work).await;
            if !replies.is_empty() {
                self.send(replies).await?;
            }
            match more {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(Malformed) => return Err(End::Malformed),
            }
        }
    }

    /// Handles requests until there are some answers. Where the files are not available, each request has that answer.
    async fn handle_some(&self, work: &SharedWork) -> (Result<bool, Malformed>, Replies) {
        let shared = work.clone();
        let handled = self
            .service
            .files
            .run(self.access.server, Availability::UserWrite, move |tree| Ok(lock(&shared).handle(Ok(tree.clone()))));
        match handled.await {
            Ok(handled) => handled,
            Err(error) => {
                let shared = work.clone();
                let work = move || lock(&shared).handle(Err(error.into()));
                self.service.context.store.blocking().run(work).await
            }
        }
    }

    async fn send(&self, replies: Replies) -> Result<(), End> {
        self.inbox.answering(true);
        let sent = self.answers.data_bytes(Bytes::from(replies.into_bytes())).await;
        self.inbox.answering(false);
        self.progress.requested();
        sent.map_err(|_| End::Gone)
    }
}

impl Work {
    fn add(&mut self, arrived: BytesMut) {
        match self.requests.is_empty() {
            true => self.requests = arrived,
            false => self.requests.extend_from_slice(&arrived),
        }
    }

    fn handle(&mut self, files: Result<Tree, Refused>) -> (Result<bool, Malformed>, Replies) {
        let mut replies = Replies::with_capacity(SPARE);
        let more = self.session.handle_all(files, &mut self.requests, &mut replies, ANSWERS);
        (more, replies)
    }
}

fn lock(work: &Mutex<Work>) -> MutexGuard<'_, Work> {
    work.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The connection does not wait for a channel that has ended.
struct EndOnDrop(Arc<Inbox>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Ends work on a blocking thread when the channel ends.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
