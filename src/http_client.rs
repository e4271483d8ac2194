//! What the clients of other nodes, stores, panels and downloads have in common. Each of them adds its limits, and decides about proxies.

use std::error::Error;

use reqwest::ClientBuilder;
use url::{Host, Url};

/// A client that does what it is asked and nothing else: it follows no redirect, repeats nothing, and names no page that it comes from.
pub fn builder() -> ClientBuilder {
    reqwest::Client::builder()
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
}

/// The innermost cause of an error, which names the failure. The outer ones repeat the URL, which may be secret.
pub fn cause(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// Whether the URL's host is this host. As in Go, it is never behind a proxy.
pub fn is_local(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.trim_end_matches('.').eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
        None => false,
    }
}
