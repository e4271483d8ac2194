//! Ends the sessions of servers whose files are not available any more: suspended, deleted, being installed.

use std::sync::Arc;

use super::Service;
use crate::server_files::Access;

/// Follows the changes of servers.
pub async fn follow(service: Arc<Service>) {
    let mut changes = service.context.store.changes();
    loop {
        for server in service.sessions.servers() {
            if service.files.check(server, Access::UserRead).is_err() {
                service.sessions.end_server(server);
            }
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}
