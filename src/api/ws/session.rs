//! What a socket may do and see: a state machine without I/O. Its input is a message of the browser or an event of the server, and its
//! output are frames and actions.
//!
//! Source: websocket, "Inbound events", "Authentication", "Token expiry and revocation", "Outbound events".

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use uuid::Uuid;

use super::inbound::{Inbound, Kind};
use super::limits::{Exceeded, Limits};
use super::outbound::{self, Audience};
use crate::api::servers::power_verb;
use crate::api::tokens::{Check, Claims, Refusal, Revocations, Scope};
use crate::config::Secret;
use crate::events::EventKind;
use crate::events::frames::frame;
use crate::model::{PowerState, ServerId, Timestamp, Verb};

/// The permission to see the true text of errors.
const SEE_ERRORS: &str = "admin.websocket.errors";
/// The text of errors for all others.
const UNEXPECTED: &str = "an unexpected error was encountered while handling this request";
/// A token with so many seconds left is about to expire.
const EXPIRING: i64 = 60;
/// Time between two notices that events are held back.
const HELD_BACK_NOTICE: Duration = Duration::from_secs(1);

/// The state of one socket.
pub struct Session {
    server: ServerId,
    claims: Option<Claims>,
    limits: Limits,
    /// The state that the browser knows.
    shown: Option<PowerState>,
    /// When the browser last learned that events are held back.
    held_back: Option<Instant>,
}

/// The current time, and what tokens are checked with.
#[derive(Clone, Copy)]
pub struct Now<'a> {
    pub time: Timestamp,
    pub instant: Instant,
    pub revocations: &'a Revocations,
}

/// What follows from a message.
#[derive(Debug, PartialEq)]
pub enum Response {
    /// Nothing.
    Nothing,
    /// A frame for this socket.
    Frame(Bytes),
    /// The socket has a token. `first`: it had none before.
    Authenticated {
        /// Whether events begin now.
        first: bool,
    },
    /// The user may do this.
    Act(Action),
}

/// What a user does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A power action.
    Power(Verb),
    /// A line for the server's terminal.
    Command(String),
    /// The last lines of the log, for this socket.
    SendLogs,
    /// The resources in use, for this socket.
    SendStats,
}

impl Session {
    /// A socket that has sent nothing yet.
    pub fn new(server: ServerId) -> Self {
        Self { server, claims: None, limits: Limits::new(), shown: None, held_back: None }
    }

    /// The token that counts.
    pub fn claims(&self) -> Option<&Claims> {
        self.claims.as_ref()
    }

    /// Handles a message. `key` is that of tokens.
    pub fn receive(&mut self, text: &str, key: &Secret, now: Now<'_>) -> Response {
        let Some(Inbound { event, kind, argument }) = Inbound::read(text) else { return Response::Nothing };
        if let Err(Exceeded { notice }) = self.limits.count(kind, &event, now.instant) {
            return notice.map_or(Response::Nothing, |notice| Response::Frame(frame("throttled", &[notice])));
        }
        if kind == Kind::Auth {
            return self.authenticate(&argument, key, now);
        }
        let claims = match self.checked(now) {
            Ok(claims) => claims,
            Err(refusal) => return Response::Frame(jwt_error(&refusal.to_string())),
        };
        match kind {
            Kind::SendLogs => Response::Act(Action::SendLogs),
            Kind::SendStats => Response::Act(Action::SendStats),
            Kind::SendCommand if claims.allows("control.console") => Response::Act(Action::Command(argument)),
            Kind::SetState => match power_verb(&argument) {
                Some(verb) if claims.allows(permission(verb)) => Response::Act(Action::Power(verb)),
                Some(_) => Response::Nothing,
                None => Response::Frame(self.error(&format!("{argument:?} is not a power action"))),
            },
            Kind::SendCommand | Kind::Auth | Kind::Unknown => Response::Nothing,
        }
    }

