//! The one attachment that a running server has.
//!
//! The reconciler attaches a container ([`Console::attach`]). The console matches its output until the start-up has finished
//! ([`Console::done_seen`]), writes it to the server's transcript, and publishes it ([`Events`]). [`Console::send_command`]
//! writes to the input. The end of an attachment and the end of a start-up only requeue the server: the reconciler observes
//! the container's state, and does not interpret commands such as the stop command.
//!
//! The output is read at all times. Slow subscribers and a slow disk lose lines.

mod attachment;
mod done;
mod features;
mod replay;
mod throttle;
mod transcript;
mod viewers;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::config::{ConsoleLimit, NodeConfig};
use crate::events::{EventKind, Events};
use crate::model::ServerId;
use crate::model::settings::Startup;
use crate::runtime::{Attachment, Runtime, RuntimeError};
use crate::store::Blocking;
use crate::tasks::{TaskHandle, Tasks};
use attachment::{Command, Session};
pub use done::DoneMatcher;
pub use features::Features;
use replay::Replay;
use throttle::Throttle;
pub use transcript::{Handover, POSITION_FILE, TRANSCRIPT_FILE};
use transcript::{Rules, Transcript};
use viewers::Viewers;

/// How long a server has to read a command.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest command, in bytes.
const MAX_COMMAND: usize = 64 * 1024;
/// Commands that can wait for an attachment's task.
const COMMANDS: usize = 8;
/// Container logs that are read at once on the node.
const LOG_READERS: usize = 8;
/// The longest line of the daemon, in characters.
const MAX_ANNOUNCEMENT: usize = 1000;

/// All consoles of the node; all clones are the same.
#[derive(Clone)]
pub struct Console {
    inner: Arc<Inner>,
}

/// Why a command could not be sent.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// The server has no attachment.
    #[error("cannot send a command to server {0}: not attached to instance; start it, or wait until it is starting")]
    NotAttached(ServerId),
    /// The line is too long.
    #[error("cannot send a command to server {server}: it has {length} bytes and may have {MAX_COMMAND}")]
    TooLong {
        /// The server.
        server: ServerId,
        /// Length of the line in bytes.
        length: usize,
    },
    /// The server does not read its input.
    #[error(
        "cannot send a command to server {server}: it has not read its input for {limit:?}; try again later, or stop it by a signal"
    )]
    NotRead {
        /// The server.
        server: ServerId,
        /// How long the server had.
        limit: Duration,
    },
    /// The connection to the container broke.
    #[error("cannot send a command to server {server}: {source}; try again when the console is attached again")]
    Broken {
        /// The server.
        server: ServerId,
        /// The cause.
        source: io::Error,
    },
}

struct Inner {
    runtime: Arc<dyn Runtime>,
    blocking: Blocking,
    rules: Arc<Rules>,
    /// The limit on lines for viewers.
    limit: Option<ConsoleLimit>,
    events: Events,
    tasks: Tasks,
    wake: Arc<dyn Fn(ServerId) + Send + Sync>,
    log_readers: Arc<Semaphore>,
    slots: Mutex<BTreeMap<ServerId, Slot>>,
}

/// One server's console.
struct Slot {
    sinks: Sinks,
    /// What the lines are matched with for viewers.
    features: watch::Sender<Features>,
    attached: Option<Attached>,
    /// The container whose start-up has finished.
    done: Option<String>,
}

/// The destinations of lines.
#[derive(Clone)]
struct Sinks {
    transcript: Transcript,
    events: Events,
}

impl Sinks {
    /// Adds lines of the daemon.
    fn announce(&self, text: &str) {
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            // Error messages of the engine may contain control characters.
            let line: String =
                line.chars().take(MAX_ANNOUNCEMENT).map(|c| if c.is_control() { ' ' } else { c }).collect();
            let number = self.transcript.note(&line);
            self.events
                .publish_output(self.transcript.server(), || EventKind::Daemon { line: line.as_str().into(), number });
        }
    }
}

/// An attachment whose task runs.
struct Attached {
    container: String,
    commands: mpsc::Sender<Command>,
    /// The start-up that is matched.
    startup: watch::Sender<Option<Startup>>,
    task: TaskHandle,
}

