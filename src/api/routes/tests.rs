//! The routers that are built from the table.

use std::path::Path;

use axum::body::Body;
use axum::response::IntoResponse;
use futures_util::FutureExt;
use http::{Method, StatusCode, header};
use http_body_util::BodyExt;
use tower::ServiceExt;

use super::super::request::RequestBody;
use super::*;
use crate::config::Secret;

const METHODS: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::TRACE];
const TOKEN: &str = "Bearer the-token";

impl Route {
    fn is(&self, method: &Method) -> bool {
        MethodFilter::try_from(method.clone()).is_ok_and(|filter| filter == self.method)
    }

    fn method(&self) -> Method {
        METHODS.into_iter().find(|method| self.is(method)).unwrap()
    }

    /// A path that leads to this route.
    fn example(&self) -> String {
        self.path.replace("{server}", "550e8400-e29b-41d4-a716-446655440000")
    }

    /// What the handler of [`marked`] answers.
    fn mark(&self) -> String {
        format!("{} {}", self.method(), self.path)
    }
}

/// The table with handlers that read the body and answer with the name of their row.
fn marked() -> Vec<Route> {
    let mark = |route: Route| {
        let mark = route.mark();
        let handler = async move |body: RequestBody| body.bytes().map(|_| mark).into_response();
        Route::new(route.method, route.path, route.access, route.max_body, handler)
    };
    table().into_iter().map(mark).collect()
}

fn tcp() -> Endpoint {
    Endpoint::Tcp
}

/// The routes of a listener over `table`, while the daemon starts.
fn listener(table: Vec<Route>, endpoint: Endpoint) -> Router {
    let node = crate::testing::node_config(Path::new("/nowhere"));
    node.live.update(|live| live.token = Secret::new("the-token"));
    build(table, &Startup::default(), endpoint, &node)
}

fn request(method: &Method, path: &str, authorization: Option<&str>, body: impl Into<Body>) -> Request {
    let builder = Request::builder().method(method).uri(path);
    let builder = authorization.into_iter().fold(builder, |builder, value| builder.header("authorization", value));
    builder.body(body.into()).unwrap()
}

/// Status, and text or location.
async fn ask(router: &Router, request: Request) -> (StatusCode, String) {
    let Ok(response) = router.clone().oneshot(request).await;
    let location = response.headers().get(header::LOCATION).map(|location| location.to_str().unwrap().to_owned());
    let status = response.status();
    let text = response.into_body().collect().await.unwrap().to_bytes();
    (status, location.unwrap_or_else(|| String::from_utf8(text.to_vec()).unwrap()))
}

#[tokio::test]
async fn every_route_requires_the_access_of_its_row() {
    let (over_tcp, local) = (listener(marked(), tcp()), listener(marked(), Endpoint::Local));
    for route in table() {
        let (method, path, mark) = (route.method(), route.example(), route.mark());
        for (authorization, rejection) in [
            (None, Some(StatusCode::UNAUTHORIZED)),
            (Some("Basic the-token"), Some(StatusCode::UNAUTHORIZED)),
            (Some("Bearer another"), Some(StatusCode::FORBIDDEN)),
            (Some(TOKEN), None),
        ] {
            let over_tcp = ask(&over_tcp, request(&method, &path, authorization, "")).await;
            match (rejection, route.access) {
                (Some(rejection), Access::NodeToken | Access::LocalSocket) => {
                    assert_eq!(over_tcp.0, rejection, "{mark}")
                }
                (_, Access::Anyone) | (None, Access::NodeToken) => assert_eq!(over_tcp, (StatusCode::OK, mark.clone())),
                (None, Access::LocalSocket) => assert_eq!(over_tcp.0, StatusCode::NOT_FOUND, "{mark}"),
            }
            let local = ask(&local, request(&method, &path, authorization, "")).await;
            assert_eq!(local, (StatusCode::OK, mark.clone()));
        }
    }
}

