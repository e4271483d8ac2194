//! Facts about one server that cannot be observed again: `record.json`. Only the store writes it.

use serde::{Deserialize, Serialize};

use super::manifest::{PowerIntent, Want};
use super::status::PowerState;
use super::{Reason, Timestamp};

/// Crashes kept in the history.
pub const CRASH_HISTORY: usize = 20;
/// Earlier wishes, and earlier installations, that are remembered.
pub const WISH_HISTORY: usize = 32;

/// The facts of one server.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Record {
    /// Counts accepted intents that really differed from the one before.
    pub generation: u64,
    /// Hash of the accepted intent.
    pub accepted_hash: String,
    /// A power wish that could not be written into a broken `config.yml`; counts instead of the file's.
    pub pending_power: Option<PowerIntent>,
    /// Power wishes and what became of them.
    pub power: PowerRecord,
    /// Installations and what became of them.
    pub install: InstallRecord,
    /// Latest crashes, oldest first, at most [`CRASH_HISTORY`].
    pub crashes: Vec<Crash>,
    /// The wish to delete the server with everything that belongs to it.
    pub deletion: Option<Deletion>,
    /// Since when the panel has not listed the server.
    pub parked: Option<Timestamp>,
    /// When the panel's part of the intent was last fetched.
    pub synced_at: Option<Timestamp>,
    /// Hash of the panel's part at that time: tells a hand edit from a change on the panel.
    pub synced_hash: Option<String>,
    /// The power wish for whose start the panel was last asked.
    pub synced_for: Option<String>,
    /// The container state that the panel was last told, or may have been told: whoever leaves `offline` is noted before the
    /// panel hears of it.
    pub told: Option<PowerState>,
}

/// Power wishes and what became of them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PowerRecord {
    /// The latest wish that is over.
    pub closed: Option<Closed>,
    /// Earlier wishes that are over or gave way to later ones, oldest first, at most [`WISH_HISTORY`]: a file that still
    /// holds one, or is put back, asks for nothing new.
    pub past: Vec<PastWish>,
    /// The wish for which a start has begun; it no longer lapses.
    pub begun: Option<String>,
    /// The wish to be up that took the place of a stop which was not done. Where it lapses, the stop counts again.
    pub instead_of_stop: Option<String>,
    /// The container in which the start-up was seen to finish.
    pub started: Option<String>,
    /// A container that was made for something else (an installation) and then given to a power wish. Labels
    /// cannot be changed, so the change of purpose is written here.
    pub serving: Option<Serving>,
    /// Limits that were put in force since a container was made; its label still says the old ones.
    pub limits: Option<AppliedLimits>,
}

/// The limits that a container has by now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AppliedLimits {
    /// The runtime's id of the container.
    pub container: String,
    /// Their hash; unknown while they are being changed.
    pub hash: Option<String>,
}

/// A container and the power wish that it serves instead of the one in its label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Serving {
    /// The runtime's id of the container.
    pub container: String,
    /// The power wish's id.
    pub power: String,
}

/// A wish that is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Closed {
    /// The wish's id.
    pub id: String,
    /// What it wanted: under the same id, the opposite is another wish.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub want: Option<Want>,
    /// One word: why it is over.
    pub reason: Reason,
    /// A sentence for people.
    pub message: String,
    /// When.
    pub at: Timestamp,
}

/// A power wish that no longer counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PastWish {
    /// Its id.
    pub id: String,
    /// What it wanted; unknown where an earlier release closed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub want: Option<Want>,
}

/// Installations and what became of them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InstallRecord {
    /// The latest installation that is over.
    pub done: Option<InstallResult>,
    /// Tokens of earlier installations that are over, oldest first, at most [`WISH_HISTORY`].
    pub past: Vec<String>,
    /// Token of an installation whose panel data was fetched and whose log was begun.
    pub begun: Option<String>,
    /// Runs of the present script that the engine or the host has cut off.
    pub interrupted: Option<Interrupted>,
    /// `done` was assumed because the record was lost: the panel may show an installation whose result it never gets. Set
    /// until the panel has reset its flags, or until the assumed result is reported in place of that (ADR 17).
    pub reset_owed: bool,
}

/// Runs of an install script that ended before its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Interrupted {
    /// The intent's token.
    pub token: String,
    /// The runtime's ids of the containers, oldest first.
    pub containers: Vec<String>,
}

/// An installation that is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstallResult {
    /// The intent's token.
    pub token: String,
    /// How it ended.
    pub outcome: InstallOutcome,
    /// Whether it was a reinstallation.
    pub reinstall: bool,
    /// The script's exit status, if it ran to its end.
    pub exit_code: Option<i64>,
    /// One word.
    pub reason: Reason,
    /// A sentence for people.
    pub message: String,
    /// When.
    pub at: Timestamp,
    /// Whether the panel has it (or has definitely refused it, or there is none to tell).
    pub reported: bool,
}

