//! Consoles of browsers: `GET /api/servers/{server}/ws`.
//!
//! `upgrade` decides whether a request becomes a socket, `connection` is its task, `session` decides what it may do and see, `actions` does
//! it, and `outbound` makes frames of events. `limits`, `inbound`, `outbound`, `session` and `upgrade` are pure.
//!
//! Source: websocket, the whole page.

mod actions;
mod connection;
mod inbound;
mod limits;
mod outbound;
mod port;
mod session;
mod sockets;
mod upgrade;

use axum::body::Body;
use axum::extract::{Extension, Request};
use axum::response::Response;
use http::{HeaderName, HeaderValue, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::json;

use self::actions::Actor;
use self::connection::Connection;
use self::upgrade::Rejected;
use super::client_address::ClientAddress;
use super::guard::RequestId;
use super::request::ServerPath;
use super::startup::Started;
use super::{ApiError, error};

pub use sockets::Sockets;

/// `GET /api/servers/{server}/ws`: a console. The token comes as the first message.
pub async fn connect(
    Started(api): Started,
    ServerPath(id): ServerPath,
    client: ClientAddress,
    Extension(request_id): Extension<RequestId>,
    mut request: Request,
) -> Result<Response, ApiError> {
    // Before the server is read, so that neither its suspension nor its deletion is missed.
    let events = api.context.store.events().subscribe(id);
    api.server(id)?;
    let too_many = || ApiError::new(StatusCode::BAD_REQUEST, "Too many open websocket connections.");
    let slot = api.sockets.open(id).ok_or_else(too_many)?;
    let node = &api.context.node.config;
    let panel = node.panel.as_ref().map(|panel| panel.remote.as_str()).unwrap_or_default();
    let accept = match upgrade::accept(request.headers(), panel, &node.api.allowed_origins) {
        Ok(accept) => accept,
        Err(rejected) => return Ok(secured(reject(rejected, &request_id))),
    };
    let actor = Actor { api: api.clone(), server: id, ip: client.0 };
    let upgraded = hyper::upgrade::on(&mut request);
    api.context.tasks.spawn(format!("websocket of {id}"), async move {
        match upgraded.await {
            Ok(stream) => Connection::new(actor, slot, events, TokioIo::new(stream)).await.serve().await,
            Err(error) => tracing::debug!(server.id = %id, %error, "websocket was not opened"),
        }
    });
    Ok(secured(switch(&accept)))
}

/// The response after which the connection is a socket.
fn switch(accept: &str) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(accept) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    response
}

fn reject(rejected: Rejected, RequestId(request_id): &RequestId) -> Response {
    let (status, text) = rejected.status();
    let body = format!("{text}\n{}", json!({"error": error::UNEXPECTED, "request_id": request_id}));
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// Adds the headers of this route.
fn secured(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'self'"));
    headers.insert(HeaderName::from_static("x-frame-options"), HeaderValue::from_static("DENY"));
    response
}
