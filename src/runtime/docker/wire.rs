//! HTTP to the engine: one pool of connections, and the negotiated API version in each path.
//!
//! bollard's requests pass through [`Wire::send`], ours through [`Wire::open`].

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use bollard::errors::Error;
use bytes::Bytes;
use futures_util::Stream;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Either, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::connection::{Address, Connector, connector};

/// The engine in URIs. The connector ignores it.
pub(super) const BASE: &str = "http://engine";

/// Connections that are kept for later requests.
const IDLE_CONNECTIONS: usize = 4;
/// The longest error message of an engine, in bytes.
const MAX_ERROR: usize = 64 * 1024;
/// The longest document, in bytes. A list of thousands of containers is a few MiB.
const MAX_DOCUMENT: usize = 256 * 1024 * 1024;

/// The body of bollard's requests.
pub(super) type Body =
    Either<Full<Bytes>, StreamBody<Pin<Box<dyn Stream<Item = std::io::Result<Frame<Bytes>>> + Send>>>>;

/// A client of the engine.
pub(super) struct Wire {
    address: Arc<Address>,
    client: Client<Connector, Body>,
    engine: Mutex<Option<Negotiated>>,
}

/// What is known of the engine after the first request.
#[derive(Clone)]
struct Negotiated {
    /// The API version in use, such as `1.41`.
    version: String,
    /// What the engine runs on, such as `linux/amd64`.
    platform: Option<String>,
    is_podman: bool,
}

/// The answer to `GET /version`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct EngineVersion {
    api_version: String,
    #[serde(default, rename = "MinAPIVersion")]
    min_api_version: String,
    #[serde(default)]
    os: String,
    #[serde(default)]
    arch: String,
    components: Option<Vec<Component>>,
}

#[derive(Deserialize)]
struct Component {
    #[serde(default, rename = "Name")]
    name: String,
}

impl Wire {
    pub(super) fn new(address: Address) -> Self {
        let address = Arc::new(address);
        Self { client: client(&address, IDLE_CONNECTIONS), address, engine: Mutex::default() }
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// Negotiates again at the next request.
    pub(super) fn forget_version(&self) {
        *self.engine.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Sends a request on a new connection. If systemd holds the socket of an engine that goes down, the connection succeeds
    /// and no answer follows.
    pub(super) async fn ping(&self) -> Result<(), Error> {
        let response = client(&self.address, 0).request(request(Method::GET, "/_ping")?).await?;
        read_all(response, MAX_ERROR).await?;
        Ok(())
    }

    /// Sends a request in the negotiated version, and returns any answer.
    pub(super) async fn send(&self, mut request: Request<Body>) -> Result<Response<Incoming>, Error> {
        let version = self.negotiated().await?.version;
        *request.uri_mut() = versioned(request.uri(), &version)?;
        Ok(self.client.request(request).await?)
    }

    /// Sends a request, and returns a successful answer whose body is still to be read. `path` is everything after the version,
    /// including the query.
    pub(super) async fn open(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Incoming>, Error> {
        let mut request = request(method, path)?;
        *request.headers_mut() = headers;
        *request.body_mut() = Either::Left(Full::new(body));
        successful(self.send(request).await?).await
    }

    /// Reads one JSON document.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let response = self.open(Method::GET, path, HeaderMap::new(), Bytes::new()).await?;
        Ok(serde_json::from_slice(&read_all(response, MAX_DOCUMENT).await?)?)
    }

    /// Sends a request without a body, and reads the JSON document of the answer.
    pub(super) async fn post<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let response = self.open(Method::POST, path, HeaderMap::new(), Bytes::new()).await?;
        Ok(serde_json::from_slice(&read_all(response, MAX_DOCUMENT).await?)?)
    }

    /// What the engine runs on, such as `linux/amd64`.
    pub(super) async fn platform(&self) -> Result<Option<String>, Error> {
        Ok(self.negotiated().await?.platform)
    }

    /// Whether the engine is Podman.
    pub(super) async fn is_podman(&self) -> Result<bool, Error> {
        Ok(self.negotiated().await?.is_podman)
    }

    async fn negotiated(&self) -> Result<Negotiated, Error> {
        let known = self.engine.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(engine) = known {
            return Ok(engine);
        }
        let response = successful(self.client.request(request(Method::GET, "/version")?).await?).await?;
        let engine: EngineVersion = serde_json::from_slice(&read_all(response, MAX_DOCUMENT).await?)?;
        let version = choose(&engine.api_version, &engine.min_api_version).ok_or(Error::APIVersionParseError {})?;
        tracing::debug!(engine = %self.address, version, "API version negotiated");
        let platform =
            (!engine.os.is_empty() && !engine.arch.is_empty()).then(|| format!("{}/{}", engine.os, engine.arch));
        let is_podman = engine.components.iter().flatten().any(|component| component.name == "Podman Engine");
        let engine = Negotiated { version, platform, is_podman };
        *self.engine.lock().unwrap_or_else(PoisonError::into_inner) = Some(engine.clone());
        Ok(engine)
    }
}

fn client(address: &Arc<Address>, idle_connections: usize) -> Client<Connector, Body> {
    let mut builder = Client::builder(TokioExecutor::new());
    builder.pool_max_idle_per_host(idle_connections).build(connector(address))
}

fn request(method: Method, path: &str) -> Result<Request<Body>, Error> {
    Ok(Request::builder().method(method).uri(format!("{BASE}{path}")).body(Either::Left(Full::default()))?)
}

async fn successful(response: Response<Incoming>) -> Result<Response<Incoming>, Error> {
    let status = response.status();
    if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(response);
    }
    let message = error_message(&read_all(response, MAX_ERROR).await?);
    Err(Error::DockerResponseServerError { status_code: status.as_u16(), message })
}

