//! What every answer needs: an id, CORS headers, and behind the TCP door the node's token. A handler that panics is answered for.
//!
//! Source: HTTP API, "Headers on every response", "CORS and origins", "Authentication classes".

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::MethodRouter;
use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use tower::ServiceExt;
use tracing::Instrument;

use super::error::{ApiError, json_error, with_request_id};
use super::peer::Peer;
use crate::config::{NodeConfig, Secret};
use crate::panel::client::user_agent;
use crate::tasks::panic_text;

/// Where requests come in.
#[derive(Debug, Clone)]
pub enum Door {
    /// TCP: the node's token is asked for.
    Tcp(Secret),
    /// A unix socket: whoever may open the file may ask anything.
    Local,
}

/// The largest body that is read. Uploads of files have routes, and limits, of their own.
pub const MAX_BODY: usize = 4 * 1024 * 1024;

struct Guard {
    door: Door,
    panel: HeaderValue,
    allowed_origins: Vec<String>,
    private_network: bool,
    user_agent: HeaderValue,
}

/// Puts the guard around every route, known or not.
pub fn wrap(router: Router, door: Door, node: &NodeConfig) -> Router {
    let panel = node.panel.as_ref().map(|panel| panel.remote.as_str()).unwrap_or_default();
    let guard = Guard {
        door,
        panel: HeaderValue::from_str(panel).unwrap_or(HeaderValue::from_static("")),
        allowed_origins: node.api.allowed_origins.clone(),
        private_network: node.api.allow_cors_private_network,
        user_agent: HeaderValue::from_str(&user_agent(&node.token_id)).unwrap_or(HeaderValue::from_static("alula")),
    };
    router.layer(axum::extract::DefaultBodyLimit::max(MAX_BODY)).layer(from_fn_with_state(Arc::new(guard), answer))
}

/// Tells which paths and methods have a route, without running what stands behind it.
#[derive(Clone)]
pub struct KnownRoutes(Router);

impl KnownRoutes {
    /// Of these routes.
    pub fn new<S: Clone + Send + Sync + 'static>(routes: &[(&'static str, MethodRouter<S>)], state: &S) -> Self {
        let known = from_fn(|_: Request, _: Next| async { StatusCode::OK });
        let router = routes.iter().fold(Router::new(), |router, (path, methods)| {
            router.route(path, methods.clone().route_layer(known.clone()))
        });
        Self(router.with_state(state.clone()))
    }

    async fn has(&self, method: &Method, path: &str) -> bool {
        let Ok(request) = Request::builder().method(method).uri(path).body(Body::empty()) else { return false };
        let Ok(response) = self.0.clone().oneshot(request).await;
        response.status() == StatusCode::OK
    }

    /// The answer where there is no route, also for a known path with another method. A slash too many at the end of a known
    /// path leads there.
    pub async fn no_route(self, request: Request) -> Response {
        let (method, uri) = (request.method(), request.uri());
        let Some(path) = uri.path().strip_suffix('/') else { return not_found() };
        if !self.has(method, path).await {
            return not_found();
        }
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
}

fn not_found() -> Response {
    (StatusCode::NOT_FOUND, [(header::CONTENT_TYPE, "text/plain")], "404 page not found").into_response()
}

async fn answer(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let request_id = uuid::Uuid::new_v4().to_string();
    let span = request_span(&request, &request_id);
    let origin = request.headers().get(header::ORIGIN).cloned();
    let mut response = if request.method() == Method::OPTIONS {
        StatusCode::NO_CONTENT.into_response()
    } else {
        let mut response = match guard.refuse(&request) {
            Some(refusal) => refusal,
            // There are no HEAD routes; answering as GET does would run handlers.
            None if request.method() == Method::HEAD => not_found(),
            None => run(next, request, &request_id).instrument(span).await,
        };
        response.headers_mut().insert(header::USER_AGENT, guard.user_agent.clone());
        response
    };
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&request_id) {
        headers.insert("x-request-id", id);
    }
    guard.cors(headers, origin.as_ref());
    response
}

/// Every line that is logged for a request carries these, whatever the level of the log. The query is left out: it may hold a token.
fn request_span(request: &Request, request_id: &str) -> tracing::Span {
    let peer = request.extensions().get::<ConnectInfo<Peer>>().map(|ConnectInfo(peer)| tracing::field::display(*peer));
    let (method, path) = (request.method(), request.uri().path());
    tracing::error_span!("request", request.id = request_id, peer, %method, path)
}

async fn run(next: Next, request: Request, request_id: &str) -> Response {
    // What handlers share is behind locks, which a panic releases.
    let response = AssertUnwindSafe(next.run(request)).catch_unwind().await.unwrap_or_else(|panic| {
        let text = panic_text(panic.as_ref());
        ApiError::Failed(format!("the handler panicked: {text}; this is a bug, please report it")).into_response()
    });
    with_request_id(response, request_id)
}

impl Guard {
    fn refuse(&self, request: &Request<Body>) -> Option<Response> {
        let Door::Tcp(token) = &self.door else { return None };
        let presented = request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
        let Some(presented) = presented.strip_prefix(b"Bearer ") else {
            let message = "The required authorization heads were not present in the request.";
            let mut response = json_error(StatusCode::UNAUTHORIZED, message, None);
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            return Some(response);
        };
        if token.matches(presented) {
            return None;
        }
        Some(json_error(StatusCode::FORBIDDEN, "You are not authorized to access this endpoint.", None))
    }

    fn cors(&self, headers: &mut HeaderMap, origin: Option<&HeaderValue>) {
        let mut set = |name: &'static str, value: HeaderValue| headers.insert(HeaderName::from_static(name), value);
        set("access-control-allow-origin", self.allowed_origin(origin));
        set("access-control-allow-credentials", HeaderValue::from_static("true"));
        set("access-control-allow-methods", HeaderValue::from_static("GET, POST, PATCH, PUT, DELETE, OPTIONS"));
        set(
            "access-control-allow-headers",
            HeaderValue::from_static(
                "Accept, Accept-Encoding, Authorization, Cache-Control, Content-Type, Content-Length, Origin, X-Real-IP, X-CSRF-Token",
            ),
        );
        set("access-control-max-age", HeaderValue::from_static("7200"));
        if self.private_network {
            set("access-control-request-private-network", HeaderValue::from_static("true"));
        }
    }

    /// The panel's origin, or the first allowed one that fits.
    fn allowed_origin(&self, origin: Option<&HeaderValue>) -> HeaderValue {
        let Some(origin) = origin.filter(|origin| **origin != self.panel) else { return self.panel.clone() };
        let allowed =
            self.allowed_origins.iter().find(|allowed| *allowed == "*" || allowed.as_bytes() == origin.as_bytes());
        allowed.and_then(|allowed| HeaderValue::from_str(allowed).ok()).unwrap_or_else(|| self.panel.clone())
    }
}
