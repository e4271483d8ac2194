//! One exchange with the panel: headers, redirects, limits, and what its outcome means.

use std::error::Error;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, LOCATION, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use reqwest::{Client, Response};
use tokio::sync::Semaphore;
use url::Url;

use super::{OptionsError, PanelOptions, user_agent};
use crate::panel::{PanelError, QUESTIONS, wire};

/// Reports under way at once. They have places of their own, so that a start never waits behind the states of 500 servers.
const REPORTS: usize = 4;
const MAX_REDIRECTS: usize = 10;
/// An error page is read no further than this, bytes.
const MAX_REFUSAL: usize = 64 << 10;
/// After an acknowledgement, how long to wait for the rest of the answer, which keeps the connection usable.
const DRAIN: Duration = Duration::from_secs(1);
const IDLE_CONNECTION: Duration = Duration::from_secs(60);
/// Headers that the protocol itself needs; custom ones do not replace them.
const RESERVED: [HeaderName; 4] = [AUTHORIZATION, USER_AGENT, ACCEPT, CONTENT_TYPE];

/// One call of the remote API.
pub(super) struct Call {
    method: Method,
    path: String,
    body: Option<Bytes>,
}

impl Call {
    pub(super) fn get(path: String) -> Self {
        Self { method: Method::GET, path, body: None }
    }

    pub(super) fn post(path: String, body: &serde_json::Value) -> Self {
        Self { method: Method::POST, path, body: Some(Bytes::from(body.to_string())) }
    }

    /// The call as errors name it.
    pub(super) fn name(&self) -> String {
        format!("{} /api/remote{}", self.method, self.path)
    }
}

/// Who speaks HTTP with the panel.
#[derive(Debug)]
pub(super) struct Exchange {
    base: Url,
    headers: HeaderMap,
    timeout: Duration,
    ignore_certificate_errors: bool,
    fetches: Semaphore,
    reports: Semaphore,
    // Made when first needed: loading the trusted certificates takes milliseconds and memory, which a node
    // whose panel is on plain HTTP never pays.
    plain: OnceLock<Client>,
    tls: OnceLock<Client>,
}

impl Exchange {
    pub(super) fn new(options: PanelOptions) -> Result<Self, OptionsError> {
        let headers = headers(&options)?;
        Ok(Self {
            base: base(&options.url)?,
            headers,
            timeout: options.timeout,
            ignore_certificate_errors: options.ignore_certificate_errors,
            fetches: Semaphore::new(QUESTIONS),
            reports: Semaphore::new(REPORTS),
            plain: OnceLock::new(),
            tls: OnceLock::new(),
        })
    }

    /// Asks, and returns the body of the answer.
    pub(super) async fn fetch(&self, call: &Call) -> Result<Bytes, PanelError> {
        self.limited(call, &self.fetches, async {
            let response = self.send(call).await?;
            body(response, wire::MAX_ANSWER).await.map_err(|error| match error {
                BodyError::TooLong => PanelError::InvalidResponse {
                    call: call.name(),
                    detail: format!("it is longer than {} MiB", wire::MAX_ANSWER >> 20),
                },
                BodyError::Broken(error) => unreachable(call, &error),
            })
        })
        .await
    }

    /// Reports. Done when the panel has acknowledged; the body of its answer does not matter.
    pub(super) async fn tell(&self, call: &Call) -> Result<(), PanelError> {
        let response = self.limited(call, &self.reports, self.send(call)).await?;
        let _ = tokio::time::timeout(DRAIN, body(response, MAX_REFUSAL)).await;
        Ok(())
    }

    /// One attempt within the time limit, which begins when its turn comes.
    async fn limited<T>(
        &self,
        call: &Call,
        places: &Semaphore,
        attempt: impl Future<Output = Result<T, PanelError>>,
    ) -> Result<T, PanelError> {
        // Fails only when closed, which never happens; without a place the attempt is still right.
        let _place = places.acquire().await;
        match tokio::time::timeout(self.timeout, attempt).await {
            Ok(outcome) => outcome,
            Err(_) => Err(PanelError::Timeout { call: call.name(), limit: self.timeout }),
        }
    }

