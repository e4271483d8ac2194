//! What every response carries (an id, CORS headers, a 500 if a handler panics), and what callers must present.
//!
//! Source: HTTP API, "Headers on every response", "CORS and origins", "Authentication classes".

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use ipnet::IpNet;
use tower::Service;
use tracing::Instrument;

use super::client_address::ClientAddress;
use super::error::{ApiError, json_error, with_request_id};
use super::peer::Peer;
use crate::config::{Live, NodeConfig, Secret};
use crate::panel::client::user_agent;
use crate::tasks::panic_text;

/// The path whose length a caller may ask for.
pub const HEAD_ROUTE: &str = "/download/file";

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-request-private-network");
const METHODS: &str = "GET, POST, PATCH, PUT, DELETE, OPTIONS";
const HEADERS: &str = "Accept, Accept-Encoding, Authorization, Cache-Control, Content-Type, Content-Length, Origin, X-Real-IP, X-CSRF-Token";

/// A listener, by what it requires.
#[derive(Debug, Clone)]
pub enum Endpoint {
    /// TCP: the node's token is required.
    Tcp,
    /// A unix socket: permission on its file is required, for every route.
    Local,
}

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody: the handler itself checks its callers.
    Anyone,
    /// Callers with the node's token, and callers of the unix socket.
    NodeToken,
    /// Callers of the unix socket. TCP does not have the route.
    LocalSocket,
}

/// The id of a request, in its extensions.
#[derive(Debug, Clone)]
pub struct RequestId(pub String);

/// Marks the response of a route for everybody, in its extensions: it does not name the daemon.
#[derive(Debug, Clone, Copy)]
pub struct Anonymous;

/// Checks the callers of a listener, and completes its responses.
pub struct Guard {
    endpoint: Endpoint,
    panel: HeaderValue,
    allowed_origins: Vec<String>,
    private_network: bool,
    trusted_proxies: Vec<IpNet>,
    live: Live,
}

/// Completes every response of `router`.
pub fn wrap(router: Router, guard: Arc<Guard>) -> Router {
    // A layer of `router` itself would run before the router adds `Allow`.
    Router::new().fallback_service(Guarded { router, guard })
}

/// A router behind its guard.
#[derive(Clone)]
struct Guarded {
    router: Router,
    guard: Arc<Guard>,
}

impl Service<Request> for Guarded {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let Self { router, guard } = self.clone();
        Box::pin(async move { Ok(guard.answer(router, request).await) })
    }
}

/// The redirect from a path with a slash at its end to the path without.
pub fn without_slash(request: &Request) -> Response {
    let (method, uri) = (request.method(), request.uri());
    // A parameter at the end of a path matches no empty name, unless a slash follows.
    let Some(path) = uri.path().strip_suffix('/').filter(|path| !path.ends_with('/')) else { return not_found() };
    let status = match *method {
        Method::GET => StatusCode::MOVED_PERMANENTLY,
        _ => StatusCode::TEMPORARY_REDIRECT,
    };
    let target = uri.query().map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    match HeaderValue::from_str(&target) {
        Ok(location) => (status, [(header::LOCATION, location)]).into_response(),
        Err(_) => not_found(),
    }
}

/// The response if there is no route.
pub fn not_found() -> Response {
    (StatusCode::NOT_FOUND, [(header::CONTENT_TYPE, "text/plain")], "404 page not found").into_response()
}

/// The span of a request, at every log level. The query is left out: it may contain a token.
fn request_span(request: &Request, request_id: &str) -> tracing::Span {
    let peer = request.extensions().get::<ConnectInfo<Peer>>().map(|ConnectInfo(peer)| tracing::field::display(*peer));
    let client = request.extensions().get::<ClientAddress>().and_then(|ClientAddress(client)| *client);
    let client = client.map(tracing::field::display);
    let (method, path) = (request.method(), request.uri().path());
    tracing::error_span!("request", request.id = request_id, peer, client, %method, path)
}

/// The response to a request without this token.
fn reject_without(token: &Secret, request: &Request) -> Option<Response> {
    let presented = request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
    let Some(presented) = presented.strip_prefix(b"Bearer ") else {
        let message = "The required authorization heads were not present in the request.";
        let mut response = json_error(StatusCode::UNAUTHORIZED, message);
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return Some(response);
    };
    if token.matches(presented) {
        return None;
    }
    Some(json_error(StatusCode::FORBIDDEN, "You are not authorized to access this endpoint."))
}

