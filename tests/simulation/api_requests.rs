//! Requests to the API, and the expectations that follow from the answers.

use std::sync::Arc;

use alula::model::{Requester, ServerId, Verb};
use alula::store::{CONFIG_FILE, RECORD_FILE, Snapshot};
use axum::http::Method;
use serde_json::json;

use crate::daemon::Daemon;
use crate::expected::Expect;
use crate::scenario::{Play, Server};
use crate::setup::panel_side;

impl Play {
    pub async fn create(&mut self, daemon: &Daemon, at: usize) {
        let id = self.servers[at].id;
        let start = self.rng.permille(500);
        if self.machine.panel.lock().elsewhere.contains_key(&id) {
            return;
        }
        {
            let mut panel = self.machine.panel.lock();
            let side = panel.servers.entry(id).or_insert_with(|| panel_side(id, "again"));
            // A panel that has a result does not wait for another one because a request is repeated; nor does one whose result is
            // lost.
            side.installing |= side.installs.is_empty() && !self.servers[at].damaged;
        }
        let before = daemon.node.context.store.get(id);
        self.tally.requests += 1;
        let answer =
            daemon.request(Method::POST, "/api/servers", json!({"uuid": id, "start_on_completion": start})).await;
        self.log(|| format!("create {at} start={start}: {answer:?}"));
        self.follow(daemon, at);
        let folder = daemon.node.context.store.folder(id);
        let server = &mut self.servers[at];
        match answer {
            Some(status) if status.is_success() => {
                // An install request that was accepted before, whose answer may have been lost, is not accepted again.
                let after = daemon.node.context.store.get(id);
                if let Some(after) = after.filter(|after| Server::was_asked_to_install(before.as_deref(), after)) {
                    // A power request from before the panel created the server does not follow the installation. One of a file
                    // that waited for the server was accepted with the creation.
                    let waited = after.requests.accepted.iter().any(|request| {
                        let known = before.as_ref().is_some_and(|before| before.requests.sequence >= request.sequence);
                        !known && request.by == Requester::Manifest && request.verb.wants_up()
                    });
                    server.asked.power(if waited { Expect::Up } else { Expect::Down });
                    server.asked.install(start);
                    server.unchanged_since = None;
                }
                server.created = true;
                server.deleted = false;
                if !server.damaged {
                    self.promise_report(id);
                }
            }
            Some(_) => {
                // The panel keeps its row, so the next boot finds the server in the list.
                self.tally.rejected += 1;
                server.deleted = false;
            }
            None => {
                // It may be on disk or not. The panel creates it again, which must be harmless.
                server.asked.unanswered(&folder, id);
                server.unchanged_since = None;
                server.deleted = false;
            }
        }
    }

    /// Takes over the requests that the daemon derived from manifests: they count before later ones.
    pub fn follow(&mut self, daemon: &Daemon, at: usize) {
        let server = &mut self.servers[at];
        if server.asked.follow(&daemon.node.context.store, server.id, daemon.node.context.clock.now()) {
            server.unchanged_since = None;
        }
    }

    /// The daemon answered an install request with 2xx, so it must report the result, unless the report has arrived already.
    fn promise_report(&self, id: ServerId) {
        let mut panel = self.machine.panel.lock();
        if let Some(side) = panel.servers.get_mut(&id)
            && side.installing
        {
            side.promised = true;
        }
    }

    /// Deletes a server on the panel.
    fn delete_on_panel(&self, id: ServerId) {
        let mut panel = self.machine.panel.lock();
        panel.servers.remove(&id);
        panel.elsewhere.remove(&id);
    }

    /// Undoes the panel's change after an install request without a 2xx: on the panel both are one transaction.
    fn roll_back(&self, id: ServerId) {
        if let Some(side) = self.machine.panel.lock().servers.get_mut(&id) {
            side.installing = side.promised;
        }
    }

    pub async fn power(&mut self, daemon: &Daemon, at: usize) {
        let id = self.servers[at].id;
        let action = *self.rng.pick(&["start", "start", "stop", "restart", "kill"]);
        let wait_seconds = if self.rng.permille(300) { self.rng.below(60) } else { 0 };
        let typed = self.rng.permille(200);
        self.tally.requests += 1;
        let before = daemon.node.context.store.get(id);
        let answer = match typed {
            // As the command line does.
            true => {
                daemon.request(Method::POST, &format!("/local/servers/{id}/power"), json!({"action": action})).await
            }
            false => {
                let body = json!({"action": action, "wait_seconds": wait_seconds});
                daemon.request(Method::POST, &format!("/api/servers/{id}/power"), body).await
            }
        };
        self.log(|| format!("{action} {at} wait={wait_seconds} typed={typed}: {answer:?}"));
        self.follow(daemon, at);
        match answer {
            Some(status) if status.is_success() => self.note_power(daemon, at, action, before),
            Some(_) => self.tally.rejected += 1,
            None => self.servers[at].asked.unanswered(&daemon.node.context.store.folder(id), id),
        }
    }

    fn note_power(&mut self, daemon: &Daemon, at: usize, action: &str, before: Option<Arc<Snapshot>>) {
        let server = &mut self.servers[at];
        if matches!(action, "stop" | "kill") {
            server.asked.power(Expect::Down);
            return;
        }
        match (before, daemon.node.context.store.get(server.id)) {
            (Some(before), Some(after)) => server.asked.up(&before, &after, daemon.node.context.clock.now()),
            _ => server.asked.power(Expect::Up),
        }
    }

