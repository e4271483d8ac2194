//! What users do through their sockets. It goes the way of the HTTP API: a power action is a request on disk, and a command waits for
//! the terminal.
//!
//! A socket has a lane for each kind of action: those of one kind are carried out one after the other, and a command that a server
//! does not read delays no kill.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::session::Action;
use crate::activity::{ActivityEvent, Entry};
use crate::api::servers::{Wanted, last_lines, request_power, run_command};
use crate::api::{Api, ApiError};
use crate::events::frames::{CONSOLE_OUTPUT, OutputBuilder, frame};
use crate::model::{PowerState, Requester, ServerId, Verb};

/// Actions of a kind that wait. The limits on messages let fewer through.
const WAITING: usize = 16;
/// Bytes of the frames of a backlog. Each socket may have a few that were not read.
const MAX_BACKLOG: usize = 1 << 20;

/// A user who acts on a server.
#[derive(Clone)]
pub struct Actor {
    pub api: Arc<Api>,
    pub server: ServerId,
    /// The client's address.
    pub ip: Option<IpAddr>,
}

/// Why an action was not carried out. The texts are those of Wings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Conflict {
    /// It is not offline.
    #[error("server is running")]
    Running,
    /// A start or a stop is under way.
    #[error("another power action is currently being processed for this server, please try again later")]
    Busy,
}

/// What a lane has to say to its socket.
pub enum Reply {
    /// Frames.
    Frames(Bytes),
    /// An action failed.
    Failed(String),
}

/// The queues of the lanes.
pub struct Lanes {
    power: mpsc::Sender<(Verb, Option<Uuid>)>,
    commands: mpsc::Sender<(String, Option<Uuid>)>,
    reads: mpsc::Sender<Action>,
}

impl Lanes {
    /// Lanes, and their work, which ends with them. Actions that wait when `revoked` is cancelled are dropped.
    pub fn new(
        actor: Actor,
        replies: mpsc::Sender<Reply>,
        revoked: CancellationToken,
    ) -> (Self, impl Future<Output = ()>) {
        let (power, mut verbs) = mpsc::channel(WAITING);
        let (commands, mut lines) = mpsc::channel::<(String, Option<Uuid>)>(WAITING);
        let (reads, mut questions) = mpsc::channel(WAITING);
        let work = async move {
            let power = async {
                while let Some((verb, user)) = verbs.recv().await.filter(|_| !revoked.is_cancelled()) {
                    let done = actor.power(verb).await.map(|()| actor.record(event_of(verb), user, json!({})));
                    reply(&replies, done).await;
                }
            };
            let commands = async {
                while let Some((line, user)) = lines.recv().await.filter(|_| !revoked.is_cancelled()) {
                    let sent = actor.command(&line).await.map(|sent| {
                        if sent {
                            actor.record(ActivityEvent::ConsoleCommand, user, json!({"command": line}));
                        }
                    });
                    reply(&replies, sent).await;
                }
            };
            let reads = async {
                while let Some(question) = questions.recv().await.filter(|_| !replies.is_closed()) {
                    let frames = match question {
                        Action::SendLogs => actor.backlog().await,
                        _ => Ok(Some(actor.stats().await)),
                    };
                    let answer = frames.map(|frames| frames.map(Reply::Frames));
                    let answer = answer.unwrap_or_else(|error| Some(Reply::Failed(error.message())));
                    if let Some(answer) = answer {
                        // The socket may be closed.
                        let _ = replies.send(answer).await;
                    }
                }
            };
            tokio::join!(power, commands, reads);
        };
        (Self { power, commands, reads }, work)
    }

    /// Queues an action of a user. One that finds its queue full is dropped.
    pub fn add(&self, action: Action, user: Option<Uuid>) {
        let _ = match action {
            Action::Power(verb) => self.power.try_send((verb, user)).is_ok(),
            Action::Command(line) => self.commands.try_send((line, user)).is_ok(),
            Action::SendLogs | Action::SendStats => self.reads.try_send(action).is_ok(),
        };
    }
}

async fn reply(replies: &mpsc::Sender<Reply>, done: Result<(), ApiError>) {
    if let Err(error) = done {
        // The socket may be closed.
        let _ = replies.send(Reply::Failed(error.message())).await;
    }
}

