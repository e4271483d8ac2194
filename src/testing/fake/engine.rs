//! The fake machine: a handle that survives restarts of the daemon, what other programs and people do on the machine, and what
//! happened on it.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::calls::{Counts, Ended, Entry, Violation};
use super::images::{LocalImage, Pulls, RemoteImage, canonical};
use super::program::{Launch, Program};
use super::state::State;
use crate::model::{ContainerState, Role, ServerId, Timestamp};
use crate::runtime::{ContainerSpec, Limits};
use crate::testing::container_spec;

/// Default start time of a machine, milliseconds since the Unix epoch.
pub const EPOCH: i64 = 1_750_000_000_000;

type Hook = Arc<dyn Fn(&FakeEngine, &Ended) + Send + Sync>;

/// The fake machine: containers, images and networks. Cheap to clone; all clones are the same machine.
///
/// It follows the (paused) clock of the tokio runtime in which it is made. Actions that are due run with the next call, or in a
/// driver task that sleeps until the next one and ends when none is scheduled.
#[derive(Clone)]
pub struct FakeEngine {
    inner: Arc<Inner>,
}

struct Inner {
    began: Instant,
    epoch: Timestamp,
    state: Mutex<State>,
    hook: Mutex<Option<Hook>>,
    /// Notified when a container hangs or recovers, and when the engine stops or starts.
    pub(super) outside: Arc<Notify>,
    driver: Mutex<Option<Driver>>,
    /// Wakes the driver for an earlier action.
    sooner: Arc<Notify>,
}

/// The task that runs due actions, and the time of the next one.
struct Driver {
    task: JoinHandle<()>,
    due: Duration,
}

/// Locks, also after a test has panicked under the lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for FakeEngine {
    fn default() -> Self {
        Self::new(Timestamp::from_millis(EPOCH))
    }
}

