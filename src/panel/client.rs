//! The panel's remote API over HTTP: [`HttpPanel`].
//!
//! Each call is one attempt, within one time limit; a bounded number are under way at once. What came of it is one of
//! [`PanelError`]'s classes. Nothing is retried here. The only things remembered between calls are the pages of a listing
//! that was cut short (`listing`) and whether the panel has a route for container states.

mod exchange;
mod listing;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use serde_json::json;
use tokio::time::Instant;

use self::exchange::{Call, Exchange};
use self::listing::Listing;
use super::{Listed, Panel, PanelError, PanelServer, wire};
use crate::config::{PanelConfig, Secret};
use crate::model::{PowerState, Script, ServerId};

/// The version of Wings that this daemon claims to be, towards the panel and in its own answers. The panel offers
/// features by it.
pub const WINGS_VERSION: &str = "1.13.3";

/// How long container states are not sent to a panel that has no route for them.
const ROUTE_MISSING_FOR: Duration = Duration::from_secs(3600);

/// `User-Agent` of the daemon's requests and of its answers. The panel refuses answers with the name of another node.
pub fn user_agent(token_id: &str) -> String {
    format!("Pelican Wings/v{WINGS_VERSION} (id:{token_id})")
}

/// Where the panel is and how to ask it.
#[derive(Debug, Clone)]
pub struct PanelOptions {
    /// Base URL, with or without a slash at its end.
    pub url: String,
    /// First half of `Bearer <id>.<token>`.
    pub token_id: String,
    /// Second half.
    pub token: Secret,
    /// Longest time of one call (`remote_query.timeout`).
    pub timeout: Duration,
    /// Servers per page of the list (`remote_query.boot_servers_per_page`), at least 1.
    pub per_page: u32,
    /// Headers for every request (`remote_query.custom_headers`). Those that the protocol itself needs are not taken
    /// from here.
    pub custom_headers: Vec<(HeaderName, HeaderValue)>,
    /// Believe any certificate (`--ignore-certificate-errors`).
    pub ignore_certificate_errors: bool,
}

impl From<&PanelConfig> for PanelOptions {
    fn from(config: &PanelConfig) -> Self {
        Self {
            url: config.url.clone(),
            token_id: config.token_id.clone(),
            token: config.token.clone(),
            timeout: config.timeout,
            per_page: config.servers_per_page,
            custom_headers: config.custom_headers.clone(),
            ignore_certificate_errors: false,
        }
    }
}

/// Options that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// Not a web address.
    #[error("the panel's URL {url:?} cannot be used ({reason}): expected one such as https://panel.example.com")]
    Url {
        /// The text.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The token or its id would not survive in a header.
    #[error(
        "the node's {0} has characters that an HTTP header cannot have: copy it again from the node's page in the panel"
    )]
    Token(&'static str),
}

/// The panel, over HTTP.
#[derive(Debug)]
pub struct HttpPanel {
    exchange: Exchange,
    listing: Listing,
    /// Until when the panel counts as one without a route for container states.
    no_state_route: Mutex<Option<Instant>>,
    /// The panel has accepted a container state: it has the route, whatever it answers for one server.
    has_state_route: AtomicBool,
}

impl HttpPanel {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// The URL or the token cannot be used at all.
    pub fn new(options: PanelOptions) -> Result<Self, OptionsError> {
        Ok(Self {
            listing: Listing::new(options.per_page.max(1)),
            exchange: Exchange::new(options)?,
            no_state_route: Mutex::default(),
            has_state_route: AtomicBool::new(false),
        })
    }

    async fn get_server(&self, id: ServerId) -> Result<(String, Bytes), PanelError> {
        let call = Call::get(format!("/servers/{id}"));
        Ok((call.name(), self.exchange.fetch(&call).await?))
    }

    fn state_route_is_missing(&self) -> bool {
        if self.has_state_route.load(Ordering::Relaxed) {
            return false;
        }
        let until = *self.no_state_route.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }

    /// The panel does not know the server, or has no such route: the same 404 stands for both. Only where it knows the
    /// server is it the route that is missing.
    async fn explain_missing_state_route(&self, id: ServerId, rejected: PanelError) -> Result<(), PanelError> {
        match self.get_server(id).await {
            Ok(_) => {
                *self.no_state_route.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some(Instant::now() + ROUTE_MISSING_FOR);
                tracing::info!("the panel takes no container states; it is not told any for an hour");
                Ok(())
            }
            Err(error) if error.is_final() => Err(rejected),
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl Panel for HttpPanel {
    async fn list(&self) -> Result<Listed, PanelError> {
        self.listing.read(&self.exchange).await
    }

    async fn server(&self, id: ServerId) -> Result<PanelServer, PanelError> {
        let (call, answer) = self.get_server(id).await?;
        let answer = wire::json(&answer).map_err(|error| invalid_response(&call, &error))?;
        wire::server(id, &answer).map_err(|error| invalid_response(&call, &error))
    }

    async fn script(&self, id: ServerId) -> Result<Script, PanelError> {
        let call = Call::get(format!("/servers/{id}/install"));
        let answer = self.exchange.fetch(&call).await?;
        let answer = wire::json(&answer).map_err(|error| invalid_response(&call.name(), &error))?;
        wire::script(&answer).map_err(|error| invalid_response(&call.name(), &error))
    }

    async fn report_install(&self, id: ServerId, successful: bool, reinstall: bool) -> Result<(), PanelError> {
        let body = json!({"successful": successful, "reinstall": reinstall});
        self.exchange.tell(&Call::post(format!("/servers/{id}/install"), &body)).await
    }

    async fn report_state(&self, id: ServerId, previous: PowerState, new: PowerState) -> Result<(), PanelError> {
        if self.state_route_is_missing() {
            return Ok(());
        }
        let body = json!({"data": {"previous_state": previous.as_str(), "new_state": new.as_str()}});
        let last_reported = self.exchange.tell(&Call::post(format!("/servers/{id}/container/status"), &body)).await;
        match last_reported {
            Ok(()) => {
                self.has_state_route.store(true, Ordering::Relaxed);
                Ok(())
            }
            Err(rejected) if rejected.is_unknown() && !self.has_state_route.load(Ordering::Relaxed) => {
                self.explain_missing_state_route(id, rejected).await
            }
            last_reported => last_reported,
        }
    }

    async fn reset(&self) -> Result<(), PanelError> {
        self.exchange.tell(&Call::post("/servers/reset".into(), &serde_json::Value::Null)).await
    }
}

fn invalid_response(call: &str, error: &wire::WireError) -> PanelError {
    PanelError::InvalidResponse { call: call.to_owned(), detail: error.to_string() }
}
