//! The rules about requests. Pure: used by the store, the API, the planner and the command line.
//!
//! [`accept`] appends a request, and [`declare`] appends those of declarative fields whose value has changed. [`Asked`] decides which
//! request counts: the latest power request that is neither handled nor expired. A pending installation holds power requests back. A
//! request with a deadline keeps the one before it, which counts again after the deadline.

pub mod admission;
pub mod availability;

use crate::model::time::Span;
use crate::model::{Declared, Power, Record, Request, Requester, Requests, Spec, Timestamp, Verb};

/// A request before it is accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRequest {
    /// Unique.
    pub id: String,
    /// The current time.
    pub at: Timestamp,
    /// The request expires if it has not begun by then.
    pub expires_at: Option<Timestamp>,
    /// See [`Request::timeout`].
    pub timeout: Option<Span>,
    /// Who makes the request.
    pub by: Requester,
    /// What the request is for.
    pub verb: Verb,
}

/// The requests of a server and their progress.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The accepted requests.
    pub requests: &'a Requests,
    /// Their progress.
    pub record: &'a Record,
    /// The current time.
    pub now: Timestamp,
}

/// A pending power request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PowerRequest {
    /// The request's id; `install:{id}` for the start that an installation requested.
    pub id: String,
    /// Position in the order of acceptance.
    pub sequence: u64,
    /// What the request is for.
    pub verb: Verb,
    /// When it expires; `None` once it has begun.
    pub expires_at: Option<Timestamp>,
    /// See [`Request::timeout`].
    pub timeout: Option<Span>,
    /// Whether this is the start that follows an installation.
    pub after_install: bool,
    /// Whether this is the start of a server that Wings ran, or would run.
    pub taken_over: bool,
}

/// A pending installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InstallRequest<'a> {
    /// The request's id.
    pub id: &'a str,
    /// Position in the order of acceptance.
    pub sequence: u64,
    /// When it was accepted.
    pub at: Timestamp,
    /// Reported to the panel as a reinstallation.
    pub reinstall: bool,
    /// The server starts after a success, unless there is a later power request.
    pub then_start: bool,
    /// An abort was requested: the installation ends and counts as failed.
    pub aborted: bool,
}

/// The pending deletion.
pub fn deletion(requests: &Requests) -> Option<&Request> {
    requests.accepted.iter().rfind(|request| request.verb == Verb::Delete)
}

/// Whether the server should exist once all its requests are completed.
pub fn wanted(requests: &Requests) -> bool {
    let current = current(requests);
    current.len() == requests.accepted.len()
        || current.iter().any(|request| matches!(request.verb, Verb::Install { .. }))
}

/// The requests after the deletion, if there is one.
fn current(requests: &Requests) -> &[Request] {
    let deletion = requests.accepted.iter().rposition(|request| request.verb == Verb::Delete);
    &requests.accepted[deletion.map_or(0, |position| position + 1)..]
}

