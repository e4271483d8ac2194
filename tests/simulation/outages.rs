//! What is away for a while, whatever else happens meanwhile: engine, panel, the outbox's folder.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use crate::scenario::Play;

impl Play {
    /// Most outages are short, some are an hour long.
    fn outage(&mut self) -> Duration {
        if self.rng.permille(150) { Duration::from_secs(3600) } else { self.rng.millis(100, 180_000) }
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

    fn outbox(&self) -> (PathBuf, PathBuf) {
        let outbox = self.machine.root.path().join("outbox");
        (outbox.clone(), outbox.with_extension("away"))
    }

    /// Something takes the place of the outbox's folder: no fact can be put in or taken out.
    pub fn outbox_away(&mut self) {
        let (outbox, away) = self.outbox();
        if self.outbox_back.is_some() || !outbox.is_dir() {
            return;
        }
        let time = self.rng.millis(100, 120_000);
        self.say(|| format!("outbox away for {time:?}"));
        std::fs::rename(&outbox, away).unwrap();
        std::fs::write(outbox, "no folder").unwrap();
        self.outbox_back = Some(Instant::now() + time);
    }

    /// Puts the outbox back where its time has come.
    pub fn mend_outbox(&mut self, now: bool) {
        let Some(_) = self.outbox_back.filter(|at| now || *at <= Instant::now()) else { return };
        let (outbox, away) = self.outbox();
        std::fs::remove_file(&outbox).unwrap();
        std::fs::rename(away, outbox).unwrap();
        self.outbox_back = None;
    }

    /// Everything is back.
    pub fn end_outages(&mut self) {
        self.mend_outbox(true);
        self.machine.docker.set_engine_up(true);
        self.machine.panel.lock().away_until = None;
    }
}
