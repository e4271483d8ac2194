//! Whether a power wish is accepted. Pure.
//!
//! What is accepted becomes intent on disk and is done, or superseded by a later wish. What will not be done is
//! refused here, with a reason. Nothing is accepted and then forgotten.
//!
//! | request | installing | suspended | stopping | starting, running | offline |
//! |---|---|---|---|---|---|
//! | start | refused, or kept for `wait_seconds` | refused | after the stop | already so; without a wish: written down | accepted |
//! | restart | refused, or kept for `wait_seconds` | refused | after the stop | accepted | accepted as start |
//! | stop | cancels the start that was to follow | accepted | already so | accepted | already so |
//! | kill | cancels the start that was to follow | accepted | escalates | accepted | already so |
//!
//! A wish that lapses takes nothing with it: what takes the place of a wish to be up is wanted for at least as long, and a stop
//! that a start took the place of counts again (`Record::supersede_power`).

use std::time::Duration;

use crate::model::{
    ConditionKind, ConditionStatus, How, Manifest, PowerIntent, PowerState, Reason, Record, Status, Timestamp, Want,
};
use crate::reconcile::plan::{Wish, open_install, open_wish, supersedes};

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Up, unless it is.
    Start,
    /// Down, as the egg says.
    Stop,
    /// Down and up.
    Restart,
    /// Down at once.
    Kill,
}

impl Action {
    /// Reads the word on the wire.
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "start" => Action::Start,
            "stop" => Action::Stop,
            "restart" => Action::Restart,
            "kill" => Action::Kill,
            _ => return None,
        })
    }
}

/// Why a wish is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Suspended servers do not start.
    #[error("Cannot start or restart a server that is suspended.")]
    Suspended,
    /// Nothing starts beside an installer.
    #[error("server is currently installing")]
    Installing,
    /// A reinstallation does not interrupt a start or a stop.
    #[error("Cannot execute server reinstall event while another power action is running.")]
    PowerAction,
}

/// What becomes of an accepted wish.
#[derive(Debug, Clone, PartialEq)]
pub enum Admitted {
    /// It is so already, or under way.
    Already,
    /// It is to be written.
    Write(PowerIntent),
    /// The server runs, but by nobody's wish (another daemon started it): it is to be written as what this container serves,
    /// so that it comes back after a crash.
    Adopt {
        /// The wish.
        power: PowerIntent,
        /// The running container.
        container: String,
    },
}

/// What the decision depends on.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The intent in force.
    pub manifest: &'a Manifest,
    /// Facts.
    pub record: &'a Record,
    /// What is shown.
    pub status: &'a Status,
    /// This life of the daemon has seen it so. What an earlier one has shown, and what is kept while the engine is silent, may
    /// have ended meanwhile: then a wish is written, which does no harm where it is so after all.
    pub seen: bool,
    /// The time.
    pub now: Timestamp,
}

/// Longest time that a wish can be wanted for, seconds; other values count as [`WAIT_DEFAULT`].
const WAIT_MOST: i64 = 300;
/// See [`WAIT_MOST`].
const WAIT_DEFAULT: i64 = 30;

/// How long a wish is wanted, from `wait_seconds` on the wire: 0 is "as long as it takes, but not beside an installation".
pub fn wait(wait_seconds: i64) -> Option<Duration> {
    match wait_seconds {
        0 => None,
        1..=WAIT_MOST => u64::try_from(wait_seconds).ok().map(Duration::from_secs),
        _ => Some(Duration::from_secs(WAIT_DEFAULT.unsigned_abs())),
    }
}

