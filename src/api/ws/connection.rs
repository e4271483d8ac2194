//! The task of one socket: it reads messages, sends events, and never waits for its browser.
//!
//! One loop owns everything. Frames are sent in batches: what has come while a batch was being sent is the next one. While a slow browser
//! takes its batch, its messages are read, and events wait in the server's broadcast, which has a limit.

use std::collections::VecDeque;
use std::future::{pending, poll_fn};
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::CapacityError;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::actions::{Actor, Lanes, Reply};
use super::port::Port;
use super::session::{Now, Response, Session};
use super::sockets::Slot;
use crate::events::frames::frame;
use crate::events::{EventKind, ServerEvent, Subscription};
use crate::model::{PowerState, Utilization};
use crate::stats;

/// The longest message of a browser, in bytes. Source: websocket, "Framing".
const MAX_MESSAGE: usize = 4096;
/// The longest one that is read at all. A socket that sends a longer one than [`MAX_MESSAGE`] is closed.
const MAX_READ: usize = 64 * 1024;
/// Bytes of a buffer for what a browser sends.
const READ_BUFFER: usize = 4096;
/// A batch has so many bytes and those of one event more.
const BATCH: usize = 256 * 1024;
/// Frames that wait while a batch is being sent. A browser that does not take them is not read.
const WAITING: usize = 64;
/// Answers of lanes that wait.
const REPLIES: usize = 1;
/// How long the actions of a socket that has ended may take.
const WORK_TIMEOUT: Duration = Duration::from_secs(10);
/// Time between two looks at the token.
const TICK: Duration = Duration::from_secs(30);
/// How long a browser has to answer the closing of its socket.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a socket is closed with a code.
#[derive(Debug, Clone, Copy)]
pub enum Closing {
    /// The server is suspended.
    Suspended,
    /// A message is too long.
    TooLong,
}

impl From<Closing> for CloseFrame {
    fn from(closing: Closing) -> Self {
        match closing {
            Closing::Suspended => CloseFrame { code: CloseCode::Library(4409), reason: "server is suspended".into() },
            Closing::TooLong => CloseFrame { code: CloseCode::Size, reason: "".into() },
        }
    }
}

/// The end of a socket: with a code, or without.
type End = Option<Closing>;

/// A socket and its browser.
pub struct Connection<S> {
    actor: Actor,
    slot: Slot,
    stream: WebSocketStream<Port<S>>,
    session: Session,
    events: Subscription,
    /// From the first token on.
    stats: Option<stats::Listener>,
    /// From the first token on.
    tick: Option<Interval>,
    /// Frames of the next batch.
    next: VecDeque<Bytes>,
    next_bytes: usize,
    /// A batch is being sent, or is about to be.
    sending: bool,
}

