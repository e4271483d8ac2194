//! One HTTP exchange with the panel: headers, redirects, limits, and the class of its outcome.

use std::error::Error;
use std::sync::{OnceLock, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, DATE, LOCATION, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use reqwest::{Client, Response};
use serde::Serialize;
use tokio::sync::Semaphore;
use url::Url;

use super::{OptionsError, user_agent};
use crate::config::{PanelConfig, Secret};
use crate::http_client::{self, cause, is_local};
use crate::panel::wire::{self, WireError};
use crate::panel::{PanelError, QUESTIONS};

/// Reports in flight at once. They have their own slots, so that a start never waits for the state reports of 500 servers.
const REPORTS: usize = 4;
/// Logins in flight at once: a client that guesses passwords delays no start.
const LOGINS: usize = 4;
const MAX_REDIRECTS: usize = 10;
/// Longest error or acknowledgement that is read, in bytes. In debug mode the panel adds a stack trace to its errors.
const MAX_ERROR_PAGE: usize = 1 << 20;
/// The longest pause that an answer can ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);
const IDLE_CONNECTION: Duration = Duration::from_secs(60);
/// Headers that the protocol needs; custom headers do not replace them.
const RESERVED: [HeaderName; 4] = [AUTHORIZATION, USER_AGENT, ACCEPT, CONTENT_TYPE];

/// One call of the remote API.
pub(super) struct Call {
    method: Method,
    path: String,
    body: Option<Bytes>,
    /// The panel acknowledges the call with an empty page, which a proxy may send as well.
    empty_answer: bool,
    slots: Slots,
}

/// Which slots a query waits for.
#[derive(Debug, Clone, Copy)]
enum Slots {
    Fetches,
    Logins,
}

impl Call {
    pub(super) fn get(path: String) -> Self {
        Self { method: Method::GET, path, body: None, empty_answer: false, slots: Slots::Fetches }
    }

    pub(super) fn post(path: String, body: &impl Serialize) -> Self {
        // The bodies are maps with texts as keys, which can always be written.
        let body = serde_json::to_vec(body).unwrap_or_default();
        Self { method: Method::POST, path, body: Some(Bytes::from(body)), empty_answer: false, slots: Slots::Fetches }
    }

    /// The same, acknowledged by an empty page as well.
    pub(super) fn answered_without_body(self) -> Self {
        Self { empty_answer: true, ..self }
    }

    /// The same, in the slots of logins.
    pub(super) fn of_login(self) -> Self {
        Self { slots: Slots::Logins, ..self }
    }

    /// The call for error messages.
    pub(super) fn name(&self) -> String {
        format!("{} /api/remote{}", self.method, self.path)
    }
}

/// The HTTP client of the panel.
#[derive(Debug)]
pub(super) struct Exchange {
    base: Url,
    headers: RwLock<HeaderMap>,
    timeout: Duration,
    ignore_certificate_errors: bool,
    fetches: Semaphore,
    reports: Semaphore,
    logins: Semaphore,
    // Both clients are built at their first use: loading the trusted certificates costs milliseconds and memory, which a
    // panel on plain HTTP does not need.
    plain: OnceLock<Client>,
    tls: OnceLock<Client>,
}

impl Exchange {
    pub(super) fn new(config: &PanelConfig, ignore_certificate_errors: bool) -> Result<Self, OptionsError> {
        Ok(Self {
            base: base(&config.url)?,
            headers: RwLock::new(headers(config)?),
            timeout: config.timeout,
            ignore_certificate_errors,
            fetches: Semaphore::new(QUESTIONS),
            reports: Semaphore::new(REPORTS),
            logins: Semaphore::new(LOGINS),
            plain: OnceLock::new(),
            tls: OnceLock::new(),
        })
    }

    /// Uses another token from the next call on.
    ///
    /// # Errors
    /// The token or its id has characters that an HTTP header cannot have.
    pub(super) fn set_credentials(&self, token_id: &str, token: &Secret) -> Result<(), OptionsError> {
        let mut headers = self.headers();
        add_credentials(&mut headers, token_id, token)?;
        *self.headers.write().unwrap_or_else(PoisonError::into_inner) = headers;
        Ok(())
    }

    fn headers(&self) -> HeaderMap {
        self.headers.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends a query and returns the body of the answer.
    pub(super) async fn fetch(&self, call: &Call) -> Result<Bytes, PanelError> {
        let slots = match call.slots {
            Slots::Fetches => &self.fetches,
            Slots::Logins => &self.logins,
        };
        self.limited(call, slots, async {
            let response = self.send(call).await?;
            body(response, wire::MAX_ANSWER).await.map_err(|error| match error.is::<LengthLimitError>() {
                true => {
                    let detail = format!("it is longer than {} MiB", wire::MAX_ANSWER >> 20);
                    PanelError::InvalidResponse { call: call.name(), detail }
                }
                false => unreachable(call, &*error),
            })
        })
        .await
    }

    /// Sends a query and reads the answer.
    pub(super) async fn read<T>(
        &self,
        call: &Call,
        read: impl FnOnce(&[u8]) -> Result<T, WireError>,
    ) -> Result<T, PanelError> {
        let answer = self.fetch(call).await?;
        read(&answer).map_err(|error| match wire::is_json(&answer) {
            true => PanelError::InvalidResponse { call: call.name(), detail: error.to_string() },
            false => foreign_answer(call, StatusCode::OK, &answer),
        })
    }

    /// Sends a report. It is done when the panel has acknowledged it, with 204 or with JSON. A page with another status of success
    /// is not the panel's.
    pub(super) async fn report(&self, call: &Call) -> Result<(), PanelError> {
        self.limited(call, &self.reports, async {
            let response = self.send(call).await?;
            let status = response.status();
            if status == StatusCode::NO_CONTENT {
                return Ok(());
            }
            let answer = body(response, MAX_ERROR_PAGE).await.map_err(|error| unreachable(call, &*error))?;
            let acknowledged = wire::is_json(&answer) || (call.empty_answer && answer.is_empty());
            if acknowledged { Ok(()) } else { Err(foreign_answer(call, status, &answer)) }
        })
        .await
    }

    /// Waits for a slot, and then for the attempt until the timeout.
    async fn limited<T>(
        &self,
        call: &Call,
        slots: &Semaphore,
        attempt: impl Future<Output = Result<T, PanelError>>,
    ) -> Result<T, PanelError> {
        // An error means that the semaphore is closed, which never happens.
        let _permit = slots.acquire().await;
        let outcome = tokio::time::timeout(self.timeout, attempt).await;
        outcome.unwrap_or_else(|_| Err(PanelError::Timeout { call: call.name(), limit: self.timeout }))
    }

    /// Sends the call and follows redirects until a 2xx answer or an error.
    async fn send(&self, call: &Call) -> Result<Response, PanelError> {
        let mut url = self.url(call)?;
        for _ in 0..=MAX_REDIRECTS {
            let client = self.client(&url).map_err(|error| unreachable(call, &error))?;
            let mut request = client.request(call.method.clone(), url.clone()).headers(self.headers());
            if let Some(body) = &call.body {
                request = request.body(body.clone());
            }
            let response = request.send().await.map_err(|error| unreachable(call, &error))?;
            match self.redirect(call, &url, &response)? {
                Some(next) => url = next,
                None => return conclude(call, response).await,
            }
        }
        Err(misdirected(call, StatusCode::FOUND, &format!("it redirected more than {MAX_REDIRECTS} times")))
    }

    fn url(&self, call: &Call) -> Result<Url, PanelError> {
        let text = format!("{}/api/remote{}", self.base.as_str().trim_end_matches('/'), call.path);
        Url::parse(&text).map_err(|error| PanelError::Unreachable { call: call.name(), cause: error.to_string() })
    }

    /// The URL of a redirect, if the response is one.
    ///
    /// Unlike most HTTP clients, this one keeps the method: a report that is redirected to https and sent as a GET would be
    /// lost without an error.
    fn redirect(&self, call: &Call, from: &Url, response: &Response) -> Result<Option<Url>, PanelError> {
        let status = response.status();
        if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
            return Ok(None);
        }
        if status == StatusCode::SEE_OTHER && call.method != Method::GET {
            return Err(misdirected(call, status, "it redirected a report to another page"));
        }
        let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
        let Some(next) = location.and_then(|location| from.join(location).ok()) else {
            return Err(misdirected(call, status, "it redirected without a valid location"));
        };
        // The request carries the node's token: it may go to the panel's own host only, and never from https to http.
        let host = |url: &Url| url.host_str().unwrap_or_default().to_owned();
        let (home, there) = (host(&self.base), host(&next));
        let same_host = there == home || there.strip_suffix(&home).is_some_and(|sub| sub.ends_with('.'));
        match next.scheme() {
            "https" if same_host => Ok(Some(next)),
            "http" if same_host && from.scheme() == "http" => Ok(Some(next)),
            scheme => {
                let to = format!("it redirected to {scheme}://{there}, where the node's token must not go");
                Err(misdirected(call, status, &to))
            }
        }
    }

    fn client(&self, url: &Url) -> reqwest::Result<&Client> {
        let tls = url.scheme() == "https";
        let slot = if tls { &self.tls } else { &self.plain };
        if let Some(client) = slot.get() {
            return Ok(client);
        }
        let builder = http_client::builder().pool_idle_timeout(IDLE_CONNECTION).pool_max_idle_per_host(QUESTIONS);
        // As in Go: a panel on this host is never behind a proxy. Redirects stay on the panel's host.
        let builder = if is_local(&self.base) { builder.no_proxy() } else { builder };
        let builder = match tls {
            true => builder.tls_danger_accept_invalid_certs(self.ignore_certificate_errors),
            // This client never uses certificates: do not load any.
            false => builder.tls_certs_only([]),
        };
        let client = builder.build()?;
        Ok(slot.get_or_init(|| client))
    }
}

/// The result of an answer that is no redirect.
async fn conclude(call: &Call, response: Response) -> Result<Response, PanelError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let retry_after = retry_after(response.headers());
    // The page only explains the error, so a page that cannot be read is an empty one.
    let page = body(response, MAX_ERROR_PAGE).await.unwrap_or_default();
    // A time limit and a rate limit decide nothing, not even those of the panel.
    let decides = status.is_client_error()
        && !matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
        && wire::is_panel_error(&page);
    let (call, status, detail) = (call.name(), status.as_u16(), wire::rejection(&page));
    Err(match decides {
        true => PanelError::Rejected { call, status, detail },
        false => PanelError::Failed { call, status, detail, retry_after },
    })
}

