//! `status.yml`: phase, conditions and events of one server. Derived and expendable; no decision reads it.

#![allow(missing_docs)]

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{Display, IntoStaticStr};

use super::{PublishedPort, Reason, ServerId, Timestamp};

/// Events that are kept for each server.
pub const EVENT_HISTORY: usize = 30;

/// The state of a server as the panel knows it.
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
    #[default]
    Offline,
    Starting,
    Running,
    Stopping,
}

impl PowerState {
    /// The state as the panel's API spells it.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The states that are shown when this one follows another one: a start also passes through offline where a restart did not
    /// stay there.
    pub fn shown_after(self, before: Self) -> impl Iterator<Item = Self> {
        let restarts = self == Self::Starting && !matches!(before, Self::Offline | Self::Starting);
        restarts.then_some(Self::Offline).into_iter().chain([self])
    }

    /// The state that the panel shows for certain, where there is one. What an earlier process reported may not have arrived, so a
    /// state other than offline counts only when it was acknowledged to this process.
    pub fn known_to_panel(acknowledged: Option<Self>, recorded: Option<Self>) -> Option<Self> {
        let quiet = matches!(recorded, None | Some(PowerState::Offline));
        acknowledged.or(quiet.then_some(PowerState::Offline))
    }
}

/// A summary of the conditions, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, Display)]
pub enum Phase {
    /// Not installed yet.
    #[default]
    Created,
    Installing,
    /// The last installation failed, and the server does not run.
    Failed,
    /// Installed and not running.
    Offline,
    /// Starting, running or stopping.
    Online,
    Deleting,
    /// No longer listed by its panel; nothing is done with it.
    Parked,
}

/// The type of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema, Display)]
pub enum ConditionType {
    /// Summary of the other conditions: the server is as its spec and its requests demand.
    Ready,
    /// The panel lists the server. The condition exists while it does not.
    Listed,
    /// The manifest files are valid.
    SpecAccepted,
    /// What was decided is on disk. Present only while it cannot be written.
    Recorded,
    /// The requested installation has succeeded.
    Installed,
    /// The images that are needed now are available.
    ImageReady,
    /// The container matches the spec.
    ContainerReady,
    /// The running container was created from the current manifest. If not, a restart applies it.
    UpToDate,
    /// The kernel enforces the limits of the running server. Present only while it does not enforce all of them.
    LimitsEnforced,
    /// The server runs as requested.
    Running,
    /// The files fit into the disk limit.
    DiskWithinLimit,
    /// What enforces the disk limit. Present only if there is one.
    DiskLimitEnforced,
    /// The latest backup has succeeded. Present only if there is one.
    BackedUp,
    /// The archives of all backups are intact. Present only while a damaged one is known.
    BackupsIntact,
    /// The latest restore has succeeded. Present only until it has.
    Restored,
    /// The latest transfer has succeeded. Present only until it has ended, and after one that has failed.
    Transferred,
    /// The panel's part of the spec is current.
    PanelReachable,
    /// The panel has acknowledged every report.
    PanelNotified,
    Deleting,
}

impl ConditionType {
    /// Whether a condition of this type keeps a server from being ready.
    pub fn is_failing(self, status: ConditionStatus, reason: Reason) -> bool {
        match self {
            // A server is ready with the values that it was started with.
            ConditionType::Ready
            | ConditionType::UpToDate
            | ConditionType::LimitsEnforced
            | ConditionType::BackedUp
            | ConditionType::BackupsIntact
            | ConditionType::DiskLimitEnforced => false,
            ConditionType::Restored => reason != Reason::RestoreFailed,
            ConditionType::Transferred => reason != Reason::TransferFailed,
            ConditionType::Deleting => status == ConditionStatus::True && reason != Reason::Requested,
            // A server that should be offline is offline.
            ConditionType::Running if matches!(reason, Reason::Stopped | Reason::NotWanted | Reason::Exited) => false,
            _ => status != ConditionStatus::True,
        }
    }
}

/// The status of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Display)]
pub enum ConditionStatus {
    True,
    False,
    Unknown,
}

/// One observation about a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What it is about.
    #[serde(rename = "type")]
    pub condition_type: ConditionType,
    pub status: ConditionStatus,
    pub reason: Reason,
    /// For people: what is the case, and what to do.
    pub message: String,
    /// When `status` last changed.
    pub last_transition_time: Timestamp,
    /// The generation that was observed.
    pub observed_generation: u64,
}

/// An event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Its position among the events of the node, at least the milliseconds of `at`; also after the clock was set back.
    #[serde(default)]
    pub number: u64,
    pub at: Timestamp,
    pub reason: Reason,
    pub message: String,
    /// How often it occurred in a row.
    pub count: u32,
}

/// The status of one server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    pub uuid: ServerId,
    /// The generation that was observed.
    pub observed_generation: u64,
    pub phase: Phase,
    pub state: PowerState,
    pub suspended: bool,
    /// Ordered by type.
    pub conditions: Vec<Condition>,
    /// The runtime's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The image that the running container was created from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The ports of the host that the running container has, each for TCP and UDP.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PublishedPort>,
    /// When the running container was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// The state that was last reported to the panel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_reported: Option<PowerState>,
    /// Disk usage at the last disk scan, bytes.
    #[serde(default)]
    pub disk_bytes: u64,
    /// Latest events, oldest first, at most [`EVENT_HISTORY`].
    pub events: Vec<Event>,
}

impl Status {
    /// The status of a server that was not observed yet.
    pub fn new(uuid: ServerId) -> Self {
        Self {
            uuid,
            observed_generation: 0,
            phase: Phase::Created,
            state: PowerState::Offline,
            suspended: false,
            conditions: Vec::new(),
            container: None,
            image: None,
            ports: Vec::new(),
            started_at: None,
            last_reported: None,
            disk_bytes: 0,
            events: Vec::new(),
        }
    }

    /// The condition of this type.
    pub fn condition(&self, condition_type: ConditionType) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.condition_type == condition_type)
    }

    /// Adds or replaces a condition. `last_transition_time` changes only with the status.
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

    /// Adds an event. An event that equals the latest one increments its count.
    pub fn push_event(&mut self, number: u64, at: Timestamp, reason: Reason, message: &str) {
        if let Some(last) = self.events.last_mut()
            && last.reason == reason
            && last.message == message
        {
            (last.number, last.at) = (number, at);
            last.count = last.count.saturating_add(1);
            return;
        }
        self.events.push(Event { number, at, reason, message: message.into(), count: 1 });
        self.drop_old_events();
    }

    /// Inserts earlier events before the current ones. Their numbers ascend afterwards, whatever the clock said when they were made.
    pub fn insert_earlier(&mut self, mut earlier: Vec<Event>) {
        earlier.append(&mut self.events);
        self.events = earlier;
        let mut last = 0;
        for event in &mut self.events {
            if event.number <= last {
                event.number = next_number(last, event.at);
            }
            last = event.number;
        }
        self.drop_old_events();
    }

    fn drop_old_events(&mut self) {
        let excess = self.events.len().saturating_sub(EVENT_HISTORY);
        self.events.drain(..excess);
    }
}

/// The number of an event at this time, after the one with the number `last`.
pub fn next_number(last: u64, at: Timestamp) -> u64 {
    u64::try_from(at.as_millis()).unwrap_or(0).max(last.saturating_add(1))
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
            (ConditionType::UpToDate, False, Reason::RestartRequired, false),
            (ConditionType::LimitsEnforced, False, Reason::NotSupported, false),
        ] {
            assert_eq!(condition.is_failing(status, reason), failing, "{condition} {status} {reason}");
        }
    }
}
