//! Whether a request becomes a websocket (RFC 6455, section 4.2.1). Pure. Source: websocket, "Connecting".

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// Why a request does not become a websocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejected {
    /// It asks for no websocket, or for one of another version.
    NoWebsocket,
    /// A page of another site has sent it.
    Origin,
}

impl Rejected {
    /// The status, and its text in the body.
    pub fn status(self) -> (StatusCode, &'static str) {
        match self {
            Rejected::NoWebsocket => (StatusCode::BAD_REQUEST, "Bad Request"),
            Rejected::Origin => (StatusCode::FORBIDDEN, "Forbidden"),
        }
    }
}

/// The `Sec-WebSocket-Accept` header of the response. `panel` is the panel's URL, and `allowed` are further origins, or `*`.
///
/// # Errors
/// Why the request is rejected.
pub fn accept(headers: &HeaderMap, panel: &str, allowed: &[String]) -> Result<String, Rejected> {
    let key = headers.get(header::SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes);
    let key = key.filter(|key| STANDARD.decode(key).is_ok_and(|key| key.len() == 16));
    let asks = has(headers, header::CONNECTION, "upgrade")
        && has(headers, header::UPGRADE, "websocket")
        && has(headers, header::SEC_WEBSOCKET_VERSION, "13");
    let key = key.filter(|_| asks).ok_or(Rejected::NoWebsocket)?;
    let origin = headers.get(header::ORIGIN).map(HeaderValue::as_bytes).ok_or(Rejected::Origin)?;
    let is_panel = !panel.is_empty() && origin == panel.as_bytes();
    if is_panel || allowed.iter().any(|allowed| allowed == "*" || allowed.as_bytes() == origin) {
        Ok(derive_accept_key(key))
    } else {
        Err(Rejected::Origin)
    }
}

/// Whether the list in a header has this token.
fn has(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [(&str, &str); 5] = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("origin", "https://panel"),
    ];

    /// The result with a header changed, or left out if the value is empty.
    fn with(name: &str, value: &str, allowed: &[&str]) -> Result<String, Rejected> {
        let mut headers = HeaderMap::new();
        for (own, good) in GOOD {
            let value = if own == name { value } else { good };
            if !value.is_empty() {
                headers.insert(HeaderName::try_from(own).unwrap(), HeaderValue::try_from(value).unwrap());
            }
        }
        let allowed: Vec<String> = allowed.iter().map(|origin| (*origin).to_owned()).collect();
        accept(&headers, "https://panel", &allowed)
    }

    #[test]
    fn a_request_of_the_panels_page_is_accepted() {
        // The example of RFC 6455.
        assert_eq!(with("", "", &[]).as_deref(), Ok("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    }

    #[test]
    fn what_asks_for_no_websocket_is_a_bad_request() {
        for (name, value) in [
            ("connection", ""),
            ("connection", "close"),
            ("upgrade", ""),
            ("upgrade", "h2c"),
            ("sec-websocket-version", "8"),
            ("sec-websocket-version", ""),
            ("sec-websocket-key", ""),
            ("sec-websocket-key", "short"),
        ] {
            assert_eq!(with(name, value, &["*"]), Err(Rejected::NoWebsocket), "{name}: {value}");
        }
    }

    #[test]
    fn only_pages_of_the_panel_and_of_allowed_origins_connect() {
        let other = |origin: &str, allowed: &[&str]| with("origin", origin, allowed).is_ok();
        assert!(other("https://other", &["https://x", "https://other"]) && other("https://any", &["*"]));
        assert!(other("https://panel", &["https://other"]));
        for origin in ["https://panel/", "https://panel.evil", "http://panel", "null", ""] {
            assert_eq!(with("origin", origin, &[]), Err(Rejected::Origin), "{origin}");
        }
        assert_eq!(with("origin", "", &["*"]), Err(Rejected::Origin), "no origin at all");
        assert!(accept(&HeaderMap::new(), "", &[]).is_err());
    }
}