/// Decides about a power wish. `id` is what a new intent will be called.
///
/// # Errors
/// Why it is refused.
pub fn admit(facts: Facts<'_>, action: Action, wait: Option<Duration>, id: String) -> Result<Admitted, Denied> {
    let (manifest, record, state) = (facts.manifest, facts.record, facts.status.state);
    let install = open_install(manifest, record);
    let open = open_wish(manifest, record);
    let intent =
        |want, how, expires_at| PowerIntent { id: id.clone(), want, how, requested_at: Some(facts.now), expires_at };
    let write = |want, how, expires_at| Ok(Admitted::Write(intent(want, how, expires_at)));
    // Whether a start follows the installation that is under way.
    let follows = install.is_some_and(|install| {
        install.then_start && manifest.spec.power.as_ref().is_none_or(|power| !supersedes(power, install))
    });
    let wants_up = follows || open.as_ref().is_some_and(|wish| wish.want == Want::Up);
    let is_down = state == PowerState::Offline && facts.seen;
    let wants_down = !follows && open.as_ref().is_some_and(|wish| wish.want == Want::Down);
    match action {
        Action::Start | Action::Restart => {
            if manifest.spec.suspended {
                return Err(Denied::Suspended);
            }
            if install.is_some() && wait.is_none() {
                return Err(Denied::Installing);
            }
            if follows {
                // Nothing runs, and a wish that may lapse must not take the place of the one that does not.
                return Ok(Admitted::Already);
            }
            let expires_at = wait.map(|wait| facts.now + wait);
            // A wish that is about to be closed counts no longer: a start that was taken for the same would be closed with it.
            // A crash that has not been written down by then is not counted.
            let lasting = open
                .as_ref()
                .filter(|wish| wish.want == Want::Up && lasts(wish, record, expires_at) && !is_given_up(facts.status));
            let up = match &open {
                Some(_) => lasting.is_some() && !failing(facts.status),
                None => install.is_none() && matches!(state, PowerState::Starting | PowerState::Running),
            };
            if action == Action::Start && up {
                return match (&open, &facts.status.container) {
                    (Some(_), _) => Ok(Admitted::Already),
                    // What is begun does not lapse.
                    (None, Some(container)) => {
                        let power = intent(Want::Up, How::Graceful, None);
                        Ok(Admitted::Adopt { power, container: container.clone() })
                    }
                    (None, None) => write(Want::Up, How::Graceful, expires_at),
                };
            }
            // What takes the place of a wish is wanted for as long: where it lapsed, nobody would want a server that runs.
            let expires_at = match lasting {
                Some(wish) if is_begun(wish, record) => None,
                Some(wish) => wish.expires_at,
                None => expires_at,
            };
            write(Want::Up, How::Graceful, expires_at)
        }
        Action::Stop => {
            if wants_down || (is_down && !wants_up) {
                return Ok(Admitted::Already);
            }
            write(Want::Down, How::Graceful, None)
        }
        Action::Kill => {
            let being_killed = wants_down && open.as_ref().is_some_and(|wish| wish.how == How::Kill);
            if being_killed || (is_down && !wants_up && open.is_none()) {
                return Ok(Admitted::Already);
            }
            write(Want::Down, How::Kill, None)
        }
    }
}

/// Whether a wish is wanted for at least as long as a new one would be.
fn lasts(wish: &Wish<'_>, record: &Record, new: Option<Timestamp>) -> bool {
    is_begun(wish, record) || wish.expires_at.is_none_or(|old| new.is_some_and(|new| old >= new))
}

fn is_begun(wish: &Wish<'_>, record: &Record) -> bool {
    record.power.begun.as_ref() == Some(&wish.id)
}

/// Whether people can see already why a wish to be up is over, which is shown a moment before it is written down; on a full disk,
/// long before.
fn is_given_up(status: &Status) -> bool {
    status.condition(ConditionKind::Running).is_some_and(|condition| {
        condition.status == ConditionStatus::False
            && matches!(
                condition.reason,
                Reason::CrashLoop
                    | Reason::CrashDetectionDisabled
                    | Reason::Exited
                    | Reason::DiskLimitExceeded
                    | Reason::PanelRefused
                    | Reason::Suspended
            )
    })
}

/// Whether a start is stuck and being tried again: then a new one makes a fresh attempt.
fn failing(status: &Status) -> bool {
    let stuck = |kind| {
        status.condition(kind).is_some_and(|condition| {
            condition.status == ConditionStatus::False
                && matches!(
                    condition.reason,
                    Reason::ImagePullBackOff
                        | Reason::InvalidImage
                        | Reason::ContainerRefused
                        | Reason::Refused
                        | Reason::PermissionsFailed
                )
        })
    };
    stuck(ConditionKind::Running) || stuck(ConditionKind::ContainerReady)
}

/// Decides about a wish to install (again).
///
/// # Errors
/// Why it is refused.
pub fn admit_install(facts: Facts<'_>, reinstall: bool) -> Result<(), Denied> {
    if open_install(facts.manifest, facts.record).is_some() {
        return Err(if reinstall { Denied::PowerAction } else { Denied::Installing });
    }
    let open = open_wish(facts.manifest, facts.record);
    let acting = match facts.status.state {
        PowerState::Stopping => true,
        // Of a suspended server nothing is under way, whatever it wants.
        PowerState::Offline if facts.manifest.spec.suspended => false,
        PowerState::Offline => open.is_some_and(|wish| wish.want == Want::Up && !failing(facts.status)),
        PowerState::Starting | PowerState::Running => false,
    };
    if reinstall && acting { Err(Denied::PowerAction) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
