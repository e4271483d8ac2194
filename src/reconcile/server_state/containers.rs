//! What is known of a server's two containers.
//!
//! An inspection takes time, and the container may change meanwhile. So each change counts a version, and an inspection is kept
//! only if the version is still the one from before it.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::ServerStates;
use crate::model::{ContainerState, ContainerStatus, Role, ServerId, Timestamp};
use crate::reconcile::observed::{Lifetime, Observed, StopProgress};
use crate::runtime::{ContainerChange, Listed};

/// The containers of one server.
#[derive(Default)]
pub(super) struct Containers {
    by_role: [Container; 2],
    /// Counts beginnings and ends of the stream of events: what was seen before it began counts as unseen.
    watch: u64,
}

#[derive(Default)]
struct Container {
    /// The last inspection, while nothing has changed since.
    cached: Option<Option<ContainerStatus>>,
    version: u64,
    /// The container that was started or seen running.
    seen_running: Option<String>,
    /// The stop that was sent.
    stop: Option<StopProgress>,
    /// The run that was observed last.
    run: Option<Run>,
}

/// One run of a container. Its times were converted once: the clock may have been set since.
struct Run {
    container: String,
    started_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
    lifetime: Lifetime,
}

/// What became of the attempt to stop a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopOutcome {
    /// The server was asked.
    Sent,
    /// The server was killed.
    Killed,
    /// The engine rejected it.
    Rejected,
}

/// Which containers were known before all of them were listed.
pub struct Listing(BTreeMap<(ServerId, Role), u64>);

impl Container {
    fn invalidate(&mut self) {
        self.cached = None;
        self.version += 1;
    }

    fn inspected(&mut self, version: u64, found: Option<ContainerStatus>) {
        if version == self.version {
            self.cached = Some(found);
        }
    }

    /// When the container's run began and ended: `seen` by the clock of now, unless it was known before.
    fn lifetime(&mut self, status: Option<&ContainerStatus>, seen: Lifetime) -> Lifetime {
        let Some(status) = status else { return seen };
        let known = self.run.take().filter(|run| run.container == status.id);
        let keep = |same: bool, before: Option<Instant>, now: Option<Instant>| before.filter(|_| same).or(now);
        let lifetime = known.map_or(seen, |run| Lifetime {
            started: keep(run.started_at == status.started_at, run.lifetime.started, seen.started),
            ended: keep(run.finished_at == status.finished_at, run.lifetime.ended, seen.ended),
        });
        let ContainerStatus { id, started_at, finished_at, .. } = status;
        self.run = Some(Run { container: id.clone(), started_at: *started_at, finished_at: *finished_at, lifetime });
        lifetime
    }

    /// Whether a listing agrees with what is known, which it completes or invalidates.
    fn listed(&mut self, version: u64, listed: Option<(&str, bool)>) -> bool {
        let known = self.cached.as_ref().map(|found| found.as_ref().map(|found| (found.id.as_str(), found.running())));
        match (listed, known) {
            (None, None) => self.inspected(version, None),
            (listed, Some(known)) if listed == known => {}
            _ => {
                self.invalidate();
                return false;
            }
        }
        true
    }
}

impl Containers {
    fn of(&mut self, role: Role) -> &mut Container {
        &mut self.by_role[role as usize]
    }

    pub(super) fn invalidate(&mut self) {
        self.by_role.iter_mut().for_each(Container::invalidate);
    }

    fn unwatch(&mut self) {
        self.invalidate();
        self.by_role.iter_mut().for_each(|container| container.seen_running = None);
        self.watch += 1;
    }

    /// See [`ServerStates::observed`].
    pub(super) fn observed(&mut self, watch: u64, mut seen: Observed) -> Observed {
        // What was seen before the engine went down, with all that ran, was not seen since.
        let watched = self.watch == watch;
        for (role, status, run, seen_running, stop) in [
            (Role::Server, &seen.server, &mut seen.server_run, &mut seen.seen_running, &mut seen.stop),
            (
                Role::Installer,
                &seen.installer,
                &mut seen.installer_run,
                &mut seen.installer_seen,
                &mut seen.installer_stop,
            ),
        ] {
            let container = self.of(role);
            *run = container.lifetime(status.as_ref(), *run);
            if watched && seen_running.is_some() {
                container.seen_running.clone_from(seen_running);
            }
            seen_running.clone_from(&container.seen_running);
            stop.clone_from(&container.stop);
        }
        seen
    }
}

impl ServerStates {
    fn change_container<T>(&self, id: ServerId, role: Role, edit: impl FnOnce(&mut Container) -> T) -> T {
        self.change(id, |state| edit(state.containers.of(role)))
    }

    fn read_container<T: Default>(&self, id: ServerId, role: Role, read: impl FnOnce(&Container) -> T) -> T {
        self.read(id, |state| read(&state.containers.by_role[role as usize]))
    }

    /// The last inspection of a container, if nothing has changed since.
    pub fn cached(&self, id: ServerId, role: Role) -> Option<Option<ContainerStatus>> {
        self.read_container(id, role, |container| container.cached.clone())
    }

    /// The version of a container before its inspection, for [`ServerStates::inspected`].
    pub fn version(&self, id: ServerId, role: Role) -> u64 {
        self.read_container(id, role, |container| container.version)
    }

