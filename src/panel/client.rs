//! The panel's remote API over HTTP: [`HttpPanel`].
//!
//! Each call is one attempt with one timeout, and fails with a class of [`PanelError`]. A bounded number of calls is in flight
//! at once. Nothing is retried here. Two things are kept between calls: the pages of an unfinished listing (`listing`), and
//! whether the panel has a route for container states.

pub mod application;
mod exchange;
mod listing;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::time::Instant;
use uuid::Uuid;

use self::exchange::{Call, Exchange};
use self::listing::Listing;
use super::{BackupReport, Delivery, Listed, Panel, PanelError, PanelServer, SftpLogin, SftpUser, UploadLinks, wire};
use crate::config::{PanelConfig, Secret};
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
    state_route: Mutex<StateRoute>,
}

/// Whether the panel has a route for container states.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
enum StateRoute {
    #[default]
    Unknown,
    /// The panel has accepted a container state, so a later 404 is about the server and not about the route.
    Exists,
    /// No container states are sent until this time.
    MissingUntil(Instant),
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
            state_route: Mutex::default(),
        })
    }

    /// Uses another token from the next call on.
    ///
    /// # Errors
    /// The token or its id has characters that an HTTP header cannot have.
    pub fn set_credentials(&self, token_id: &str, token: &Secret) -> Result<(), OptionsError> {
        self.exchange.set_credentials(token_id, token)
    }

    fn state_route(&self) -> MutexGuard<'_, StateRoute> {
        self.state_route.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds out what a 404 to a container state means. The panel sends it for an unknown server and for an unknown route: if
    /// it knows the server, the route is missing.
    async fn explain_missing_state_route(&self, id: ServerId, rejected: PanelError) -> Result<(), PanelError> {
        match self.exchange.fetch(&Call::get(format!("/servers/{id}"))).await {
            Ok(_) if *self.state_route() != StateRoute::Exists => {
                *self.state_route() = StateRoute::MissingUntil(Instant::now() + ROUTE_MISSING_FOR);
                tracing::info!("the panel has no route for container states; not sending any for an hour");
                Ok(())
            }
            Err(error) if !error.is_final() => Err(error),
            _ => Err(rejected),
        }
    }

    /// Finds out what a rejection means, since an archive may be deleted or a result dropped because of it. The panel sends 400, 401, 403
    /// and 404 to a node whose token it does not accept, too: then they say nothing about the backup.
    async fn explain_backup(&self, rejected: PanelError) -> PanelError {
        match self.exchange.fetch(&Call::get("/servers?page=0&per_page=1".into())).await {
            Ok(_) => rejected,
            Err(PanelError::Rejected { call, status, detail }) => {
                let detail = format!("{detail}; it does not accept this node's token");
                PanelError::Failed { call, status, detail, retry_after: None }
            }
            Err(error) => error,
        }
    }

    async fn about_backup<T>(&self, result: Result<T, PanelError>) -> Result<T, PanelError> {
        match result {
            Err(error) if error.is_final() => Err(self.explain_backup(error).await),
            result => result,
        }
    }
}

#[async_trait]
impl Panel for HttpPanel {
    async fn list(&self) -> Result<Listed, PanelError> {
        self.listing.read(&self.exchange).await
    }

    async fn server(&self, id: ServerId) -> Result<PanelServer, PanelError> {
        let call = Call::get(format!("/servers/{id}"));
        self.exchange.read(&call, |answer| wire::server(id, &wire::json(answer)?)).await
    }

    async fn script(&self, id: ServerId) -> Result<Script, PanelError> {
        let call = Call::get(format!("/servers/{id}/install"));
        self.exchange.read(&call, |answer| wire::script(&wire::json(answer)?)).await
    }

    async fn report_install(&self, id: ServerId, successful: bool, reinstall: bool) -> Result<(), PanelError> {
        let body = json!({"successful": successful, "reinstall": reinstall});
        self.exchange.report(&Call::post(format!("/servers/{id}/install"), &body)).await
    }

    async fn report_state(&self, id: ServerId, previous: PowerState, new: PowerState) -> Result<(), PanelError> {
        let route = *self.state_route();
        if matches!(route, StateRoute::MissingUntil(until) if Instant::now() < until) {
            return Ok(());
        }
        let body = json!({"data": {"previous_state": previous.as_str(), "new_state": new.as_str()}});
        let result = self.exchange.report(&Call::post(format!("/servers/{id}/container/status"), &body)).await;
        match result {
            Ok(()) => *self.state_route() = StateRoute::Exists,
            Err(rejected) if rejected.is_unknown() && *self.state_route() != StateRoute::Exists => {
                self.explain_missing_state_route(id, rejected).await?;
            }
            result => result?,
        }
        Ok(())
    }

    async fn report_transfer(&self, id: ServerId, successful: bool) -> Result<(), PanelError> {
        let result = if successful { "success" } else { "failure" };
        self.exchange.report(&Call::post(format!("/servers/{id}/transfer/{result}"), &serde_json::Value::Null)).await
    }

    async fn backup_upload(&self, backup: Uuid, size: u64) -> Result<UploadLinks, PanelError> {
        let call = Call::get(format!("/backups/{backup}?size={size}"));
        self.about_backup(self.exchange.read(&call, |answer| wire::upload_links(size, &wire::json(answer)?)).await)
            .await
    }

    async fn report_backup(&self, backup: Uuid, report: &BackupReport) -> Result<Delivery, PanelError> {
        match self.exchange.report(&Call::post(format!("/backups/{backup}"), report)).await {
            Ok(()) => Ok(Delivery::Accepted),
            Err(PanelError::Rejected { status: 400, detail, .. }) if wire::is_already_completed(&detail) => {
                Ok(Delivery::AlreadyCompleted)
            }
            Err(error) => self.about_backup(Err(error)).await,
        }
    }

    async fn report_restore(&self, backup: Uuid, successful: bool) -> Result<(), PanelError> {
        let body = json!({"successful": successful});
        self.about_backup(self.exchange.report(&Call::post(format!("/backups/{backup}/restore"), &body)).await).await
    }

    async fn report_activity(&self, rows: &[&RawValue]) -> Result<(), PanelError> {
        let call = Call::post("/activity".into(), &BTreeMap::from([("data", rows)]));
        self.exchange.report(&call.answered_without_body()).await
    }

    async fn sftp_login(&self, login: &SftpLogin) -> Result<SftpUser, PanelError> {
        let call = Call::post("/sftp/auth".into(), &login.body()).of_login();
        self.exchange.read(&call, |answer| wire::sftp_user(&wire::json(answer)?)).await
    }

    async fn reset(&self) -> Result<(), PanelError> {
        self.exchange.report(&Call::post("/servers/reset".into(), &serde_json::Value::Null)).await
    }
}
