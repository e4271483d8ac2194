//! HTTP to the engine: one pool of connections, the negotiated API version in each path.
//!
//! bollard's requests pass through [`Wire::send`], ours through [`Wire::open`].

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bollard::errors::Error;
use bytes::Bytes;
use futures_util::Stream;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::{BodyExt, Either, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::connection::{Address, Connector};

/// Stands for the engine in URIs; connections go to the address whatever is here.
pub(super) const BASE: &str = "http://engine";

/// Connections kept for the next call. Each costs the engine a little, too.
const IDLE_CONNECTIONS: usize = 4;
/// An engine's error message is a few lines.
const MAX_ERROR: usize = 64 * 1024;
/// A list of thousands of containers is a few MiB.
const MAX_DOCUMENT: usize = 256 * 1024 * 1024;
/// What the engine says about its version.
const MAX_VERSION: usize = 1024 * 1024;

/// The body of requests, as bollard has it.
pub(super) type Body =
    Either<Full<Bytes>, StreamBody<Pin<Box<dyn Stream<Item = std::io::Result<Frame<Bytes>>> + Send>>>>;

/// The way to the engine.
pub(super) struct Wire {
    address: Arc<Address>,
    client: Client<Connector, Body>,
    /// The API version in use, packed; 0 while unknown.
    version: AtomicU64,
    /// What the engine runs on, such as `linux/amd64`.
    platform: Mutex<Option<String>>,
}

/// A version of the API, such as 1.41.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version {
    major: u32,
    minor: u32,
}

/// The engine's answer about itself.
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
}

impl Wire {
    pub(super) fn new(address: Address) -> Self {
        let address = Arc::new(address);
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_max_idle_per_host(IDLE_CONNECTIONS);
        Self {
            client: builder.build(Connector(address.clone())),
            address,
            version: AtomicU64::new(0),
            platform: Mutex::default(),
        }
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// Negotiates again at the next request.
    pub(super) fn forget_version(&self) {
        self.version.store(0, Ordering::Relaxed);
    }

    /// Has the engine answer on a connection of its own. Where systemd holds the socket of an engine that goes down, there
    /// is a connection and no answer.
    pub(super) async fn knock(&self) -> Result<(), Error> {
        let mut request = Request::new(Either::Left(Full::default()));
        *request.uri_mut() = format!("{BASE}/_ping").parse()?;
        let client: Client<Connector, Body> =
            Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(Connector(self.address.clone()));
        read_all(client.request(request).await?, MAX_ERROR).await?;
        Ok(())
    }

    /// Sends a request in the negotiated version, whatever its status.
    pub(super) async fn send(&self, mut request: Request<Body>) -> Result<Response<Incoming>, Error> {
        let version = self.version().await?;
        *request.uri_mut() = versioned(request.uri(), version)?;
        Ok(self.client.request(request).await?)
    }

    /// Sends a request and returns its answer, if that is a success, with the body still to be read.
    ///
    /// `path` is everything after the version, the query included.
    pub(super) async fn open(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Incoming>, Error> {
        let mut request = Request::new(Either::Left(Full::new(body)));
        *request.method_mut() = method;
        *request.uri_mut() = format!("{BASE}{path}").parse()?;
        *request.headers_mut() = headers;
        let response = self.send(request).await?;
        let status = response.status();
        if status.is_success() || status == http::StatusCode::SWITCHING_PROTOCOLS {
            return Ok(response);
        }
        let message = error_message(&read_all(response, MAX_ERROR).await?);
        Err(Error::DockerResponseServerError { status_code: status.as_u16(), message })
    }

    /// Asks for one JSON document, and takes from it what the type has.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let response = self.open(Method::GET, path, HeaderMap::new(), Bytes::new()).await?;
        Ok(serde_json::from_slice(&read_all(response, MAX_DOCUMENT).await?)?)
    }

    /// What the engine runs on, such as `linux/amd64`.
    pub(super) async fn platform(&self) -> Result<Option<String>, Error> {
        self.version().await?;
        Ok(self.platform.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// The version in use; asks the engine when it is not known.
    async fn version(&self) -> Result<Version, Error> {
        if let Some(version) = Version::unpack(self.version.load(Ordering::Relaxed)) {
            return Ok(version);
        }
        let version = self.negotiate().await?;
        self.version.store(version.pack(), Ordering::Relaxed);
        tracing::debug!(engine = %self.address, %version, "API version negotiated");
        Ok(version)
    }

    async fn negotiate(&self) -> Result<Version, Error> {
        let mut request = Request::new(Either::Left(Full::default()));
        *request.uri_mut() = format!("{BASE}/version").parse()?;
        let response = self.client.request(request).await?;
        let status = response.status();
        let text = read_all(response, MAX_VERSION).await?;
        if !status.is_success() {
            return Err(Error::DockerResponseServerError {
                status_code: status.as_u16(),
                message: error_message(&text),
            });
        }
        let engine: EngineVersion = serde_json::from_slice(&text)?;
        let newest = Version::parse(&engine.api_version).ok_or(Error::APIVersionParseError {})?;
        let oldest = Version::parse(&engine.min_api_version);
        let platform =
            (!engine.os.is_empty() && !engine.arch.is_empty()).then(|| format!("{}/{}", engine.os, engine.arch));
        *self.platform.lock().unwrap_or_else(PoisonError::into_inner) = platform;
        Ok(choose(newest, oldest))
    }
}

/// The newest version that both sides know. An engine that has dropped all that we know gets its oldest.
fn choose(newest: Version, oldest: Option<Version>) -> Version {
    let ours = bollard::API_DEFAULT_VERSION;
    let ours = Version { major: ours.major_version as u32, minor: ours.minor_version as u32 };
    let chosen = newest.min(ours);
    oldest.map_or(chosen, |oldest| chosen.max(oldest))
}

impl Version {
    fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        // Podman writes a third number.
        let minor = minor.split('.').next()?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? }).filter(|version| version.major > 0)
    }

