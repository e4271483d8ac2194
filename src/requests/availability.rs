//! Whether a server's files and power are free, or what holds them. Pure.

use super::{Asked, wanted};

/// What holds a server's files and its power: meanwhile it does not start, and its files are not to be changed by others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// The server is being deleted.
    Deletion,
    /// The panel no longer lists the server.
    Parking,
    /// The panel, or an operator, has suspended the server.
    Suspension,
    /// The server is being installed, or about to be.
    Installation,
}

/// What holds a server, the most lasting first; `None` if it is free. `suspended` is what the spec in effect says.
pub fn held_by(suspended: bool, asked: Asked<'_>) -> Option<Holder> {
    if !wanted(asked.requests) {
        Some(Holder::Deletion)
    } else if asked.record.parked.is_some() {
        Some(Holder::Parking)
    } else if suspended {
        Some(Holder::Suspension)
    } else {
        asked.install().map(|_| Holder::Installation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Record, Request, Requester, Requests, Timestamp, Verb};

    const INSTALL: Verb = Verb::Install { reinstall: false, then_start: true };

    fn held(suspended: bool, parked: bool, verbs: &[Verb]) -> Option<Holder> {
        let at = Timestamp::from_millis(1000);
        let request = |(position, verb): (usize, &Verb)| {
            let sequence = position as u64 + 1;
            Request { sequence, id: sequence.to_string(), at, expires_at: None, by: Requester::Panel, verb: *verb }
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
            // Wanted again while the deletion is under way: it will be installed.
            (false, false, &[Verb::Delete, INSTALL], Some(Installation)),
        ] {
            assert_eq!(held(suspended, parked, verbs), expected, "{suspended} {parked} {verbs:?}");
        }
    }
}