/// The pause that an answer asks for: in seconds, or until a date by the clock of its sender.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let date = |name| httpdate::parse_http_date(text(name)?).ok();
    let pause = match text(RETRY_AFTER)?.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => date(RETRY_AFTER)?.duration_since(date(DATE).unwrap_or_else(SystemTime::now)).ok()?,
    };
    Some(pause.min(MAX_RETRY_AFTER))
}

/// The error of an answer that is a success by its status, and not the panel's by its body.
fn foreign_answer(call: &Call, status: StatusCode, answer: &[u8]) -> PanelError {
    PanelError::Failed {
        call: call.name(),
        status: status.as_u16(),
        detail: format!("the answer is not the panel's: {}", wire::rejection(answer)),
        retry_after: None,
    }
}

async fn body(response: Response, limit: usize) -> Result<Bytes, Box<dyn Error + Send + Sync>> {
    Ok(Limited::new(reqwest::Body::from(response), limit).collect().await?.to_bytes())
}

fn unreachable(call: &Call, error: &(dyn Error + 'static)) -> PanelError {
    PanelError::Unreachable { call: call.name(), cause: cause(error) }
}

fn misdirected(call: &Call, status: StatusCode, what: &str) -> PanelError {
    PanelError::Failed {
        call: call.name(),
        status: status.as_u16(),
        detail: format!("{what}: set `remote` in config.yml to the panel's final URL"),
        retry_after: None,
    }
}

fn base(text: &str) -> Result<Url, OptionsError> {
    let unusable = |reason: &str| OptionsError::Url { url: text.to_owned(), reason: reason.to_owned() };
    let url = Url::parse(text.trim()).map_err(|error| unusable(&error.to_string()))?;
    match url.scheme() {
        "http" | "https" if url.query().is_some() || url.fragment().is_some() => {
            Err(unusable("it has a query or a fragment"))
        }
        "http" | "https" => Ok(url),
        _ => Err(unusable("not a web address")),
    }
}

/// The headers of every request. Source: the panel's remote API, "Client basics".
fn headers(config: &PanelConfig) -> Result<HeaderMap, OptionsError> {
    let mut headers: HeaderMap =
        config.custom_headers.iter().filter(|(name, _)| !RESERVED.contains(name)).cloned().collect();
    add_credentials(&mut headers, &config.token_id, &config.token)?;
    // Without this header the panel answers with HTML pages.
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(headers)
}

fn add_credentials(headers: &mut HeaderMap, token_id: &str, token: &Secret) -> Result<(), OptionsError> {
    let agent = HeaderValue::try_from(user_agent(token_id)).map_err(|_| OptionsError::Token("token_id"))?;
    let bearer = format!("Bearer {token_id}.{}", token.expose());
    let mut bearer = HeaderValue::try_from(bearer).map_err(|_| OptionsError::Token("token"))?;
    bearer.set_sensitive(true);
    headers.insert(AUTHORIZATION, bearer);
    headers.insert(USER_AGENT, agent);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panel_on_this_host_is_never_behind_a_proxy() {
        for (url, local) in [
            ("http://localhost", true),
            ("https://LocalHost:8443/panel", true),
            ("http://localhost.", true),
            ("http://127.0.0.1:8000", true),
            ("http://127.1.2.3", true),
            ("http://[::1]:8000", true),
            ("http://[::ffff:127.0.0.1]", true),
            ("http://192.168.1.2", false),
            ("http://panel.localhost.example.com", false),
            ("https://panel.example.com", false),
        ] {
            assert_eq!(is_local(&base(url).unwrap()), local, "{url}");
        }
    }
}
