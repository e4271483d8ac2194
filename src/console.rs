//! The one attachment that a running server has.
//!
//! The reconciler has a container attached ([`Console::attach`]); its output comes in and is matched until the
//! start-up is seen to finish ([`Console::done_seen`]), written to the server's transcript, and published
//! ([`Events`]). Lines to type come in through [`Console::send_command`]. The end of an attachment
//! and the end of a start-up go out as a wake-up of the server and nothing else. A line that equals the stop command
//! means nothing: what is so is the container's state, which the reconciler looks at.
//!
//! Nothing waits for anybody: output is read at all times, and subscribers and the disk lose lines when they are slow.

mod attachment;
mod done;
pub mod lines;
mod replay;
mod transcript;

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::events::{EventKind, Events};
use crate::model::ServerId;
use crate::model::settings::Startup;
use crate::runtime::{Attachment, Runtime, RuntimeError};
use crate::store::Blocking;
use crate::tasks::{TaskHandle, Tasks};
use attachment::{Order, Session, Sinks};
use done::DoneMatcher;
use lines::Lines;
use replay::Replay;
pub use transcript::{Handover, POSITION_FILE, TRANSCRIPT_FILE};
use transcript::{Rules, Transcript};

/// How long a server has to read what is typed.
const TYPING: Duration = Duration::from_secs(5);
/// The longest line that can be typed, in bytes.
const TYPED: usize = 64 * 1024;
/// Orders that wait for an attachment's task.
const ORDERS: usize = 8;
/// Logs that are read at a time, of all servers.
const TURNS: usize = 8;
/// The longest line of the daemon, in characters.
const SAID: usize = 1000;

/// All consoles of the node; all clones are the same.
#[derive(Clone)]
pub struct Console {
    inner: Arc<Inner>,
}

/// What the node's configuration says about consoles.
#[derive(Debug, Clone)]
pub struct ConsoleOptions {
    /// The name in front of the daemon's own lines.
    pub app_name: String,
    /// Bytes after which a transcript is rotated.
    pub max_transcript_bytes: u64,
    /// Transcripts that are kept per server, the one in use included; at least one is.
    pub max_transcript_files: u32,
}

/// Why a line could not be typed.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// The server has no attachment.
    #[error("cannot type into server {0}: not attached to instance; start it, or wait until it is starting")]
    NotAttached(ServerId),
    /// The line is too long.
    #[error("cannot type into server {server}: the line has {length} bytes and may have {TYPED}")]
    TooLong {
        /// The server.
        server: ServerId,
        /// The line's length in bytes.
        length: usize,
    },
    /// The server does not read what is typed.
    #[error(
        "cannot type into server {server}: it has not read its input for {limit:?}; try again later, or stop it by a signal"
    )]
    NotRead {
        /// The server.
        server: ServerId,
        /// How long it had.
        limit: Duration,
    },
    /// The connection to the container broke.
    #[error("cannot send a command to server {server}: {source}; try again once it is attached again")]
    Broken {
        /// The server.
        server: ServerId,
        /// Why.
        source: io::Error,
    },
}

struct Inner {
    runtime: Arc<dyn Runtime>,
    blocking: Blocking,
    rules: Arc<Rules>,
    events: Events,
    tasks: Tasks,
    wake: Arc<dyn Fn(ServerId) + Send + Sync>,
    turns: Arc<Semaphore>,
    slots: Mutex<BTreeMap<ServerId, Slot>>,
}

/// One server's console.
struct Slot {
    sinks: Sinks,
    live: Option<ServerState>,
    /// The container in which the start-up was seen to finish.
    done: Option<String>,
}

/// An attachment whose task runs.
struct ServerState {
    container: String,
    orders: mpsc::Sender<Order>,
    /// Fingerprint of what is matched.
    startup: Option<u64>,
    task: TaskHandle,
}

impl Console {
    /// Consoles over a runtime, which publish their lines. `wake(id)` is called when an attachment ends or a start-up was seen to finish.
    pub fn new(
        runtime: Arc<dyn Runtime>,
        blocking: Blocking,
        events: Events,
        options: ConsoleOptions,
        tasks: Tasks,
        wake: Arc<dyn Fn(ServerId) + Send + Sync>,
    ) -> Self {
        let rules = Rules {
            bytes: options.max_transcript_bytes,
            files: options.max_transcript_files,
            daemon: format!("[{} Daemon]: ", options.app_name),
            numbers: Arc::default(),
        };
        let (turns, slots) = (Arc::new(Semaphore::new(TURNS)), Mutex::default());
        Self { inner: Arc::new(Inner { runtime, blocking, rules: Arc::new(rules), events, tasks, wake, turns, slots }) }
    }

