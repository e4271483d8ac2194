//! The step of a crash: it is recorded with the last lines of the console, and announced there as Wings does.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::json;

use super::{Context, Done, StepError};
use crate::activity::{ActivityEvent, Entry};
use crate::model::{Crash, Handled, Reason, Restart, ServerId};

/// Lines of the console that a crash keeps.
const LINES: u32 = 10;
/// Characters of each of them.
const LINE: usize = 500;

impl Context {
    pub(super) async fn record_crash(&self, id: ServerId, crash: &Crash, handled: &Handled) -> Done {
        let lines = self.lines_before_crash(id, crash).await;
        let kept = lines[lines.len().saturating_sub(LINES as usize)..].iter().map(|line| kept(line));
        let crash = Crash { lines: kept.filter(|line| !line.is_empty()).collect(), ..crash.clone() };
        let (noted, closed) = (crash.clone(), handled.clone());
        let recorded = self.commit(id, move |record| {
            if !noted.restarted {
                record.power.handled = Some(closed);
            }
            record.push_crash(noted);
        });
        match recorded.await {
            Ok(()) => self.servers.crash_recorded(id),
            // A server is started again although the disk is full; its crash is kept in memory.
            Err(StepError::Store(error)) if crash.restarted && error.is_full_disk() => {
                tracing::warn!(%error, "cannot record a crash; it is kept in memory");
                self.servers.crash_unrecorded(id, crash.clone());
            }
            Err(error) => return Err(error),
        }
        self.announce_crash(id, &crash, handled.reason);
        if is_activity(handled.reason) {
            self.record_activity(id, &crash, &lines);
        }
        self.store.event(id, crash.at, handled.reason, &handled.message);
        Ok(())
    }

    /// A crash is recorded also where its lines cannot be read.
    async fn lines_before_crash(&self, id: ServerId, crash: &Crash) -> Vec<String> {
        let lines = LINES.max(self.node.config.crash_activity_lines);
        self.last_lines(id, &crash.container, lines).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot read the last lines before a crash");
            Vec::new()
        })
    }

    /// Source: lifecycle, "Crash handling".
    fn announce_crash(&self, id: ServerId, crash: &Crash, reason: Reason) {
        let announce = |text: &str| self.console.announce(id, text);
        if reason == Reason::CrashDetectionDisabled {
            announce("Aborting automatic restart, crash detection is disabled for this instance.");
            return;
        }
        announce("---------- Detected server process in a crashed state! ----------");
        announce(&format!("Exit code: {}", crash.exit_code));
        announce(&format!("Out of memory: {}", crash.oom_killed));
        match reason {
            Reason::CrashLoop => {
                let seconds = self.node.policy.crash_timeout.as_secs();
                announce(&format!("Aborting automatic restart, last crash occurred less than {seconds} seconds ago."));
            }
            Reason::NotRestarted => announce("Aborting automatic restart, the restart policy of this server is Never."),
            _ => {
                let delay = self.restart_policy(id).map(|restart| restart.delay(crash.in_row));
                if let Some(delay) = delay.filter(|delay| !delay.is_zero()) {
                    announce(&format!("Restarting in {} seconds.", delay.as_secs()));
                }
            }
        }
    }

    /// Source: lifecycle, "Crash handling".
    fn record_activity(&self, id: ServerId, crash: &Crash, lines: &[String]) {
        let logs = &lines[lines.len().saturating_sub(self.node.config.crash_activity_lines as usize)..];
        self.activity.record(Entry {
            server: id,
            event: ActivityEvent::Crashed,
            user: None,
            ip: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            metadata: json!({"exit_code": crash.exit_code, "oomkilled": crash.oom_killed, "logs": logs}),
        });
    }

    fn restart_policy(&self, id: ServerId) -> Option<Restart> {
        self.store.get(id)?.manifest.as_ref()?.spec.restart.clone()
    }
}

/// Whether the panel's log has the crash: not one after which Wings' rule keeps the server offline.
fn is_activity(reason: Reason) -> bool {
    matches!(reason, Reason::Crashed | Reason::NotRestarted)
}

/// A line for people: without colours and control characters, and not too long.
fn kept(line: &str) -> String {
    let plain = anstream::adapter::strip_str(line).to_string();
    plain.chars().take(LINE).map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_owned()
}
