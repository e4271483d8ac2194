//! Finds the file behind a URL: resolves, connects, and follows redirects, with the address checked each time.

use std::error::Error as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{CONTENT_DISPOSITION, LOCATION, USER_AGENT};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode};
use url::{Host, Url};

use super::address::is_allowed;
use super::error::DownloadError;
use super::name;
use crate::http_client::cause;

/// What servers of files see. Source: HTTP API, "Files".
const AGENT: &str = "Pelican Panel (https://pelican.dev)";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest pause in the answer.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Whether an address may be connected to.
pub(super) type Allowed = fn(std::net::IpAddr) -> bool;

/// Requests files. Connects to no address that is not allowed, whatever a name resolves to and when.
#[derive(Debug, Clone)]
pub struct Downloads {
    client: Client,
    allowed: Allowed,
}

/// A file that is ready to be read.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) response: Response,
    /// Bytes to come.
    pub(super) length: u64,
    /// The name that the server gives it.
    pub(super) name: Option<String>,
}

impl Downloads {
    /// A client for the internet.
    ///
    /// # Errors
    /// The system's certificates cannot be used.
    pub fn new() -> Result<Self, DownloadError> {
        Self::with_allowed(is_allowed)
    }

    pub(super) fn with_allowed(allowed: Allowed) -> Result<Self, DownloadError> {
        // A proxy would resolve and connect where nothing is checked.
        let client = Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .dns_resolver(Arc::new(Checked(allowed)))
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .build()
            .map_err(|error| DownloadError::Transport(cause(&error)))?;
        Ok(Self { client, allowed })
    }

    /// Requests a file.
    pub(super) async fn find(&self, url: &Url, max_redirects: u32) -> Result<Found, DownloadError> {
        let mut url = url.clone();
        for _ in 0..=max_redirects {
            self.check(&url)?;
            let request = self.client.get(url.clone()).header(USER_AGENT, AGENT);
            let response = request.send().await.map_err(failed)?;
            match response.status() {
                StatusCode::OK => return found(response),
                status if status.is_redirection() => url = target(&url, &response)?,
                status => return Err(DownloadError::Status(status)),
            }
        }
        Err(DownloadError::TooManyRedirects(max_redirects))
    }

    /// Checks what needs no resolution.
    fn check(&self, url: &Url) -> Result<(), DownloadError> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(DownloadError::Scheme(url.scheme().to_owned()));
        }
        let address = match url.host() {
            Some(Host::Domain(_)) => return Ok(()),
            Some(Host::Ipv4(address)) => address.into(),
            Some(Host::Ipv6(address)) => address.into(),
            None => return Err(DownloadError::Url("it names no host".into())),
        };
        match (self.allowed)(address) {
            true => Ok(()),
            false => Err(DownloadError::Address(address.to_string())),
        }
    }
}

fn found(response: Response) -> Result<Found, DownloadError> {
    let length = response.content_length().ok_or(DownloadError::NoLength)?;
    let header = response.headers().get(CONTENT_DISPOSITION);
    let name = header.and_then(|value| name::from_header(value.as_bytes()));
    Ok(Found { length, name, response })
}

fn target(from: &Url, response: &Response) -> Result<Url, DownloadError> {
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let location = location.ok_or(DownloadError::Status(response.status()))?;
    from.join(location).map_err(|error| DownloadError::Url(error.to_string()))
}

/// Resolves names to allowed addresses only. What is returned is connected to, so there is no second resolution to trick.
struct Checked(Allowed);

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = self.0;
        Box::pin(async move {
            let name = name.as_str().to_owned();
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let reachable: Vec<SocketAddr> = found.iter().filter(|address| allowed(address.ip())).copied().collect();
            match reachable.is_empty() && !found.is_empty() {
                true => Err(Box::new(Refused(name)) as Box<dyn std::error::Error + Send + Sync>),
                false => Ok(Box::new(reachable.into_iter()) as Addrs),
            }
        })
    }
}

/// All addresses of a name are refused.
#[derive(Debug, thiserror::Error)]
#[error("all addresses of {0} are of private networks")]
pub(super) struct Refused(pub(super) String);

pub(super) fn failed(error: reqwest::Error) -> DownloadError {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(Refused(name)) = cause.downcast_ref() {
            return DownloadError::Address(name.clone());
        }
        source = cause.source();
    }
    DownloadError::Transport(cause(&error))
}
