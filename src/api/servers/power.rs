//! Power requests and console commands.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use http::StatusCode;
use serde::Deserialize;

use super::{Known, decide_again};
use crate::api::request::{Sent, ServerName};
use crate::api::{Api, ApiError, body};
use crate::model::{PowerState, Requester, ServerId, Verb};
use crate::requests::NewRequest;
use crate::requests::admission::{Admitted, admit_power, wait};
use crate::wait;

#[derive(Deserialize)]
struct Wanted {
    #[serde(default)]
    action: String,
    #[serde(default)]
    wait_seconds: i64,
}

/// `POST /api/servers/{server}/power`: accepts the request and answers 202.
pub async fn power(
    State(api): State<Arc<Api>>,
    ServerName(server): ServerName,
    body: Sent,
) -> Result<StatusCode, ApiError> {
    let known = api.server(&server)?;
    let wanted: Wanted = body::object(&body)?;
    let verb = power_verb(&wanted.action).ok_or_else(|| {
        let message =
            "The power action provided was not valid, should be one of \"stop\", \"start\", \"restart\", \"kill\"";
        ApiError::worded(StatusCode::UNPROCESSABLE_ENTITY, message)
    })?;
    request_power(&api, known.id, verb, wait(wanted.wait_seconds), Requester::Panel).await?;
    Ok(StatusCode::ACCEPTED)
}

/// The verb that a word on the wire means.
pub fn power_verb(word: &str) -> Option<Verb> {
    let verbs = [Verb::Start, Verb::Stop, Verb::Restart, Verb::Kill];
    verbs.into_iter().find(|verb| verb.as_str() == word)
}

/// Admits a power request and has it on disk.
///
/// # Errors
/// Why it is refused, or the disk's error.
pub async fn request_power(
    api: &Api,
    id: ServerId,
    verb: Verb,
    wait: Option<Duration>,
    by: Requester,
) -> Result<(), ApiError> {
    decide_again(|| async {
        let known = api.server_as_on_disk(&id.to_string()).await?;
        let at = api.context.clock.now();
        match admit_power(known.context(at), verb, wait)? {
            // The cached state may be stale: the next pass checks it again.
            Admitted::Already => api.context.store.wake(id),
            Admitted::Accepted { expires_at } => {
                let new = NewRequest { id: api.context.ids.next(), at, expires_at, by, verb };
                let revision = known.snapshot.revision;
                api.context.store.run(move |store| store.request(id, Some(revision), [new])).await?;
            }
        }
        Ok(())
    })
    .await
}

#[derive(Deserialize)]
struct Commands {
    #[serde(default)]
    commands: Vec<String>,
}

/// `POST /api/servers/{server}/commands`: types lines into the server's terminal. The stop command is a request to stop, or a
/// line as any other where the server is being stopped already: some ask for it twice.
pub async fn commands(
    State(api): State<Arc<Api>>,
    ServerName(server): ServerName,
    body: Sent,
) -> Result<StatusCode, ApiError> {
    let known = api.server(&server)?;
    if known.status.state == PowerState::Offline {
        let message = "Cannot send commands to a stopped server instance.";
        return Err(ApiError::worded(StatusCode::BAD_GATEWAY, message));
    }
    let wanted: Commands = body::object(&body)?;
    let stop = &known.manifest.spec.process.stop;
    for command in &wanted.commands {
        let is_stop = stop.kind == "command" && *command == stop.value;
        if is_stopping(&api, &api.server(&server)?) {
            // The line that stops it comes first.
            let sent = || stop_was_sent(&api, known.id);
            api.context.servers.wait(known.id, wait::COMMAND_FOR_TERMINAL, sent).await;
        } else if is_stop {
            request_power(&api, known.id, Verb::Stop, None, Requester::Panel).await?;
            continue;
        }
        send_command(&api, known.id, command).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Whether the server is being stopped, or about to be.
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
        ApiError::worded(StatusCode::BAD_GATEWAY, format!("The command could not be sent to the server: {error}"))
    })
}

#[derive(Deserialize)]
struct DenyTokens {
    #[serde(default, rename = "jtis")]
    _tokens: Vec<String>,
}

/// `POST /api/servers/{server}/ws/deny`: no console token is accepted by this release, so all of them are denied already.
pub async fn deny_tokens(
    State(api): State<Arc<Api>>,
    ServerName(server): ServerName,
    body: Sent,
) -> Result<StatusCode, ApiError> {
    api.server(&server)?;
    body::object::<DenyTokens>(&body)?;
    Ok(StatusCode::NO_CONTENT)
}