impl Console {
    /// Consoles over a runtime, which publish their lines. `wake(id)` is called at the end of an attachment or a start-up.
    pub fn new(
        runtime: Arc<dyn Runtime>,
        blocking: Blocking,
        events: Events,
        node: &NodeConfig,
        tasks: Tasks,
        wake: Arc<dyn Fn(ServerId) + Send + Sync>,
    ) -> Self {
        let rules = Rules {
            max_bytes: node.max_transcript_bytes,
            max_files: node.max_transcript_files,
            daemon: format!("[{} Daemon]: ", node.app_name),
            numbers: Arc::default(),
        };
        let (log_readers, slots) = (Arc::new(Semaphore::new(LOG_READERS)), Mutex::default());
        Self {
            inner: Arc::new(Inner {
                runtime,
                blocking,
                rules: Arc::new(rules),
                limit: node.console_limit,
                events,
                tasks,
                wake,
                log_readers,
                slots,
            }),
        }
    }

    /// Attaches to a container; its output goes to the transcript in the folder `transcript`.
    ///
    /// `startup` is matched until a line fits; `None` if the server has started already. `replay` reads the container's log
    /// first, after a restart of the daemon: its lines are matched, and those that are missing in the transcript are added.
    /// If the container is attached already, only a changed `startup` is applied, to later lines. An attachment to another
    /// container is dropped.
    ///
    /// # Errors
    /// Those of [`Runtime::attach`]. An earlier attachment is kept then.
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
        let (sinks, former) = self.with_slot(id, |slot| (slot.sinks.clone(), slot.attached.take()));
        drop_attachment(former);
        let anchor = sinks.transcript.open(transcript, container, replay).await;
        let replay = replay.then(|| {
            let part = Replay::part(startup.is_some());
            let (runtime, readers) = (self.inner.runtime.clone(), self.inner.log_readers.clone());
            Box::new(Replay::new(runtime, container.to_owned(), part, anchor, readers))
        });
        // A concurrent call may have attached meanwhile; the latest attachment is kept.
        self.begin(id, container, startup, sinks, terminal, replay);
        Ok(())
    }

    /// Whether the container is attached. If so, later lines are matched with this start-up.
    fn is_attached(&self, id: ServerId, container: &str, startup: Option<&Startup>) -> bool {
        let slots = self.inner.slots();
        let Some(slot) = slots.get(&id) else { return false };
        let Some(attached) = slot.attached.as_ref().filter(|attached| attached.container == container) else {
            return false;
        };
        if let Some(startup) = startup
            && slot.done.is_none()
        {
            attached.startup.send_if_modified(|known| {
                let is_changed = known.as_ref().is_some_and(|known| known != startup);
                if is_changed {
                    *known = Some(startup.clone());
                }
                is_changed
            });
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
        let (commands, to_write) = mpsc::channel(COMMANDS);
        let (startup, to_match) = watch::channel(startup.cloned());
        let report = Report { inner: self.inner.clone(), id, commands: commands.downgrade() };
        let mut slots = self.inner.slots();
        let slot = self.inner.slot(&mut slots, id);
        slot.sinks = sinks.clone();
        let (transcript, features) = (sinks.transcript.clone(), slot.features.subscribe());
        let viewers = Box::new(Viewers::new(sinks, features, Throttle::new(self.inner.limit)));
        // The task compares itself with the attachment in the slot, so the slot must be filled before the lock is released.
        let task = self.inner.tasks.spawn(format!("console {id}"), async move {
            let on_done = || report.send(|slot| slot.done = slot.attached.as_ref().map(|own| own.container.clone()));
            Session::new(to_match, transcript, viewers, on_done, replay).run(terminal, to_write).await;
        });
        // A former attachment to the same container may have set `done`, which the reconciler may not have recorded yet.
        slot.done.take_if(|done| *done != container);
        let container = container.to_owned();
        let attached = Attached { container, commands, startup, task };
        let former = slot.attached.replace(attached);
        drop(slots);
        drop_attachment(former);
    }

    /// The container that is attached.
    pub fn attached(&self, id: ServerId) -> Option<String> {
        let slots = self.inner.slots();
        slots.get(&id)?.attached.as_ref().map(|own| own.container.clone())
    }

    /// The container whose start-up the last attachment has seen to finish. It is kept after the end of the attachment.
    pub fn done_seen(&self, id: ServerId) -> Option<String> {
        self.inner.slots().get(&id)?.done.clone()
    }

    /// Writes a line to the input of a server.
    ///
    /// # Errors
    /// See [`ConsoleError`]. After [`ConsoleError::NotRead`] the line, or a part of it, may still be read.
    pub async fn send_command(&self, id: ServerId, line: &str) -> Result<(), ConsoleError> {
        if line.len() > MAX_COMMAND {
            return Err(ConsoleError::TooLong { server: id, length: line.len() });
        }
        let commands = self.inner.slots().get(&id).and_then(|slot| Some(slot.attached.as_ref()?.commands.clone()));
        let commands = commands.ok_or(ConsoleError::NotAttached(id))?;
        let (done, answer) = oneshot::channel();
        let typed = async {
            commands.send((format!("{line}\n").into_bytes(), done)).await.ok()?;
            answer.await.ok()
        };
        match tokio::time::timeout(COMMAND_TIMEOUT, typed).await {
            Err(_) => Err(ConsoleError::NotRead { server: id, limit: COMMAND_TIMEOUT }),
            Ok(None) => Err(ConsoleError::NotAttached(id)),
            Ok(Some(Err(source))) => Err(ConsoleError::Broken { server: id, source }),
            Ok(Some(Ok(()))) => Ok(()),
        }
    }

    /// Drops a server's attachment and all state of its console. Lines that were printed are still written, unless the
    /// server's folder is gone.
    pub fn detach(&self, id: ServerId) {
        let slot = self.inner.slots().remove(&id);
        if let Some(slot) = slot {
            slot.sinks.transcript.flush();
            drop_attachment(slot.attached);
        }
    }

    /// Adds lines of the daemon to the transcript and publishes them. Before the first attachment the folder of the transcript
    /// is unknown, and a few lines are kept until then.
    pub fn announce(&self, id: ServerId, text: &str) {
        self.with_slot(id, |slot| slot.sinks.clone()).announce(text);
    }

    /// Sets what a server's lines are matched with from now on: viewers learn of matches.
    pub fn match_features(&self, id: ServerId, features: &Features) {
        self.with_slot(id, |slot| {
            slot.features.send_if_modified(|known| {
                let is_changed = known != features;
                if is_changed {
                    known.clone_from(features);
                }
                is_changed
            });
        });
    }

    /// Writes all lines so far to the transcript in the folder `transcript`, and opens it up to the last one, within
    /// [`wait::LOGS_FOR_TRANSCRIPT`](crate::wait::LOGS_FOR_TRANSCRIPT).
    ///
    /// # Errors
    /// The transcript cannot be opened, or its writer does not answer.
    pub async fn handover(&self, id: ServerId, transcript: &Path) -> io::Result<Handover> {
        let sinks = self.with_slot(id, |slot| slot.sinks.clone());
        let handover =
            tokio::time::timeout(crate::wait::LOGS_FOR_TRANSCRIPT, sinks.transcript.handover(transcript)).await;
        handover.map_err(|_| io::Error::other("the transcript's writer does not answer; check the disk"))?
    }

    /// A line of the daemon in the format of the transcript.
    pub fn daemon_line(&self, text: &str) -> String {
        format!("{}{text}", self.inner.rules.daemon)
    }

    fn with_slot<T>(&self, id: ServerId, change: impl FnOnce(&mut Slot) -> T) -> T {
        change(self.inner.slot(&mut self.inner.slots(), id))
    }
}