impl<'a> Asked<'a> {
    /// The pending installation. Power requests wait for it.
    pub fn install(self) -> Option<InstallRequest<'a>> {
        let current = current(self.requests);
        let (request, reinstall, then_start) = current.iter().rev().find_map(|request| match request.verb {
            Verb::Install { reinstall, then_start } => Some((request, reinstall, then_start)),
            _ => None,
        })?;
        let sequence = request.sequence;
        if self.installed().is_some_and(|done| done >= sequence) {
            return None;
        }
        let aborted = current.iter().any(|later| later.verb == Verb::Abort && later.sequence > sequence);
        Some(InstallRequest { id: &request.id, sequence, at: request.at, reinstall, then_start, aborted })
    }

    /// The power request that counts.
    pub fn power(self) -> Option<PowerRequest> {
        self.unhandled().find(|request| !self.is_expired(request))
    }

    /// An expired power request that was not handled yet, if none counts.
    pub fn expired(self) -> Option<PowerRequest> {
        if self.start_follows() || self.power().is_some() { None } else { self.unhandled().next() }
    }

    /// When the current power request expires.
    pub fn next_expiry(self) -> Option<Timestamp> {
        self.power().and_then(|request| request.expires_at)
    }

    /// Whether a start follows the pending installation.
    pub fn start_follows(self) -> bool {
        self.install().is_some_and(|install| {
            let later = self.power().map_or(self.handled(), |power| power.sequence) > install.sequence;
            install.then_start && !later
        })
    }

    fn is_expired(self, request: &PowerRequest) -> bool {
        request.expires_at.is_some_and(|at| self.now >= at)
    }

    /// Pending power requests, the latest first.
    fn unhandled(self) -> impl Iterator<Item = PowerRequest> {
        let handled = self.handled();
        let later = move |request: &&Request| request.sequence > handled;
        current(self.requests).iter().rev().filter(later).filter_map(move |request| self.as_power(request))
    }

    fn handled(self) -> u64 {
        self.record.power.handled.as_ref().map_or(0, |handled| handled.sequence)
    }

    fn as_power(self, request: &Request) -> Option<PowerRequest> {
        let sequence = request.sequence;
        match request.verb {
            verb if verb.is_power() => {
                let begun = self.record.power.begun.as_ref() == Some(&request.id);
                let expires_at = request.expires_at.filter(|_| !begun);
                let (id, timeout) = (request.id.clone(), request.timeout);
                let taken_over = request.by == Requester::Takeover;
                Some(PowerRequest { id, sequence, verb, expires_at, timeout, after_install: false, taken_over })
            }
            Verb::Install { then_start: true, .. } if self.record.install.has_succeeded(sequence) => {
                let id = start_id(&request.id);
                Some(PowerRequest {
                    id,
                    sequence,
                    verb: Verb::Start,
                    expires_at: None,
                    timeout: None,
                    after_install: true,
                    taken_over: false,
                })
            }
            _ => None,
        }
    }

    fn installed(self) -> Option<u64> {
        self.record.install.done.as_ref().map(|done| done.sequence)
    }
}

/// The id of the start that an installation requests.
pub fn start_id(install: &str) -> String {
    format!("install:{install}")
}

/// The id of the installation that Wings began in this container.
pub fn adopted_id(container: &str) -> String {
    format!("adopted:{container}")
}

/// Appends a request, and removes those that it supersedes.
pub fn accept(requests: &mut Requests, record: &Record, new: NewRequest) {
    let NewRequest { id, at, expires_at, timeout, by, verb } = new;
    if verb == Verb::Delete && !wanted(requests) {
        return;
    }
    let asked = Asked { requests, record, now: at };
    let verb = if verb == Verb::Start && follows_stop(asked) { Verb::Restart } else { verb };
    let stops = matches!(verb, Verb::Stop | Verb::Restart);
    let timeout = timeout.or_else(|| timeout_of_stop(asked)).filter(|_| stops);
    let outlasting: Vec<u64> =
        asked.unhandled().filter(|old| outlasts(asked, old, expires_at)).map(|old| old.sequence).collect();
    let deletion = deletion(requests).map_or(0, |deletion| deletion.sequence);
    requests.accepted.retain(|old| {
        let replaced = match (verb, old.verb) {
            (Verb::Delete, _) => true,
            (Verb::Install { .. }, Verb::Install { .. } | Verb::Abort) => true,
            (Verb::Abort, Verb::Abort) => true,
            (new, old_verb) if new.is_power() && old_verb.is_power() => !outlasting.contains(&old.sequence),
            _ => false,
        };
        !replaced || (old.sequence <= deletion && verb != Verb::Delete)
    });
    let sequence = last_sequence(requests, record) + 1;
    requests.sequence = sequence;
    requests.accepted.push(Request { sequence, id, at, expires_at, timeout, by, verb });
}

