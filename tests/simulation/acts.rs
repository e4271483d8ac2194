//! What is asked for through the API, and what must follow from the answers.

use std::sync::Arc;

use alula::model::{ServerId, Verb};
use alula::store::{CONFIG_FILE, Snapshot};
use axum::http::Method;
use serde_json::json;

use crate::daemon::Daemon;
use crate::expected::Expect;
use crate::furnish::panel_side;
use crate::scenario::{Play, Server};

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
            // One that has heard of an end does not wait for another because of a repeated request.
            // Nor does one whose result is lost.
            side.installing |= side.reports.is_empty() && !self.servers[at].damaged;
        }
        let before = daemon.world.store.get(id);
        self.tally.wishes += 1;
        let answer =
            daemon.request(Method::POST, "/api/servers", json!({"uuid": id, "start_on_completion": start})).await;
        self.say(|| format!("create {at} start={start}: {answer:?}"));
        self.follow(daemon, at);
        let folder = daemon.world.store.folder(id);
        let server = &mut self.servers[at];
        match answer {
            Some(status) if status.is_success() => {
                // One whose installation was asked for before, though the answer may have been lost, is not asked for again.
                let after = daemon.world.store.get(id);
                if after.is_some_and(|after| Server::was_asked_to_install(before.as_deref(), &after)) {
                    // A power request from before the panel created the server does not follow the installation.
                    server.asked.power(Expect::Down);
                    server.asked.install(start);
                    server.quiet_since = None;
                }
                server.created = true;
                server.deleted = false;
                if !server.damaged {
                    self.promise(id);
                }
            }
            Some(_) => {
                // The panel has its row all the same, so the next boot finds it in the list.
                self.tally.rejected += 1;
                server.deleted = false;
            }
            None => {
                // It may be on disk or not; then it is wanted again, which must be harmless.
                server.asked.unanswered(&folder, id);
                server.quiet_since = None;
                server.deleted = false;
            }
        }
    }

    /// What the daemon has made requests of counts before what was asked of it later.
    pub fn follow(&mut self, daemon: &Daemon, at: usize) {
        let server = &mut self.servers[at];
        if server.asked.follow(&daemon.world.store, server.id, daemon.world.clock.now()) {
            server.quiet_since = None;
        }
    }

    /// The daemon has answered 2xx to an installation: the panel may rely on hearing of its end. If the report has come
    /// already, it has been heard.
    fn promise(&self, id: ServerId) {
        let mut panel = self.machine.panel.lock();
        if let Some(side) = panel.servers.get_mut(&id)
            && side.installing
        {
            side.promised = true;
        }
    }

    /// The panel has deleted a server.
    fn forget(&self, id: ServerId) {
        let mut panel = self.machine.panel.lock();
        panel.servers.remove(&id);
        panel.elsewhere.remove(&id);
    }

    /// A request to install that was not answered with 2xx leaves the panel as it was: there it is one transaction.
    fn take_back(&self, id: ServerId) {
        if let Some(side) = self.machine.panel.lock().servers.get_mut(&id) {
            side.installing = side.promised;
        }
    }

    pub async fn power(&mut self, daemon: &Daemon, at: usize) {
        let id = self.servers[at].id;
        let action = *self.rng.pick(&["start", "start", "stop", "restart", "kill"]);
        let wait_seconds = if self.rng.permille(300) { self.rng.below(60) } else { 0 };
        let typed = self.rng.permille(200);
        self.tally.wishes += 1;
        let before = daemon.world.store.get(id);
        let answer = match typed {
            // On the command line.
            true => {
                daemon.request(Method::POST, &format!("/local/servers/{id}/power"), json!({"action": action})).await
            }
            false => {
                let body = json!({"action": action, "wait_seconds": wait_seconds});
                daemon.request(Method::POST, &format!("/api/servers/{id}/power"), body).await
            }
        };
        self.say(|| format!("{action} {at} wait={wait_seconds} typed={typed}: {answer:?}"));
        self.follow(daemon, at);
        match answer {
            Some(status) if status.is_success() => self.note_power(daemon, at, action, before),
            Some(_) => self.tally.rejected += 1,
            None => self.servers[at].asked.unanswered(&daemon.world.store.folder(id), id),
        }
    }

    fn note_power(&mut self, daemon: &Daemon, at: usize, action: &str, before: Option<Arc<Snapshot>>) {
        let server = &mut self.servers[at];
        if matches!(action, "stop" | "kill") {
            server.asked.power(Expect::Down);
            return;
        }
        match (before, daemon.world.store.get(server.id)) {
            (Some(before), Some(after)) => server.asked.up(&before, &after, daemon.world.clock.now()),
            _ => server.asked.power(Expect::Up),
        }
    }

    pub async fn reinstall(&mut self, daemon: &Daemon, at: usize) {
        let id = self.servers[at].id;
        let action = *self.rng.pick(&["reinstall", "install"]);
        self.tally.wishes += 1;
        if let Some(side) = self.machine.panel.lock().servers.get_mut(&id) {
            side.installing = true;
        }
        let answer = daemon.request(Method::POST, &format!("/api/servers/{id}/{action}"), json!([])).await;
        self.say(|| format!("{action} {at}: {answer:?}"));
        self.follow(daemon, at);
        match answer {
            Some(status) if status.is_success() => {
                let server = &mut self.servers[at];
                server.asked.install(false);
                if !server.of_file {
                    // Its panel starts it again, or not.
                    server.asked.power(Expect::Down);
                }
                server.damaged = false;
                server.quiet_since = None;
                self.promise(id);
            }
            // The panel takes its own change back, unless an earlier installation is still under way.
            Some(_) => {
                self.tally.rejected += 1;
                self.take_back(id);
            }
            None => {
                self.servers[at].asked.unanswered(&daemon.world.store.folder(id), id);
                self.servers[at].quiet_since = None;
                self.take_back(id);
            }
        }
    }

    /// An operator ends an installation. The start that was to follow goes with it; everything else holds.
    pub async fn abort(&mut self, daemon: &Daemon, at: usize) {
        let id = self.servers[at].id;
        let body = json!({"action": "abort"});
        let answer = daemon.request(Method::POST, &format!("/local/servers/{id}/install"), body).await;
        self.say(|| format!("abort {at}: {answer:?}"));
    }

    pub async fn sync(&mut self, daemon: &Daemon, at: usize) {
        let id = self.servers[at].id;
        let memory = i64::try_from(64 + self.rng.below(4096)).unwrap();
        let suspend = self.rng.permille(150);
        let unsuspend = self.rng.permille(700);
        if let Some(side) = self.machine.panel.lock().servers.get_mut(&id) {
            side.wanted.settings.build.memory_limit = memory;
            if suspend {
                side.wanted.suspended = true;
            } else if unsuspend {
                side.wanted.suspended = false;
            }
        }
        let answer = daemon.request(Method::POST, &format!("/api/servers/{id}/sync"), json!([])).await;
        self.say(|| format!("sync {at} memory={memory} suspend={suspend} unsuspend={unsuspend}: {answer:?}"));
    }

    pub async fn delete(&mut self, daemon: &Daemon, at: usize) {
        let id = self.servers[at].id;
        self.servers[at].damaged = false;
        if let Some(side) = self.machine.panel.lock().servers.get_mut(&id) {
            // Who deletes a server does not wait for its installation any more.
            side.promised = false;
        }
        let requests =
            daemon.world.store.get(id).map(|snapshot| snapshot.requests.accepted.clone()).unwrap_or_default();
        let installs = requests.iter().filter(|request| matches!(request.verb, Verb::Install { .. }));
        let installs: Vec<String> = installs.map(|request| format!("{id} {}", request.id)).collect();
        let answer = daemon.request(Method::DELETE, &format!("/api/servers/{id}"), json!(null)).await;
        if answer.is_none_or(|status| status.is_success()) {
            // What a later server of this name finds is no concern of this one.
            self.check_runs();
            self.runs.lock().unwrap().retain(|token, _| !token.starts_with(&id.to_string()));
            self.servers[at].buried.extend(installs);
        }
        self.say(|| format!("delete {at}: {answer:?}"));
        self.follow(daemon, at);
        match answer {
            Some(status) if status.is_success() => {
                self.servers[at].created = false;
                self.servers[at].deleted = true;
                self.servers[at].asked.power(Expect::Down);
                // One that is made again is a new one.
                self.servers[at].asked.lose_spec();
                self.servers[at].quiet_since = None;
                self.servers[at].overridden = false;
                self.forget(id);
            }
            Some(_) => {}
            None => {
                // As the panel does: it asks again, or finds it gone. Here it is told that nothing is known any more.
                self.servers[at].asked.unanswered(&daemon.world.store.folder(id), id);
                self.servers[at].quiet_since = None;
                let mut panel = self.machine.panel.lock();
                if let Some(side) = panel.elsewhere.get_mut(&id) {
                    side.states.clear();
                }
                if let Some(side) = panel.servers.get_mut(&id) {
                    // Nor what it did last: a server that the list brings back later begins anew.
                    side.states.clear();
                }
                drop(panel);
                let known = daemon.world.store.get(id);
                // It may have waited for the list that was just bringing the server: then nobody has heard of it.
                let unheard = known.as_ref().is_none_or(|snapshot| !snapshot.is_being_deleted())
                    && daemon.world.store.folder(id).join(CONFIG_FILE).exists();
                self.servers[at].created = known.is_some_and(|snapshot| snapshot.is_listed()) || unheard;
                if !self.servers[at].created {
                    self.servers[at].deleted = true;
                    self.forget(id);
                }
                // The next daemon carries out what is on disk: then its files are gone, these changes too.
                self.servers[at].overridden = false;
            }
        }
    }
}