impl Inner {
    fn slots(&self) -> MutexGuard<'_, BTreeMap<ServerId, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot<'a>(&self, slots: &'a mut BTreeMap<ServerId, Slot>, id: ServerId) -> &'a mut Slot {
        slots.entry(id).or_insert_with(|| {
            let transcript = Transcript::new(id, self.rules.clone(), self.blocking, self.tasks.clone());
            let sinks = Sinks { transcript, events: self.events.clone() };
            Slot { sinks, features: watch::Sender::default(), attached: None, done: None }
        })
    }
}

/// The access of an attachment's task to its slot, while the slot holds this attachment. Dropping it reports the end of the
/// attachment, however the task ends.
struct Report {
    inner: Arc<Inner>,
    id: ServerId,
    commands: mpsc::WeakSender<Command>,
}

impl Report {
    /// Changes the slot and wakes the server.
    fn send(&self, change: impl FnOnce(&mut Slot)) {
        let mut slots = self.inner.slots();
        let own = |slot: &Slot| {
            let commands = self.commands.upgrade();
            slot.attached.as_ref().zip(commands).is_some_and(|(own, commands)| own.commands.same_channel(&commands))
        };
        let Some(slot) = slots.get_mut(&self.id).filter(|slot| own(slot)) else { return };
        change(slot);
        drop(slots);
        (self.inner.wake)(self.id);
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        self.send(|slot| slot.attached = None);
    }
}

fn drop_attachment(attached: Option<Attached>) {
    if let Some(attached) = attached {
        attached.task.abort();
    }
}

#[cfg(test)]
mod tests;
