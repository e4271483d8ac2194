//! What is: phase, conditions and events of one server, as `status.yml` and the command line show them.
//!
//! Derived and expendable. Decisions never read it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{Display, IntoStaticStr};

use super::{Reason, ServerId, Timestamp};

/// Events kept for one server.
pub const EVENT_HISTORY: usize = 30;

/// The four words that cross the wire.
///
/// ```text
///            start                 done line
/// offline ----------> starting ----------------> running
///    ^                   |                          |
///    |  container ended  |  stop, kill              | stop, kill
///    +-------------------+--------> stopping <------+
///    +------------------------------------+
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum PowerState {
    /// No container runs.
    #[default]
    Offline,
    /// A start is under way.
    Starting,
    /// The start-up has finished.
    Running,
    /// A stop is under way.
    Stopping,
}

impl PowerState {
    /// The state as the panel's API spells it.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The state that the panel shows for certain, where there is one. What an earlier process reported may not have arrived, so a
    /// state other than offline counts only when it was acknowledged to this process.
    pub fn known_to_panel(acknowledged: Option<Self>, recorded: Option<Self>) -> Option<Self> {
        let quiet = matches!(recorded, None | Some(PowerState::Offline));
        acknowledged.or(quiet.then_some(PowerState::Offline))
    }
}

/// The phase, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, Display)]
pub enum Phase {
    /// Known, and not installed yet.
    #[default]
    Created,
    /// An installation is under way.
    Installing,
    /// The last installation failed and nothing runs.
    Failed,
    /// Installed and not running.
    Offline,
    /// Starting, running or stopping.
    Online,
    /// Being deleted.
    Deleting,
    /// No longer listed by its panel; left as it is.
    Parked,
}

/// What a condition is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema, Display)]
pub enum ConditionType {
    /// The server is as its spec and its requests say: the summary of the others.
    Ready,
    /// The files of intent parse and validate.
    SpecAccepted,
    /// The installation that is wanted has succeeded.
    Installed,
    /// The images that are needed now are there.
    ImageReady,
    /// The container is as it should be.
    ContainerReady,
    /// The server runs as wanted.
    Running,
    /// The files fit into the disk limit.
    DiskWithinLimit,
    /// The panel's part of the intent is fresh.
    PanelReachable,
    /// The panel knows what it should know.
    PanelNotified,
    /// A deletion is under way.
    Deleting,
}

impl ConditionType {
    /// Whether a condition of this type keeps a server from being ready.
    pub fn is_failing(self, status: ConditionStatus, reason: Reason) -> bool {
        match self {
            ConditionType::Ready => false,
            ConditionType::Deleting => status == ConditionStatus::True && reason != Reason::Requested,
            // A server that is to be down is down.
            ConditionType::Running if matches!(reason, Reason::Stopped | Reason::NotWanted | Reason::Exited) => false,
            _ => status != ConditionStatus::True,
        }
    }
}

/// Truth of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Display)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not.
    False,
    /// Not known.
    Unknown,
}

/// One observation about a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What it is about.
    #[serde(rename = "type")]
    pub condition_type: ConditionType,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// One word.
    pub reason: Reason,
    /// A sentence for people: what is, and what to do.
    pub message: String,
    /// When `status` last changed.
    pub last_transition_time: Timestamp,
    /// The generation it speaks of.
    pub observed_generation: u64,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// One word.
    pub reason: Reason,
    /// A sentence.
    pub message: String,
    /// Times it happened in a row.
    pub count: u32,
}

/// Everything derived about one server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The server.
    pub uuid: ServerId,
    /// Generation that the conditions speak of.
    pub observed_generation: u64,
    /// For people.
    pub phase: Phase,
    /// For the panel.
    pub state: PowerState,
    /// Whether the server is suspended.
    pub suspended: bool,
    /// Conditions, in the order of their kinds.
    pub conditions: Vec<Condition>,
    /// The server's container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// What the panel was last told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_reported: Option<PowerState>,
    /// Disk usage at the last look, bytes.
    #[serde(default)]
    pub disk_bytes: u64,
    /// Latest events, oldest first, at most [`EVENT_HISTORY`].
    pub events: Vec<Event>,
}

impl Status {
    /// The status of a server that was never looked at.
    pub fn new(uuid: ServerId) -> Self {
        Self {
            uuid,
            observed_generation: 0,
            phase: Phase::Created,
            state: PowerState::Offline,
            suspended: false,
            conditions: Vec::new(),
            container: None,
            last_reported: None,
            disk_bytes: 0,
            events: Vec::new(),
        }
    }

    /// The condition of a kind.
    pub fn condition(&self, condition_type: ConditionType) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.condition_type == condition_type)
    }

    /// Puts a condition in its place. `last_transition_time` of the old one is kept while the status stays the same.
    pub fn set_condition(&mut self, mut new: Condition) {
        match self.conditions.binary_search_by_key(&new.condition_type, |condition| condition.condition_type) {
            Ok(at) => {
                if self.conditions[at].status == new.status {
                    new.last_transition_time = self.conditions[at].last_transition_time;
                }
                self.conditions[at] = new;
            }
            Err(at) => self.conditions.insert(at, new),
        }
    }

    /// Notes an event; one that repeats the latest is counted there.
    pub fn push_event(&mut self, at: Timestamp, reason: Reason, message: &str) {
        if let Some(last) = self.events.last_mut()
            && last.reason == reason
            && last.message == message
        {
            last.at = at;
            last.count = last.count.saturating_add(1);
            return;
        }
        self.events.push(Event { at, reason, message: message.into(), count: 1 });
        self.forget_old_events();
    }

    /// Puts events that happened earlier in front of the present ones.
    pub fn put_before(&mut self, mut earlier: Vec<Event>) {
        earlier.append(&mut self.events);
        self.events = earlier;
        self.forget_old_events();
    }

    fn forget_old_events(&mut self) {
        let excess = self.events.len().saturating_sub(EVENT_HISTORY);
        self.events.drain(..excess);
    }
}

#[cfg(test)]
mod tests {
    use super::ConditionStatus::{False, True, Unknown};
    use super::ConditionType::{Deleting, Running};
    use super::*;

    #[test]
    fn a_stopped_server_is_as_requested_and_a_failed_one_is_not() {
        for (condition, status, reason, failing) in [
            (Running, False, Reason::Stopped, false),
            (Running, False, Reason::CrashLoop, true),
            (Running, Unknown, Reason::InternalError, true),
            (Deleting, True, Reason::Requested, false),
            (Deleting, True, Reason::FilesInTheWay, true),
        ] {
            assert_eq!(condition.is_failing(status, reason), failing, "{condition} {status} {reason}");
        }
    }
}
