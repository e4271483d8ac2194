//! The two sides of HTTP: the panel that is asked, and the API that is served.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use ipnet::IpNet;

use super::file::{ApiFile, ConfigFile};
use super::lenient::{Lenient, within};
use super::{Problem, Secret, absolute};

/// The panel that manages this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PanelConfig {
    /// Base URL as the file has it, which is also the origin that browsers come from.
    pub remote: String,
    /// Base URL without a slash at its end.
    pub url: String,
    /// First half of `Bearer <id>.<token>`.
    pub token_id: String,
    /// Second half.
    pub token: Secret,
    /// Longest time of one request.
    pub timeout: Duration,
    /// Servers per page of the list.
    pub servers_per_page: u32,
    /// Headers for every request. Never one that the protocol itself needs.
    pub custom_headers: Vec<(HeaderName, HeaderValue)>,
}

/// The HTTP API that is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiConfig {
    /// Host and port to listen on, as `TcpListener::bind` takes them. Port 0 is any free one.
    pub address: String,
    /// Port to listen on.
    pub port: u16,
    /// Certificate and key, if the API is served over TLS.
    pub tls: Option<TlsFiles>,
    /// Peers whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Origins beside the panel's that browsers may come from.
    pub allowed_origins: Vec<String>,
    /// Whether private network preflights are answered.
    pub allow_cors_private_network: bool,
}

/// A certificate and its key, both PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

impl PanelConfig {
    /// Headers of the protocol itself, which the file cannot set.
    const RESERVED: [HeaderName; 4] =
        [http::header::AUTHORIZATION, http::header::USER_AGENT, http::header::ACCEPT, http::header::CONTENT_TYPE];

    /// `None` where the file names no panel.
    pub(super) fn resolve(
        file: &ConfigFile,
        token_id: &Secret,
        token: &Secret,
        lenient: &mut Lenient,
    ) -> Result<Option<Self>, Problem> {
        let remote = file.remote.trim();
        if remote.is_empty() {
            return Ok(None);
        }
        check_url(remote)?;
        for (key, half) in [("token_id", token_id), ("token", token)] {
            if half.is_empty() {
                return Err(Problem::new(
                    key,
                    format!(
                        "is empty, and the panel at {remote} wants it: copy it from the node's page there, \
                         or remove `remote` to run without a panel"
                    ),
                ));
            }
        }
        let query = &file.remote_query;
        let seconds: u64 = lenient.within("remote_query.timeout", query.timeout, 1..=3600, "seconds", 30);
        let (key, per_page) = ("remote_query.boot_servers_per_page", query.boot_servers_per_page);
        Ok(Some(Self {
            remote: remote.to_owned(),
            url: remote.strip_suffix('/').unwrap_or(remote).to_owned(),
            token_id: token_id.expose().to_owned(),
            token: token.clone(),
            timeout: Duration::from_secs(seconds),
            servers_per_page: lenient.within(key, per_page, 1..=10_000, "servers", 50),
            custom_headers: custom_headers(&query.custom_headers, lenient),
        }))
    }
}

fn check_url(remote: &str) -> Result<(), Problem> {
    let expected = |found: String| {
        Problem::new(
            "remote",
            format!("is {remote:?}, {found}: expected the panel's URL, such as https://panel.example.com"),
        )
    };
    let url = url::Url::parse(remote).map_err(|error| expected(error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(expected("not a web address".into()));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(expected("which goes on with ? or #".into()));
    }
    Ok(())
}

fn custom_headers(file: &BTreeMap<String, Secret>, lenient: &mut Lenient) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = Vec::new();
    for (name, value) in file {
        match custom_header(name, value) {
            Ok((name, _)) if PanelConfig::RESERVED.contains(&name) => {}
            Ok(header) => headers.push(header),
            Err(why) => lenient.skip(Problem::new("remote_query.custom_headers", format!("{name:?}: {why}"))),
        }
    }
    headers
}

fn custom_header(name: &str, value: &Secret) -> Result<(HeaderName, HeaderValue), &'static str> {
    let name = HeaderName::try_from(name).map_err(|_| "not the name of an HTTP header")?;
    let mut value = HeaderValue::try_from(value.expose())
        .map_err(|_| "its value has characters that an HTTP header cannot have")?;
    value.set_sensitive(true);
    Ok((name, value))
}

impl ApiConfig {
    pub(super) fn resolve(file: &ConfigFile, source: &Path, lenient: &mut Lenient) -> Result<Self, Problem> {
        let api = &file.api;
        let port: u16 = within("api.port", api.port, 0..=65535, "as a port number")?;
        Ok(Self {
            address: format!("{}:{port}", bindable(&api.host)),
            port,
            tls: TlsFiles::resolve(api, source)?,
            trusted_proxies: trusted_proxies(&api.trusted_proxies, lenient),
            allowed_origins: file.allowed_origins.clone(),
            allow_cors_private_network: file.allow_cors_private_network,
        })
    }
}

/// A host as it stands before `:port`. An IPv6 address gets the brackets that the file may lack.
fn bindable(host: &str) -> String {
    match host.trim() {
        "" => "0.0.0.0".to_owned(),
        host if host.parse::<Ipv6Addr>().is_ok() => format!("[{host}]"),
        host => host.to_owned(),
    }
}

fn trusted_proxies(file: &[String], lenient: &mut Lenient) -> Vec<IpNet> {
    let mut trusted = Vec::new();
    for text in file {
        match proxy(text) {
            Ok(proxy) => trusted.push(proxy),
            Err(problem) => lenient.skip(problem),
        }
    }
    trusted
}

fn proxy(text: &str) -> Result<IpNet, Problem> {
    let text = text.trim();
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse::<IpNet>().or_else(|_| address()).map_err(|_| {
        let message =
            format!("{text:?} is not an address: expected one such as 10.0.0.1, or a range such as 10.0.0.0/8");
        Problem::new("api.trusted_proxies", message)
    })
}

impl TlsFiles {
    fn resolve(api: &ApiFile, source: &Path) -> Result<Option<Self>, Problem> {
        if !api.ssl.enabled {
            return Ok(None);
        }
        for (key, path) in [("api.ssl.cert", &api.ssl.cert), ("api.ssl.key", &api.ssl.key)] {
            if path.is_empty() {
                return Err(Problem::new(
                    key,
                    "is empty, while api.ssl.enabled is true: expected the path of a PEM file",
                ));
            }
        }
        Ok(Some(Self { cert: absolute(source, &api.ssl.cert), key: absolute(source, &api.ssl.key) }))
    }
}
