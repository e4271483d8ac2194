//! Whether a server's files may be accessed now: the one place that decides it.

use crate::model::{ServerId, Timestamp};
use crate::requests::availability::{Holder, held_by};
use crate::store::Store;

/// For whom, and what for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The panel reads. It decides itself what its users may do with a suspended server.
    PanelRead,
    /// The panel writes.
    PanelWrite,
    /// A user reads with a link that the panel has signed, or over SFTP.
    UserRead,
    /// The same, writes.
    UserWrite,
}

/// Why files may not be accessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// There is no such server, or it is being deleted.
    #[error("there is no such server")]
    Unknown,
    /// The server is suspended.
    #[error("This server is suspended: its files are not available.")]
    Suspended,
    /// The server is being transferred between nodes.
    #[error("This server is being transferred to another node: its files are not available meanwhile.")]
    Transferring,
    /// A backup is being restored.
    #[error("A backup of this server is being restored: try again when the restore has ended.")]
    Restoring,
    /// An installation is pending or running.
    #[error("This server is being installed: try again when the installation has ended.")]
    Installing,
}

/// Whether a server's files may be accessed at this time.
///
/// # Errors
/// Why not.
pub(super) fn check(store: &Store, id: ServerId, now: Timestamp, access: Access) -> Result<(), Unavailable> {
    let snapshot = store.get(id).ok_or(Unavailable::Unknown)?;
    let manifest = snapshot.manifest.as_ref().ok_or(Unavailable::Unknown)?;
    match held_by(manifest.spec.suspended, snapshot.asked(now)) {
        None => Ok(()),
        Some(holder) => rejected(holder, access).map_or(Ok(()), Err),
    }
}

fn rejected(holder: Holder, access: Access) -> Option<Unavailable> {
    use Access::{PanelRead, PanelWrite, UserRead, UserWrite};
    match (holder, access) {
        (Holder::Deletion | Holder::Parking, _) => Some(Unavailable::Unknown),
        (Holder::Suspension, UserRead | UserWrite) => Some(Unavailable::Suspended),
        (Holder::Transfer, PanelWrite | UserRead | UserWrite) => Some(Unavailable::Transferring),
        (Holder::Restore, PanelWrite | UserRead | UserWrite) => Some(Unavailable::Restoring),
        (Holder::Installation, PanelWrite | UserRead | UserWrite) => Some(Unavailable::Installing),
        (Holder::Suspension, PanelRead | PanelWrite)
        | (Holder::Transfer | Holder::Restore | Holder::Installation, PanelRead) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_wait_for_what_the_panel_may_see() {
        use Access::{PanelRead, PanelWrite, UserRead, UserWrite};
        for (holder, expected) in [
            (Holder::Deletion, [Some(Unavailable::Unknown); 4]),
            (Holder::Parking, [Some(Unavailable::Unknown); 4]),
            (Holder::Suspension, [None, None, Some(Unavailable::Suspended), Some(Unavailable::Suspended)]),
            (
                Holder::Transfer,
                [
                    None,
                    Some(Unavailable::Transferring),
                    Some(Unavailable::Transferring),
                    Some(Unavailable::Transferring),
                ],
            ),
            (
                Holder::Installation,
                [None, Some(Unavailable::Installing), Some(Unavailable::Installing), Some(Unavailable::Installing)],
            ),
        ] {
            let found = [PanelRead, PanelWrite, UserRead, UserWrite].map(|access| rejected(holder, access));
            assert_eq!(found, expected, "{holder:?}");
        }
    }
}
