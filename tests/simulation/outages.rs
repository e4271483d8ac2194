//! What is away for a while, whatever else happens meanwhile: engine, panel, room for records; and what a disk damages.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::time::Instant;

use crate::scenario::{Expect, Play};

impl Play {
    /// Most outages are short, some are an hour long.
    fn outage(&mut self) -> Duration {
        if self.rng.permille(150) { Duration::from_secs(3600) } else { self.rng.millis(100, 180_000) }
    }

    /// What comes with the end of a daemon.
    pub fn between_lives(&mut self) {
        let name = format!("b{}", self.tally.lives);
        let acting = std::mem::replace(&mut self.rng, self.plan.rng(&name));
        match self.rng.below(20) {
            0 if self.plan.happens(&name) => self.engine_away(),
            1 if self.plan.happens(&name) => self.panel_away(),
            _ => {}
        }
        let name = format!("d{}", self.tally.lives);
        self.rng = self.plan.rng(&name);
        if self.rng.permille(60) && self.plan.happens(&name) {
            let at = self.any();
            self.damage_record(at);
        }
        self.rng = acting;
    }

    /// The engine goes away and comes back by itself.
    #[expect(clippy::disallowed_methods, reason = "the engine's return is nobody's task")]
    pub fn engine_away(&mut self) {
        let time = self.outage();
        self.say(|| format!("engine away for {time:?}"));
        let docker = self.machine.docker.clone();
        let goes_down = self.rng.permille(500).then(|| self.rng.millis(0, 15_000));
        match goes_down {
            Some(_) => docker.go_down(),
            None => docker.set_engine_up(false),
        }
        tokio::spawn(async move {
            if let Some(time) = goes_down {
                tokio::time::sleep(time).await;
                if !docker.goes_down() {
                    // Everything was brought back meanwhile.
                    return;
                }
                docker.set_engine_up(false);
            }
            tokio::time::sleep(time).await;
            docker.set_engine_up(true);
        });
    }

    pub fn panel_away(&mut self) {
        let time = self.outage();
        self.say(|| format!("panel away for {time:?}"));
        self.machine.panel.lock().away_until = Some(Instant::now() + time);
    }

    /// The disk refuses records for a while: those of one server, or all.
    pub fn records_refused(&mut self, at: usize) {
        let server = self.rng.permille(500).then(|| self.servers[at].id);
        let kind = *self.rng.pick(&[ErrorKind::StorageFull, ErrorKind::ReadOnlyFilesystem, ErrorKind::Other]);
        let time = self.outage();
        self.say(|| format!("the disk refuses records of {server:?} for {time:?}: {kind}"));
        self.machine.disk.refuse_records(server, kind, time);
    }

    /// While no daemon runs, the disk damages the record of a server: it is cut off, emptied, or written over.
    ///
    /// What only the record knows is lost with it: a deletion, that the server is parked, and how its requests ended. So
    /// nothing certain is expected of the server until the next request, and its installation is no longer promised. But
    /// the panel must not show it for ever. A record is damaged beside a manifest that can be read: with both lost nobody knows
    /// what the manifest that is put back later has asked for before.
    pub fn damage_record(&mut self, at: usize) {
        let server = &mut self.servers[at];
        let folder = self.machine.root.path().join(format!("servers/{}", server.id));
        let path = folder.join("record.json");
        if std::fs::read_to_string(folder.join("config.yml")).map_or(true, |text| text.contains("\tbroken")) {
            return;
        }
        let Ok(mut text) = std::fs::read(&path) else { return };
        let stored: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let facts = &stored["facts"];
        if server.deleted || !facts["deletion"].is_null() || !facts["parked"].is_null() {
            return;
        }
        match self.rng.below(3) {
            0 => text.truncate(text.len() / 2),
            1 => text.clear(),
            _ => text.fill(0),
        }
        std::fs::write(path, text).unwrap();
        server.expect = Expect::Either;
        server.unrecorded = None;
        server.damaged = true;
        if let Some(side) = self.machine.panel.lock().servers.get_mut(&server.id) {
            side.promised = false;
        }
        self.say(|| format!("the record of {at} is damaged"));
    }

    /// Everything is back.
    pub fn end_outages(&mut self) {
        self.machine.disk.take_records();
        self.machine.docker.set_engine_up(true);
        self.machine.panel.lock().away_until = None;
    }
}
