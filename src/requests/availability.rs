//! Whether a server's files and power are available, or what holds them. Pure.

use super::{Asked, wanted};

/// What holds a server's files and power: meanwhile the server does not start, and its files must not be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// The server is being deleted.
    Deletion,
    /// The panel no longer lists the server.
    Parking,
    /// The server is being transferred between nodes.
    Transfer,
    /// A backup is being restored.
    Restore,
    /// The server is suspended by its panel or an operator.
    Suspension,
    /// An installation is pending or running.
    Installation,
}

/// What holds a server, the most lasting one; `None` if it is available. `suspended` is the value in the current spec.
pub fn held_by(suspended: bool, asked: Asked<'_>) -> Option<Holder> {
    if !wanted(asked.requests) {
        Some(Holder::Deletion)
    } else if asked.record.parked.is_some() {
        Some(Holder::Parking)
    } else if asked.record.holding_transfer().is_some() {
        Some(Holder::Transfer)
    } else if asked.record.pending_restore().is_some() {
        Some(Holder::Restore)
    } else if suspended {
        Some(Holder::Suspension)
    } else {
        asked.install().map(|_| Holder::Installation)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::model::{Record, Request, Requester, Requests, Restore, RestoreFrom, Timestamp, Verb};

    const INSTALL: Verb = Verb::Install { reinstall: false, then_start: true };

    fn held(suspended: bool, parked: bool, verbs: &[Verb]) -> Option<Holder> {
        let at = Timestamp::from_millis(1000);
        let request = |(position, verb): (usize, &Verb)| {
            let sequence = position as u64 + 1;
            Request {
                sequence,
                id: sequence.to_string(),
                at,
                expires_at: None,
                timeout: None,
                by: Requester::Panel,
                verb: *verb,
            }
        };
        let accepted: Vec<Request> = verbs.iter().enumerate().map(request).collect();
        let requests = Requests { sequence: accepted.len() as u64, accepted, ..Requests::default() };
        let record = Record { parked: parked.then_some(at), ..Record::default() };
        held_by(suspended, Asked { requests: &requests, record: &record, now: at })
    }

    #[test]
    fn what_holds_a_server() {
        use Holder::{Deletion, Installation, Parking, Suspension};
        for (suspended, parked, verbs, expected) in [
            (false, false, &[][..], None),
            (false, false, &[Verb::Start], None),
            (false, false, &[INSTALL], Some(Installation)),
            (false, false, &[INSTALL, Verb::Abort], Some(Installation)),
            (true, false, &[], Some(Suspension)),
            (true, false, &[INSTALL], Some(Suspension)),
            (true, true, &[INSTALL], Some(Parking)),
            (true, true, &[INSTALL, Verb::Delete], Some(Deletion)),
            // Created again during the deletion: the server will be installed.
            (false, false, &[Verb::Delete, INSTALL], Some(Installation)),
        ] {
            assert_eq!(held(suspended, parked, verbs), expected, "{suspended} {parked} {verbs:?}");
        }
    }

    #[test]
    fn a_restore_holds_a_suspended_server_too() {
        let at = Timestamp::from_millis(1000);
        let mut record = Record::default();
        let (token, backup) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let restore = Restore::new(token, backup, at, Requester::Panel, RestoreFrom::Local);
        record.begin_restore(Restore { truncate: true, ..restore });
        let requests = Requests::default();
        let asked = Asked { requests: &requests, record: &record, now: at };
        assert_eq!([false, true].map(|suspended| held_by(suspended, asked)), [Some(Holder::Restore); 2]);
    }
}