    fn pack(self) -> u64 {
        u64::from(self.major) << 32 | u64::from(self.minor)
    }

    fn unpack(packed: u64) -> Option<Self> {
        (packed != 0).then_some(Self { major: (packed >> 32) as u32, minor: packed as u32 })
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Puts the version in front of a path. bollard negotiates one, but leaves it out of its paths.
fn versioned(uri: &Uri, version: Version) -> Result<Uri, Error> {
    let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let bare = match path.strip_prefix("/v").and_then(|rest| rest.split_once('/')) {
        Some((number, rest)) if Version::parse(number).is_some() => rest,
        _ => path.trim_start_matches('/'),
    };
    Ok(format!("{BASE}/v{version}/{bare}").parse()?)
}

async fn read_all(response: Response<Incoming>, limit: usize) -> Result<Bytes, Error> {
    match Limited::new(response.into_body(), limit).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) => Err(std::io::Error::other(error).into()),
    }
}

/// The words in an error's body: `{"message": …}`, or the text as it is.
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

    fn version(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    #[test]
    fn versions_are_chosen_by_both_sides() {
        for (newest, oldest, chosen) in [
            ("1.41", "1.12", "1.41"),   // Docker 20.10
            ("1.52", "1.44", "1.52"),   // Docker 29
            ("1.99", "1.44", "1.53"),   // newer than bollard
            ("1.41.0", "1.24", "1.41"), // Podman
            ("2.5", "2.0", "2.0"),      // a brave new world
            ("1.30", "", "1.30"),
        ] {
            assert_eq!(choose(version(newest), Version::parse(oldest)).to_string(), chosen);
        }
        for invalid_response in ["", "1", "a.b", "1.", "0.0"] {
            assert_eq!(Version::parse(invalid_response), None, "{invalid_response}");
        }
        assert_eq!(Version::unpack(version("1.41").pack()), Some(version("1.41")));
        assert_eq!(Version::unpack(0), None);
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
            assert_eq!(versioned(&uri, version("1.41")).unwrap().path_and_query().unwrap().as_str(), expected);
        }
    }

    #[test]
    fn error_messages() {
        assert_eq!(error_message(br#"{"message":"no such thing"}"#), "no such thing");
        assert_eq!(error_message(b"404 page not found\n"), "404 page not found");
    }
}
