//! One server that arrives: from its record to its result.

use std::sync::Arc;

use axum::body::BodyDataStream;
use http::{HeaderMap, StatusCode};
use uuid::Uuid;

use super::held::Held;
use super::parts::read_parts;
use crate::api::form::{Pieces, boundary};
use crate::api::{Api, ApiError};
use crate::files::denylist::Denylist;
use crate::model::{Incoming, ServerId};
use crate::panel::PanelError;
use crate::reconcile::incoming::NotBegun;
use crate::reconcile::job::Subject;
use crate::sync::FetchedSpec;
use crate::transfer::{Destination, ReceiveError};
use crate::wait;

/// Fetches the configuration of a server that may come here.
///
/// # Errors
/// It is here already, or the panel does not let this node have it.
pub async fn fetch(api: &Api, id: ServerId) -> Result<FetchedSpec, ApiError> {
    let context = &api.context;
    if !context.may_come(id) {
        return Err(not_begun(id, NotBegun::Exists));
    }
    let Some(sync) = &context.sync else {
        return Err(ApiError::Failed(format!("cannot receive server {id}: no panel is configured")));
    };
    sync.fetch(id).await.map_err(|error| match error {
        PanelError::Rejected { .. } => {
            ApiError::new(StatusCode::FORBIDDEN, "The panel does not transfer this server to this node.")
        }
        error => error.into(),
    })
}

/// The answer where a server does not come here.
pub fn not_begun(id: ServerId, error: NotBegun) -> ApiError {
    match error {
        NotBegun::Exists => ApiError::new(StatusCode::CONFLICT, error.to_string()),
        NotBegun::Store(error) => error.into(),
        NotBegun::Files(error) => ApiError::Failed(format!("cannot receive server {id}: {error}")),
    }
}

/// A server that arrives.
pub struct Reception {
    held: Arc<Held>,
    token: Uuid,
    shared: bool,
    destination: Destination,
}

impl Reception {
    /// Fetches the server from the panel and creates it.
    ///
    /// # Errors
    /// The panel does not let this node have it, it is here already, or the disk's error. Nothing was created.
    pub async fn begin(api: &Api, id: ServerId, shared: bool) -> Result<Self, ApiError> {
        let context = &api.context;
        let fetched = fetch(api, id).await?;
        let build = &fetched.server.settings;
        let (limit, rules) = (build.build.disk_limit(), Arc::new(Denylist::new(&build.egg.file_denylist)));
        let token = context.ids.next_uuid();
        // Before the planner sees the server.
        let operation = context.operations.begin(id, &Subject::Transfer(token));
        let progress = operation.progress().clone();
        // What is left of a deleted server of this id is removed first.
        let files = context.operations.files().exclusive(id).await;
        let held = Held::new(context, id, operation, files);
        let incoming = Incoming { shared, ..Incoming::default() };
        context.begin_incoming(id, fetched, token, incoming).await.map_err(|error| not_begun(id, error))?;
        let destination = Destination {
            layout: context.node.layout.clone(),
            server: id,
            token,
            limit,
            denylist: rules,
            rate: context.operations.download_rate().clone(),
            progress,
        };
        Ok(Self { held: Arc::new(held), token, shared, destination })
    }

    /// Receives the server, and records how that has ended. A future that is dropped ends the transfer, too.
    ///
    /// # Errors
    /// The server did not arrive, and the panel learns of it.
    pub async fn receive(self, headers: &HeaderMap, body: &mut BodyDataStream) -> Result<(), ReceiveError> {
        let received = tokio::select! {
            biased;
            () = self.when_unwanted() => {
                self.destination.progress.cancel();
                Err(ReceiveError::Cancelled)
            }
            received = self.store(headers, body) => received,
        };
        let Err(error) = received else { return Ok(()) };
        let (context, id, token, message) =
            (self.held.context().clone(), self.destination.server, self.token, error.to_string());
        // What still works on the files ends before they are removed: the planner then ends the transfer.
        match Arc::try_unwrap(self.held) {
            Ok(held) => {
                if let Err(failed) = context.fail_incoming(id, token, &message).await {
                    tracing::warn!(server.id = %id, error = %failed.message, "what was received of a server is removed later");
                }
                drop(held);
            }
            Err(held) => drop(held),
        }
        Err(error)
    }

    /// Stores what arrives, verifies it, and makes it the server.
    async fn store(&self, headers: &HeaderMap, body: &mut BodyDataStream) -> Result<(), ReceiveError> {
        let (context, id, token) = (self.held.context(), self.destination.server, self.token);
        let state = |error: crate::store::StoreError| ReceiveError::State(error.to_string());
        let (backups, message) = if self.shared {
            (Vec::new(), "its files are on the storage that both nodes share".to_owned())
        } else {
            let boundary = boundary(headers).ok_or(ReceiveError::NoForm)?;
            let pieces = Pieces::new(body);
            let received = read_parts(pieces, boundary, &self.destination, &self.held).await?;
            received.verified()?;
            context.expect_backups(id, token, received.backups()).await.map_err(state)?;
            let (destination, held) = (self.destination.clone(), self.held.clone());
            let exchange = move || {
                let exchanged = received.exchange(&destination);
                drop(held);
                exchanged
            };
            context.store.blocking().run(exchange).await?
        };
        match context.complete_incoming(id, token, backups, message).await.map_err(state)? {
            true => Ok(()),
            false => Err(ReceiveError::Cancelled),
        }
    }

    /// Waits until the transfer is cancelled, or the server is being deleted.
    async fn when_unwanted(&self) {
        let store = &self.held.context().store;
        let ends = || {
            !store.get(self.destination.server).is_some_and(|snapshot| {
                let transfer = snapshot.record.transfer.as_ref();
                let known = transfer.is_some_and(|transfer| transfer.token == self.token && !transfer.cancelled);
                known && !snapshot.is_being_deleted()
            })
        };
        wait::forever(store.changes(), ends).await;
    }
}
