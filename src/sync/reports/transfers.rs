//! Reports of transfers. A rejection is settled by the panel's final word: the node that may read the server's configuration has it.
//!
//! Source: remote API, "Transfers".

use uuid::Uuid;

use super::ReportError;
use crate::events::{EventKind, TransferStatus};
use crate::model::{Record, Requester, ServerId, Transfer, TransferDirection, TransferResult, Verb};
use crate::panel::PanelError;
use crate::requests::NewRequest;
use crate::sync::PanelSync;

impl PanelSync {
    /// Reports the result of a transfer, to browsers, too. A server that did not arrive is then removed.
    ///
    /// # Errors
    /// The panel has neither acknowledged nor rejected it.
    pub async fn report_transfer(&self, id: ServerId, token: Uuid) -> Result<(), ReportError> {
        let Some(transfer) = self.ended_transfer(id, token) else { return Ok(()) };
        let Some(succeeded) = transfer.result.as_ref().map(|result| result.succeeded) else { return Ok(()) };
        if transfer.reported {
            return self.remove_failed(id, &transfer).await;
        }
        match self.panel.report_transfer(id, succeeded).await {
            Err(error) if error.is_final() => {
                tracing::debug!(server.id = %id, %error, "the panel rejected the end of a transfer");
                self.settle_transfer(id, &transfer).await?;
            }
            answer => {
                answer?;
                let reported = move |record: &mut Record| {
                    if let Some(transfer) = record.transfer_mut(token) {
                        transfer.reported = true;
                    }
                };
                self.store.run(move |store| store.commit(id, reported)).await?;
            }
        }
        // What the panel has made of it.
        let Some(settled) = self.ended_transfer(id, token) else { return Ok(()) };
        let status = status(&settled);
        if let Some(status) = status {
            // Before the server is removed, and with it those who listen.
            self.store.events().publish_output(id, || EventKind::TransferStatus(status));
        }
        self.store.wake(id);
        if status == Some(TransferStatus::Success) {
            self.sync_arrived(id).await;
        }
        self.remove_failed(id, &settled).await
    }

    fn ended_transfer(&self, id: ServerId, token: Uuid) -> Option<Transfer> {
        let transfer = self.store.get(id)?.record.transfer.clone()?;
        let known = transfer.token == token && (transfer.has_due_report() || transfer.reported);
        known.then_some(transfer)
    }

    /// Whether the panel lets this node read a server's configuration: it has the server here, or a transfer of it goes on.
    ///
    /// # Errors
    /// The panel does not say.
    pub async fn has_server(&self, id: ServerId) -> Result<bool, PanelError> {
        match self.fetch_once(id).await {
            Ok(_) => Ok(true),
            // Another rejection, as of this node's token, is no word about the server.
            Err(PanelError::Rejected { status: 403 | 404, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The panel no longer waits for the result: it has ended the transfer itself, or has had another report. The server is on the
    /// node that the panel lets read it.
    async fn settle_transfer(&self, id: ServerId, transfer: &Transfer) -> Result<(), ReportError> {
        let here = self.has_server(id).await?;
        let succeeded = match transfer.direction {
            TransferDirection::Outgoing(_) => !here,
            TransferDirection::Incoming(_) => here && transfer.result.as_ref().is_some_and(|result| result.succeeded),
        };
        let (token, at) = (transfer.token, self.clock.now());
        let settled = move |record: &mut Record| {
            let Some(transfer) = record.transfer_mut(token) else { return };
            transfer.reported = true;
            if transfer.result.as_ref().is_some_and(|result| result.succeeded != succeeded) {
                let node = if here { "this node" } else { "another node" };
                let message = format!("the panel has ended the transfer: it has the server on {node}");
                transfer.result = Some(TransferResult { succeeded, message, at });
            }
        };
        self.store.run(move |store| store.commit(id, settled)).await?;
        Ok(())
    }

    /// The configuration was fetched while the server was on the other node, and has that node's allocations.
    async fn sync_arrived(&self, id: ServerId) {
        let applied = match self.fetch_once(id).await {
            Ok(fetched) => self.apply(id, fetched, None).await.map(drop).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = applied {
            tracing::debug!(server.id = %id, %error, "the configuration is fetched again before the first start");
        }
    }

    /// Removes what is here of a server that did not arrive. One that had been here before is as it was.
    async fn remove_failed(&self, id: ServerId, transfer: &Transfer) -> Result<(), ReportError> {
        let failed = transfer.result.as_ref().is_some_and(|result| !result.succeeded);
        let Some(incoming) = transfer.incoming().filter(|_| failed) else { return Ok(()) };
        let token = transfer.token;
        if let Some(parked) = incoming.parked {
            let as_it_was = move |record: &mut Record| {
                if record.transfer.take_if(|transfer| transfer.token == token).is_some() {
                    record.parked = Some(parked);
                }
            };
            self.store.run(move |store| store.commit(id, as_it_was)).await?;
        } else {
            let (name, by) = (format!("transfer:{token}"), Requester::Panel);
            let at = self.clock.now();
            let delete = NewRequest { id: name, at, expires_at: None, timeout: None, by, verb: Verb::Delete };
            self.store.run(move |store| store.request(id, None, [delete])).await?;
        }
        self.store.wake(id);
        Ok(())
    }

    /// Reports the failure of a transfer of a server that was never created here.
    ///
    /// # Errors
    /// The panel has neither acknowledged nor rejected it.
    pub async fn report_lost_transfer(&self, id: ServerId) -> Result<(), PanelError> {
        match self.panel.report_transfer(id, false).await {
            Err(error) if error.is_final() => {
                tracing::debug!(server.id = %id, %error, "the panel rejected the end of a transfer");
                Ok(())
            }
            answer => answer,
        }
    }
}

fn status(transfer: &Transfer) -> Option<TransferStatus> {
    let succeeded = transfer.result.as_ref()?.succeeded;
    match (&transfer.direction, succeeded) {
        (_, false) => Some(TransferStatus::Failure),
        (TransferDirection::Incoming(_), true) => Some(TransferStatus::Success),
        (TransferDirection::Outgoing(_), true) => None,
    }
}