impl Actor {
    async fn power(&self, verb: Verb) -> Result<(), ApiError> {
        let known = self.api.server(self.server)?;
        let pending = known.snapshot.asked(self.api.context.clock.now()).power().map(|request| request.verb);
        if let Some(conflict) = conflict(verb, known.status.state, pending, known.start_fails) {
            return Err(ApiError::new(http::StatusCode::CONFLICT, conflict.to_string()));
        }
        request_power(&self.api, self.server, Wanted { verb, wait: None, timeout: None }, Requester::Panel).await
    }

    /// Sends a line to the server's terminal. Returns whether the server runs.
    async fn command(&self, line: &str) -> Result<bool, ApiError> {
        let known = self.api.server(self.server)?;
        if known.status.state == PowerState::Offline {
            return Ok(false);
        }
        run_command(&self.api, &known, line).await?;
        Ok(true)
    }

    /// The last lines of a running server's log.
    async fn backlog(&self) -> Result<Option<Bytes>, ApiError> {
        let known = self.api.server(self.server)?;
        let count = self.api.context.node.config.console_backlog;
        if known.status.state == PowerState::Offline || count == 0 {
            return Ok(None);
        }
        let mut output = OutputBuilder::new(CONSOLE_OUTPUT);
        for line in last_lines(&self.api, self.server, count).await? {
            output.push(&line, 0);
        }
        Ok(output.take().map(|output| output.newest(MAX_BACKLOG)))
    }

    /// The frame about the resources in use.
    pub async fn stats(&self) -> Bytes {
        let stats = self.api.context.stats.read(self.server).await;
        frame("stats", &[&serde_json::to_string(&stats).unwrap_or_default()])
    }

    fn record(&self, event: ActivityEvent, user: Option<Uuid>, metadata: Value) {
        self.api.context.activity.record(Entry { server: self.server, event, user, ip: self.ip, metadata });
    }
}

fn event_of(verb: Verb) -> ActivityEvent {
    match verb {
        Verb::Start => ActivityEvent::PowerStart,
        Verb::Restart => ActivityEvent::PowerRestart,
        Verb::Kill => ActivityEvent::PowerKill,
        _ => ActivityEvent::PowerStop,
    }
}

/// Why a start or restart is not requested in this state, with this pending request. Stop and kill are possible at any time.
fn conflict(verb: Verb, state: PowerState, pending: Option<Verb>, start_fails: bool) -> Option<Conflict> {
    if !verb.wants_up() {
        return None;
    }
    let is_stopping = state == PowerState::Stopping || pending.is_some_and(|pending| !pending.wants_up());
    match state {
        _ if is_stopping => Some(Conflict::Busy),
        PowerState::Offline => pending.filter(|_| !start_fails).map(|_| Conflict::Busy),
        _ => (verb == Verb::Start).then_some(Conflict::Running),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_or_restart_is_rejected_while_another_action_is_under_way() {
        use PowerState::{Offline, Running, Starting, Stopping};
        let busy = Some(Conflict::Busy);
        for (verb, state, pending, fails, expected) in [
            (Verb::Start, Offline, None, false, None),
            (Verb::Start, Offline, Some(Verb::Start), false, busy),
            (Verb::Start, Offline, Some(Verb::Start), true, None),
            (Verb::Restart, Offline, Some(Verb::Restart), false, busy),
            (Verb::Start, Starting, Some(Verb::Start), false, Some(Conflict::Running)),
            (Verb::Start, Running, None, false, Some(Conflict::Running)),
            (Verb::Restart, Running, Some(Verb::Start), false, None),
            (Verb::Restart, Stopping, Some(Verb::Stop), false, busy),
            (Verb::Start, Running, Some(Verb::Stop), false, busy),
            (Verb::Stop, Offline, Some(Verb::Start), false, None),
            (Verb::Stop, Stopping, Some(Verb::Stop), false, None),
            (Verb::Kill, Stopping, Some(Verb::Stop), false, None),
        ] {
            assert_eq!(conflict(verb, state, pending, fails), expected, "{verb:?} {state:?} {pending:?} {fails}");
        }
    }
}