enum Step {
    Read(Option<Result<Message, Error>>),
    Sent(Result<(), Error>),
    Event(Option<Arc<ServerEvent>>),
    Stats(Option<Arc<Utilization>>),
    Reply(Option<Reply>),
    Tick,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// A socket whose request was accepted.
    pub async fn new(actor: Actor, slot: Slot, events: Subscription, stream: S) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_message_size(Some(MAX_READ))
            .max_frame_size(Some(MAX_READ));
        let stream = WebSocketStream::from_raw_socket(Port::new(stream), Role::Server, Some(config)).await;
        let session = Session::new(actor.server);
        let next = VecDeque::new();
        Self { actor, slot, stream, session, events, stats: None, tick: None, next, next_bytes: 0, sending: false }
    }

    /// Serves the socket to its end.
    pub async fn serve(mut self) {
        // The server may have been suspended or deleted since the request was accepted.
        let closing = match self.is_open() {
            Ok(true) => self.run().await,
            Ok(false) => Some(Closing::Suspended),
            Err(()) => None,
        };
        if let Some(closing) = closing {
            // The browser may be gone.
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.close(closing)).await;
        }
    }

    async fn run(&mut self) -> End {
        let (replies, mut answers) = mpsc::channel(REPLIES);
        let (lanes, work) = Lanes::new(self.actor.clone(), replies, self.slot.closed.clone());
        let mut work = pin!(work);
        let end = loop {
            let idle = !self.sending;
            let may_read = self.next.len() < WAITING && self.next_bytes < BATCH;
            let step = tokio::select! {
                () = self.slot.closed.cancelled() => break None,
                // It ends with the lanes, which this function holds.
                () = &mut work => return None,
                step = transfer(&mut self.stream, self.sending, may_read) => step,
                answer = answers.recv(), if may_read => Step::Reply(answer),
                () = tick(&mut self.tick) => Step::Tick,
                stats = next_stats(&mut self.stats), if idle => Step::Stats(stats),
                event = self.events.recv(), if idle => Step::Event(event),
            };
            if let ControlFlow::Break(end) = self.take(step, &lanes).await {
                break end;
            }
            // Set before the flush that comes first, so that the batch begins between two frames.
            self.sending |= !self.next.is_empty();
        };
        // Who clicks and closes the page has clicked. No answer holds the work up any more.
        drop((lanes, answers));
        if tokio::time::timeout(WORK_TIMEOUT, work).await.is_err() {
            tracing::debug!(server.id = %self.actor.server, "actions of a closed websocket took too long");
        }
        end
    }

    async fn take(&mut self, step: Step, lanes: &Lanes) -> ControlFlow<End> {
        match step {
            Step::Read(None) => return ControlFlow::Break(None),
            Step::Read(Some(Ok(Message::Close(_)))) => {
                // The answer is ready to be sent. The browser may be gone.
                let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.stream.flush()).await;
                return ControlFlow::Break(None);
            }
            Step::Read(Some(Err(Error::Capacity(CapacityError::MessageTooLong { .. })))) => {
                return ControlFlow::Break(Some(Closing::TooLong));
            }
            Step::Read(Some(Err(error))) => {
                tracing::debug!(server.id = %self.actor.server, %error, "websocket broke off");
                return ControlFlow::Break(None);
            }
            Step::Read(Some(Ok(message))) => {
                if message.len() > MAX_MESSAGE {
                    return ControlFlow::Break(Some(Closing::TooLong));
                }
                if let Message::Text(text) = message {
                    return self.receive(&text, lanes).await;
                }
            }
            Step::Sent(Err(_)) => return ControlFlow::Break(None),
            Step::Sent(Ok(())) => {
                self.sending = !self.next.is_empty();
                self.stream.get_mut().send(self.next.drain(..));
                self.next_bytes = 0;
            }
            Step::Event(event) => return self.publish(event),
            Step::Stats(Some(stats)) => {
                let text = serde_json::to_string(&*stats).unwrap_or_default();
                let frames = with_now(&self.actor, |now| self.session.stats(&text, now));
                self.add(frames);
            }
            // The server is gone; the broadcast ends, too.
            Step::Stats(None) => self.stats = None,
            Step::Reply(Some(Reply::Frames(frames))) => self.add(Some(frames)),
            Step::Reply(Some(Reply::Failed(text))) => self.add(Some(self.session.error(&text))),
            Step::Reply(None) => {}
            Step::Tick => {
                let frames = with_now(&self.actor, |now| self.session.tick(now));
                self.add(frames);
            }
        }
        ControlFlow::Continue(())
    }

    async fn receive(&mut self, text: &str, lanes: &Lanes) -> ControlFlow<End> {
        if self.is_open() != Ok(true) {
            return ControlFlow::Break(None);
        }
        let key = self.actor.api.context.node.config.live.get();
        match with_now(&self.actor, |now| self.session.receive(text, &key.token, now)) {
            Response::Nothing => {}
            Response::Frame(frame) => self.add(Some(frame)),
            // As with Wings, which suspends the server for that long.
            Response::Act(_) if self.is_being_restored() => return ControlFlow::Break(None),
            Response::Act(action) => lanes.add(action, self.session.claims().and_then(|claims| claims.user())),
            Response::Authenticated { first: false } => {
                self.add(Some(frame("auth success", &[])));
            }
            Response::Authenticated { first: true } => self.begin().await,
        }
        ControlFlow::Continue(())
    }

    /// Begins to send events.
    async fn begin(&mut self) {
        self.slot.authenticated();
        let (context, id) = (&self.actor.api.context, self.actor.server);
        self.stats = Some(context.stats.listen(id));
        let mut tick = interval_at(Instant::now() + TICK, TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.tick = Some(tick);
        let state = context.store.status(id).map(|status| status.state).unwrap_or_default();
        let in_use = context.store.get(id).is_some_and(|server| {
            server.asked(context.clock.now()).install().is_some() || server.record.holding_transfer().is_some()
        });
        let stats = match state {
            PowerState::Offline if !in_use => Some(self.actor.stats().await),
            _ => None,
        };
        for frame in self.session.greet(state).into_iter().chain(stats) {
            self.add(Some(frame));
        }
    }

    /// Adds an event, and those that have come since, to the next batch.
    fn publish(&mut self, event: Option<Arc<ServerEvent>>) -> ControlFlow<End> {
        let mut event = event;
        let app_name = &self.actor.api.context.node.config.app_name;
        loop {
            let Some(current) = event else { return ControlFlow::Break(None) };
            match &current.kind {
                EventKind::Suspended => return ControlFlow::Break(None),
                // The end of the server may be among what was missed.
                EventKind::Lagged { .. } if self.is_open() != Ok(true) => return ControlFlow::Break(None),
                _ => {}
            }
            let frames = with_now(&self.actor, |now| self.session.frames(&current.kind, app_name, now));
            if let Some(frames) = frames {
                self.next_bytes += frames.len();
                self.next.push_back(frames);
            }
            if self.next_bytes >= BATCH {
                return ControlFlow::Continue(());
            }
            event = match self.events.try_recv() {
                None => return ControlFlow::Continue(()),
                event => event,
            };
        }
    }

    fn add(&mut self, frames: Option<Bytes>) {
        if let Some(frames) = frames {
            self.next_bytes += frames.len();
            self.next.push_back(frames);
        }
    }

    /// Whether the server may have sockets: it is not suspended. `Err` if there is no such server.
    fn is_open(&self) -> Result<bool, ()> {
        let known = self.actor.api.server(self.actor.server).map_err(drop)?;
        Ok(!known.manifest.spec.suspended)
    }

    fn is_being_restored(&self) -> bool {
        let found = self.actor.api.context.store.get(self.actor.server);
        found.is_some_and(|server| server.record.pending_restore().is_some())
    }

    async fn close(&mut self, closing: Closing) -> Result<(), Error> {
        self.stream.flush().await?;
        self.stream.close(Some(closing.into())).await?;
        // Data that is not read would reset the connection before the browser has the code.
        while let Some(message) = self.stream.next().await {
            message?;
        }
        Ok(())
    }
}

/// Sends what is to be sent, and reads the next message.
async fn transfer<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut WebSocketStream<Port<S>>,
    sending: bool,
    may_read: bool,
) -> Step {
    poll_fn(|context| {
        // First, so that what a browser has asked for is known before the end of its connection.
        if may_read && let Poll::Ready(message) = stream.poll_next_unpin(context) {
            return Poll::Ready(Step::Read(message));
        }
        if sending && let Poll::Ready(sent) = stream.poll_flush_unpin(context) {
            return Poll::Ready(Step::Sent(sent));
        }
        Poll::Pending
    })
    .await
}

async fn tick(interval: &mut Option<Interval>) {
    match interval {
        Some(interval) => _ = interval.tick().await,
        None => pending().await,
    }
}

async fn next_stats(listener: &mut Option<stats::Listener>) -> Option<Arc<Utilization>> {
    match listener {
        Some(listener) => listener.next().await,
        None => pending().await,
    }
}

fn with_now<T>(actor: &Actor, use_it: impl FnOnce(Now<'_>) -> T) -> T {
    let time = actor.api.context.clock.now();
    use_it(Now { time, instant: Instant::now(), revocations: &actor.api.revocations })
}