    /// Sends the call and follows redirects, until there is an answer of class 2xx or an error.
    async fn send(&self, call: &Call) -> Result<Response, PanelError> {
        let mut url = self.url(call)?;
        for _ in 0..=MAX_REDIRECTS {
            let client = self.client(&url).map_err(|error| unreachable(call, &error))?;
            let mut request = client.request(call.method.clone(), url.clone()).headers(self.headers.clone());
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

    /// Where to ask instead, if the panel says so.
    ///
    /// The method stays, other than with most HTTP clients: a report that a panel moved to https sends on as a GET would
    /// be lost without anybody noticing.
    fn redirect(&self, call: &Call, from: &Url, response: &Response) -> Result<Option<Url>, PanelError> {
        let status = response.status();
        if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
            return Ok(None);
        }
        if status == StatusCode::SEE_OTHER && call.method != Method::GET {
            return Err(misdirected(call, status, "it sent a report to another page"));
        }
        let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
        let Some(next) = location.and_then(|location| from.join(location).ok()) else {
            return Err(misdirected(call, status, "it redirected without saying where to"));
        };
        // The node's token goes with the request: to the panel's own host only, and never from https back to http.
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
        let place = if tls { &self.tls } else { &self.plain };
        if let Some(client) = place.get() {
            return Ok(client);
        }
        let builder = Client::builder()
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .pool_idle_timeout(IDLE_CONNECTION)
            .pool_max_idle_per_host(QUESTIONS);
        let builder = match tls {
            true if self.ignore_certificate_errors => builder.tls_danger_accept_invalid_certs(true),
            true => builder,
            // No certificates to be loaded for a client that never uses them.
            false => builder.tls_certs_only([]),
        };
        let client = builder.build()?;
        Ok(place.get_or_init(|| client))
    }
}

/// What an answer means that is no redirect.
async fn conclude(call: &Call, response: Response) -> Result<Response, PanelError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let page = match body(response, MAX_REFUSAL).await {
        Ok(page) => page,
        // What it says is a courtesy; that it is an error is known.
        Err(_) => Bytes::new(),
    };
    let (call, status, detail) = (call.name(), status.as_u16(), wire::rejection(&page));
    Err(match status {
        400..=499 => PanelError::Rejected { call, status, detail },
        _ => PanelError::Failed { call, status, detail },
    })
}

enum BodyError {
    TooLong,
    Broken(reqwest::Error),
}

async fn body(mut response: Response, limit: usize) -> Result<Bytes, BodyError> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(BodyError::Broken)? {
        if body.len() + chunk.len() > limit {
            return Err(BodyError::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

fn unreachable(call: &Call, error: &reqwest::Error) -> PanelError {
    // The innermost cause says what happened; the outer ones repeat the URL.
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    PanelError::Unreachable { call: call.name(), cause: cause.to_string() }
}

fn misdirected(call: &Call, status: StatusCode, what: &str) -> PanelError {
    PanelError::Failed {
        call: call.name(),
        status: status.as_u16(),
        detail: format!("{what}: set `remote` in config.yml to the panel's final URL"),
    }
}

fn base(text: &str) -> Result<Url, OptionsError> {
    let unusable = |reason: &str| OptionsError::Url { url: text.to_owned(), reason: reason.to_owned() };
    let url = Url::parse(text.trim()).map_err(|error| unusable(&error.to_string()))?;
    match url.scheme() {
        "http" | "https" if url.query().is_some() || url.fragment().is_some() => {
            Err(unusable("it goes on with ? or #"))
        }
        "http" | "https" => Ok(url),
        _ => Err(unusable("not a web address")),
    }
}

/// The headers of every request: the panel's remote API, "Client basics".
fn headers(options: &PanelOptions) -> Result<HeaderMap, OptionsError> {
    let mut headers: HeaderMap =
        options.custom_headers.iter().filter(|(name, _)| !RESERVED.contains(name)).cloned().collect();
    let PanelOptions { token_id, token, .. } = options;
    let agent = HeaderValue::try_from(user_agent(token_id)).map_err(|_| OptionsError::Token("token_id"))?;
    let bearer = format!("Bearer {token_id}.{}", token.expose());
    let mut bearer = HeaderValue::try_from(bearer).map_err(|_| OptionsError::Token("token"))?;
    bearer.set_sensitive(true);
    headers.insert(AUTHORIZATION, bearer);
    headers.insert(USER_AGENT, agent);
    // Without it the panel answers with pages for browsers.
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(headers)
}