    pub async fn reinstall(&mut self, daemon: &Daemon, at: usize) {
        let id = self.servers[at].id;
        let action = *self.rng.pick(&["reinstall", "install"]);
        self.tally.requests += 1;
        if let Some(side) = self.machine.panel.lock().servers.get_mut(&id) {
            side.installing = true;
        }
        let answer = daemon.request(Method::POST, &format!("/api/servers/{id}/{action}"), json!([])).await;
        self.log(|| format!("{action} {at}: {answer:?}"));
        self.follow(daemon, at);
        match answer {
            Some(status) if status.is_success() => {
                let server = &mut self.servers[at];
                server.asked.install(false);
                if !server.of_file {
                    // The panel decides whether to start it again.
                    server.asked.power(Expect::Down);
                }
                server.damaged = false;
                server.unchanged_since = None;
                self.promise_report(id);
            }
            // The panel undoes its change, unless an earlier installation is in progress.
            Some(_) => {
                self.tally.rejected += 1;
                self.roll_back(id);
            }
            None => {
                self.servers[at].asked.unanswered(&daemon.node.context.store.folder(id), id);
                self.servers[at].unchanged_since = None;
                self.roll_back(id);
            }
        }
    }

    /// An operator aborts an installation. Its `thenStart` is dropped with it; other expectations hold.
    pub async fn abort(&mut self, daemon: &Daemon, at: usize) {
        let id = self.servers[at].id;
        let body = json!({"action": "abort"});
        let answer = daemon.request(Method::POST, &format!("/local/servers/{id}/install"), body).await;
        self.log(|| format!("abort {at}: {answer:?}"));
    }

    pub async fn sync(&mut self, daemon: &Daemon, at: usize) {
        let id = self.servers[at].id;
        let memory = i64::try_from(64 + self.rng.below(4096)).unwrap();
        let suspend = self.rng.permille(150);
        let unsuspend = self.rng.permille(700);
        if let Some(side) = self.machine.panel.lock().servers.get_mut(&id) {
            side.server.settings.build.memory_limit = memory;
            if suspend {
                side.server.suspended = true;
            } else if unsuspend {
                side.server.suspended = false;
            }
        }
        let answer = daemon.request(Method::POST, &format!("/api/servers/{id}/sync"), json!([])).await;
        self.log(|| format!("sync {at} memory={memory} suspend={suspend} unsuspend={unsuspend}: {answer:?}"));
    }

    pub async fn delete(&mut self, daemon: &Daemon, at: usize) {
        let id = self.servers[at].id;
        self.servers[at].damaged = false;
        if let Some(side) = self.machine.panel.lock().servers.get_mut(&id) {
            // The panel does not wait for the installation of a deleted server.
            side.promised = false;
        }
        let requests =
            daemon.node.context.store.get(id).map(|snapshot| snapshot.requests.accepted.clone()).unwrap_or_default();
        let installs = requests.iter().filter(|request| matches!(request.verb, Verb::Install { .. }));
        let installs: Vec<String> = installs.map(|request| format!("{id} {}", request.id)).collect();
        let answer = daemon.request(Method::DELETE, &format!("/api/servers/{id}"), json!(null)).await;
        if answer.is_none_or(|status| status.is_success()) {
            self.lose_backups(id);
            // Script runs of a later server with this id are counted from zero.
            self.check_runs();
            self.runs.lock().unwrap().retain(|token, _| !token.starts_with(&id.to_string()));
            let server = &mut self.servers[at];
            server.deleted_installs.extend(installs.into_iter().chain(server.lost_installs.drain(..)));
        }
        self.log(|| format!("delete {at}: {answer:?}"));
        self.follow(daemon, at);
        match answer {
            Some(status) if status.is_success() => {
                self.servers[at].created = false;
                self.servers[at].deleted = true;
                self.servers[at].asked.power(Expect::Down);
                // A server that is created again is a new one.
                self.servers[at].asked.lose_spec();
                self.servers[at].unchanged_since = None;
                self.servers[at].overridden = false;
                self.delete_on_panel(id);
            }
            Some(_) => {}
            None => {
                // The panel asks again, or finds the server gone. Nothing is known about it from here on.
                self.servers[at].asked.unanswered(&daemon.node.context.store.folder(id), id);
                self.servers[at].unchanged_since = None;
                let mut panel = self.machine.panel.lock();
                if let Some(side) = panel.elsewhere.get_mut(&id) {
                    side.states.clear();
                }
                if let Some(side) = panel.servers.get_mut(&id) {
                    // The last state is unknown too: a server that the list brings back starts without one.
                    side.states.clear();
                }
                drop(panel);
                let known = daemon.node.context.store.get(id);
                // The delete may have waited for the list that was bringing the server; then it was not accepted.
                let not_accepted = known.as_ref().is_none_or(|snapshot| !snapshot.is_being_deleted())
                    && [CONFIG_FILE, RECORD_FILE]
                        .iter()
                        .any(|file| daemon.node.context.store.folder(id).join(file).exists());
                self.servers[at].created = known.is_some_and(|snapshot| snapshot.is_listed()) || not_accepted;
                if !self.servers[at].created {
                    self.servers[at].deleted = true;
                    self.delete_on_panel(id);
                }
                // The next daemon executes what is on disk, which removes the override with the server's files.
                self.servers[at].overridden = false;
            }
        }
    }
}
