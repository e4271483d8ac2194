//! Power wishes and console commands.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use http::StatusCode;
use serde::Deserialize;

use super::{Known, decide_again};
use crate::api::admission::{Action, Admitted, Denied, Facts, admit, wait};
use crate::api::request::{Sent, ServerName};
use crate::api::{Api, ApiError, body};
use crate::model::record::Serving;
use crate::model::{PowerIntent, PowerState, Record, ServerId, Want};
use crate::reconcile::plan::open_wish;
use crate::store::StoreError;

/// A terminal that is being attached (after a restart of the daemon, say) is waited for this long.
const ATTACH_PATIENCE: Duration = Duration::from_secs(2);

#[derive(Deserialize)]
struct Wanted {
    #[serde(default)]
    action: String,
    #[serde(default)]
    wait_seconds: i64,
}

/// `POST /api/servers/{server}/power`: writes the wish and answers 202.
pub async fn power(
    State(api): State<Arc<Api>>,
    ServerName(server): ServerName,
    body: Sent,
) -> Result<StatusCode, ApiError> {
    let known = api.server(&server)?;
    let wanted: Wanted = body::object(&body)?;
    let action = Action::parse(&wanted.action).ok_or_else(|| {
        let message =
            "The power action provided was not valid, should be one of \"stop\", \"start\", \"restart\", \"kill\"";
        ApiError::worded(StatusCode::UNPROCESSABLE_ENTITY, message)
    })?;
    write_power(&api, known.id, action, wait(wanted.wait_seconds)).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Admits a wish and has it on disk.
///
/// # Errors
/// Its refusal, or the disk's.
pub async fn write_power(api: &Api, id: ServerId, action: Action, wait: Option<Duration>) -> Result<(), ApiError> {
    decide_again(|| async {
        let known = api.server_as_on_disk(&id.to_string()).await?;
        match decide(api, &known, action, wait)? {
            // What is so already may have stopped being so a moment ago.
            Admitted::Already => api.world.store.wake(id),
            Admitted::Write(power) => write(api, &known, power, None).await?,
            Admitted::Adopt { power, container } => {
                let serving = Serving { container, power: power.id.clone() };
                write(api, &known, power, Some(serving)).await?;
            }
        }
        Ok(())
    })
    .await
}

fn decide(api: &Api, known: &Known, action: Action, wait: Option<Duration>) -> Result<Admitted, Denied> {
    let facts = Facts {
        manifest: &known.manifest,
        record: &known.snapshot.record,
        status: &known.status,
        seen: known.seen,
        now: api.world.clock.now(),
    };
    admit(facts, action, wait, api.world.ids.next())
}

/// Writes a wish, and which running container serves it, if one does.
async fn write(api: &Api, known: &Known, power: PowerIntent, serving: Option<Serving>) -> Result<(), StoreError> {
    let (id, revision) = (known.id, known.snapshot.revision);
    api.world
        .store
        .run(move |store| {
            let wish = power.clone();
            let serves = |record: &mut Record| {
                if serving.is_some() {
                    record.power.serving.clone_from(&serving);
                }
            };
            match store.change_with(id, Some(revision), move |manifest| manifest.spec.power = Some(wish), serves) {
                // Who broke a file must still be able to stop the server.
                Err(StoreError::Broken { .. }) => {
                    store.commit(id, |record| {
                        serves(record);
                        record.pending_power = Some(power);
                    })?;
                    store.wake(id);
                    Ok(())
                }
                result => result.map(drop),
            }
        })
        .await
}

#[derive(Deserialize)]
struct Commands {
    #[serde(default)]
    commands: Vec<String>,
}

/// `POST /api/servers/{server}/commands`: types lines into the server's terminal. The stop command is a wish to stop, or a line
/// as any other where the server is being stopped already: some ask for it twice.
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
        if is_stopping(&api.server(&server)?) {
            // The line that stops it comes first.
            api.world.rest_until(ATTACH_PATIENCE, || stop_was_sent(&api, known.id)).await;
        } else if is_stop {
            write_power(&api, known.id, Action::Stop, None).await?;
            continue;
        }
        type_line(&api, known.id, command).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Whether the server is being stopped, or about to be.
fn is_stopping(known: &Known) -> bool {
    let record = &known.snapshot.record;
    let open = open_wish(&known.manifest, record);
    known.status.state == PowerState::Stopping || open.is_some_and(|wish| wish.want == Want::Down)
}

fn stop_was_sent(api: &Api, id: ServerId) -> bool {
    let offline = api.world.store.status(id).is_none_or(|status| status.state == PowerState::Offline);
    offline || api.world.with_live(id, |live| live.stop.is_some())
}

async fn type_line(api: &Api, id: ServerId, line: &str) -> Result<(), ApiError> {
    let patience = tokio::time::Instant::now() + ATTACH_PATIENCE;
    while api.world.console.attached(id).is_none() && tokio::time::Instant::now() < patience {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    api.world.console.type_line(id, line).await.map_err(|error| {
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