/// How an installation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum InstallOutcome {
    /// The script ran to its end, or there was none to run.
    Succeeded,
    /// It could not be run, ran too long, or was ended.
    Failed,
}

/// One crash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Crash {
    /// The container that ended.
    pub container: String,
    /// When it was noticed.
    pub at: Timestamp,
    /// Its exit status.
    pub exit_code: i64,
    /// Whether the kernel ended it for want of memory.
    pub oom_killed: bool,
    /// Whether the server was started again.
    pub restarted: bool,
}

/// The wish to delete a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deletion {
    /// When it was asked for.
    pub at: Timestamp,
    /// The server was wanted again while its deletion was under way: begin anew when it is done.
    pub recreate: bool,
}

impl Closed {
    /// Whether this is the end of that wish.
    pub fn is(&self, id: &str, want: Want) -> bool {
        self.id == id && self.want.is_none_or(|wanted| wanted == want)
    }
}

impl PastWish {
    fn is(&self, id: &str, want: Want) -> bool {
        self.id == id && self.want.is_none_or(|wanted| wanted == want)
    }
}

impl Record {
    /// The server is wanted again while it is being deleted: what is asked of it from now on belongs to its next life.
    pub fn want_again(&mut self) {
        if let Some(deletion) = self.deletion.as_mut().filter(|deletion| !deletion.recreate) {
            deletion.recreate = true;
            self.pending_power = None;
            self.power = PowerRecord::default();
        }
    }

    /// Notes a crash, forgetting the oldest ones.
    pub fn push_crash(&mut self, crash: Crash) {
        self.crashes.push(crash);
        let excess = self.crashes.len().saturating_sub(CRASH_HISTORY);
        self.crashes.drain(..excess);
    }

    /// Whether this wish is over.
    pub fn power_closed(&self, id: &str, want: Want) -> bool {
        self.power.closed.as_ref().is_some_and(|closed| closed.is(id, want))
            || self.power.past.iter().any(|past| past.is(id, want))
    }

    /// Notes that a power wish is over.
    pub fn close_power(&mut self, closed: Closed) {
        let (id, want) = (closed.id.clone(), closed.want);
        if let Some(before) =
            self.power.closed.replace(closed).filter(|before| (&before.id, before.want) != (&id, want))
        {
            self.push_past_wish(PastWish { id: before.id, want: before.want });
        }
    }

    /// Whether the wish that waits for a whole file comes before the one in the file. A wish in the file that was not there
    /// when this one was made is a person's, and later.
    pub fn pending_counts(&self, in_file: Option<&PowerIntent>) -> bool {
        self.pending_power.as_ref().is_some_and(|pending| {
            in_file.is_none_or(|power| power.id != pending.id && self.power_closed(&power.id, power.want))
        })
    }

    /// Notes that the intent asks for another power than before.
    pub fn supersede_power(&mut self, before: Option<&PowerIntent>, after: Option<&PowerIntent>) {
        let (Some(before), Some(after)) = (before, after) else { return };
        if before.id == after.id && before.want != after.want {
            // Only a person changes a wish under its name, and means it, however often.
            self.power.past.retain(|past| !past.is(&after.id, after.want));
            self.power.closed.take_if(|closed| closed.is(&after.id, after.want));
        } else if before.id == after.id || self.power_closed(&after.id, after.want) {
            // What is over takes nobody's place.
            return;
        }
        let open = !self.power_closed(&before.id, before.want);
        let stops = match before.want {
            Want::Down => true,
            Want::Up => self
                .power
                .instead_of_stop
                .as_ref()
                .is_some_and(|id| *id == before.id && self.power.begun.as_ref() != Some(id)),
        };
        self.power.instead_of_stop = (open && stops && after.want == Want::Up).then(|| after.id.clone());
        self.push_past_wish(PastWish { id: before.id.clone(), want: Some(before.want) });
    }

    fn push_past_wish(&mut self, wish: PastWish) {
        self.power.past.retain(|past| *past != wish);
        self.power.past.push(wish);
        let excess = self.power.past.len().saturating_sub(WISH_HISTORY);
        self.power.past.drain(..excess);
    }

    /// The containers in which the script of this installation was cut off.
    pub fn interrupted(&self, token: &str) -> &[String] {
        self.install.interrupted.as_ref().filter(|found| found.token == token).map_or(&[], |found| &found.containers)
    }

    /// Notes that the script of an installation was cut off in this container.
    pub fn interrupt_install(&mut self, token: &str, container: &str) {
        let mut containers = self.interrupted(token).to_vec();
        if !containers.iter().any(|known| known == container) {
            containers.push(container.to_owned());
        }
        self.install.interrupted = Some(Interrupted { token: token.to_owned(), containers });
    }