    /// A container was inspected. It counts unless something has changed during the inspection.
    pub fn inspected(&self, id: ServerId, role: Role, version: u64, found: Option<ContainerStatus>) {
        self.change_container(id, role, |container| container.inspected(version, found));
    }

    /// A container has changed, or may have.
    pub fn container_changed(&self, id: ServerId, role: Role) {
        self.change_container(id, role, Container::invalidate);
    }

    /// The engine reported a change. Returns whether it is news, so that a pass is due.
    ///
    /// The daemon's own creation is known from its answer. Where that came too late, "no container" was observed since.
    pub fn container_event(&self, id: ServerId, role: Role, change: ContainerChange) -> bool {
        self.change_container(id, role, |container| {
            let news = change != ContainerChange::Created || container.cached == Some(None);
            if news {
                container.invalidate();
            }
            news
        })
    }

    /// The stream of events begins or has ended: what ends unwatched was not seen to run, and everything is observed again.
    pub fn unwatch(&self) {
        for state in self.lock().values_mut() {
            state.containers.unwatch();
            state.changes.send_replace(());
        }
    }

    /// The watch before an observation, for [`ServerStates::observed`].
    pub fn watch(&self, id: ServerId) -> u64 {
        self.read(id, |state| state.containers.watch)
    }

    /// A container was created since it had this version, and its status is known without an inspection. An inspection meanwhile may have found nothing: then
    /// it is inspected again.
    pub fn created(&self, id: ServerId, role: Role, version: u64, status: ContainerStatus) {
        self.change_container(id, role, |container| {
            if container.version == version {
                container.cached = Some(Some(status));
            } else {
                container.invalidate();
            }
        });
    }

    /// A container is about to be started.
    pub fn starting(&self, id: ServerId, role: Role, started: &str) {
        self.change_container(id, role, |container| {
            container.invalidate();
            container.seen_running = Some(started.to_owned());
        });
    }

    /// The server was asked to stop.
    pub fn stop_sent(&self, id: ServerId, stopped: &str, grace: Duration, outcome: StopOutcome) {
        let now = Instant::now();
        self.change_container(id, Role::Server, |container| {
            container.invalidate();
            let killed_at = (outcome == StopOutcome::Killed).then_some(now);
            let rejected = outcome == StopOutcome::Rejected;
            container.stop = Some(StopProgress { killed_at, rejected, ..stop(stopped, now, grace) });
        });
    }

    /// SIGKILL is about to be sent to a container.
    pub fn killing(&self, id: ServerId, role: Role, killed: &str) {
        let now = Instant::now();
        self.change_container(id, role, |container| {
            container.invalidate();
            let sent = container.stop.take().filter(|stop| stop.container == killed);
            let sent = sent.unwrap_or_else(|| stop(killed, now, Duration::ZERO));
            container.stop = Some(StopProgress { killed_at: Some(now), ..sent });
        });
    }

    /// The installer's container was removed, and its script with it.
    pub fn installer_removed(&self, id: ServerId) {
        self.change(id, |state| {
            state.containers.of(Role::Installer).invalidate();
            state.script_ready = None;
            state.jobs.end_install_log();
        });
    }

    /// Whether a container that was seen running has ended, and not because of the daemon.
    pub fn ended_unexpectedly(&self, id: ServerId, role: Role, status: &ContainerStatus) -> bool {
        matches!(status.state, ContainerState::Exited { .. })
            && self.read_container(id, role, |container| {
                let stopped = container.stop.as_ref().is_some_and(|stop| stop.container == status.id);
                container.seen_running.as_ref() == Some(&status.id) && !stopped
            })
    }

    /// Whether the server is known to have no containers.
    pub fn has_no_containers(&self, id: ServerId) -> bool {
        self.read(id, |state| state.containers.by_role.iter().all(|container| container.cached == Some(None)))
    }

    /// Whether the server was asked to stop since the daemon started.
    pub fn stop_was_sent(&self, id: ServerId) -> bool {
        self.read_container(id, Role::Server, |container| container.stop.is_some())
    }

    /// All containers are about to be listed.
    pub fn begin_listing(&self, ids: impl IntoIterator<Item = ServerId>) -> Listing {
        let keys = ids.into_iter().flat_map(|id| [(id, Role::Server), (id, Role::Installer)]);
        Listing(keys.map(|(id, role)| ((id, role), self.version(id, role))).collect())
    }

    /// All containers were listed. Returns the servers of which something else was known: passes are due.
    pub fn listed(&self, before: &Listing, listed: &[Listed]) -> Vec<ServerId> {
        let listed: BTreeMap<_, _> = listed
            .iter()
            .filter(|listed| listed.owner.other().is_none())
            .map(|listed| ((listed.server, listed.role), (listed.id.as_str(), listed.running)))
            .collect();
        let differs = |(key, version): (&(ServerId, Role), &u64)| {
            let listed = listed.get(key).copied();
            let agrees = self.change_container(key.0, key.1, |container| container.listed(*version, listed));
            (!agrees).then_some(key.0)
        };
        before.0.iter().filter_map(differs).collect()
    }
}

impl Listing {
    /// Whether a server was known before the listing.
    pub fn knew(&self, id: ServerId) -> bool {
        self.0.contains_key(&(id, Role::Server))
    }
}

fn stop(container: &str, now: Instant, grace: Duration) -> StopProgress {
    StopProgress {
        container: container.to_owned(),
        sent_at: now,
        deadline: now + grace,
        rejected: false,
        killed_at: None,
    }
}
