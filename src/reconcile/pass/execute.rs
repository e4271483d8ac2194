//! Doing steps. Each does what its name says and nothing else; whether it should be done was decided by the planner.

mod install;
mod power;

use super::{Reconciler, StepError};
use crate::model::{ContainerState, ContainerStatus, Handled, Record, ServerId};
use crate::reconcile::job::JobKind;
use crate::reconcile::jobs;
use crate::reconcile::step::Step;
use crate::runtime::{ContainerSpec, ErrorKind, Purpose};
use crate::store::Snapshot;

type Done = Result<bool, StepError>;

impl Reconciler {
    /// Does one step. `false` says that it changed nothing, so that a new plan would be the same.
    pub(super) async fn execute(&self, id: ServerId, step: &Step) -> Done {
        match step {
            Step::Accept => self.accept(id).await,
            Step::TakeInstallSlot => Ok(self.context.slots.take(id)),
            Step::ReleaseInstallSlot => {
                self.context.release_slot(id);
                Ok(true)
            }
            Step::Prepare => self.prepare(id).await,
            Step::StartJob { job, subject } => {
                jobs::start(&self.context, id, *job, subject);
                Ok(true)
            }
            Step::WriteScript { token } => self.write_script(id, token).await,
            Step::CreateInstaller { token } => self.create_installer(id, token).await,
            Step::StartInstaller { container, .. } => self.start_installer(id, container).await,
            Step::Kill { container, role } => self.kill(id, container, *role).await,
            Step::CloseInstallLog { container, .. } => {
                jobs::close_install_log(&self.context, id, container).await.map_err(StepError::Other)?;
                Ok(true)
            }
            Step::RecordInstall { token, outcome, exit_code, reason, message } => {
                self.record_install(id, token, *outcome, *exit_code, *reason, message).await
            }
            Step::RecordInterrupted { container, token } => self.record_interrupted(id, container, token).await,
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
            Step::EndStart { .. } => self.end_start(id).await,
            Step::RecordCrash { .. } => self.record_crash(id, step).await,
            Step::ClosePower { power, sequence, verb, reason, message } => {
                let handled = Handled {
                    sequence: *sequence,
                    id: power.clone(),
                    verb: *verb,
                    reason: *reason,
                    message: message.clone(),
                    at: self.context.clock.now(),
                };
                self.close_power(id, handled).await
            }
            Step::Quiesce => Ok(self.quiesce(id)),
            Step::Forget => self.forget(id).await,
        }
    }

    async fn commit(&self, id: ServerId, edit: impl FnOnce(&mut Record) + Send + 'static) -> Done {
        self.context.store.run(move |store| store.commit(id, edit)).await?;
        Ok(true)
    }

    /// Makes a container. What it is like is known then, and nobody is asked.
    async fn create(&self, id: ServerId, spec: &ContainerSpec, purpose: &Purpose, image: JobKind) -> Done {
        let version = self.context.with_server(id, |state| {
            let look = state.look(purpose.role);
            look.invalidate();
            look.version()
        });
        match self.context.runtime.create(spec, purpose).await {
            Ok(container) => {
                let made = ContainerStatus {
                    id: container,
                    state: ContainerState::Created,
                    started_at: None,
                    finished_at: None,
                    token: Some(purpose.token.clone()),
                    spec_hash: Some(spec.hash()),
                    limits_hash: Some(spec.limits.hash()),
                    // The image's, which matters once it runs and was looked at.
                    stop_signal: None,
                };
                self.context.with_server(id, |state| {
                    let look = state.look(purpose.role);
                    if look.version() == version {
                        look.fill(version, Some(made));
                    } else {
                        // Something has happened meanwhile, and who looked then may have found nothing.
                        look.invalidate();
                    }
                });
                Ok(true)
            }
            Err(error) => {
                if error.kind == ErrorKind::NotFound {
                    // Something of which it is made: if somebody has removed the image since it was had, the next attempt pulls
                    // it again.
                    self.context.with_server(id, |state| state.jobs.remove(&image));
                }
                Err(error.into())
            }
        }
    }

    async fn accept(&self, id: ServerId) -> Done {
        self.context.refresh(id).await?;
        Ok(true)
    }

    async fn prepare(&self, id: ServerId) -> Done {
        let layout = self.context.layout.clone();
        self.context.store.blocking().run(move || layout.prepare(id)).await?;
        self.context.with_server(id, |state| state.prepared = true);
        Ok(true)
    }

    fn quiesce(&self, id: ServerId) -> bool {
        self.context.console.detach(id);
        self.context.with_server(id, |state| {
            state.end_jobs_except(JobKind::Removal);
            state.pending_reports.clear();
        });
        self.context.release_slot(id);
        true
    }

    async fn forget(&self, id: ServerId) -> Done {
        let context = self.context.clone();
        let recently_deleted = self.context.store.run(move |store| {
            if store.get(id).is_none() {
                return Ok(true);
            }
            // Both decide on what is so in that moment: somebody may have asked for the server since the plan was made.
            let unwanted = |now: &Snapshot| {
                let unwanted = !now.wanted();
                if unwanted {
                    // Before it is gone: the panel's list may just be about to be applied.
                    context.recently_deleted.add(id);
                }
                unwanted
            };
            if store.remove(id, unwanted)? {
                return Ok(true);
            }
            store.make_again(id)
        });
        if recently_deleted.await? {
            self.context.forget_server(id);
        }
        Ok(true)
    }
}