/// The newest version that both sides support. An engine without one in common gets its oldest.
fn choose(newest: &str, oldest: &str) -> Option<String> {
    let ours = bollard::API_DEFAULT_VERSION;
    let chosen = parse_version(newest)?.min((ours.major_version, ours.minor_version));
    let (major, minor) = parse_version(oldest).map_or(chosen, |oldest| chosen.max(oldest));
    Some(format!("{major}.{minor}"))
}

/// Major and minor number. Podman appends a third one.
fn parse_version(text: &str) -> Option<(usize, usize)> {
    let (major, rest) = text.split_once('.')?;
    let minor = rest.split('.').next()?;
    Some((major.parse().ok()?, minor.parse().ok()?)).filter(|(major, _)| *major > 0)
}

/// Puts the version in front of a path. bollard negotiates one, but leaves it out of its paths.
fn versioned(uri: &Uri, version: &str) -> Result<Uri, Error> {
    let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let bare = match path.strip_prefix("/v").and_then(|rest| rest.split_once('/')) {
        Some((number, rest)) if parse_version(number).is_some() => rest,
        _ => path.trim_start_matches('/'),
    };
    Ok(format!("{BASE}/v{version}/{bare}").parse()?)
}

async fn read_all(response: Response<Incoming>, limit: usize) -> Result<Bytes, Error> {
    let body = Limited::new(response.into_body(), limit).collect().await.map_err(std::io::Error::other)?;
    Ok(body.to_bytes())
}

/// The message in an error's body: `{"message": …}`, or the whole text.
fn error_message(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Message {
        message: String,
    }
    match serde_json::from_slice::<Message>(body) {
        Ok(error) => error.message,
        Err(_) => String::from_utf8_lossy(body).trim().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_chosen_by_both_sides() {
        for (newest, oldest, chosen) in [
            ("1.41", "1.12", Some("1.41")),   // Docker 20.10
            ("1.52", "1.44", Some("1.52")),   // Docker 29
            ("1.99", "1.44", Some("1.53")),   // newer than bollard
            ("1.41.0", "1.24", Some("1.41")), // Podman
            ("2.5", "2.0", Some("2.0")),      // without a version in common
            ("1.30", "", Some("1.30")),
            ("", "", None),
            ("1", "", None),
            ("a.b", "", None),
            ("1.", "", None),
            ("0.0", "", None),
        ] {
            assert_eq!(choose(newest, oldest).as_deref(), chosen, "{newest}");
        }
    }

    #[test]
    fn paths_get_the_version() {
        for (path, expected) in [
            ("/info", "/v1.41/info"),
            ("/containers/json?all=true", "/v1.41/containers/json?all=true"),
            ("/v1.53/info", "/v1.41/info"),
            ("/volumes", "/v1.41/volumes"),
            ("/", "/v1.41/"),
        ] {
            let uri: Uri = format!("{BASE}{path}").parse().unwrap();
            assert_eq!(versioned(&uri, "1.41").unwrap().path_and_query().unwrap().as_str(), expected);
        }
    }

    #[test]
    fn error_messages() {
        assert_eq!(error_message(br#"{"message":"no such thing"}"#), "no such thing");
        assert_eq!(error_message(b"404 page not found\n"), "404 page not found");
    }
}
