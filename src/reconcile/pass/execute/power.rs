//! Steps of a server's container: made, started, stopped, attached, judged.

use std::time::Duration;

use super::{Done, Reconciler, StepError};
use crate::model::record::{AppliedLimits, Serving};
use crate::model::{Crash, Handled, Reason, Role, ServerId, Timestamp};
use crate::reconcile::observed::{JobState, StopProgress};
use crate::reconcile::step::{Step, StopMethod};
use crate::runtime::{Purpose, Removal, RuntimeError, Signal};

/// A terminal that was opened so short ago is not opened again at once.
const REOPEN_AFTER: Duration = Duration::from_secs(1);
/// A removal that is under way is looked at again after this, should the event of its end be lost.
const REMOVAL_CHECK: Duration = Duration::from_secs(3);
/// A server whose stop signal the engine refuses is killed after this.
const REFUSED_GRACE: Duration = Duration::from_secs(1);

impl Reconciler {
    pub(super) async fn kill(&self, id: ServerId, container: &str, role: Role) -> Done {
        let now = self.context.clock.now();
        self.context.with_server(id, |state| {
            state.invalidate();
            // Its own memory: that the server was stopped for the installation is still to be known after it.
            let stop = match role {
                Role::Server => &mut state.stop,
                Role::Installer => &mut state.installer_stop,
            };
            let begun = stop.take().filter(|stop| stop.container == container);
            let mut progress = begun.unwrap_or_else(|| StopProgress {
                container: container.to_owned(),
                sent_at: now,
                deadline: now,
                killed_at: None,
            });
            progress.killed_at = Some(now);
            *stop = Some(progress);
        });
        self.context.runtime.signal(container, Signal::Kill.name()).await?;
        Ok(true)
    }

    pub(super) async fn remove_server(&self, id: ServerId, container: &str) -> Done {
        self.context.with_server(id, |state| state.server.invalidate());
        let removal = self.context.runtime.remove(container).await?;
        self.context.with_server(id, |state| state.server.invalidate());
        Ok(self.is_removed(id, removal))
    }

    /// Whether a removal is done. Of one that is under way the event will tell.
    pub(super) fn is_removed(&self, id: ServerId, removal: Removal) -> bool {
        if removal == Removal::UnderWay {
            let at = self.context.clock.now() + REMOVAL_CHECK;
            self.context.with_server(id, |state| state.requeue_at = Some(at));
        }
        removal == Removal::Done
    }

    pub(super) async fn create_server(&self, id: ServerId, token: &str) -> Done {
        let Some(snapshot) = self.context.store.get(id) else { return Ok(false) };
        let Some(built) = self.built(&snapshot) else { return Ok(false) };
        let built = self.context.runtime.resolve(id, built).await?;
        for omission in &built.omissions {
            self.context.store.event(id, self.context.clock.now(), Reason::LeftOut, &omission.to_string());
        }
        let purpose = Purpose { server: id, role: Role::Server, token: token.to_owned() };
        self.create(id, &built.spec, &purpose).await
    }

    pub(super) async fn assign(&self, id: ServerId, container: &str, power: &str) -> Done {
        let serving = Serving { container: container.to_owned(), power: power.to_owned() };
        self.commit(id, move |record| record.power.serving = Some(serving)).await
    }

    pub(super) async fn start_server(&self, id: ServerId, container: &str, _power: &str) -> Done {
        // Attached first, so that not a line is missed.
        self.attach(id, container, false).await?;
        self.context.with_server(id, |state| {
            state.server.invalidate();
            state.seen_running = Some(container.to_owned());
        });
        if let Err(error) = self.context.runtime.start(container).await {
            if !error.is_outage() {
                self.context.console.detach(id);
            }
            return Err(error.into());
        }
        self.context.with_server(id, |state| state.server.invalidate());
        Ok(true)
    }

    /// Opens the terminal of a container that is taken for running. That it was closed may be the first sign that the container
    /// has ended, so it is looked at afterwards; one that is closed again at once is left alone for a moment.
    pub(super) async fn reattach(&self, id: ServerId, container: &str, replay: bool) -> Done {
        let now = self.context.clock.now();
        let again = self.context.with_server(id, |state| {
            let before = state.reopened.replace((container.to_owned(), now));
            before.is_some_and(|(before, at)| before == container && now.since(at) < REOPEN_AFTER)
        });
        if again {
            self.context.with_server(id, |state| state.server.invalidate());
            return Err(StepError::Other(
                "the terminal of the running container was closed as soon as it was opened".into(),
            ));
        }
        let attached = self.attach(id, container, replay).await;
        self.context.with_server(id, |state| state.server.invalidate());
        attached
    }

    pub(super) async fn attach(&self, id: ServerId, container: &str, replay: bool) -> Done {
        let Some(snapshot) = self.context.store.get(id) else { return Ok(false) };
        let Some(manifest) = &snapshot.manifest else { return Ok(false) };
        let started = snapshot.record.power.started.as_deref() == Some(container);
        let startup = (!started).then_some(&manifest.spec.process.startup);
        self.context.console.attach(id, container, startup, &self.context.layout.logs(id), replay).await?;
        Ok(true)
    }