impl FakeEngine {
    /// An empty machine whose clock shows this time.
    pub fn new(epoch: Timestamp) -> Self {
        let inner = Inner {
            began: Instant::now(),
            epoch,
            state: Mutex::new(State::new()),
            hook: Mutex::new(None),
            outside: Arc::new(Notify::new()),
            driver: Mutex::new(None),
            sooner: Arc::new(Notify::new()),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The machine's time.
    pub fn now(&self) -> Timestamp {
        self.inner.epoch + self.inner.began.elapsed()
    }

    pub(super) fn timestamp(&self, at: Duration) -> Timestamp {
        self.inner.epoch + at
    }

    pub(super) fn instant(&self, at: Duration) -> Instant {
        self.inner.began + at
    }

    /// The next notification of `outside`, from now on.
    pub(super) fn outside(&self) -> Pin<Box<OwnedNotified>> {
        let mut notified = Box::pin(self.inner.outside.clone().notified_owned());
        notified.as_mut().enable();
        notified
    }

    /// Runs due actions, then `act`, then the hook, and wakes the driver.
    pub(super) fn with<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        self.settle();
        let result = act(&mut lock(&self.inner.state));
        self.settle();
        self.drive();
        result
    }

    /// Runs due actions, and the hook for containers that ended, without the lock.
    fn settle(&self) {
        let ended = {
            let mut state = lock(&self.inner.state);
            state.advance(self.inner.began.elapsed());
            std::mem::take(&mut state.ended)
        };
        if ended.is_empty() {
            return;
        }
        let hook = lock(&self.inner.hook).clone();
        if let Some(hook) = hook {
            ended.iter().for_each(|ended| hook(self, ended));
        }
    }

    /// Makes sure that the driver wakes up for the next action.
    fn drive(&self) {
        let Some(due) = lock(&self.inner.state).next_due() else {
            return;
        };
        let mut driver = lock(&self.inner.driver);
        match driver.as_ref().filter(|driver| !driver.task.is_finished()) {
            Some(driver) if driver.due <= due => {}
            Some(_) => self.inner.sooner.notify_one(),
            None => {
                let Ok(runtime) = Handle::try_current() else {
                    return;
                };
                let engine = Arc::downgrade(&self.inner);
                let task = runtime.spawn(drive(engine, self.inner.sooner.clone()));
                *driver = Some(Driver { task, due });
            }
        }
    }

    /// Sets the program of an image's containers; it wins over [`FakeEngine::choose_programs`].
    pub fn set_program(&self, image: &str, program: Program) {
        self.with(|state| state.programs.insert(canonical(image), program));
    }

    /// Chooses the program at each start. The chooser runs under the lock: it must not use the machine.
    pub fn choose_programs(&self, chooser: impl Fn(&Launch<'_>) -> Program + Send + Sync + 'static) {
        self.with(|state| state.chooser = Arc::new(chooser));
    }

    /// Calls `hook` at the end of each container, without the lock; on a current-thread runtime no task observes the end before. The
    /// hook gets the machine, since one that owned it would never be dropped.
    pub fn on_end(&self, hook: impl Fn(&FakeEngine, &Ended) + Send + Sync + 'static) {
        *lock(&self.inner.hook) = Some(Arc::new(hook));
    }

    /// Puts an image on the machine.
    pub fn add_image(&self, reference: &str, image: LocalImage) {
        self.with(|state| state.images.local.insert(canonical(reference), image));
    }

    /// Takes an image from the machine.
    pub fn remove_image(&self, reference: &str) {
        self.with(|state| state.images.local.remove(&canonical(reference)));
    }

    /// Puts an image into the registry.
    pub fn publish_image(&self, reference: &str, image: RemoteImage) {
        self.with(|state| state.images.remote.insert(canonical(reference), image));
    }

    /// Whether the registry answers.
    pub fn set_registry_up(&self, up: bool) {
        self.with(|state| state.images.registry_up = up);
    }

    /// The pulls of an image so far.
    pub fn pulls(&self, reference: &str) -> Pulls {
        self.with(|state| state.images.pulls.get(&canonical(reference)).copied().unwrap_or_default())
    }

    /// Whether bind mounts need a source on the real disk; they do at first.
    pub fn set_checks_mounts(&self, checks: bool) {
        self.with(|state| state.checks_mounts = checks);
    }

    /// Another program of the machine binds a port, or releases it.
    pub fn set_port_taken(&self, address: &str, port: u16, taken: bool) {
        let socket = (address.to_owned(), port);
        self.with(|state| if taken { state.taken_ports.insert(socket) } else { state.taken_ports.remove(&socket) });
    }

    /// Kills a container by name, as `docker kill` does; `false` if it does not run.
    pub fn kill_outside(&self, name: &str) -> bool {
        self.interfere("kill outside", name, |state| state.signal(name, "SIGKILL").unwrap_or(false))
    }

    /// Removes a container by name, as `docker rm -f` does; `false` if there is none.
    pub fn remove_outside(&self, name: &str) -> bool {
        self.interfere("remove outside", name, |state| state.remove(name))
    }

    /// Renames a container, as `docker rename` does; `false` if there is none or the name is taken.
    pub fn rename_outside(&self, name: &str, new: &str) -> bool {
        self.interfere("rename outside", name, |state| {
            let free = state.find(new).is_none();
            let renamed = state.find_mut(name).filter(|_| free).map(|container| container.name = new.to_owned());
            renamed.is_some()
        })
    }

    /// Starts another container like this one, with its labels; `false` if that fails.
    pub fn copy_outside(&self, name: &str, new: &str) -> bool {
        self.interfere("copy outside", name, |state| {
            let Some(container) = state.find(name) else { return false };
            let (spec, purpose) =
                (ContainerSpec { name: new.to_owned(), ..container.spec.clone() }, container.purpose.clone());
            state.add(&spec, purpose.as_ref(), None);
            state.start(new).is_ok()
        })
    }

    /// Starts a container by name, as `docker start` does; `false` if that fails.
    pub fn start_outside(&self, name: &str) -> bool {
        self.interfere("start outside", name, |state| state.start(name).is_ok())
    }

    /// Creates a container without our labels. `None` if the name is taken.
    pub fn create_foreign(&self, name: &str) -> Option<String> {
        self.with(|state| {
            let free = state.find(name).is_none();
            state.call_log.note(state.now, "create outside", name, None, free);
            free.then(|| state.add(&container_spec(name, "foreign:latest"), None, None))
        })
    }

    fn interfere(&self, call: &'static str, name: &str, act: impl FnOnce(&mut State) -> bool) -> bool {
        self.with(|state| {
            let done = act(state);
            state.call_log.note(state.now, call, name, None, done);
            done
        })
    }

    /// Moves the engine to another machine than the daemon's, or back.
    pub fn set_remote(&self, remote: bool) {
        self.with(|state| state.remote = remote);
    }

    /// How often the counters of a container were read without a call of the engine.
    pub fn meter_reads(&self) -> u64 {
        self.with(|state| state.meter_reads)
    }

    /// Stops or starts the engine. While it is stopped, every call fails as unreachable, and all streams have ended.
    pub fn set_engine_up(&self, up: bool) {
        self.with(|state| state.set_up(up));
        self.inner.outside.notify_waiters();
    }

    /// The engine shuts down: its containers have ended, and it answers on open connections but accepts no new ones, until
    /// [`FakeEngine::set_engine_up`].
    pub fn go_down(&self) {
        self.with(State::go_down);
    }

    /// Whether it is still shutting down.
    pub fn goes_down(&self) -> bool {
        self.with(|state| state.goes_down)
    }

    /// Whether containers outlive the engine; at first they do not.
    pub fn set_live_restore(&self, on: bool) {
        self.with(|state| state.live_restore = on);
    }

    /// Installers' logs are rotated from now on: the last so many bytes of each are kept.
    pub fn set_kept_log(&self, bytes: Option<usize>) {
        self.with(|state| state.kept_log = bytes);
    }

    /// Calls about the container of this name hang until their time limit, or until it no longer hangs.
    pub fn hang(&self, name: &str, hangs: bool) {
        self.with(|state| if hangs { state.hanging.insert(name.into()) } else { state.hanging.remove(name) });
        self.inner.outside.notify_waiters();
    }

    /// Sends a line to a container as an attachment does; `false` if it does not run.
    pub fn send_command(&self, name: &str, line: &str) -> bool {
        self.with(|state| {
            let Some(id) = state.find(name).filter(|found| found.running()).map(|found| found.id.clone()) else {
                return false;
            };
            state.type_in(&id, format!("{line}\n").as_bytes())
        })
    }

    /// A container's state, without the runtime and its faults; `None` if there is none.
    pub fn state_of(&self, name: &str) -> Option<ContainerState> {
        self.with(|state| state.find(name).map(|found| found.phase.state()))
    }

    /// Whether a container is frozen.
    pub fn is_frozen(&self, name: &str) -> bool {
        self.with(|state| state.find(name).is_some_and(|container| container.frozen.is_some()))
    }

    /// The applied limits of a container.
    pub fn limits_of(&self, name: &str) -> Option<Limits> {
        self.with(|state| state.find(name).map(|found| found.limits.clone()))
    }

    /// Names of all containers, ours or not, in the order in which they were made.
    pub fn container_names(&self) -> Vec<String> {
        self.with(|state| state.containers.values().map(|container| container.name.clone()).collect())
    }

    /// The kept output of a container.
    pub fn printed(&self, name: &str) -> String {
        let printed = |state: &mut State| state.find(name).map(|found| found.log.all());
        String::from_utf8_lossy(&self.with(printed).unwrap_or_default()).into_owned()
    }

    /// Attachments to a container that are open.
    pub fn attachments(&self, name: &str) -> usize {
        self.with(|state| state.find(name).map_or(0, |found| found.attachments()))
    }

    /// What happened so far, oldest first.
    pub fn history(&self) -> Vec<Entry> {
        self.with(|state| state.call_log.history.iter().cloned().collect())
    }

    /// Calls that reached the engine, by name.
    pub fn calls(&self) -> BTreeMap<&'static str, u64> {
        self.with(|state| state.call_log.calls.clone())
    }

    /// How often things were done for one role of a server.
    pub fn counts(&self, server: ServerId, role: Role) -> Counts {
        self.with(|state| state.call_log.counts.get(&(server, role)).copied().unwrap_or_default())
    }

    /// The counts of all servers.
    pub fn all_counts(&self) -> BTreeMap<(ServerId, Role), Counts> {
        self.with(|state| state.call_log.counts.clone())
    }

    /// Events that must never happen and did.
    pub fn violations(&self) -> Vec<Violation> {
        self.with(|state| state.call_log.violations.clone())
    }
}

/// Runs actions when they are due, and ends when none is scheduled.
async fn drive(engine: Weak<Inner>, sooner: Arc<Notify>) {
    loop {
        let due = {
            let Some(inner) = engine.upgrade() else { return };
            let engine = FakeEngine { inner };
            engine.settle();
            // Decided under the driver's lock, so that the next call that schedules an action starts a new driver.
            let mut driver = lock(&engine.inner.driver);
            let Some(due) = lock(&engine.inner.state).next_due() else {
                *driver = None;
                return;
            };
            if let Some(driver) = driver.as_mut() {
                driver.due = due;
            }
            engine.instant(due)
        };
        tokio::select! {
            () = tokio::time::sleep_until(due) => {}
            () = sooner.notified() => {}
        }
    }
}