    /// Attaches to a container; its output goes to the transcript in the folder `transcript`.
    ///
    /// `startup` is matched until it is seen; `None` if the server has started already. `replay` reads the
    /// container's log first, for a daemon that was away: its lines are matched, and what the transcript does not
    /// have yet is added. Where the container is attached already, all this does is to take note of another `startup`,
    /// for the lines to come; an attachment to another container is dropped.
    ///
    /// # Errors
    /// The runtime's. An earlier attachment is still there then.
    pub async fn attach(
        &self,
        id: ServerId,
        container: &str,
        startup: Option<&Startup>,
        transcript: &Path,
        replay: bool,
    ) -> Result<(), RuntimeError> {
        if self.is_attached(id, container, startup) {
            return Ok(());
        }
        let terminal = self.inner.runtime.attach(container).await?;
        let (sinks, former) = self.with_slot(id, |slot| (slot.sinks.clone(), slot.live.take()));
        drop_attachment(former);
        let anchor = sinks.transcript.open(transcript, container, replay).await;
        let replay = replay.then(|| {
            let part = Replay::part(startup.is_some());
            let (runtime, turns) = (self.inner.runtime.clone(), self.inner.turns.clone());
            Box::new(Replay::new(runtime, container.to_owned(), part, anchor, turns))
        });
        // Another attachment may have been faster; the latest one counts.
        self.begin(id, container, startup, sinks, terminal, replay);
        Ok(())
    }

    /// Whether the container is attached; if so, it is matched against this from now on.
    fn is_attached(&self, id: ServerId, container: &str, startup: Option<&Startup>) -> bool {
        let mut slots = self.inner.slots();
        let Some(slot) = slots.get_mut(&id) else { return false };
        let Some(live) = slot.live.as_mut().filter(|live| live.container == container) else {
            return false;
        };
        if let Some(startup) = startup
            && live.startup.is_some_and(|known| known != fingerprint(startup))
            && slot.done.is_none()
            && live.orders.try_send(Order::Match(DoneMatcher::new(id, startup))).is_ok()
        {
            live.startup = Some(fingerprint(startup));
        }
        true
    }

    fn begin(
        &self,
        id: ServerId,
        container: &str,
        startup: Option<&Startup>,
        sinks: Sinks,
        terminal: Attachment,
        replay: Option<Box<Replay>>,
    ) {
        let (to, orders) = mpsc::channel(ORDERS);
        let matcher = startup.map(|startup| DoneMatcher::new(id, startup));
        let this = Attached { inner: self.inner.clone(), id, orders: to.downgrade() };
        let mut slots = self.inner.slots();
        let slot = self.inner.slot(&mut slots, id);
        slot.sinks = sinks.clone();
        // The task looks itself up in the slot, so it must be there before the lock is released.
        let task = self.inner.tasks.spawn(format!("console {id}"), async move {
            let ending = Ending(this);
            let on_done = || ending.0.done();
            Session { terminal, orders, sinks, matcher, on_done, lines: Lines::default(), replay }.run().await;
        });
        // What the former attachment to the same container has seen stays true: it may not be on record yet.
        slot.done.take_if(|done| *done != container);
        let container = container.to_owned();
        let live = ServerState { container, orders: to, startup: startup.map(fingerprint), task };
        let former = slot.live.replace(live);
        drop(slots);
        drop_attachment(former);
    }

    /// The container that is attached.
    pub fn attached(&self, id: ServerId) -> Option<String> {
        let slots = self.inner.slots();
        slots.get(&id)?.live.as_ref().map(|live| live.container.clone())
    }

    /// The container in which the start-up was seen to finish, by its last attachment. It is known beyond the end of
    /// that attachment.
    pub fn done_seen(&self, id: ServerId) -> Option<String> {
        self.inner.slots().get(&id)?.done.clone()
    }

