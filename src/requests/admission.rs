//! Whether a request is accepted. Pure.
//!
//! An accepted request is on disk before the answer, and is completed or superseded by a later one. A request that will not be carried
//! out is rejected here, with a reason.
//!
//! | request | installing | suspended | stopping | starting, running | offline |
//! |---|---|---|---|---|---|
//! | start | rejected, or kept for `wait_seconds` | rejected | after the stop | nothing to do; without a request: accepted | accepted |
//! | restart | rejected, or kept for `wait_seconds` | rejected | after the stop | accepted | accepted as start |
//! | stop | cancels the start after the installation | accepted | nothing to do; with a timeout: accepted | accepted | nothing to do |
//! | kill | cancels the start after the installation | accepted | escalates | accepted | nothing to do |

use std::time::Duration;

use super::Asked;
use super::availability::{Holder, held_by};
use crate::model::{Manifest, PowerState, Timestamp, Verb};

/// Why a request is rejected. The texts are those of Wings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// A suspended server does not start.
    #[error("Cannot start or restart a server that is suspended.")]
    Suspended,
    /// No server starts, and none is installed, while a backup is restored.
    #[error("server is currently being restored")]
    Restoring,
    /// No server starts, is installed or restored, while it is transferred.
    #[error("server is currently being transferred")]
    Transferring,
    /// No server starts while its installer runs.
    #[error("server is currently installing")]
    Installing,
    /// A reinstallation does not interrupt a start or a stop.
    #[error("Cannot execute server reinstall event while another power action is running.")]
    PowerAction,
    /// There is no installation to abort.
    #[error("the server is not installing")]
    NotInstalling,
}

/// The decision about a request that is not rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admitted {
    /// The server is in the requested state, or about to be.
    Already,
    /// The request is to be accepted.
    Accepted {
        /// When the request expires.
        expires_at: Option<Timestamp>,
    },
}

/// What the decision depends on.
#[derive(Debug, Clone, Copy)]
pub struct AdmissionContext<'a> {
    /// The spec in effect.
    pub manifest: &'a Manifest,
    /// The earlier requests.
    pub asked: Asked<'a>,
    /// The state of the server.
    pub state: PowerState,
    /// `state` was observed by this process and is current. Otherwise the server may have ended meanwhile.
    pub seen: bool,
    /// The latest start has failed and is tried again, or its container has ended.
    pub start_fails: bool,
}

/// The longest time for which a request is kept, seconds; other values count as [`DEFAULT_WAIT`].
const MAX_WAIT: i64 = 300;
/// See [`MAX_WAIT`].
const DEFAULT_WAIT: i64 = 30;

/// How long a request is kept, from `wait_seconds` of the panel's API. `None` (0): no deadline, but rejected during an installation.
pub fn wait(wait_seconds: i64) -> Option<Duration> {
    match wait_seconds {
        0 => None,
        1..=MAX_WAIT => u64::try_from(wait_seconds).ok().map(Duration::from_secs),
        _ => Some(Duration::from_secs(DEFAULT_WAIT.unsigned_abs())),
    }
}

/// Decides about a power request. One that `has_timeout` changes that of a stop which is under way.
///
/// # Errors
/// Why the request is rejected.
pub fn admit_power(
    context: AdmissionContext<'_>,
    verb: Verb,
    wait: Option<Duration>,
    has_timeout: bool,
) -> Result<Admitted, Denied> {
    if verb.wants_up() { admit_up(context, verb, wait) } else { Ok(admit_down(context, verb, has_timeout)) }
}

