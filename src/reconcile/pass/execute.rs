//! Doing steps. Each does what its name says and nothing else; whether it should be done was decided by the planner.

mod install;
mod power;

use super::{Reconciler, StepError};
use crate::model::{ContainerFacts, ContainerState, Record, ServerId};
use crate::reconcile::jobs;
use crate::reconcile::observed::JobKind;
use crate::reconcile::step::Step;
use crate::runtime::{ContainerSpec, ErrorKind, Purpose};
use crate::store::{Snapshot, StoreError};

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
            Step::StartInstaller { container, .. } => self.start_installer(id, container).await,
            Step::Kill { container, role } => self.kill(id, container, *role).await,
            Step::CloseInstallLog { container, .. } => {
                jobs::close_install_log(&self.world, id, container).await.map_err(StepError::Other)?;
                Ok(true)
            }
            Step::RecordInstall { token, outcome, exit_code, reason, message } => {
                self.record_install(id, token, *outcome, *exit_code, reason, message).await
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

    /// Makes a container. What it is like is known then, and nobody is asked.
    async fn create(&self, id: ServerId, spec: &ContainerSpec, purpose: &Purpose, image: JobKind) -> Done {
        let serial = self.world.with_live(id, |live| {
            let look = live.look(purpose.role);
            look.spoil();
            look.serial()
        });
        match self.world.runtime.create(spec, purpose).await {
            Ok(container) => {
                let made = ContainerFacts {
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
                self.world.with_live(id, |live| {
                    let look = live.look(purpose.role);
                    if look.serial() == serial {
                        look.fill(serial, Some(made));
                    } else {
                        // Something has happened meanwhile, and who looked then may have found nothing.
                        look.spoil();
                    }
                });
                Ok(true)
            }
            Err(error) => {
                if error.kind == ErrorKind::NotFound {
                    // Something of which it is made: if somebody has removed the image since it was had, the next attempt pulls
                    // it again.
                    self.world.with_live(id, |live| live.jobs.remove(&image));
                }
                Err(error.into())
            }
        }
    }

    async fn accept(&self, id: ServerId) -> Done {
        self.world.record_intent(id).await?;
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
        let world = self.world.clone();
        let forgotten = self.world.store.run(move |store| {
            if store.get(id).is_none() {
                return Ok(true);
            }
            // Both decide on what is so in that moment: somebody may have asked for the server since the plan was made.
            let unwanted = |now: &Snapshot| {
                let unwanted = !now.wanted();
                if unwanted {
                    // Before it is gone: the panel's list may just be about to be applied.
                    world.forgotten.add(id);
                }
                unwanted
            };
            if store.remove_if(id, unwanted)? {
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

/// Takes the facts of a server's former life out of its record, if that life is over and another one wanted. Power wishes are
/// of the next life already, see [`Record::want_again`].
fn begin_anew(record: &mut Record) -> bool {
    if !record.deletion.as_ref().is_some_and(|deletion| deletion.recreate) {
        return false;
    }
    *record = Record {
        generation: record.generation,
        accepted_hash: std::mem::take(&mut record.accepted_hash),
        pending_power: record.pending_power.take(),
        power: std::mem::take(&mut record.power),
        synced_at: record.synced_at,
        synced_hash: record.synced_hash.take(),
        ..Record::default()
    };
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Deletion, How, PowerIntent, Timestamp, Want};

    #[test]
    fn a_record_begins_anew_only_where_the_server_is_wanted_again() {
        let at = Timestamp::default();
        let (id, want, how) = ("p2".into(), Want::Up, How::Graceful);
        let power = PowerIntent { id, want, how, requested_at: None, expires_at: None };
        for (deletion, expected) in [
            (None, false),
            (Some(Deletion { at, recreate: false }), false),
            (Some(Deletion { at, recreate: true }), true),
        ] {
            let mut before = Record { generation: 3, synced_for: Some("p1".into()), deletion, ..Record::default() };
            before.power.begun = Some("p2".into());
            before.pending_power = Some(power.clone());
            let mut record = before.clone();
            assert_eq!(begin_anew(&mut record), expected);
            assert_eq!(record == before, !expected);
            assert_eq!(record.generation, 3);
            assert_eq!((&record.power, &record.pending_power), (&before.power, &before.pending_power));
        }
    }
}