impl Guard {
    /// The guard of a listener.
    pub fn new(endpoint: Endpoint, node: &NodeConfig) -> Self {
        let panel = node.panel.as_ref().map(|panel| panel.remote.as_str()).unwrap_or_default();
        Self {
            endpoint,
            panel: HeaderValue::from_str(panel).unwrap_or(HeaderValue::from_static("")),
            allowed_origins: node.api.allowed_origins.clone(),
            private_network: node.api.allow_cors_private_network,
            trusted_proxies: node.api.trusted_proxies.clone(),
            live: node.live.clone(),
        }
    }

    fn user_agent(&self) -> HeaderValue {
        HeaderValue::from_str(&user_agent(&self.live.get().token_id)).unwrap_or(HeaderValue::from_static("alula"))
    }

    /// Whether this listener has routes with this access.
    pub fn serves(&self, access: Access) -> bool {
        match access {
            Access::Anyone | Access::NodeToken => true,
            Access::LocalSocket => matches!(self.endpoint, Endpoint::Local),
        }
    }

    /// The response to a caller who may not call a route with this access.
    pub fn reject(&self, access: Access, request: &Request) -> Option<Response> {
        match (&self.endpoint, access) {
            (Endpoint::Local, _) | (_, Access::Anyone) => None,
            (Endpoint::Tcp, Access::NodeToken) => reject_without(&self.live.get().token, request),
            (Endpoint::Tcp, Access::LocalSocket) => Some(not_found()),
        }
    }

    async fn answer(&self, router: Router, mut request: Request) -> Response {
        let request_id = uuid::Uuid::new_v4().to_string();
        if let Some(ConnectInfo(peer)) = request.extensions().get::<ConnectInfo<Peer>>().copied() {
            let client = ClientAddress::of(peer, request.headers(), &self.trusted_proxies);
            request.extensions_mut().insert(client);
        }
        request.extensions_mut().insert(RequestId(request_id.clone()));
        let span = request_span(&request, &request_id);
        let origin = request.headers().get(header::ORIGIN).cloned();
        let mut response = if request.method() == Method::OPTIONS {
            StatusCode::NO_CONTENT.into_response()
        } else {
            let mut response = match *request.method() {
                // There is one HEAD route: elsewhere a response as to GET would run handlers.
                Method::HEAD if request.uri().path() != HEAD_ROUTE => {
                    self.reject(Access::NodeToken, &request).unwrap_or_else(not_found)
                }
                _ => self.run(router, request, &request_id).instrument(span).await,
            };
            if response.extensions().get::<Anonymous>().is_none() {
                response.headers_mut().insert(header::USER_AGENT, self.user_agent());
            }
            // The router adds the methods of a known path, also for callers without access.
            response.headers_mut().remove(header::ALLOW);
            response
        };
        let headers = response.headers_mut();
        // What follows, in one growth of the map.
        headers.reserve(8);
        if let Ok(id) = HeaderValue::from_str(&request_id) {
            headers.insert(REQUEST_ID, id);
        }
        self.cors(headers, origin.as_ref());
        response
    }

    async fn run(&self, mut router: Router, request: Request, request_id: &str) -> Response {
        // The handlers' shared state is behind locks, which a panic releases. A router is always ready.
        let response = AssertUnwindSafe(router.call(request)).catch_unwind().await;
        let response = response.map(|Ok(response)| response).unwrap_or_else(|panic| {
            let text = panic_text(panic.as_ref());
            ApiError::Failed(format!("the handler panicked: {text}; this is a bug, please report it")).into_response()
        });
        with_request_id(response, request_id, self.serves(Access::LocalSocket))
    }

    fn cors(&self, headers: &mut HeaderMap, origin: Option<&HeaderValue>) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, self.allowed_origin(origin));
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(HEADERS));
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("7200"));
        if self.private_network {
            headers.insert(PRIVATE_NETWORK, HeaderValue::from_static("true"));
        }
    }

    /// The request's origin if it is allowed, otherwise the panel's.
    fn allowed_origin(&self, origin: Option<&HeaderValue>) -> HeaderValue {
        let Some(origin) = origin.filter(|origin| **origin != self.panel) else { return self.panel.clone() };
        let allowed =
            self.allowed_origins.iter().find(|allowed| *allowed == "*" || allowed.as_bytes() == origin.as_bytes());
        allowed.and_then(|allowed| HeaderValue::from_str(allowed).ok()).unwrap_or_else(|| self.panel.clone())
    }
}
