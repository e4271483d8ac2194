//! Settings of the panel client and of the HTTP API.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use ipnet::IpNet;

use super::file::{ApiFile, ConfigFile};
use super::lenient::{Lenient, within};
use super::{Problem, Secret, absolute};

/// The panel that manages this node.
#[allow(missing_docs)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PanelConfig {
    /// Base URL as the file has it, which is also the origin of browsers.
    pub remote: String,
    /// Base URL without a trailing slash.
    pub url: String,
    /// First half of `Bearer <id>.<token>`.
    pub token_id: String,
    /// Second half of the bearer token.
    pub token: Secret,
    /// Timeout of a request.
    pub timeout: Duration,
    /// Servers per page of the panel's list.
    pub servers_per_page: u32,
    /// Additional headers of each request, without those of the protocol.
    pub custom_headers: Vec<(HeaderName, HeaderValue)>,
}

/// The HTTP API.
#[allow(missing_docs)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiConfig {
    /// Host and port to listen on, for `TcpListener::bind`. Port 0 selects a free one.
    pub address: String,
    /// `None` without TLS.
    pub tls: Option<TlsFiles>,
    /// Origins of browsers, in addition to the panel's.
    pub allowed_origins: Vec<String>,
    /// Whether private network preflights are answered.
    pub allow_cors_private_network: bool,
    /// Proxies whose headers name the client.
    pub trusted_proxies: Vec<IpNet>,
}

/// Paths of a certificate chain and its private key, both PEM.
#[allow(missing_docs)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl PanelConfig {
    /// Headers of the protocol, which the file cannot set.
    const RESERVED: [HeaderName; 4] =
        [http::header::AUTHORIZATION, http::header::USER_AGENT, http::header::ACCEPT, http::header::CONTENT_TYPE];

    /// `None` if the file names no panel.
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
                        "is empty, and the panel at {remote} requires it: copy it from the node's page there, \
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
        return Err(expected("with a query or fragment".into()));
    }
    Ok(())
}

fn custom_headers(file: &BTreeMap<String, Secret>, lenient: &mut Lenient) -> Vec<(HeaderName, HeaderValue)> {
    let headers = file.iter().filter_map(|(name, value)| {
        let header = custom_header(name, value).map_err(|message| format!("{name:?}: {message}"));
        lenient.keep("remote_query.custom_headers", header)
    });
    headers.filter(|(name, _)| !PanelConfig::RESERVED.contains(name)).collect()
}

fn custom_header(name: &str, value: &Secret) -> Result<(HeaderName, HeaderValue), &'static str> {
    let name = HeaderName::try_from(name).map_err(|_| "not the name of an HTTP header")?;
    let mut value = HeaderValue::try_from(value.expose())
        .map_err(|_| "its value has characters that an HTTP header cannot have")?;
    value.set_sensitive(true);
    Ok((name, value))
}

impl ApiConfig {
    /// `None` if a value is invalid and cannot be replaced.
    pub(super) fn resolve(file: &ConfigFile, source: &Path, lenient: &mut Lenient) -> Option<Self> {
        let api = &file.api;
        let port = lenient.require(within::<u16>("api.port", api.port, 0..=65535, "as a port number"));
        let host = lenient.require(bindable("api.host", &api.host));
        let tls = lenient.require(TlsFiles::resolve(api, source));
        Some(Self {
            address: format!("{}:{}", host?, port?),
            tls: tls?,
            allowed_origins: file.allowed_origins.clone(),
            allow_cors_private_network: file.allow_cors_private_network,
            trusted_proxies: trusted_proxies(&api.trusted_proxies, lenient),
        })
    }
}

fn trusted_proxies(written: &[String], lenient: &mut Lenient) -> Vec<IpNet> {
    let proxy = |text: &String| {
        let text = text.trim();
        let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        let network = network.map_err(|_| format!("{text:?}: expected an address, or a range such as 10.0.0.0/8"));
        lenient.keep("api.trusted_proxies", network)
    };
    written.iter().filter_map(proxy).collect()
}

/// The host part of an address. An IPv6 address gets brackets if it has none.
pub(super) fn bindable(key: &str, host: &str) -> Result<String, Problem> {
    let host = host.trim();
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    let name = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    let is_name = !host.is_empty() && host.len() <= 253 && host.chars().all(name);
    // Digits and dots alone are an address, and not a name.
    let is_number = host.chars().all(|c| c.is_ascii_digit() || c == '.');
    match host {
        "" => Ok("0.0.0.0".to_owned()),
        _ if is_ipv6(bare) => Ok(format!("[{bare}]")),
        host if host.parse::<Ipv4Addr>().is_ok() || (is_name && !is_number) => Ok(host.to_owned()),
        host => {
            let message = format!(
                "is {host:?}: expected an address or name of this host, without scheme and port, such as 0.0.0.0"
            );
            Err(Problem::new(key, message))
        }
    }
}

/// Whether the text is an IPv6 address, with or without a zone such as `%eth0`.
fn is_ipv6(text: &str) -> bool {
    text.split_once('%').map_or(text, |(address, _)| address).parse::<Ipv6Addr>().is_ok()
}

impl TlsFiles {
    /// The files that cannot be read now. A certificate may arrive later.
    pub(super) fn unreadable(&self) -> impl Iterator<Item = Problem> {
        [("api.ssl.cert", &self.cert), ("api.ssl.key", &self.key)].into_iter().filter_map(|(key, path)| {
            let error = std::fs::read(path).err()?;
            let message =
                format!("cannot read {}: {error}; the API is not served to the panel until it can", path.display());
            Some(Problem::new(key, message))
        })
    }

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