#[tokio::test]
async fn a_slash_at_the_end_redirects_callers_with_access() {
    let (over_tcp, local) = (listener(marked(), tcp()), listener(marked(), Endpoint::Local));
    for route in table() {
        let (method, path, mark) = (route.method(), route.example(), route.mark());
        let with_slash = format!("{path}/");
        let ask = async |router, authorization| ask(router, request(&method, &with_slash, authorization, "")).await;
        let (status, location) = ask(&over_tcp, None).await;
        match route.access {
            Access::Anyone => assert!(status.is_redirection() && location == path, "{mark}: {status} {location}"),
            _ => assert_eq!(status, StatusCode::UNAUTHORIZED, "{mark}"),
        }
        let (status, location) = ask(&over_tcp, Some(TOKEN)).await;
        match route.access {
            Access::Anyone | Access::NodeToken => {
                assert!(status.is_redirection() && location == path, "{mark}: {status} {location}")
            }
            Access::LocalSocket => assert_eq!(status, StatusCode::NOT_FOUND, "{mark}"),
        }
        let (status, location) = ask(&local, None).await;
        assert!(status.is_redirection() && location == path, "{mark}: {status} {location}");
    }
}

#[tokio::test]
async fn nothing_outside_the_table_is_routed() {
    let mut paths = vec!["/".to_owned(), "//".into(), "/api".into(), "/local".into(), "*".into()];
    for route in table() {
        let path = route.example();
        paths.extend([path.to_uppercase(), format!("/{path}"), format!("{path}/more"), format!("{path}//"), path]);
    }
    for (endpoint, local) in [(tcp(), false), (Endpoint::Local, true)] {
        let router = listener(marked(), endpoint);
        for (path, method) in paths.iter().flat_map(|path| METHODS.iter().map(move |method| (path, method))) {
            let rows = table();
            let on_path = |route: &&Route| {
                let mut parts = route.path.split('/').zip(path.split('/'));
                let same_length = route.path.split('/').count() == path.split('/').count();
                same_length && parts.all(|(row, part)| row == part || (row.starts_with('{') && !part.is_empty()))
            };
            let mut on_path = rows.iter().filter(on_path);
            if *method == Method::HEAD && path == guard::HEAD_ROUTE {
                continue;
            }
            if on_path.any(|route| route.is(method) && (local || route.access != Access::LocalSocket)) {
                continue;
            }
            let (status, text) = ask(&router, request(method, path, Some(TOKEN), "")).await;
            assert_eq!(status, StatusCode::NOT_FOUND, "{method} {path}");
            // An answer to HEAD may come without its body, which hyper does not send.
            assert!(*method == Method::HEAD || text == "404 page not found", "{method} {path}: {text}");
            let (status, _) = ask(&router, request(method, path, None, "")).await;
            let expected = if local { StatusCode::NOT_FOUND } else { StatusCode::UNAUTHORIZED };
            assert_eq!(status, expected, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn a_body_is_limited_as_in_its_row() {
    let router = listener(marked(), Endpoint::Local);
    // Files as they are sent have no limit of the API; they are not kept in memory.
    for route in table().into_iter().filter(|route| route.max_body != usize::MAX) {
        let max = route.max_body;
        for (length, expected) in [(max, StatusCode::OK), (max + 1, StatusCode::PAYLOAD_TOO_LARGE)] {
            let request = request(&route.method(), &route.example(), None, vec![b' '; length]);
            assert_eq!(ask(&router, request).await.0, expected, "{} {length}", route.mark());
        }
    }
}

#[tokio::test]
async fn during_the_startup_callers_without_access_are_rejected_and_others_wait() {
    let router = listener(table(), tcp());
    for route in table().into_iter().filter(|route| route.access != Access::Anyone) {
        let ask =
            |authorization| ask(&router, request(&route.method(), &route.example(), authorization, "")).now_or_never();
        let rejected = ask(None).map(|(status, _)| status);
        assert_eq!(rejected, Some(StatusCode::UNAUTHORIZED), "{}", route.mark());
        let answered = ask(Some(TOKEN)).map(|(status, _)| status);
        let expected = match (route.path, route.access) {
            ("/api/system", _) => Some(StatusCode::OK),
            (_, Access::LocalSocket) => Some(StatusCode::NOT_FOUND),
            _ => None,
        };
        assert_eq!(answered, expected, "{}", route.mark());
    }
}
