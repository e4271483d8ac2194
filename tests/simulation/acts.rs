//! What is asked for through the API, and what must follow from the answers.

use alula::model::ServerId;
use alula::store::CONFIG_FILE;
use axum::http::Method;
use serde_json::json;

use crate::daemon::Daemon;
use crate::furnish::panel_side;
use crate::scenario::{Expect, Play};

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
        // One whose installation was asked for before, though perhaps nobody got the answer.
        let repeated = daemon.world.store.get(id).is_some_and(|snapshot| {
            let asked = snapshot.manifest.as_ref().is_some_and(|manifest| manifest.spec.install.is_some());
            snapshot.is_listed() && asked
        });
        self.tally.wishes += 1;
        let answer =
            daemon.request(Method::POST, "/api/servers", json!({"uuid": id, "start_on_completion": start})).await;
        self.say(|| format!("create {at} start={start}: {answer:?}"));
        let server = &mut self.servers[at];
        match answer {
            Some(status) if status.is_success() => {
                if !repeated && server.expect != Expect::Either {
                    server.expect = match start {
                        // Written over, or over what was written.
                        _ if server.unseen.is_some() => Expect::Either,
                        true => Expect::Up,
                        false => Expect::Down,
                    };
                }
                server.created = true;
                server.deleted = false;
                server.installs += 1;
                if !server.damaged {
                    self.promise(id);
                }
            }
            Some(_) => {
                // The panel has its row all the same, so the next boot finds it in the list.
                self.tally.refused += 1;
                server.deleted = false;
            }
            None => {
                // It may be on disk or not; then it is wanted again, which must be harmless.
                server.expect = Expect::Either;
                server.deleted = false;
            }
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
        let action = *self.rng.pick(&["start", "start", "stop", "restart", "kill"]);
        let wait_seconds = if self.rng.permille(200) { self.rng.below(60) } else { 0 };
        let path = format!("/api/servers/{}/power", self.servers[at].id);
        self.tally.wishes += 1;
        let answer = daemon.request(Method::POST, &path, json!({"action": action, "wait_seconds": wait_seconds})).await;
        self.say(|| format!("{action} {at} wait={wait_seconds}: {answer:?}"));
        let server = &mut self.servers[at];
        match answer {
            // Which of the two is the later one the daemon cannot know.
            Some(status) if status.is_success() && server.unseen.is_some() => server.expect = Expect::Either,
            Some(status) if status.is_success() => {
                server.expect = if matches!(action, "start" | "restart") { Expect::Up } else { Expect::Down };
            }
            Some(_) => self.tally.refused += 1,
            None => server.expect = Expect::Either,
        }
    }

    pub async fn reinstall(&mut self, daemon: &Daemon, at: usize) {
        let id = self.servers[at].id;
        let word = *self.rng.pick(&["reinstall", "install"]);
        self.tally.wishes += 1;
        if let Some(side) = self.machine.panel.lock().servers.get_mut(&id) {
            side.installing = true;
        }
        let answer = daemon.request(Method::POST, &format!("/api/servers/{id}/{word}"), json!([])).await;
        self.say(|| format!("{word} {at}: {answer:?}"));
        match answer {
            Some(status) if status.is_success() => {
                let server = &mut self.servers[at];
                // A person's file may say that it comes up again.
                let certain = !server.of_file && server.unseen.is_none();
                server.expect = if certain { Expect::Down } else { Expect::Either };
                server.installs += 1;
                server.damaged = false;
                self.promise(id);
            }
            // The panel takes its own change back, unless an earlier installation is still under way.
            Some(_) => {
                self.tally.refused += 1;
                self.take_back(id);
            }
            None => {
                self.servers[at].expect = Expect::Either;
                self.take_back(id);
            }
        }
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
        let answer = daemon.request(Method::DELETE, &format!("/api/servers/{id}"), json!(null)).await;
        if answer.is_none_or(|status| status.is_success()) {
            // What a later server of this name finds is no concern of this one.
            self.check_runs();
            self.runs.lock().unwrap().retain(|token, _| !token.starts_with(&id.to_string()));
            let manifest = daemon.world.store.get(id).and_then(|snapshot| snapshot.manifest.clone());
            let install = manifest.and_then(|manifest| manifest.spec.install.clone());
            self.servers[at].buried.extend(install.map(|install| format!("{id} {}", install.token)));
        }
        self.say(|| format!("delete {at}: {answer:?}"));
        match answer {
            Some(status) if status.is_success() => {
                self.servers[at].created = false;
                self.servers[at].deleted = true;
                self.servers[at].expect = Expect::Down;
                self.servers[at].installs = 0;
                self.servers[at].overridden = false;
                self.servers[at].unseen = None;
                self.forget(id);
            }
            Some(_) => {}
            None => {
                // As the panel does: it asks again, or finds it gone. Here it is told that nothing is known any more.
                self.servers[at].expect = Expect::Either;
                if let Some(side) = self.machine.panel.lock().servers.get_mut(&id) {
                    // Nor what it did last: a server that the list brings back later begins anew.
                    side.states.clear();
                }
                let known = daemon.world.store.get(id);
                // It may have waited for the list that was just bringing the server: then nobody has heard of it.
                let unheard = known.as_ref().is_none_or(|snapshot| snapshot.record.deletion.is_none())
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