fn admit_up(context: AdmissionContext<'_>, verb: Verb, wait: Option<Duration>) -> Result<Admitted, Denied> {
    let asked = context.asked;
    match held_by(context.manifest.spec.suspended, asked) {
        Some(Holder::Suspension) => return Err(Denied::Suspended),
        Some(Holder::Transfer) => return Err(Denied::Transferring),
        Some(Holder::Restore) => return Err(Denied::Restoring),
        Some(Holder::Installation) if wait.is_none() => return Err(Denied::Installing),
        // The API has no server that is being deleted or parked.
        Some(Holder::Installation | Holder::Deletion | Holder::Parking) | None => {}
    }
    if asked.start_follows() {
        // A request with a deadline does not supersede the start, which has none.
        return Ok(Admitted::Already);
    }
    let expires_at = wait.map(|wait| asked.now + wait);
    let lasting = asked.power().filter(|power| {
        power.verb.wants_up() && power.expires_at.is_none_or(|old| expires_at.is_some_and(|new| old >= new))
    });
    // A start that fails, or that may be cancelled at this moment, is attempted again for a new request.
    let failed = context.state == PowerState::Offline && context.start_fails;
    if verb == Verb::Start && lasting.is_some() && !failed {
        return Ok(Admitted::Already);
    }
    let runs = matches!(context.state, PowerState::Starting | PowerState::Running);
    let adopted = verb == Verb::Start && runs && asked.power().is_none() && asked.install().is_none();
    Ok(Admitted::Accepted { expires_at: expires_at.filter(|_| !adopted) })
}

fn admit_down(context: AdmissionContext<'_>, verb: Verb, has_timeout: bool) -> Admitted {
    let follows = context.asked.start_follows();
    let power = context.asked.power();
    let is_down = context.state == PowerState::Offline && context.seen;
    let under_way = power.as_ref().is_some_and(|power| match verb {
        Verb::Kill => power.verb == Verb::Kill,
        _ => !power.verb.wants_up() && (power.verb == Verb::Kill || !has_timeout),
    });
    let wants_up = follows || power.as_ref().is_some_and(|power| power.verb.wants_up());
    let nothing_to_stop = is_down && !wants_up && (verb == Verb::Stop || power.is_none());
    if (under_way && !follows) || nothing_to_stop { Admitted::Already } else { Admitted::Accepted { expires_at: None } }
}

/// Decides about a restore, or about a transfer to another node: nothing else may change the server's files meanwhile.
///
/// # Errors
/// Why the request is rejected.
pub fn admit_operation(asked: Asked<'_>) -> Result<(), Denied> {
    if asked.record.holding_transfer().is_some() {
        Err(Denied::Transferring)
    } else if asked.record.pending_restore().is_some() {
        Err(Denied::Restoring)
    } else if asked.install().is_some() {
        Err(Denied::Installing)
    } else {
        Ok(())
    }
}

/// Decides about an installation.
///
/// # Errors
/// Why the request is rejected.
pub fn admit_install(context: AdmissionContext<'_>, reinstall: bool) -> Result<(), Denied> {
    if context.asked.record.holding_transfer().is_some() {
        return Err(Denied::Transferring);
    }
    if context.asked.record.pending_restore().is_some() {
        return Err(Denied::Restoring);
    }
    if context.asked.install().is_some() {
        return Err(if reinstall { Denied::PowerAction } else { Denied::Installing });
    }
    let acting = match context.state {
        PowerState::Stopping => true,
        // A suspended server carries out no power request.
        PowerState::Offline if context.manifest.spec.suspended => false,
        // Without a panel the start waits for another installation.
        PowerState::Offline if !context.manifest.is_managed_by_panel() && context.asked.record.install.has_failed() => {
            false
        }
        PowerState::Offline => context.asked.power().is_some_and(|power| power.verb.wants_up()) && !context.start_fails,
        PowerState::Starting | PowerState::Running => false,
    };
    if reinstall && acting { Err(Denied::PowerAction) } else { Ok(()) }
}

/// Decides about an abort.
///
/// # Errors
/// There is no installation.
pub fn admit_abort(asked: Asked<'_>) -> Result<Admitted, Denied> {
    match asked.install() {
        Some(install) if install.aborted => Ok(Admitted::Already),
        Some(_) => Ok(Admitted::Accepted { expires_at: None }),
        None => Err(Denied::NotInstalling),
    }
}

#[cfg(test)]
mod tests;
