//! The address of a request's client, behind the proxies that the node trusts.
//!
//! Source: HTTP API, "Transport", row "Client IP". A client can send these headers with any content, and a proxy appends to
//! `X-Forwarded-For` the address that it was called from: what stands to the right of an address that is no trusted proxy is true.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};

use axum::extract::FromRequestParts;
use http::HeaderMap;
use http::request::Parts;
use ipnet::IpNet;

use super::Peer;

/// The client's address, for the activity log. `None` for a client of the unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress(pub Option<IpAddr>);

impl ClientAddress {
    /// The client of a connection that sent these headers.
    pub(super) fn of(peer: Peer, headers: &HeaderMap, trusted: &[IpNet]) -> Self {
        let Peer::Tcp(peer) = peer else { return Self(None) };
        let is_trusted = |ip: &IpAddr| trusted.iter().any(|network| network.contains(ip));
        let peer = peer.ip().to_canonical();
        if !is_trusted(&peer) {
            return Self(Some(peer));
        }
        let mut forwarded = texts(headers, "x-forwarded-for").peekable();
        if forwarded.peek().is_none() {
            let real = texts(headers, "x-real-ip").next_back().and_then(address);
            return Self(Some(real.unwrap_or(peer)));
        }
        // The last hop that is known for sure, if a proxy was sent something that is no address.
        let mut client = peer;
        for hop in forwarded.rev() {
            let Some(hop) = address(hop) else { break };
            client = hop;
            if !is_trusted(&hop) {
                break;
            }
        }
        Self(Some(client))
    }
}

/// The elements of a list that may be spread over several headers.
fn texts<'a>(headers: &'a HeaderMap, name: &str) -> impl DoubleEndedIterator<Item = &'a str> {
    let values = headers.get_all(name).iter();
    let texts = values.flat_map(|value| value.to_str().unwrap_or("?").split(','));
    texts.map(str::trim).filter(|text| !text.is_empty())
}

/// An address, with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))?;
    Some(IpAddr::to_canonical(&address))
}

impl<S: Send + Sync> FromRequestParts<S> for ClientAddress {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Self>().copied().unwrap_or(Self(None)))
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    fn client(peer: &str, headers: &[(&'static str, &str)], trusted: &[&str]) -> String {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        let trusted: Vec<IpNet> = trusted.iter().map(|network| network.parse().unwrap()).collect();
        let peer = Peer::Tcp(SocketAddr::new(peer.parse().unwrap(), 1));
        ClientAddress::of(peer, &map, &trusted).0.unwrap().to_string()
    }

    #[test]
    fn headers_count_from_trusted_proxies_only() {
        let forwarded = [("x-forwarded-for", "192.0.2.1"), ("x-real-ip", "192.0.2.2")];
        assert_eq!(client("10.0.0.1", &forwarded, &[]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &forwarded, &["10.0.0.2/32"]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &forwarded, &["10.0.0.0/8"]), "192.0.2.1");
        assert_eq!(client("::ffff:10.0.0.1", &forwarded, &["10.0.0.0/8"]), "192.0.2.1");
        assert_eq!(client("10.0.0.1", &forwarded[1..], &["10.0.0.0/8"]), "192.0.2.2");
        assert_eq!(client("10.0.0.1", &[], &["10.0.0.0/8"]), "10.0.0.1");
        assert_eq!(client("fd00::1", &[("x-forwarded-for", "2001:db8::7")], &["fd00::/8"]), "2001:db8::7");
    }

    #[test]
    fn the_client_is_the_rightmost_address_that_is_not_trusted() {
        for (header, expected) in [
            ("192.0.2.9, 192.0.2.1", "192.0.2.1"),
            ("192.0.2.9, 192.0.2.1, 10.0.0.3,10.0.0.2", "192.0.2.1"),
            ("10.0.0.4, 10.0.0.3", "10.0.0.4"),
            ("192.0.2.1:4711", "192.0.2.1"),
            ("[2001:db8::7]:80, 10.0.0.2", "2001:db8::7"),
            ("[2001:db8::7]", "2001:db8::7"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("<script>, 10.0.0.2", "10.0.0.2"),
            ("192.0.2.1, unknown", "10.0.0.1"),
            (" , ,", "10.0.0.1"),
        ] {
            assert_eq!(client("10.0.0.1", &[("x-forwarded-for", header)], &["10.0.0.0/8"]), expected, "{header}");
        }
        let twice = [("x-forwarded-for", "192.0.2.9"), ("x-forwarded-for", "192.0.2.1, 10.0.0.2")];
        assert_eq!(client("10.0.0.1", &twice, &["10.0.0.0/8"]), "192.0.2.1");
    }

    proptest! {
        /// Whatever a client sends, the entry that the proxy appended decides.
        #[test]
        fn a_client_cannot_choose_its_address(sent in "[ -~]{0,80}") {
            let header = format!("{sent}, 192.0.2.1");
            prop_assert_eq!(client("10.0.0.1", &[("x-forwarded-for", &header)], &["10.0.0.0/8"]), "192.0.2.1");
        }
    }
}
