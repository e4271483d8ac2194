//! Doing steps. Each does what its name says and nothing else; whether it should be done was decided by the planner.

mod install;
mod power;

use super::{Reconciler, StepError};
use crate::model::{Record, ServerId};
use crate::panel::outbox::Fact;
use crate::reconcile::jobs;
use crate::reconcile::observed::JobKind;
use crate::reconcile::step::Step;

type Done = Result<bool, StepError>;

impl Reconciler {
    /// Does one step. `false` says that it changed nothing, so that a new plan would be the same.
    pub(super) async fn execute(&self, id: ServerId, step: &Step) -> Done {
        match step {
            Step::Accept => self.accept(id).await,
            Step::TakeInstallSlot => Ok(self.world.slots.take(id)),
            Step::ReleaseInstallSlot => {
                self.world.release_slot(id);
                Ok(true)
            }
            Step::Prepare => self.prepare(id).await,
            Step::StartJob { job, subject } => {
                jobs::start(&self.world, id, *job, subject);
                Ok(true)
            }
            Step::WriteScript { token } => self.write_script(id, token).await,
            Step::CreateInstaller { token } => self.create_installer(id, token).await,
            Step::StartInstaller { container } => self.start_installer(id, container).await,
            Step::Kill { container, role } => self.kill(id, container, *role).await,
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
            Step::Attach { container, replay } => self.reattach(id, container, *replay).await,
            Step::Stop { container, method, grace } => self.stop(id, container, method, *grace).await,
            Step::UpdateLimits { container } => self.update_limits(id, container).await,
            Step::RecordBegun { power } => {
                let power = power.clone();
                self.commit(id, move |record| record.power.begun = Some(power)).await
            }
            Step::RecordStarted { container } => self.record_started(id, container).await,
            Step::RecordCrash { .. } => self.record_crash(id, step).await,
            Step::ClosePower { power, reason, message } => self.close_power(id, power, reason, message).await,
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

    async fn prepare(&self, id: ServerId) -> Done {
        let layout = self.world.layout.clone();
        self.world.store.blocking().run(move || layout.prepare(id)).await?;
        self.world.with_live(id, |live| live.prepared = true);
        Ok(true)
    }

    fn quiesce(&self, id: ServerId) -> bool {
        self.world.console.detach(id);
        self.world.with_live(id, |live| {
            live.end_jobs_except(JobKind::Removal);
            live.untold.clear();
        });
        self.world.release_slot(id);
        true
    }

    async fn forget(&self, id: ServerId) -> Done {
        let outbox = self.world.outbox.clone();
        self.world
            .store
            .run(move |store| {
                let Some(snapshot) = store.get(id) else { return Ok(()) };
                let done = snapshot.record.install.done.as_ref();
                if let Some(done) = done.filter(|done| !done.reported) {
                    // Nobody is left who could want to know.
                    let key = Fact::install_key(id, &done.token);
                    if let Err(error) = outbox.remove(&key) {
                        tracing::warn!(server.id = %id, "a fact of a deleted server stays in the outbox: {error}");
                    }
                }
                let recreate = snapshot.record.deletion.as_ref().is_some_and(|deletion| deletion.recreate);
                if !recreate {
                    return store.remove(id);
                }
                store
                    .commit(id, |record| {
                        *record = Record {
                            generation: record.generation,
                            accepted_hash: std::mem::take(&mut record.accepted_hash),
                            synced_at: record.synced_at,
                            synced_hash: record.synced_hash.take(),
                            ..Record::default()
                        };
                    })
                    .map(drop)
            })
            .await?;
        self.world.forget_live(id);
        Ok(true)
    }
}
