//! Executing steps. Each does what its name says and nothing else; the planner has decided that it is due.

mod adopt;
mod crash;
mod install;
mod ports;
mod power;

use std::sync::Arc;

use super::{Context, StepError};
use crate::events::{EventKind, TransferStatus};
use crate::files::replacement::Phase;
use crate::model::{ContainerState, ContainerStatus, FormerFiles, Reason, Record, Role, ServerId};
use crate::reconcile::jobs;
use crate::reconcile::refresh::refresh;
use crate::reconcile::step::Step;
use crate::runtime::{BuiltSpec, ErrorKind, Purpose};
use crate::store::{Snapshot, StoreError};

type Done = Result<(), StepError>;

impl Context {
    /// Executes one step. Returns whether it changed anything, so that the next plan may differ.
    pub(super) async fn execute(self: &Arc<Self>, id: ServerId, step: &Step) -> Result<bool, StepError> {
        match step {
            Step::Accept => refresh(&self.store, self.clock, id).await?,
            Step::TakeInstallSlot => return Ok(self.take_install_slot(id)),
            Step::ReleaseInstallSlot => self.release_slot(id),
            Step::TakeStartSlot { priority } => return Ok(self.start_slots.take(id, *priority)),
            Step::ReleaseStartSlot => self.release_start_slot(id),
            Step::Prepare => self.prepare(id).await?,
            Step::StartJob { job, subject } => jobs::start(self, id, *job, subject),
            Step::WriteScript { token } => self.write_script(id, token).await?,
            Step::CreateInstaller { token } => self.create_installer(id, token).await?,
            Step::StartInstaller { container, .. } => self.start_installer(id, container).await?,
            Step::Kill { container, role } => self.kill(id, container, *role).await?,
            Step::CloseInstallLog { container, .. } => {
                jobs::close_install_log(self, id, container).await.map_err(StepError::Other)?;
            }
            Step::RecordInstall(result) => self.record_install(id, result.clone()).await?,
            Step::RecordInterrupted { container, token } => self.record_interrupted(id, container, token).await?,
            Step::AdoptServer { container } => self.adopt_server(id, container).await?,
            Step::AdoptInstaller { container, reinstall } => self.adopt_installer(id, container, *reinstall).await?,
            Step::RemoveInstaller { container } => return self.remove_installer(id, container).await,
            Step::RemoveServer { container } => return self.remove_server(id, container).await,
            Step::CreateServer { token } => self.create_server(id, token).await?,
            Step::Assign { container, power } => self.assign(id, container, power).await?,
            Step::StartServer { container, .. } => self.start_server(id, container).await?,
            Step::Attach { container, replay } => self.reattach(id, container, *replay).await?,
            Step::Stop { container, method, grace } => self.stop(id, container, method, *grace).await?,
            Step::UpdateLimits { container, boost } => self.update_limits(id, container, *boost).await?,
            Step::RecordBegun { power } => {
                let power = power.clone();
                self.commit(id, move |record| record.power.begun = Some(power)).await?;
            }
            Step::RecordStarted { container } => self.end_start(id, Some(container.clone())).await?,
            Step::EndStart { .. } => self.end_start(id, None).await?,
            Step::RecordCrash { crash, handled } => self.record_crash(id, crash, handled).await?,
            Step::ClosePower(handled) => self.close_power(id, handled.clone()).await?,
            Step::Quiesce => self.quiesce(id),
            Step::Forget => self.forget(id).await?,
        }
        Ok(true)
    }

    /// An installation that has its slot begins to work.
    fn take_install_slot(&self, id: ServerId) -> bool {
        let taken = self.slots.take(id, 0);
        if taken {
            self.store.events().publish_output(id, || EventKind::InstallBegun);
        }
        taken
    }

    async fn commit(&self, id: ServerId, edit: impl FnOnce(&mut Record) + Send + 'static) -> Done {
        self.store.run(move |store| store.commit(id, edit)).await?;
        Ok(())
    }