    fn authenticate(&mut self, token: &str, key: &Secret, now: Now<'_>) -> Response {
        let claims = match Claims::read(token, key) {
            Ok(claims) => claims,
            Err(error) => return Response::Frame(self.error(&error.to_string())),
        };
        if let Err(refusal) = claims.check(self.check(now)) {
            let text = format!("Error Event [{}]: {refusal}", Uuid::new_v4());
            return Response::Frame(jwt_error(&text));
        }
        let first = self.claims.replace(claims).is_none();
        self.held_back = None;
        Response::Authenticated { first }
    }

    /// The token, if it may be used now.
    fn checked(&self, now: Now<'_>) -> Result<&Claims, Refusal> {
        let claims = self.claims.as_ref().ok_or(Refusal::Missing)?;
        claims.check(self.check(now)).map(|()| claims)
    }

    fn check<'a>(&self, now: Now<'a>) -> Check<'a> {
        let Now { time, revocations, .. } = now;
        Check { scope: Scope::Websocket, server: self.server, now: time, revocations }
    }

    /// The frame about an error: its text for administrators, and for others that there was one.
    pub fn error(&self, text: &str) -> Bytes {
        let id = Uuid::new_v4();
        tracing::debug!(server.id = %self.server, error.id = %id, error = text, "websocket message failed");
        let is_shown = self.claims.as_ref().is_some_and(|claims| claims.allows(SEE_ERRORS));
        frame("daemon error", &[&format!("Error Event [{id}]: {}", if is_shown { text } else { UNEXPECTED })])
    }

    /// The first frames after the first token.
    pub fn greet(&mut self, state: PowerState) -> [Bytes; 2] {
        self.shown = Some(state);
        [frame("auth success", &[]), frame("status", &[state.as_str()])]
    }

    /// The frames of an event that this socket gets.
    pub fn frames(&mut self, event: &EventKind, app_name: &str, now: Now<'_>) -> Option<Bytes> {
        self.claims.as_ref()?;
        if let EventKind::State { state } = event
            && self.shown == Some(*state)
        {
            return None;
        }
        let audience = outbound::audience(event)?;
        let claims = match self.checked(now) {
            Ok(claims) => claims,
            Err(refusal) => return self.hold_back(refusal, now.instant),
        };
        if let Audience::With(permission) = audience
            && !claims.allows(permission)
        {
            return None;
        }
        // Matches count while the server starts or runs.
        if let EventKind::FeatureMatch(_) = event
            && matches!(self.shown, Some(PowerState::Offline | PowerState::Stopping))
        {
            return None;
        }
        if let EventKind::State { state } = event {
            self.shown = Some(*state);
        }
        outbound::frames(event, app_name)
    }

    /// The frame about the resources in use.
    pub fn stats(&mut self, stats: &str, now: Now<'_>) -> Option<Bytes> {
        match self.checked(now) {
            Ok(_) => Some(frame("stats", &[stats])),
            Err(refusal) => self.hold_back(refusal, now.instant),
        }
    }

    /// The browser learns once in a while that events are held back, and why.
    fn hold_back(&mut self, refusal: Refusal, now: Instant) -> Option<Bytes> {
        if self.held_back.is_some_and(|at| now.saturating_duration_since(at) < HELD_BACK_NOTICE) {
            return None;
        }
        self.held_back = Some(now);
        Some(jwt_error(&refusal.to_string()))
    }

    /// What the browser learns every half minute about its token.
    pub fn tick(&self, now: Now<'_>) -> Option<Bytes> {
        let claims = self.claims.as_ref()?;
        let remaining = claims.remaining(now.time).unwrap_or_default();
        match self.checked(now) {
            Ok(_) | Err(Refusal::Expired) if remaining <= 0 => Some(frame("token expired", &[])),
            Ok(_) => (remaining <= EXPIRING).then(|| frame("token expiring", &[])),
            Err(refusal) => Some(jwt_error(&refusal.to_string())),
        }
    }
}

fn jwt_error(text: &str) -> Bytes {
    frame("jwt error", &[text])
}

fn permission(verb: Verb) -> &'static str {
    match verb {
        Verb::Start => "control.start",
        Verb::Restart => "control.restart",
        _ => "control.stop",
    }
}

#[cfg(test)]
mod tests;
