//! Doing steps. Each does what its name says and nothing else; whether it should be done was decided by the planner.

use std::time::Duration;

use super::{Reconciler, StepError};
use crate::files::install_log;
use crate::model::record::Serving;
use crate::model::{Closed, Crash, InstallOutcome, InstallResult, ManagedBy, Record, Role, ServerId, Want};
use crate::panel::outbox::Fact;
use crate::reconcile::jobs;
use crate::reconcile::observed::{JobKind, StopProgress};
use crate::reconcile::step::{Step, StopMethod};
use crate::runtime::blueprint;
use crate::runtime::{Purpose, RuntimeError, Signal};
use crate::store::StoreError;

type Done = Result<bool, StepError>;

impl Reconciler {
    /// Does one step. `false` says that it changed nothing, so that a new plan would be the same.
    pub(super) async fn execute(&self, id: ServerId, step: &Step) -> Done {
        match step {
            Step::Accept => self.accept(id).await,
            Step::TakeInstallSlot => Ok(self.world.slots.take(id)),
            Step::ReleaseInstallSlot => Ok(self.release_slot(id)),
            Step::Prepare => self.prepare(id).await,
            Step::StartJob { job, subject } => {
                jobs::start(&self.world, id, *job, subject);
                Ok(true)
            }
            Step::WriteScript { token } => self.write_script(id, token).await,
            Step::CreateInstaller { token } => self.create_installer(id, token).await,
            Step::StartInstaller { container } => self.start_installer(id, container).await,
            Step::Kill { container } => self.kill(id, container).await,
            Step::CloseInstallLog { container, .. } => {
                jobs::close_install_log(&self.world, id, container).await.map_err(StepError::Other)?;
                Ok(true)
            }
            Step::RecordInstall { token, outcome, exit_code, reason, message } => {
                self.record_install(id, token, *outcome, *exit_code, reason, message).await
            }
            Step::RemoveInstaller { container } => self.remove_installer(id, container).await,
            Step::RemoveServer { container } => self.remove_server(id, container).await,
            Step::CreateServer { token } => self.create_server(id, token).await,
            Step::Assign { container, power } => self.assign(id, container, power).await,
            Step::StartServer { container, power } => self.start_server(id, container, power).await,
            Step::Attach { container, replay } => self.attach(id, container, *replay).await,
            Step::Stop { container, method, grace } => self.stop(id, container, method, *grace).await,
            Step::UpdateLimits { container } => self.update_limits(id, container).await,
            Step::RecordBegun { power } => {
                let power = power.clone();
                self.commit(id, move |record| record.power.begun = Some(power)).await
            }
            Step::RecordStarted { container } => {
                let container = container.clone();
                self.commit(id, move |record| record.power.started = Some(container)).await
            }
            Step::RecordCrash { .. } => self.record_crash(id, step).await,
            Step::ClosePower { power, want, reason, message } => {
                self.close_power(id, power, *want, reason, message).await
            }
            Step::Quiesce => Ok(self.quiesce(id)),
            Step::Forget => self.forget(id).await,
        }
    }

    async fn commit(&self, id: ServerId, edit: impl FnOnce(&mut Record) + Send + 'static) -> Done {
        self.world.store.run(move |store| store.commit(id, edit)).await?;
        Ok(true)
    }

    async fn accept(&self, id: ServerId) -> Done {
        self.world.store.run(move |store| store.refresh(id)).await?;
        Ok(true)
    }

    fn release_slot(&self, id: ServerId) -> bool {
        for next in self.world.slots.release(id) {
            (self.world.wake)(next);
        }
        true
    }

    async fn prepare(&self, id: ServerId) -> Done {
        let layout = self.world.layout.clone();
        self.world.store.blocking().run(move || layout.prepare(id)).await?;
        self.world.with_live(id, |live| live.prepared = true);
        Ok(true)
    }

    async fn write_script(&self, id: ServerId, token: &str) -> Done {
        let Some(snapshot) = self.world.store.get(id) else { return Ok(false) };
        let Some(manifest) = snapshot.manifest.clone() else { return Ok(false) };
        let Some(script) = manifest.spec.script.clone() else { return Ok(false) };
        let facts = self.blueprint_facts(&snapshot).await;
        let built = blueprint::installer_container(id, &manifest.spec, &script, &self.world.node, &facts);
        let (layout, kernel) = (self.world.layout.clone(), self.world.kernel.clone());
        let fresh = !matches!(self.world.with_live(id, |live| live.installer.fresh().cloned()), Some(Some(_)));
        let written = self.world.store.blocking().run(move || {
            layout.write_script(id, &script.text)?;
            if !fresh {
                return Ok(());
            }
            let header = install_log::LogHeader {
                image: &script.image,
                entrypoint: &script.entrypoint,
                kernel: &kernel,
                environment: &built.spec.environment,
            };
            install_log::begin(&layout, id, &header)
        });
        written.await.map_err(StepError::Files)?;
        self.world.with_live(id, |live| live.script_ready = Some(token.to_owned()));
        Ok(true)
    }

