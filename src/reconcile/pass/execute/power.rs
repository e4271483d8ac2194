//! Steps of a server's container: creation, start, stop, terminal, limits.

use std::time::Duration;

use super::{Context, Done, StepError, ports};
use crate::console::Features;
use crate::model::record::{AppliedLimits, Serving};
use crate::model::{Handled, Reason, Role, ServerId};
use crate::reconcile::pass::observe::built;
use crate::reconcile::server_state::StopOutcome;
use crate::reconcile::step::StopMethod;
use crate::runtime::{Removal, RuntimeError};
use crate::wait;

impl Context {
    pub(super) async fn kill(&self, id: ServerId, container: &str, role: Role) -> Done {
        self.servers.killing(id, role, container);
        self.runtime.signal(container, "SIGKILL").await?;
        Ok(())
    }

    pub(super) async fn remove_server(&self, id: ServerId, container: &str) -> Result<bool, StepError> {
        let seen = self.servers.cached(id, Role::Server).flatten();
        if seen.is_some_and(|seen| seen.others.iter().any(|other| other == container)) {
            let message =
                format!("removing the container {container}, which runs on the same files as the server's own");
            self.event(id, Reason::DuplicateContainer, &message);
        }
        self.servers.container_changed(id, Role::Server);
        let removal = self.runtime.remove(container).await?;
        self.servers.container_changed(id, Role::Server);
        Ok(self.is_removed(id, removal))
    }

    /// Whether a removal is done. One that is under way ends with an event.
    pub(super) fn is_removed(&self, id: ServerId, removal: Removal) -> bool {
        if removal == Removal::UnderWay {
            self.servers.removal_under_way(id);
        }
        removal == Removal::Done
    }

    pub(super) async fn create_server(&self, id: ServerId, token: &str) -> Done {
        let Some(snapshot) = self.store.get(id) else { return Ok(()) };
        let Some(built) = built(self.runtime.as_ref(), &self.node.config, &snapshot) else { return Ok(()) };
        self.create(id, Role::Server, token, built).await
    }

    pub(super) async fn assign(&self, id: ServerId, container: &str, power: &str) -> Done {
        let serving = Serving { container: container.to_owned(), power: power.to_owned() };
        self.commit(id, move |record| record.power.serving = Some(serving)).await
    }

    pub(super) async fn start_server(&self, id: ServerId, container: &str) -> Done {
        // Attached before the start, so that no line is missed.
        self.attach(id, container, false).await?;
        self.servers.starting(id, Role::Server, container);
        if let Err(error) = self.runtime.start(container).await {
            if error.is_outage() {
                return Err(error.into());
            }
            self.console.detach(id);
            return Err(match ports::holder(self, id) {
                Some(holder) => RuntimeError::with_message(error.kind, format!("{error}; {holder}")),
                None => error,
            }
            .into());
        }
        self.servers.container_changed(id, Role::Server);
        Ok(())
    }

    /// Attaches the terminal of a container that counts as running. A closed terminal may be the first sign that the container has
    /// ended, so the container is inspected afterwards. A terminal that is closed again at once is retried later.
    pub(super) async fn reattach(&self, id: ServerId, container: &str, replay: bool) -> Done {
        let attached = if self.servers.reattaching(id, container) {
            let message = "the terminal of the running container was closed as soon as it was attached";
            Err(StepError::Other(message.into()))
        } else {
            self.attach(id, container, replay).await
        };
        self.servers.container_changed(id, Role::Server);
        attached
    }

    async fn attach(&self, id: ServerId, container: &str, replay: bool) -> Done {
        let Some(snapshot) = self.store.get(id) else { return Ok(()) };
        let Some(manifest) = &snapshot.manifest else { return Ok(()) };
        let started = snapshot.record.power.started.as_deref() == Some(container);
        let startup = (!started).then_some(&manifest.spec.process.startup);
        let features = Features {
            texts: manifest.spec.settings.egg.features.clone(),
            strip_ansi: manifest.spec.process.startup.strip_ansi,
        };
        self.console.match_features(id, &features);
        let transcripts = self.node.layout.logs(id);
        self.console.attach(id, container, startup, &transcripts, replay).await?;
        Ok(())
    }

    pub(super) async fn stop(&self, id: ServerId, container: &str, method: &StopMethod, grace: Duration) -> Done {
        let sent = match method {
            StopMethod::Command(command) => match self.console.send_command(id, command).await {
                Ok(()) => Ok(()),
                Err(error) => {
                    tracing::warn!(%error, "cannot send the stop command; sending the image's stop signal");
                    self.signal_native(id, container).await
                }
            },
            StopMethod::Signal(signal) => self.runtime.signal(container, signal).await,
            StopMethod::Native => self.signal_native(id, container).await,
            StopMethod::Kill => self.runtime.signal(container, "SIGKILL").await,
        };
        let (grace, outcome) = match sent {
            // The container got no signal, and the engine would reject another attempt, too. After the deadline it gets SIGKILL.
            Err(error) if !error.is_outage() => {
                tracing::warn!(%error, "the engine rejected the server's stop; killing it in a moment");
                (wait::REJECTED_STOP, StopOutcome::Rejected)
            }
            sent => {
                sent?;
                (grace, if *method == StopMethod::Kill { StopOutcome::Killed } else { StopOutcome::Sent })
            }
        };
        self.servers.stop_sent(id, container, grace, outcome);
        Ok(())
    }

    async fn signal_native(&self, id: ServerId, container: &str) -> Result<(), RuntimeError> {
        let runtime = &self.runtime;
        let cached = self.servers.cached(id, Role::Server).flatten();
        if let Some(signal) = cached.and_then(|status| status.stop_signal) {
            match runtime.signal(container, &signal).await {
                // An image may name a signal that does not exist. Docker's own stop sends SIGTERM then.
                Err(error) if !error.is_outage() => {}
                sent => return sent,
            }
        }
        runtime.signal(container, "SIGTERM").await
    }

    /// `boost`: those of the start-up, if they are others.
    pub(super) async fn update_limits(&self, id: ServerId, container: &str, boost: bool) -> Done {
        let Some(snapshot) = self.store.get(id) else { return Ok(()) };
        let Some(built) = built(self.runtime.as_ref(), &self.node.config, &snapshot) else { return Ok(()) };
        let limits = built.spec.start_limits.filter(|_| boost).unwrap_or(built.spec.limits);
        // Unknown while they are changed: after a crash of the daemon they are applied again.
        let changed = |hash| AppliedLimits { container: container.to_owned(), hash };
        let unknown = changed(None);
        self.commit(id, move |record| record.power.limits = Some(unknown)).await?;
        self.runtime.update(container, &limits).await?;
        let known = changed(Some(limits.hash()));
        self.commit(id, move |record| record.power.limits = Some(known)).await?;
        self.event(id, Reason::LimitsUpdated, "the running server has its new limits");
        Ok(())
    }

    /// The next start asks the panel and the registry again. `started` is the container whose start-up was seen to finish.
    pub(super) async fn end_start(&self, id: ServerId, started: Option<String>) -> Done {
        self.commit(id, move |record| {
            record.synced_for = None;
            record.power.started = started.or(record.power.started.take());
        })
        .await?;
        self.servers.start_ended(id);
        Ok(())
    }

    pub(super) async fn close_power(&self, id: ServerId, handled: Handled) -> Done {
        if handled.reason != Reason::Stopped {
            self.store.event(id, handled.at, handled.reason, &handled.message);
        }
        self.commit(id, move |record| record.power.handled = Some(handled)).await
    }
}