    async fn create(&self, id: ServerId, role: Role, token: &str, built: BuiltSpec) -> Done {
        let BuiltSpec { mut spec, omissions } = self.runtime.resolve(id, built).await?;
        if let Some(start) = spec.start_limits.take() {
            spec.limits = start;
        }
        for omission in omissions.iter().filter(|_| role == Role::Server) {
            self.event(id, Reason::LeftOut, omission);
        }
        let purpose = Purpose { server: id, role, token: token.to_owned() };
        let servers = &self.servers;
        servers.container_changed(id, role);
        let version = servers.version(id, role);
        match self.runtime.create(&spec, &purpose).await {
            Ok(container) => {
                let created = ContainerStatus {
                    id: container,
                    state: ContainerState::Created,
                    paused: false,
                    process: None,
                    started_at: None,
                    finished_at: None,
                    token: Some(purpose.token),
                    spec_hash: Some(spec.hash()),
                    limits_hash: Some(spec.limits.hash()),
                    image: Some(spec.image.clone()),
                    fields: Some(spec.fields.clone()),
                    ports: Vec::new(),
                    // The image's, which matters once the container runs and was inspected.
                    stop_signal: None,
                    others: Vec::new(),
                    files: None,
                };
                servers.created(id, role, version, created);
                Ok(())
            }
            Err(error) => {
                if error.kind == ErrorKind::NotFound {
                    servers.image_missing(id, role);
                }
                Err(error.into())
            }
        }
    }

    async fn prepare(&self, id: ServerId) -> Done {
        let Some(snapshot) = self.store.get(id) else { return Ok(()) };
        let record = &snapshot.record;
        let restoring = record.pending_restore().map(|restore| restore.token);
        let restoring = restoring.or_else(|| record.pending_transfer().map(|transfer| transfer.token));
        let layout = self.node.layout.clone();
        let receives = snapshot.record.pending_transfer().is_some_and(|transfer| transfer.incoming().is_some());
        let files = if receives { None } else { self.operations.files().try_exclusive(id) };
        let prepare = move || {
            // Before an empty directory takes the place of files that were being exchanged. A job that exchanges them now completes it.
            if let Some(_files) = files {
                layout.sweep_replacement(id, restoring).map_err(|error| StepError::Other(error.to_string()))?;
            }
            layout.prepare(id)?;
            Ok::<_, StepError>(layout.former_files(id)?)
        };
        let former = self.store.blocking().run(prepare).await?;
        if let (Some(former), None, None, false) = (former, restoring, &snapshot.record.former_files, receives) {
            // The record was lost. They are removed in time as any others.
            let (restore, undone) = (former.token, former.phase == Phase::Undone);
            let former = FormerFiles { restore, at: self.clock.now(), removing: false, undone };
            self.commit(id, move |record| record.former_files = record.former_files.take().or(Some(former))).await?;
        }
        self.servers.prepared(id);
        Ok(())
    }

    fn quiesce(&self, id: ServerId) {
        self.console.detach(id);
        self.servers.quiesce(id);
        if let Some(sync) = &self.sync {
            sync.forget(id);
        }
        self.release_slot(id);
        self.release_start_slot(id);
    }

    async fn forget(&self, id: ServerId) -> Done {
        let sync = self.sync.clone();
        let removed = self.store.run(move |store| {
            if store.get(id).is_none() {
                return Ok(true);
            }
            // The requests may have changed since the plan was made: both decide on the current ones.
            let unwanted = |now: &Snapshot| {
                let unwanted = !now.wanted();
                if let Some(sync) = sync.as_ref().filter(|_| unwanted) {
                    sync.server_removed(id);
                }
                let left = now.record.holding_transfer().is_some_and(|transfer| transfer.outgoing().is_some());
                if unwanted && left {
                    let completed = || EventKind::TransferStatus(TransferStatus::Completed);
                    store.events().publish_output(id, completed);
                }
                unwanted
            };
            Ok::<_, StoreError>(store.remove(id, unwanted)? || store.make_again(id)?)
        });
        if removed.await? {
            self.drop_state(id);
        }
        Ok(())
    }
}