    async fn create_installer(&self, id: ServerId, token: &str) -> Done {
        let Some(snapshot) = self.world.store.get(id) else { return Ok(false) };
        let Some(manifest) = snapshot.manifest.clone() else { return Ok(false) };
        let Some(script) = &manifest.spec.script else { return Ok(false) };
        let facts = self.blueprint_facts(&snapshot).await;
        let built = blueprint::installer_container(id, &manifest.spec, script, &self.world.node, &facts);
        let purpose = Purpose { server: id, role: Role::Installer, token: token.to_owned() };
        self.world.with_live(id, |live| live.installer.spoil());
        self.world.runtime.create(&built.spec, &purpose).await?;
        Ok(true)
    }

    async fn start_installer(&self, id: ServerId, container: &str) -> Done {
        self.world.with_live(id, |live| live.installer.spoil());
        if let Err(error) = self.world.runtime.start(container).await {
            self.mend_network(&error).await;
            return Err(error.into());
        }
        self.world.with_live(id, |live| live.installer.spoil());
        self.world.store.event(id, self.world.clock.now(), "InstallStarted", "the install script is running");
        Ok(true)
    }

    async fn kill(&self, id: ServerId, container: &str) -> Done {
        let now = self.world.clock.now();
        self.world.with_live(id, |live| {
            live.spoil();
            let begun = live.stop.take().filter(|stop| stop.container == container);
            let mut stop = begun.unwrap_or_else(|| StopProgress {
                container: container.to_owned(),
                sent_at: now,
                deadline: now,
                killed_at: None,
            });
            stop.killed_at = Some(now);
            live.stop = Some(stop);
        });
        self.world.runtime.signal(container, Signal::Kill.name()).await?;
        Ok(true)
    }

    async fn record_install(
        &self,
        id: ServerId,
        token: &str,
        outcome: InstallOutcome,
        exit_code: Option<i64>,
        reason: &str,
        message: &str,
    ) -> Done {
        let Some(manifest) = self.world.store.get(id).and_then(|snapshot| snapshot.manifest.clone()) else {
            return Ok(false);
        };
        let install = manifest.spec.install.as_ref().filter(|install| install.token == token);
        let Some(install) = install else { return Ok(false) };
        let told = self.world.panel.is_some() && manifest.metadata.managed_by == ManagedBy::Panel;
        let result = InstallResult {
            token: token.to_owned(),
            outcome,
            reinstall: install.reinstall,
            exit_code,
            reason: reason.to_owned(),
            message: message.to_owned(),
            at: self.world.clock.now(),
            reported: !told,
        };
        let fact = told.then(|| Fact::InstallResult {
            server: id,
            token: token.to_owned(),
            successful: outcome == InstallOutcome::Succeeded,
            reinstall: install.reinstall,
            at: result.at,
        });
        self.world.store.event(id, result.at, &format!("Install{reason}"), message);
        let outbox = self.world.outbox.clone();
        let recorded = self.world.store.run(move |store| {
            // First the fact under the token's name, then the record that makes it count: a crash in between writes the
            // same fact once more.
            if let Some(fact) = fact {
                outbox
                    .put(&fact)
                    .map_err(|error| StepError::Other(format!("cannot keep the install result: {error}")))?;
            }
            store.commit(id, |record| {
                record.install.ever_succeeded |= outcome == InstallOutcome::Succeeded;
                record.finish_install(result);
            })?;
            Ok::<_, StepError>(())
        });
        recorded.await?;
        self.world.with_live(id, |live| {
            live.script_ready = None;
            live.usage = None;
        });
        Ok(true)
    }