    /// Types a line and its end into a server.
    ///
    /// # Errors
    /// See [`ConsoleError`]. After [`ConsoleError::NotRead`] the line, or a part of it, may still be read.
    pub async fn send_command(&self, id: ServerId, line: &str) -> Result<(), ConsoleError> {
        if line.len() > TYPED {
            return Err(ConsoleError::TooLong { server: id, length: line.len() });
        }
        let orders = self.inner.slots().get(&id).and_then(|slot| Some(slot.live.as_ref()?.orders.clone()));
        let orders = orders.ok_or(ConsoleError::NotAttached(id))?;
        let (done, answer) = oneshot::channel();
        let typed = async {
            orders.send(Order::Type(format!("{line}\n").into_bytes(), done)).await.ok()?;
            answer.await.ok()
        };
        match tokio::time::timeout(TYPING, typed).await {
            Err(_) => Err(ConsoleError::NotRead { server: id, limit: TYPING }),
            Ok(None) => Err(ConsoleError::NotAttached(id)),
            Ok(Some(Err(source))) => Err(ConsoleError::Broken { server: id, source }),
            Ok(Some(Ok(()))) => Ok(()),
        }
    }

    /// Drops a server's attachment and all that is known about its console. What was printed is still written, as
    /// long as the server's folder is there.
    pub fn detach(&self, id: ServerId) {
        let slot = self.inner.slots().remove(&id);
        if let Some(slot) = slot {
            slot.sinks.transcript.flush();
            drop_attachment(slot.live);
        }
    }

    /// A line of the daemon itself, to the transcript and to subscribers. Before the first attachment a few of
    /// them wait until it is known where the transcript is.
    pub fn announce(&self, id: ServerId, text: &str) {
        let sinks = self.with_slot(id, |slot| slot.sinks.clone());
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            // Errors of engines and names from elsewhere may be in it.
            let line: String = line.chars().take(SAID).map(|c| if c.is_control() { ' ' } else { c }).collect();
            let number = sinks.transcript.note(&line);
            sinks.events.publish_output(id, || EventKind::Daemon { line: line.as_str().into(), number });
        }
    }

    /// Has everything that was printed so far written to the transcript in the folder `transcript`, and opens it up to there.
    ///
    /// # Errors
    /// The transcript cannot be opened.
    pub async fn handover(&self, id: ServerId, transcript: &Path) -> io::Result<Handover> {
        let sinks = self.with_slot(id, |slot| slot.sinks.clone());
        sinks.transcript.handover(transcript).await
    }

    /// A line of the daemon as the transcript has it.
    pub fn daemon_line(&self, text: &str) -> String {
        format!("{}{text}", self.inner.rules.daemon)
    }

    fn with_slot<T>(&self, id: ServerId, look: impl FnOnce(&mut Slot) -> T) -> T {
        look(self.inner.slot(&mut self.inner.slots(), id))
    }
}

impl Inner {
    fn slots(&self) -> MutexGuard<'_, BTreeMap<ServerId, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot<'a>(&self, slots: &'a mut BTreeMap<ServerId, Slot>, id: ServerId) -> &'a mut Slot {
        slots.entry(id).or_insert_with(|| {
            let transcript = Transcript::new(id, self.rules.clone(), self.blocking, self.tasks.clone());
            Slot { sinks: Sinks { transcript, events: self.events.clone() }, live: None, done: None }
        })
    }
}

/// Access of an attachment's task to its slot, as long as the slot is still its own.
struct Attached {
    inner: Arc<Inner>,
    id: ServerId,
    orders: mpsc::WeakSender<Order>,
}

impl Attached {
    /// Changes the slot and queues a pass.
    fn report(&self, change: impl FnOnce(&mut Slot)) {
        let mut slots = self.inner.slots();
        let own = |slot: &Slot| {
            let orders = self.orders.upgrade();
            slot.live.as_ref().zip(orders).is_some_and(|(live, orders)| live.orders.same_channel(&orders))
        };
        let Some(slot) = slots.get_mut(&self.id).filter(|slot| own(slot)) else { return };
        change(slot);
        drop(slots);
        (self.inner.wake)(self.id);
    }

    fn done(&self) {
        self.report(|slot| slot.done = slot.live.as_ref().map(|live| live.container.clone()));
    }
}

/// Reports the end of an attachment, however it comes about.
struct Ending(Attached);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.report(|slot| slot.live = None);
    }
}

fn drop_attachment(live: Option<ServerState>) {
    if let Some(live) = live {
        live.task.abort();
    }
}

/// Tells one set of done lines from another.
fn fingerprint(startup: &Startup) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&startup.done, startup.strip_ansi).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;
