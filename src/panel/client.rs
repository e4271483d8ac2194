//! The panel's remote API over HTTP: [`HttpPanel`].
//!
//! Each call is one attempt with one timeout, and fails with a class of [`PanelError`]. A bounded number of calls is in flight
//! at once. Nothing is retried here. Two things are kept between calls: the pages of an unfinished listing (`listing`), and
//! whether the panel has a route for container states.

mod exchange;
mod listing;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::json;
use tokio::time::Instant;

use self::exchange::{Call, Exchange};
use self::listing::Listing;
use super::{Listed, Panel, PanelError, PanelServer, wire};
use crate::config::PanelConfig;
use crate::model::{PowerState, Script, ServerId};

/// The version of Wings that this daemon reports to the panel and in its own answers. The panel enables features by it.
pub const WINGS_VERSION: &str = "1.13.3";

/// How long no container states are sent to a panel that has no route for them.
const ROUTE_MISSING_FOR: Duration = Duration::from_secs(3600);

/// `User-Agent` of the daemon's requests and answers. The panel rejects answers with the token id of another node.
pub fn user_agent(token_id: &str) -> String {
    format!("Pelican Wings/v{WINGS_VERSION} (id:{token_id})")
}

/// A configuration that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    #[error("the panel's URL {url:?} cannot be used ({reason}): expected one such as https://panel.example.com")]
    Url { url: String, reason: String },
    /// The token or its id has characters that an HTTP header cannot have.
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
    /// Until when no container states are sent, because the panel has no route for them.
    no_state_route: Mutex<Option<Instant>>,
    /// The panel has accepted a container state, so a later 404 is about the server and not about the route.
    has_state_route: AtomicBool,
}

impl HttpPanel {
    /// A client that connects at the first call.
    ///
    /// # Errors
    /// The URL or the token is invalid.
    pub fn new(config: &PanelConfig, ignore_certificate_errors: bool) -> Result<Self, OptionsError> {
        Ok(Self {
            listing: Listing::new(config.servers_per_page.max(1)),
            exchange: Exchange::new(config, ignore_certificate_errors)?,
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

    /// Finds out what a 404 to a container state means. The panel sends it for an unknown server and for an unknown route: if
    /// it knows the server, the route is missing.
    async fn explain_missing_state_route(&self, id: ServerId, rejected: PanelError) -> Result<(), PanelError> {
        match self.get_server(id).await {
            Ok(_) => {
                *self.no_state_route.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some(Instant::now() + ROUTE_MISSING_FOR);
                tracing::info!("the panel has no route for container states; not sending any for an hour");
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
        let server = wire::json(&answer).and_then(|answer| wire::server(id, &answer));
        server.map_err(|error| invalid_response(call, &error))
    }

    async fn script(&self, id: ServerId) -> Result<Script, PanelError> {
        let call = Call::get(format!("/servers/{id}/install"));
        let answer = self.exchange.fetch(&call).await?;
        let script = wire::json(&answer).and_then(|answer| wire::script(&answer));
        script.map_err(|error| invalid_response(call.name(), &error))
    }

    async fn report_install(&self, id: ServerId, successful: bool, reinstall: bool) -> Result<(), PanelError> {
        let body = json!({"successful": successful, "reinstall": reinstall});
        self.exchange.report(&Call::post(format!("/servers/{id}/install"), &body)).await
    }

    async fn report_state(&self, id: ServerId, previous: PowerState, new: PowerState) -> Result<(), PanelError> {
        if self.state_route_is_missing() {
            return Ok(());
        }
        let body = json!({"data": {"previous_state": previous.as_str(), "new_state": new.as_str()}});
        let result = self.exchange.report(&Call::post(format!("/servers/{id}/container/status"), &body)).await;
        match result {
            Ok(()) => {
                self.has_state_route.store(true, Ordering::Relaxed);
                Ok(())
            }
            Err(rejected) if rejected.is_unknown() && !self.has_state_route.load(Ordering::Relaxed) => {
                self.explain_missing_state_route(id, rejected).await
            }
            result => result,
        }
    }

    async fn reset(&self) -> Result<(), PanelError> {
        self.exchange.report(&Call::post("/servers/reset".into(), &serde_json::Value::Null)).await
    }
}

fn invalid_response(call: String, error: &wire::WireError) -> PanelError {
    PanelError::InvalidResponse { call, detail: error.to_string() }
}