    async fn remove_installer(&self, id: ServerId, container: &str) -> Done {
        self.world.with_live(id, |live| live.installer.spoil());
        self.world.runtime.remove(container).await?;
        self.world.with_live(id, |live| {
            live.installer.spoil();
            live.script_ready = None;
            if let Some(job) = live.jobs.remove(&JobKind::InstallLog)
                && let Some(task) = job.task
            {
                task.abort();
            }
        });
        let layout = self.world.layout.clone();
        self.world.store.blocking().run(move || layout.remove_script(id)).await?;
        Ok(true)
    }

    async fn remove_server(&self, id: ServerId, container: &str) -> Done {
        self.world.with_live(id, |live| live.server.spoil());
        self.world.runtime.remove(container).await?;
        self.world.with_live(id, |live| live.server.spoil());
        Ok(true)
    }

    async fn create_server(&self, id: ServerId, token: &str) -> Done {
        let Some(snapshot) = self.world.store.get(id) else { return Ok(false) };
        let Some(built) = self.blueprint(&snapshot).await else { return Ok(false) };
        if let Some(network) = &built.network {
            self.world.runtime.ensure_network(network).await?;
        }
        for omission in &built.omissions {
            self.world.store.event(id, self.world.clock.now(), "LeftOut", &omission.to_string());
        }
        let purpose = Purpose { server: id, role: Role::Server, token: token.to_owned() };
        self.world.with_live(id, |live| live.server.spoil());
        self.world.runtime.create(&built.spec, &purpose).await?;
        self.world.with_live(id, |live| live.server.spoil());
        Ok(true)
    }

    async fn assign(&self, id: ServerId, container: &str, power: &str) -> Done {
        let serving = Serving { container: container.to_owned(), power: power.to_owned() };
        self.commit(id, move |record| record.power.serving = Some(serving)).await
    }

    async fn start_server(&self, id: ServerId, container: &str, _power: &str) -> Done {
        // Attached first, so that not a line is missed.
        self.attach(id, container, false).await?;
        self.world.with_live(id, |live| {
            live.server.spoil();
            live.seen_running = Some(container.to_owned());
        });
        if let Err(error) = self.world.runtime.start(container).await {
            if !error.is_outage() {
                self.world.console.detach(id);
            }
            self.mend_network(&error).await;
            return Err(error.into());
        }
        self.world.with_live(id, |live| live.server.spoil());
        Ok(true)
    }

    /// Something that a container needs is not there: if it is the servers' network (it could not be made at boot, or somebody
    /// has removed it), the next attempt finds it.
    async fn mend_network(&self, error: &RuntimeError) {
        if !matches!(error, RuntimeError::NotFound { .. }) {
            return;
        }
        match self.world.runtime.ensure_network(&blueprint::network(&self.world.node)).await {
            Ok(facts) => self.world.set_network(facts),
            Err(error) => tracing::error!("the servers' network is not ready: {error}"),
        }
    }

    async fn attach(&self, id: ServerId, container: &str, replay: bool) -> Done {
        let Some(snapshot) = self.world.store.get(id) else { return Ok(false) };
        let Some(manifest) = &snapshot.manifest else { return Ok(false) };
        let started = snapshot.record.power.started.as_deref() == Some(container);
        let startup = (!started).then_some(&manifest.spec.process.startup);
        self.world.console.attach(id, container, startup, &self.world.layout.logs(id), replay).await?;
        Ok(true)
    }

    async fn stop(&self, id: ServerId, container: &str, method: &StopMethod, grace: Duration) -> Done {
        let now = self.world.clock.now();
        let sent = match method {
            StopMethod::Command(command) => match self.world.console.type_line(id, command).await {
                Ok(()) => Ok(()),
                Err(error) => {
                    tracing::warn!(server.id = %id, "the stop command cannot be typed ({error}); the image's stop signal is sent");
                    self.signal_native(id, container).await
                }
            },
            StopMethod::Signal(signal) => self.world.runtime.signal(container, signal).await,
            StopMethod::Native => self.signal_native(id, container).await,
            StopMethod::Kill => self.world.runtime.signal(container, Signal::Kill.name()).await,
        };
        sent?;
        let killed_at = (*method == StopMethod::Kill).then_some(now);
        self.world.with_live(id, |live| {
            live.server.spoil();
            live.stop =
                Some(StopProgress { container: container.to_owned(), sent_at: now, deadline: now + grace, killed_at });
        });
        Ok(true)
    }

    async fn signal_native(&self, id: ServerId, container: &str) -> Result<(), RuntimeError> {
        let facts = self.world.with_live(id, |live| live.server.fresh().cloned().flatten());
        let signal = facts.and_then(|facts| facts.stop_signal);
        self.world.runtime.signal(container, signal.as_deref().unwrap_or(Signal::Terminate.name())).await
    }

