//! Looking at one server.

use super::Reconciler;
use crate::model::manifest::InstallIntent;
use crate::model::{ContainerFacts, ContainerState, Role, ServerId, Want};
use crate::reconcile::observed::{Observed, WantedContainer};
use crate::reconcile::plan;
use crate::runtime::RuntimeError;
use crate::runtime::blueprint::{self, Blueprint, BlueprintFacts};
use crate::store::Snapshot;

impl Reconciler {
    /// Looks at everything that a plan can depend on. Containers are asked for only if something has happened to them since
    /// the last look.
    pub(super) async fn look(&self, id: ServerId) -> Observed {
        let world = &self.world;
        let (server, installer) = tokio::join!(self.container(id, Role::Server), self.container(id, Role::Installer));
        let outage = match (&server, &installer) {
            (Err(error), _) | (_, Err(error)) => Some(error.to_string()),
            _ => None,
        };
        let (server, installer) = (server.ok().flatten(), installer.ok().flatten());
        let snapshot = world.store.get(id);
        let server = server.map(|server| with_limits(server, snapshot.as_deref()));
        if let (Some(installer), Some(install)) = (&installer, snapshot.as_deref().and_then(resumable_install))
            && installer.running()
            && installer.token.as_ref() == Some(&install.token)
        {
            world.slots.adopt(id);
        }
        let wanted = match &snapshot {
            Some(snapshot) if outage.is_none() && needs_blueprint(snapshot, server.as_ref()) => {
                self.blueprint(snapshot).await.map(|blueprint| WantedContainer {
                    spec_hash: blueprint.spec.hash(),
                    limits_hash: blueprint.spec.limits.hash(),
                })
            }
            _ => None,
        };
        let prepared = self.is_prepared(id).await;
        world.with_live(id, |live| {
            live.outages = if outage.is_some() { live.outages + 1 } else { 0 };
            if let Some(server) = server.as_ref().filter(|server| server.running()) {
                live.seen_running = Some(server.id.clone());
            }
            if let Some(installer) = installer.as_ref().filter(|installer| installer.running()) {
                live.installer_seen = Some(installer.id.clone());
            }
            Observed {
                outage,
                server,
                installer,
                wanted,
                prepared,
                script_ready: live.script_ready.clone(),
                attached: world.console.attached(id),
                done_seen: world.console.done_seen(id),
                seen_running: live.seen_running.clone(),
                installer_seen: live.installer_seen.clone(),
                crash: live.crash.clone(),
                stop: live.stop.clone(),
                installer_stop: live.installer_stop.clone(),
                jobs: live.jobs.iter().map(|(kind, live)| (*kind, live.job.clone())).collect(),
                failures: live.failures.clone(),
                usage: live.usage,
                install_slot: world.slots.holds(id),
                install_queued: world.slots.waits(id),
                untold: live.untold.len(),
            }
        })
    }

    async fn container(&self, id: ServerId, role: Role) -> Result<Option<ContainerFacts>, RuntimeError> {
        let (fresh, serial) = self.world.with_live(id, |live| {
            let look = live.look(role);
            (look.fresh().cloned(), look.serial())
        });
        if let Some(facts) = fresh {
            return Ok(facts);
        }
        let facts = self.world.runtime.inspect(id, role).await?;
        if facts.as_ref().is_some_and(|facts| self.ended_unasked(id, role, facts)) {
            // An engine that goes down takes its containers along: then nothing is to be made of their end.
            self.world.runtime.stays().await?;
        }
        self.world.with_live(id, |live| live.look(role).fill(serial, facts.clone()));
        Ok(facts)
    }

    /// Whether a container that ran has ended, and not because of us.
    fn ended_unasked(&self, id: ServerId, role: Role, facts: &ContainerFacts) -> bool {
        let ended = matches!(facts.state, ContainerState::Exited { .. });
        let kept = self.world.store.get(id).is_some_and(|snapshot| snapshot.record.deletion.is_none());
        ended
            && kept
            && self.world.with_live(id, |live| {
                let (seen, stop) = match role {
                    Role::Server => (&live.seen_running, &live.stop),
                    Role::Installer => (&live.installer_seen, &live.installer_stop),
                };
                let ours = stop.as_ref().is_some_and(|stop| stop.container == facts.id);
                seen.as_ref() == Some(&facts.id) && !ours
            })
    }

    async fn is_prepared(&self, id: ServerId) -> bool {
        if self.world.with_live(id, |live| live.prepared) {
            return true;
        }
        let layout = self.world.layout.clone();
        let prepared = self.world.store.blocking().run(move || layout.is_prepared(id)).await;
        self.world.with_live(id, |live| live.prepared = prepared);
        prepared
    }

    /// What the server's container should be like.
    pub(super) async fn blueprint(&self, snapshot: &Snapshot) -> Option<Blueprint> {
        let manifest = snapshot.manifest.clone()?;
        let facts = self.blueprint_facts(snapshot).await;
        let mut blueprint = blueprint::server_container(snapshot.id, &manifest.spec, &self.world.node, &facts);
        blueprint.spec.image_id = self.world.images.id(&blueprint.spec.image);
        Some(blueprint)
    }

    pub(super) async fn blueprint_facts(&self, snapshot: &Snapshot) -> BlueprintFacts {
        let world = &self.world;
        let wanted = snapshot.manifest.as_ref().and_then(|manifest| manifest.spec.settings.mounts.clone());
        let (id, node, layout) = (snapshot.id, world.node.clone(), world.layout.clone());
        // A file system that hangs hangs here, not on the threads that serve everybody.
        let (data, mounts) = world
            .store
            .blocking()
            .run(move || {
                let mounts = match wanted {
                    Some(mounts) if !mounts.is_empty() => {
                        blueprint::host::resolve_mounts(&mounts, &node.allowed_mounts)
                    }
                    _ => blueprint::MountFacts::default(),
                };
                (layout.data(id), mounts)
            })
            .await;
        BlueprintFacts {
            network: world.network(),
            kernel: world.kernel_limits,
            data,
            script: world.layout.script_folder(id),
            mounts,
        }
    }
}

/// What was put in force since the container was made counts, and not what its label says.
fn with_limits(mut server: ContainerFacts, snapshot: Option<&Snapshot>) -> ContainerFacts {
    let since = snapshot.and_then(|snapshot| snapshot.record.power.limits.as_ref());
    if let Some(since) = since.filter(|since| since.container == server.id) {
        server.limits_hash = since.hash.clone();
    }
    server
}

/// The installation whose running installer holds one of the node's places. One that nobody wants any more holds none: what
/// remains of it is an installer to be removed.
fn resumable_install(snapshot: &Snapshot) -> Option<&InstallIntent> {
    if snapshot.record.parked.is_some() || snapshot.record.deletion.is_some() {
        return None;
    }
    plan::open_install(snapshot.manifest.as_ref()?, &snapshot.record)
}

/// Whether a plan can depend on what the container should be like.
fn needs_blueprint(snapshot: &Snapshot, server: Option<&ContainerFacts>) -> bool {
    let Some(manifest) = &snapshot.manifest else { return false };
    if snapshot.record.parked.is_some() || snapshot.record.deletion.is_some() {
        return false;
    }
    let open = plan::open_wish(manifest, &snapshot.record).is_some_and(|wish| wish.want == Want::Up);
    open || server.is_some_and(ContainerFacts::running)
}