    /// Notes that an installation is over.
    pub fn finish_install(&mut self, result: InstallResult) {
        self.install.interrupted = None;
        self.install.reset_owed = false;
        let token = result.token.clone();
        if let Some(before) = self.install.done.replace(result).filter(|before| before.token != token) {
            self.install.past.retain(|past| *past != before.token);
            self.install.past.push(before.token);
            let excess = self.install.past.len().saturating_sub(WISH_HISTORY);
            self.install.past.drain(..excess);
        }
    }

    /// Whether the installation with this token is over, be it the latest or an earlier one.
    pub fn install_over(&self, token: &str) -> bool {
        self.install_done(token).is_some() || self.install.past.iter().any(|past| past == token)
    }

    /// The result of the installation with this token, if it is the latest.
    pub fn install_done(&self, token: &str) -> Option<&InstallResult> {
        self.install.done.as_ref().filter(|done| done.token == token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::How;

    fn power(id: &str, want: Want) -> PowerIntent {
        PowerIntent { id: id.into(), want, how: How::Graceful, requested_at: None, expires_at: None }
    }

    fn closed(id: &str, want: Want) -> Closed {
        let (reason, message) = (Reason::Stopped, String::new());
        Closed { id: id.into(), want: Some(want), reason, message, at: Timestamp::default() }
    }

    #[test]
    fn a_record_of_an_earlier_release_is_read() {
        let text =
            r#"{"power": {"closed": {"id": "a", "reason": "Stopped", "message": "", "at": "2026-01-01T00:00:00Z"}}}"#;
        let mut record: Record = serde_json::from_str(text).unwrap();
        assert!(record.power_closed("a", Want::Up) && record.power_closed("a", Want::Down));
        record.close_power(closed("b", Want::Down));
        assert!(record.power_closed("a", Want::Up) && !record.power_closed("b", Want::Up));
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
    }

    #[test]
    fn wishes_are_of_the_next_life_once_it_is_wanted() {
        let (old, new) = (power("old", Want::Up), power("new", Want::Down));
        let mut record = Record { pending_power: Some(old), ..Record::default() };
        record.close_power(closed("old", Want::Down));
        let before = record.clone();
        record.want_again();
        assert_eq!(record, before, "it has this life yet");
        record.deletion = Some(Deletion { at: Timestamp::default(), recreate: false });
        record.want_again();
        let wanted = Deletion { at: Timestamp::default(), recreate: true };
        assert_eq!(record, Record { deletion: Some(wanted), ..Record::default() });
        record.pending_power = Some(new);
        record.close_power(closed("new", Want::Up));
        let before = record.clone();
        record.want_again();
        assert_eq!(record, before, "it was wanted already");
    }

    #[test]
    fn wishes_that_gave_way_are_over_and_the_latest_of_them_remembered() {
        let mut record = Record::default();
        let wish = |number: usize| power(&format!("w{number}"), Want::Up);
        for number in 0..100 {
            record.supersede_power(Some(&wish(number)), Some(&wish(number + 1)));
        }
        let over = (0..=100).filter(|number| record.power_closed(&wish(*number).id, Want::Up)).count();
        assert_eq!(over, WISH_HISTORY);
        assert!(record.power_closed("w99", Want::Up) && !record.power_closed("w100", Want::Up));
        assert!(!record.power_closed("w99", Want::Down), "the opposite is another wish");
        // An old one that comes back, and goes again, leaves the present one open.
        record.supersede_power(Some(&wish(100)), Some(&wish(99)));
        record.supersede_power(Some(&wish(99)), Some(&wish(100)));
        assert!(!record.power_closed("w100", Want::Up));
    }

    #[test]
    fn a_stop_that_was_not_done_is_remembered_until_the_start_has_begun() {
        let (stop, start, again) = (power("d", Want::Down), power("s", Want::Up), power("t", Want::Up));
        let mut record = Record::default();
        record.supersede_power(Some(&stop), Some(&start));
        assert_eq!(record.power.instead_of_stop.as_deref(), Some("s"));
        let before = record.clone();
        record.supersede_power(Some(&start), Some(&again));
        assert_eq!(record.power.instead_of_stop.as_deref(), Some("t"));

        let mut record = before;
        record.power.begun = Some("s".into());
        record.supersede_power(Some(&start), Some(&again));
        assert_eq!(record.power.instead_of_stop, None);

        let mut record = Record::default();
        record.close_power(closed("d", Want::Down));
        record.supersede_power(Some(&stop), Some(&start));
        assert_eq!(record.power.instead_of_stop, None, "that stop was done");
    }

    #[test]
    fn a_wish_that_is_turned_round_under_its_name_counts_each_time() {
        let mut record = Record::default();
        for (old, new) in [(Want::Up, Want::Down), (Want::Down, Want::Up), (Want::Up, Want::Down)] {
            record.close_power(closed("a", old));
            record.supersede_power(Some(&power("a", old)), Some(&power("a", new)));
            assert!(!record.power_closed("a", new) && record.power_closed("a", old), "{new:?}");
        }
    }
}