    async fn update_limits(&self, id: ServerId, container: &str) -> Done {
        let Some(snapshot) = self.world.store.get(id) else { return Ok(false) };
        let Some(built) = self.blueprint(&snapshot).await else { return Ok(false) };
        self.world.runtime.update(container, &built.spec.limits).await?;
        let hash = built.spec.limits.hash();
        self.world.with_live(id, |live| live.limits = Some((container.to_owned(), hash)));
        self.world.store.event(id, self.world.clock.now(), "LimitsUpdated", "the running server has its new limits");
        Ok(true)
    }

    async fn record_crash(&self, id: ServerId, step: &Step) -> Done {
        let Step::RecordCrash { container, exit_code, oom_killed, restart, power, reason, message } = step.clone()
        else {
            return Ok(false);
        };
        let at = self.world.clock.now();
        self.world.console.say(id, "---------- Detected server process in a crashed state! ----------");
        self.world.console.say(id, &format!("Exit code: {exit_code}"));
        self.world.console.say(id, &format!("Out of memory: {oom_killed}"));
        if !restart {
            self.world.console.say(id, &format!("Aborting automatic restart: {message}"));
        }
        self.world.store.event(id, at, reason, &message);
        self.commit(id, move |record| {
            record.push_crash(Crash { container, at, exit_code, oom_killed, restarted: restart });
            if !restart {
                record.close_power(Closed { id: power, want: Some(Want::Up), reason: reason.into(), message, at });
            }
        })
        .await
    }

    async fn close_power(&self, id: ServerId, power: &str, want: Want, reason: &str, message: &str) -> Done {
        let at = self.world.clock.now();
        if reason != "Stopped" {
            self.world.store.event(id, at, reason, message);
        }
        let (power, reason, message) = (power.to_owned(), reason.to_owned(), message.to_owned());
        let closed = Closed { id: power, want: Some(want), reason, message, at };
        self.commit(id, move |record| record.close_power(closed)).await
    }

    fn quiesce(&self, id: ServerId) -> bool {
        self.world.console.detach(id);
        self.world.with_live(id, |live| {
            live.end_jobs_except(JobKind::Removal);
            live.untold.clear();
        });
        self.release_slot(id)
    }

    async fn forget(&self, id: ServerId) -> Done {
        let outbox = self.world.outbox.clone();
        let forgotten = self.world.store.run(move |store| {
            let Some(snapshot) = store.get(id) else { return Ok(true) };
            let done = snapshot.record.install.done.as_ref();
            if let Some(done) = done.filter(|done| !done.reported && snapshot.record.deletion.is_some()) {
                // Nobody is left who could want to know.
                let key = Fact::install_key(id, &done.token);
                if let Err(error) = outbox.remove(&key) {
                    tracing::warn!(server.id = %id, "a fact of a deleted server stays in the outbox: {error}");
                }
            }
            // Both decide on what is so in that moment: somebody may have asked for the server since the plan was made.
            if store.remove_if(id, |now| !now.wanted())? {
                return Ok(true);
            }
            let mut anew = false;
            store.commit(id, |record| anew = begin_anew(record))?;
            Ok::<_, StoreError>(anew)
        });
        if forgotten.await? {
            self.world.forget_live(id);
        }
        Ok(true)
    }
}

/// Takes the facts of a server's former life out of its record, if that life is over and another one wanted.
fn begin_anew(record: &mut Record) -> bool {
    if !record.deletion.as_ref().is_some_and(|deletion| deletion.recreate) {
        return false;
    }
    *record = Record {
        generation: record.generation,
        accepted_hash: std::mem::take(&mut record.accepted_hash),
        synced_at: record.synced_at,
        synced_hash: record.synced_hash.take(),
        ..Record::default()
    };
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Deletion, Timestamp};

    #[test]
    fn a_record_begins_anew_only_where_the_server_is_wanted_again() {
        let at = Timestamp::default();
        for (deletion, expected) in [
            (None, false),
            (Some(Deletion { at, recreate: false }), false),
            (Some(Deletion { at, recreate: true }), true),
        ] {
            let before = Record { generation: 3, synced_for: Some("p1".into()), deletion, ..Record::default() };
            let mut record = before.clone();
            assert_eq!(begin_anew(&mut record), expected);
            assert_eq!(record == before, !expected);
            assert_eq!(record.generation, 3);
        }
    }
}