/// Whether a start supersedes a pending stop or restart, which may have begun: then the server that runs now still has to end.
fn follows_stop(asked: Asked<'_>) -> bool {
    asked.power().is_some_and(|power| match power.verb {
        Verb::Stop | Verb::Kill => true,
        Verb::Restart => power.expires_at.is_some(),
        _ => false,
    })
}

/// The timeout of a pending stop. It stays that of the stop that is under way when a later request supersedes it.
fn timeout_of_stop(asked: Asked<'_>) -> Option<Span> {
    asked.power().filter(|power| power.verb == Verb::Stop).and_then(|power| power.timeout)
}

/// Whether a request counts again after a later one with this deadline has expired.
fn outlasts(asked: Asked<'_>, old: &PowerRequest, new: Option<Timestamp>) -> bool {
    let Some(new) = new else { return false };
    !asked.is_expired(old) && old.expires_at.is_none_or(|old| old > new)
}

/// The highest sequence number that was used, also if one of the two files was lost.
pub fn last_sequence(requests: &Requests, record: &Record) -> u64 {
    requests.sequence.max(sequence_in(record))
}

/// The highest sequence number in a record.
pub fn sequence_in(record: &Record) -> u64 {
    let handled = record.power.handled.as_ref().map_or(0, |handled| handled.sequence);
    handled.max(installed_through(record))
}

/// The sequence number of the latest installation of which a record has the result.
pub fn installed_through(record: &Record) -> u64 {
    record.install.done.as_ref().map_or(0, |done| done.sequence)
}

/// The requests after a spec took effect, see [`declare_for_next`]. `None` also while the server is being deleted: an edit in its
/// folder does not create it again.
pub fn declare(requests: &Requests, record: &Record, spec: &Spec, at: Timestamp, first: bool) -> Option<Requests> {
    if wanted(requests) { declare_for_next(requests, record, spec, at, first) } else { None }
}

/// The requests after a spec took effect, for a server that is wanted or about to be: declarative fields whose values differ from
/// those handled last make requests. `None` if none differs. `first`: the server had no spec before, so there is nothing to restart.
pub fn declare_for_next(
    requests: &Requests,
    record: &Record,
    spec: &Spec,
    at: Timestamp,
    first: bool,
) -> Option<Requests> {
    let declared = declared(spec);
    if !requests.lost && declared == requests.declared {
        return None;
    }
    let mut next = Requests { declared: declared.clone(), lost: false, ..requests.clone() };
    if !requests.lost {
        let before = &requests.declared;
        for verb in verbs(before, &declared, spec, record, first) {
            let sequence = last_sequence(&next, record) + 1;
            let id = format!("manifest-{}-{sequence}", at.as_millis());
            accept(
                &mut next,
                record,
                NewRequest { id, at, expires_at: None, timeout: None, by: Requester::Manifest, verb },
            );
        }
    }
    Some(next)
}

fn verbs(before: &Declared, after: &Declared, spec: &Spec, record: &Record, first: bool) -> Vec<Verb> {
    let mut verbs = Vec::new();
    if after.install_version.is_some() && after.install_version != before.install_version {
        let then_start = spec.install.as_ref().is_some_and(|install| install.then_start);
        verbs.push(Verb::Install { reinstall: record.install.done.is_some(), then_start });
    }
    let restarted = !first && after.restarted_at.is_some() && after.restarted_at != before.restarted_at;
    match after.power {
        Some(Power::Down) if before.power != after.power => verbs.push(Verb::Stop),
        Some(Power::Down) => {}
        _ if restarted => verbs.push(Verb::Restart),
        Some(Power::Up) if before.power != after.power => verbs.push(Verb::Start),
        Some(Power::Up) | None => {}
    }
    verbs
}

/// The values of a spec's declarative fields.
pub fn declared(spec: &Spec) -> Declared {
    Declared {
        power: spec.power,
        restarted_at: spec.restarted_at.clone(),
        install_version: spec.install.as_ref().and_then(|install| install.version.clone()),
    }
}

#[cfg(test)]
mod tests;
