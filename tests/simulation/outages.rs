//! Outages of the engine, the panel and the disk, and files that the disk damages.

use std::io::ErrorKind;
use std::time::Duration;

use alula::model::{ContainerState, Role};
use alula::runtime::container_name;
use alula::store::{DiskOp, RECORD_FILE, REQUESTS_FILE};
use serde_json::json;
use tokio::time::Instant;

use crate::expected::Expect;
use crate::scenario::Play;

impl Play {
    /// Most outages are short, some are an hour long.
    fn outage(&mut self) -> Duration {
        if self.rng.permille(150) { Duration::from_secs(3600) } else { self.rng.millis(100, 180_000) }
    }

    /// What comes with the end of a daemon.
    pub fn between_processes(&mut self) {
        let name = format!("b{}", self.tally.processes);
        let acting = std::mem::replace(&mut self.rng, self.plan.rng(&name));
        match self.rng.below(20) {
            0 if self.plan.happens(&name) => self.engine_away(),
            1 if self.plan.happens(&name) => self.panel_away(),
            _ => {}
        }
        let name = format!("d{}", self.tally.processes);
        self.rng = self.plan.rng(&name);
        if self.rng.permille(60) && self.plan.happens(&name) {
            let at = self.any();
            self.damage(at);
        }
        self.rng = acting;
    }

    /// Stops the engine, and starts it after a while.
    #[expect(clippy::disallowed_methods, reason = "the engine's return is no task of the daemon")]
    pub fn engine_away(&mut self) {
        let time = self.outage();
        self.log(|| format!("engine away for {time:?}"));
        let docker = self.machine.engine.clone();
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
        self.log(|| format!("panel away for {time:?}"));
        self.machine.panel.lock().unreachable_until = Some(Instant::now() + time);
    }

    /// The disk rejects records, requests or both for a while: those of one server, or of all.
    pub fn records_rejected(&mut self, at: usize) {
        let server = self.rng.permille(500).then(|| self.servers[at].id);
        let kind = *self.rng.pick(&[ErrorKind::StorageFull, ErrorKind::ReadOnlyFilesystem, ErrorKind::Other]);
        let time = self.outage();
        let ops: &[DiskOp] = match self.rng.below(3) {
            0 => &[DiskOp::WriteRecord],
            1 => &[DiskOp::WriteRequests],
            _ => &[DiskOp::WriteRecord, DiskOp::WriteRequests],
        };
        self.log(|| format!("the disk rejects {ops:?} of {server:?} for {time:?}: {kind}"));
        self.machine.disk.reject(ops, server, kind, time);
    }

    /// While no daemon runs, the disk damages the record of a server, its requests, or both: they are cut off, emptied, or
    /// written over.
    ///
    /// All earlier requests count as completed: a server that does not run stays down until the next request, and the script does
    /// not run again. A running server continues until it ends by itself. No report of its installation is promised any more, but
    /// the panel must not show it without end. A lost deletion leaves a server that its panel does not list.
    pub fn damage(&mut self, at: usize) {
        let files: &[&str] = match self.rng.below(3) {
            0 => &[RECORD_FILE],
            1 => &[REQUESTS_FILE],
            _ => &[RECORD_FILE, REQUESTS_FILE],
        };
        let how = self.rng.below(3);
        let server = &mut self.servers[at];
        let folder = self.machine.root.path().join(format!("servers/{}", server.id));
        let mut damaged = Vec::new();
        let stored = |file: &str| -> serde_json::Value {
            std::fs::read(folder.join(file)).map_or_else(|_| json!({}), |text| serde_json::from_slice(&text).unwrap())
        };
        let done = stored(RECORD_FILE)["record"]["install"]["done"].clone();
        for file in files {
            let Ok(mut text) = std::fs::read(folder.join(file)) else { continue };
            let before: serde_json::Value = serde_json::from_slice(&text).unwrap();
            match how {
                0 => text.truncate(text.len() / 2),
                1 => text.clear(),
                _ => text.fill(0),
            }
            std::fs::write(folder.join(file), text).unwrap();
            if *file == RECORD_FILE {
                server.asked.lose_spec();
            } else {
                server.asked.lose_handled();
                let accepted = before["accepted"].as_array().unwrap();
                let deletion = accepted.iter().any(|request| request["verb"] == "delete");
                (server.deleted, server.created) = (server.deleted && !deletion, server.created && !deletion);
                // An installation that is withdrawn with its request may have begun another log.
                let later = |request: &serde_json::Value| request["sequence"].as_u64() > done["sequence"].as_u64();
                let installs = accepted.iter().filter(|request| request["verb"] == "install" && later(request));
                let lost = installs.filter_map(|request| Some(format!("{} {}", server.id, request["id"].as_str()?)));
                let lost: Vec<String> = lost.collect();
                if !lost.is_empty() {
                    server.superseded_install = done["token"].as_str().map(str::to_owned);
                }
                server.lost_installs.extend(lost);
            }
            damaged.push(*file);
        }
        if damaged.is_empty() {
            return;
        }
        server.parked = None;
        if let Some(side) = self.machine.panel.lock().servers.get_mut(&server.id) {
            side.promised = false;
        }
        self.log(|| format!("{damaged:?} of {at} are damaged"));
        let id = self.servers[at].id;
        self.lose_backups(id);
        let server = &mut self.servers[at];
        let requests = std::fs::read_to_string(folder.join(REQUESTS_FILE)).unwrap_or_default();
        if requests.contains("\"verb\":\"delete\"") && !damaged.contains(&REQUESTS_FILE) {
            // The deletion goes on, and what was asked of the server after it is asked of one that has no record yet.
            return;
        }
        let runs =
            self.machine.engine.state_of(&container_name(server.id, Role::Server)) == Some(ContainerState::Running);
        server.asked.lose_requests(&folder, if runs { Expect::Either } else { Expect::Down });
        server.damaged = true;
        server.unchanged_since = Some(self.machine.engine.history().len());
    }

    /// Ends all outages.
    pub fn end_outages(&mut self) {
        self.machine.disk.recover();
        self.machine.engine.set_engine_up(true);
        self.machine.panel.lock().unreachable_until = None;
    }
}