    pub(super) async fn stop(&self, id: ServerId, container: &str, method: &StopMethod, grace: Duration) -> Done {
        let now = self.context.clock.now();
        let sent = match method {
            StopMethod::Command(command) => match self.context.console.send_command(id, command).await {
                Ok(()) => Ok(()),
                Err(error) => {
                    tracing::warn!(server.id = %id, "the stop command cannot be typed ({error}); the image's stop signal is sent");
                    self.signal_native(id, container).await
                }
            },
            StopMethod::Signal(signal) => self.context.runtime.signal(container, signal).await,
            StopMethod::Native => self.signal_native(id, container).await,
            StopMethod::Kill => self.context.runtime.signal(container, Signal::Kill.name()).await,
        };
        match sent {
            // Nothing was sent that could have been heard; what the engine refuses it will refuse again, and the deadline
            // brings SIGKILL.
            Err(error) if !error.is_outage() => {
                tracing::warn!(server.id = %id, "the engine refuses the server's stop ({error}); it is killed in a moment");
                self.note_stop(id, container, now, REFUSED_GRACE, None);
                return Ok(true);
            }
            sent => sent?,
        }
        let killed_at = (*method == StopMethod::Kill).then_some(now);
        self.note_stop(id, container, now, grace, killed_at);
        Ok(true)
    }

    pub(super) fn note_stop(
        &self,
        id: ServerId,
        container: &str,
        now: Timestamp,
        grace: Duration,
        killed_at: Option<Timestamp>,
    ) {
        let stop = StopProgress { container: container.to_owned(), sent_at: now, deadline: now + grace, killed_at };
        self.context.with_server(id, |state| {
            state.server.invalidate();
            state.stop = Some(stop);
        });
    }

    pub(super) async fn signal_native(&self, id: ServerId, container: &str) -> Result<(), RuntimeError> {
        let facts = self.context.with_server(id, |state| state.server.fresh().cloned().flatten());
        let asked = match facts.and_then(|facts| facts.stop_signal) {
            None => return self.context.runtime.signal(container, Signal::Terminate.name()).await,
            Some(signal) => self.context.runtime.signal(container, &signal).await,
        };
        match asked {
            // An image may name a signal that there is not; Docker's own stop then sends this one.
            Err(error) if !error.is_outage() => self.context.runtime.signal(container, Signal::Terminate.name()).await,
            sent => sent,
        }
    }

    pub(super) async fn update_limits(&self, id: ServerId, container: &str) -> Done {
        let Some(snapshot) = self.context.store.get(id) else { return Ok(false) };
        let Some(limits) = self.built(&snapshot).map(|built| built.spec.limits) else { return Ok(false) };
        // Unknown while they are changed: a daemon that dies meanwhile puts them in force again.
        let changed = |hash| AppliedLimits { container: container.to_owned(), hash };
        let unknown = changed(None);
        self.commit(id, move |record| record.power.limits = Some(unknown)).await?;
        self.context.runtime.update(container, &limits).await?;
        let known = changed(Some(limits.hash()));
        self.commit(id, move |record| record.power.limits = Some(known)).await?;
        self.context.store.event(
            id,
            self.context.clock.now(),
            Reason::LimitsUpdated,
            "the running server has its new limits",
        );
        Ok(true)
    }

    pub(super) async fn record_started(&self, id: ServerId, container: &str) -> Done {
        let container = container.to_owned();
        self.commit(id, move |record| {
            record.power.started = Some(container);
            record.synced_for = None;
        })
        .await?;
        self.forget_start_jobs(id);
        Ok(true)
    }

    /// The next start asks the panel and the registry again, although this one was never seen to finish.
    pub(super) async fn end_start(&self, id: ServerId) -> Done {
        if self.context.store.get(id).is_some_and(|snapshot| snapshot.record.synced_for.is_some()) {
            self.commit(id, |record| record.synced_for = None).await?;
        }
        self.forget_start_jobs(id);
        Ok(true)
    }

    fn forget_start_jobs(&self, id: ServerId) {
        self.context.with_server(id, |state| {
            state.jobs.retain(|run| !run.job.kind.belongs_to_start() || run.job.state == JobState::Running);
        });
    }

    pub(super) async fn record_crash(&self, id: ServerId, step: &Step) -> Done {
        let Step::RecordCrash { container, exit_code, oom_killed, restart, power, sequence, verb, reason, message } =
            step.clone()
        else {
            return Ok(false);
        };
        let at = self.context.clock.now();
        let crash = Crash { container, at, exit_code, oom_killed, restarted: restart };
        let (noted, closed) = (crash.clone(), message.clone());
        let recorded = self.commit(id, move |record| {
            record.push_crash(noted);
            if !restart {
                let handled = Handled { sequence, id: power, verb, reason, message: closed, at };
                record.power.handled = Some(handled);
            }
        });
        match recorded.await {
            Ok(_) => {}
            // A server comes back although the disk is full; that it crashed is kept in memory.
            Err(StepError::Store(error)) if restart && error.is_full_disk() => {
                tracing::warn!(server.id = %id, "a crash is not written down: {error}");
                self.context.with_server(id, |state| state.crash = Some(crash));
            }
            Err(error) => return Err(error),
        }
        self.context.console.announce(id, "---------- Detected server process in a crashed state! ----------");
        self.context.console.announce(id, &format!("Exit code: {exit_code}"));
        self.context.console.announce(id, &format!("Out of memory: {oom_killed}"));
        if !restart {
            self.context.console.announce(id, &format!("Aborting automatic restart: {message}"));
        }
        self.context.store.event(id, at, reason, &message);
        Ok(true)
    }

    pub(super) async fn close_power(&self, id: ServerId, handled: Handled) -> Done {
        if handled.reason != Reason::Stopped {
            self.context.store.event(id, handled.at, handled.reason, &handled.message);
        }
        self.commit(id, move |record| record.power.handled = Some(handled)).await
    }
}
