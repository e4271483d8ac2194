//! What follows when a server ends by itself: whether it is started again, and when.

use super::Planner;
use crate::model::{ContainerState, Crash, Manifest, Reason, Restart};
use crate::reconcile::step::Step;
use crate::requests::PowerRequest;

/// Characters of the console's lines that a message has.
const MAX_LINES: usize = 400;

/// The decision about a server that has ended by itself.
struct Verdict {
    restart: bool,
    reason: Reason,
    message: String,
}

impl Planner<'_> {
    /// A container that served this request has ended by itself. What follows is decided once.
    pub(super) fn judges_crash(&mut self, manifest: &Manifest, request: &PowerRequest) -> bool {
        let Some(server) = &self.observed.server else { return false };
        let ContainerState::Exited { code, oom_killed } = server.state else { return false };
        let judged = self.crashes().any(|crash| crash.container == server.id);
        let watched = self.observed.seen_running.as_ref() == Some(&server.id);
        let stopped = self.observed.stop.as_ref().is_some_and(|stop| stop.container == server.id);
        // A container that ended unwatched (the host went down, the daemon was not running) is started again.
        if self.record.serving(server) != Some(&request.id) || judged || !watched || stopped {
            return false;
        }
        let Verdict { restart, reason, message } = self.crash_verdict(manifest, code, oom_killed);
        self.set_offline(reason, message.clone());
        if reason == Reason::Exited {
            self.close(request, reason, message);
        } else {
            let crash = Crash {
                container: server.id.clone(),
                at: self.now,
                exit_code: code,
                oom_killed,
                restarted: restart,
                in_row: self.crashes_in_row(manifest, request),
                power: request.id.clone(),
                // Read when the crash is recorded.
                lines: Vec::new(),
            };
            let handled = self.handled(request, reason, message);
            self.step(Step::RecordCrash { crash, handled });
        }
        true
    }

    /// The crashes in the order in which they happened.
    pub(super) fn crashes(&self) -> impl Iterator<Item = &Crash> {
        self.record.crashes.iter().chain(&self.observed.crash)
    }

    /// Source of the rule without a policy: lifecycle, "Crash handling".
    fn crash_verdict(&self, manifest: &Manifest, code: i64, oom_killed: bool) -> Verdict {
        let how = how(code, oom_killed);
        let clean = code == 0 && !oom_killed;
        let verdict = |restart, reason, message| Verdict { restart, reason, message };
        let exited = || verdict(false, Reason::Exited, "the server ended by itself with exit code 0".into());
        let restarted = || verdict(true, Reason::Crashed, format!("the server {how}; it is started again"));
        if let Some(restart) = &manifest.spec.restart {
            return match restart.restarts(clean) {
                true => restarted(),
                false if clean => exited(),
                false => verdict(
                    false,
                    Reason::NotRestarted,
                    format!("the server {how}, and its restart policy is Never; start it again by hand"),
                ),
            };
        }
        if !manifest.spec.settings.crash_detection_enabled.unwrap_or(self.policy.crash_detection) {
            let message = format!("the server {how}, and crash detection is off");
            return verdict(false, Reason::CrashDetectionDisabled, message);
        }
        if clean && !self.policy.clean_exit_is_crash {
            return exited();
        }
        let timeout = self.policy.crash_timeout;
        let last = self.observed.restart.as_ref().and_then(|restart| restart.at);
        if last.is_some_and(|last| self.instant.saturating_duration_since(last) < timeout) {
            let message = format!(
                "the server {how}, less than {} seconds after the crash before; start it again by hand",
                timeout.as_secs()
            );
            return verdict(false, Reason::CrashLoop, message);
        }
        restarted()
    }

    /// The position of a crash that happens now among those of the same request, each soon after the start that followed the one before.
    fn crashes_in_row(&self, manifest: &Manifest, request: &PowerRequest) -> u32 {
        let reset =
            manifest.spec.restart.as_ref().map_or(Restart::default_reset_after(), |restart| restart.reset_after);
        let run = self.observed.server_run;
        let ran = run.started.zip(run.ended).map(|(started, ended)| ended.saturating_duration_since(started));
        let long = ran.is_some_and(|ran| ran >= reset.0);
        match self.restarted_for(request) {
            Some(last) if !long => last.in_row.max(1).saturating_add(1),
            _ => 1,
        }
    }

    /// The latest crash after which this request was to be carried out again.
    fn restarted_for(&self, request: &PowerRequest) -> Option<&Crash> {
        self.crashes().filter(|crash| crash.restarted).last().filter(|crash| crash.power == request.id)
    }

    /// Whether the delay after a crash is not over. A new request to start the server does not wait.
    pub(super) fn waits_after_crash(&mut self, manifest: &Manifest, request: &PowerRequest) -> bool {
        let (Some(restart), Some(crash)) = (&manifest.spec.restart, self.restarted_for(request)) else { return false };
        let due =
            self.observed.restart.as_ref().and_then(|restart| restart.at).map(|at| at + restart.delay(crash.in_row));
        let Some(due) = due.filter(|due| self.instant < *due) else { return false };
        let message = format!(
            "the server crashed {} times in a row, and {} at last; it is started again at {}{}",
            crash.in_row,
            how(crash.exit_code, crash.oom_killed),
            self.input.now.time_at(due).time_of_day(),
            last_lines(crash)
        );
        self.set_offline(Reason::CrashLoop, message);
        self.requeue_at(due);
        true
    }

    /// What is added to the condition of a server that stays offline after a crash.
    pub(super) fn details_of_crash(&self, reason: Reason) -> String {
        let stays = matches!(reason, Reason::CrashLoop | Reason::NotRestarted | Reason::CrashDetectionDisabled);
        self.crashes().last().filter(|crash| stays && !crash.restarted).map(last_lines).unwrap_or_default()
    }
}

fn how(code: i64, oom_killed: bool) -> String {
    if oom_killed { "was killed for want of memory".into() } else { format!("ended with exit code {code}") }
}

/// The end of a message: the last lines of the console.
fn last_lines(crash: &Crash) -> String {
    if crash.lines.is_empty() {
        return String::new();
    }
    let text = crash.lines.join(" | ");
    let excess = text.chars().count().saturating_sub(MAX_LINES);
    let text: String = text.chars().skip(excess).collect();
    format!(". Its last lines: {text}")
}
