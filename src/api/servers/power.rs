//! Power requests and console commands.

use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;

use super::{Known, retry_on_conflict};
use crate::api::request::{RequestBody, ServerPath};
use crate::api::startup::Started;
use crate::api::{Api, ApiError, body};
use crate::model::time::Span;
use crate::model::{PowerState, Requester, ServerId, Verb};
use crate::requests::NewRequest;
use crate::requests::admission::{Admitted, admit_power, wait};
use crate::wait;

#[derive(Deserialize)]
struct PowerBody {
    #[serde(default)]
    action: String,
    #[serde(default)]
    wait_seconds: i64,
}

/// `POST /api/servers/{server}/power`: accepts the request and answers 202.
pub async fn power(
    Started(api): Started,
    ServerPath(id): ServerPath,
    body: RequestBody,
) -> Result<StatusCode, ApiError> {
    let known = api.server(id)?;
    let wanted: PowerBody = body::object(&body)?;
    let verb = power_verb(&wanted.action).ok_or_else(|| {
        let message =
            "The power action provided was not valid, should be one of \"stop\", \"start\", \"restart\", \"kill\"";
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, message)
    })?;
    let wanted = Wanted { verb, wait: wait(wanted.wait_seconds), timeout: None };
    request_power(&api, known.id, wanted, Requester::Panel).await?;
    Ok(StatusCode::ACCEPTED)
}

/// The verb of a power action.
pub fn power_verb(action: &str) -> Option<Verb> {
    let verbs = [Verb::Start, Verb::Stop, Verb::Restart, Verb::Kill];
    verbs.into_iter().find(|verb| verb.as_str() == action)
}

/// A power request of a caller.
#[derive(Clone, Copy)]
pub struct Wanted {
    /// What it is for.
    pub verb: Verb,
    /// For how long it is kept if it cannot begin.
    pub wait: Option<Duration>,
    /// See [`Request::timeout`](crate::model::Request::timeout).
    pub timeout: Option<Span>,
}

/// Admits a power request and writes it to disk.
///
/// # Errors
/// Why it is rejected, or the disk's error.
pub async fn request_power(
    api: &Api,
    id: ServerId,
    Wanted { verb, wait, timeout }: Wanted,
    by: Requester,
) -> Result<(), ApiError> {
    retry_on_conflict(|| async {
        let known = api.server_as_on_disk(id).await?;
        let at = api.context.clock.now();
        match admit_power(known.context(at), verb, wait, timeout.is_some())? {
            // The cached state may be stale: the next pass checks it again.
            Admitted::Already => api.context.store.wake(id),
            Admitted::Accepted { expires_at } => {
                let new = NewRequest { id: api.context.ids.next(), at, expires_at, timeout, by, verb };
                let revision = known.snapshot.revision;
                api.context.store.run(move |store| store.request(id, Some(revision), [new])).await?;
            }
        }
        Ok(())
    })
    .await
}

#[derive(Deserialize)]
struct CommandsBody {
    #[serde(default)]
    commands: Vec<String>,
}

/// `POST /api/servers/{server}/commands`: sends lines to the server's terminal.
pub async fn commands(
    Started(api): Started,
    ServerPath(id): ServerPath,
    body: RequestBody,
) -> Result<StatusCode, ApiError> {
    let known = api.server(id)?;
    if known.status.state == PowerState::Offline {
        let message = "Cannot send commands to a stopped server instance.";
        return Err(ApiError::new(StatusCode::BAD_GATEWAY, message));
    }
    let wanted: CommandsBody = body::object(&body)?;
    for command in &wanted.commands {
        run_command(&api, &known, command).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Sends a line to a server's terminal. The egg's stop command is a request to stop, unless the server is being stopped already: some
/// servers need it twice.
///
/// # Errors
/// The line cannot be sent, or the request is not accepted.
pub async fn run_command(api: &Api, known: &Known, line: &str) -> Result<(), ApiError> {
    let stop = &known.manifest.spec.process.stop;
    if is_stopping(api, &api.server(known.id)?) {
        // The stop command itself is sent first.
        let sent = || stop_was_sent(api, known.id);
        api.context.servers.wait(known.id, wait::COMMAND_FOR_TERMINAL, sent).await;
    } else if stop.kind == "command" && line == stop.value {
        let stop = Wanted { verb: Verb::Stop, wait: None, timeout: None };
        return request_power(api, known.id, stop, Requester::Panel).await;
    }
    send_command(api, known.id, line).await
}

/// Whether the server is being stopped, or a stop is pending.
fn is_stopping(api: &Api, known: &Known) -> bool {
    let power = known.snapshot.asked(api.context.clock.now()).power();
    known.status.state == PowerState::Stopping || power.is_some_and(|request| !request.verb.wants_up())
}

fn stop_was_sent(api: &Api, id: ServerId) -> bool {
    let offline = api.context.store.status(id).is_none_or(|status| status.state == PowerState::Offline);
    offline || api.context.servers.stop_was_sent(id)
}

async fn send_command(api: &Api, id: ServerId, line: &str) -> Result<(), ApiError> {
    let attached = || api.context.console.attached(id).is_some();
    api.context.servers.wait(id, wait::COMMAND_FOR_TERMINAL, attached).await;
    api.context.console.send_command(id, line).await.map_err(|error| {
        ApiError::new(StatusCode::BAD_GATEWAY, format!("The command could not be sent to the server: {error}"))
    })
}
