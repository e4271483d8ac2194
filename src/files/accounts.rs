//! The accounts of all servers, and which of them are to be measured soon.
//!
//! An account begins with what the server used when it was measured last. A server without a measurement since the start of the
//! daemon is measured before its first write is charged.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::account::{DiskAccount, limit_of};
use crate::model::ServerId;

/// Queues a pass over a server.
type Wake = Arc<dyn Fn(ServerId) + Send + Sync>;

/// The accounts of all servers; clones share them.
#[derive(Clone)]
pub struct DiskAccounts {
    inner: Arc<Inner>,
}

struct Inner {
    accounts: Mutex<HashMap<ServerId, Entry>>,
    wake: Wake,
}

#[derive(Default)]
struct Entry {
    account: Arc<DiskAccount>,
    /// When the latest measurement since the start of the daemon has ended.
    measured: Option<Instant>,
    /// Free bytes of the file system when it began.
    free: Option<u64>,
    /// A measurement is due, and none has begun since.
    due: bool,
}

impl Entry {
    fn may_reach_limit(&self, free: u64) -> bool {
        let Some(limit) = self.account.limit() else { return false };
        let (Some(before), Some(_)) = (self.free, self.measured) else { return true };
        // A part is enough, because files of others may be removed meanwhile.
        let left = limit.saturating_sub(self.account.used());
        before.saturating_sub(free) >= left / 4 * 3
    }
}

impl DiskAccounts {
    /// No accounts yet. `wake` queues a pass over a server that is to be measured.
    pub fn new(wake: Arc<dyn Fn(ServerId) + Send + Sync>) -> Self {
        Self { inner: Arc::new(Inner { accounts: Mutex::default(), wake }) }
    }

    /// The account of a server, opened if there is none.
    pub fn account(&self, id: ServerId) -> Arc<DiskAccount> {
        self.lock().entry(id).or_default().account.clone()
    }

    /// Opens the account of a server that has none, with this limit (`build.disk_space`, in MiB) and the bytes that it used last.
    /// Changes the limit of one that is open.
    pub fn set_limit(&self, id: ServerId, disk_space: i64, last_used: impl FnOnce() -> u64) {
        let limit = limit_of(disk_space);
        let mut accounts = self.lock();
        match accounts.get(&id) {
            Some(entry) => entry.account.set_limit(limit),
            None => {
                let account = DiskAccount::new(limit, last_used());
                accounts.insert(id, Entry { account, ..Entry::default() });
            }
        }
    }

    /// The bytes that a server uses; before it is measured, those that it used last and what was written since. `None` if nothing
    /// is known.
    pub fn estimated(&self, id: ServerId) -> Option<u64> {
        let accounts = self.lock();
        let entry = accounts.get(&id)?;
        let used = entry.account.used();
        (entry.measured.is_some() || used > 0).then_some(used)
    }

    /// The bytes that a server uses, if they were measured since the start of the daemon.
    pub fn used(&self, id: ServerId) -> Option<u64> {
        let account = self.lock().get(&id).filter(|entry| entry.measured.is_some()).map(|entry| entry.account.clone());
        account.map(|account| account.used())
    }

    /// Whether the files were measured since the start of the daemon.
    pub fn is_measured(&self, id: ServerId) -> bool {
        self.lock().get(&id).is_some_and(|entry| entry.measured.is_some())
    }

    /// A measurement of a server is due soon.
    pub fn measure(&self, id: ServerId) {
        let due = {
            let mut accounts = self.lock();
            let entry = accounts.entry(id).or_default();
            !std::mem::replace(&mut entry.due, true)
        };
        if due {
            (self.inner.wake)(id);
        }
    }

    /// The same, if the latest one is older than this, or there was none.
    pub fn measure_if_older(&self, id: ServerId, age: Duration) {
        let measured = self.lock().get(&id).and_then(|entry| entry.measured);
        if measured.is_none_or(|at| at.elapsed() > age) {
            self.measure(id);
        }
    }

    /// Whether a measurement of the server is due.
    pub fn is_due(&self, id: ServerId) -> bool {
        self.lock().get(&id).is_some_and(|entry| entry.due)
    }

    /// A measurement begins: what makes another one due from here on is not seen by it.
    pub fn measuring(&self, id: ServerId) -> Arc<DiskAccount> {
        let mut accounts = self.lock();
        let entry = accounts.entry(id).or_default();
        entry.due = false;
        entry.account.clone()
    }

    /// A measurement has ended, when whose beginning the file system had so many free bytes.
    pub fn measured(&self, id: ServerId, free: Option<u64>) {
        let mut accounts = self.lock();
        let entry = accounts.entry(id).or_default();
        (entry.measured, entry.free) = (Some(Instant::now()), free);
    }

    /// The files were replaced or written by others: the next write waits for a measurement.
    pub fn not_measured(&self, id: ServerId) {
        if let Some(entry) = self.lock().get_mut(&id) {
            entry.measured = None;
        }
    }

    /// The servers with a limit that the kernel does not enforce.
    pub fn limited(&self) -> Vec<ServerId> {
        let accounts = self.lock();
        let limited = |entry: &Entry| entry.account.limit().is_some() && !entry.account.has_meter();
        accounts.iter().filter(|(_, entry)| limited(entry)).map(|(id, _)| *id).collect()
    }

    /// A server has written, and its file system has so many free bytes. It is measured if what was taken since its last measurement
    /// may have been enough to reach its limit; all who write there are suspects.
    pub fn written(&self, id: ServerId, free: u64) {
        let suspect = self.lock().get(&id).is_some_and(|entry| entry.may_reach_limit(free));
        if suspect {
            self.measure(id);
        }
    }

    /// The server is gone.
    pub fn remove(&self, id: ServerId) {
        self.lock().remove(&id);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ServerId, Entry>> {
        self.inner.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::testing::server_id;

    #[test]
    fn a_server_that_writes_is_measured_before_it_reaches_its_limit_and_not_at_each_write() {
        const MIB: u64 = 1 << 20;
        let accounts = DiskAccounts::new(Arc::new(|_| {}));
        let id = server_id(1);
        accounts.set_limit(id, 100, || 0);
        accounts.written(id, 1000 * MIB);
        assert!(accounts.is_due(id), "never measured");
        let measured = |used: u64| {
            let account = accounts.measuring(id);
            account.measured(account.begin_measurement(), used * MIB);
            accounts.measured(id, Some(1000 * MIB));
        };
        for (used, free, due) in
            [(20, 1000, false), (20, 941, false), (20, 940, true), (80, 990, false), (80, 985, true)]
        {
            measured(used);
            accounts.written(id, free * MIB);
            assert_eq!(accounts.is_due(id), due, "{used} of 100 MiB, {free} MiB free");
        }
        measured(20);
        accounts.set_limit(id, 0, || 0);
        accounts.written(id, 0);
        assert!(!accounts.is_due(id), "unlimited");
    }

    #[test]
    fn an_account_is_shared_and_a_due_measurement_wakes_once() {
        let woken = Arc::new(AtomicU32::new(0));
        let accounts = DiskAccounts::new(Arc::new({
            let woken = woken.clone();
            move |_| {
                woken.fetch_add(1, Ordering::Relaxed);
            }
        }));
        let id = server_id(1);
        accounts.set_limit(id, 1, || 7);
        let account = accounts.account(id);
        account.charge(3).unwrap().keep();
        accounts.set_limit(id, 2, || panic!("it is open"));
        assert_eq!((account.used(), account.limit()), (10, Some(2 << 20)));
        assert_eq!(accounts.used(id), None, "not measured");
        accounts.measure(id);
        accounts.measure(id);
        assert_eq!((woken.load(Ordering::Relaxed), accounts.is_due(id)), (1, true));
        let account = accounts.measuring(id);
        let begun = account.begin_measurement();
        accounts.measure(id);
        account.measured(begun, 5);
        accounts.measured(id, Some(100 << 20));
        assert_eq!((woken.load(Ordering::Relaxed), accounts.is_due(id)), (2, true), "due again while it was measured");
        assert_eq!(accounts.used(id), Some(5));
        assert_eq!(accounts.limited(), [id]);
        accounts.set_limit(id, 0, || 0);
        assert!(accounts.limited().is_empty());
        accounts.remove(id);
        assert!(!accounts.is_measured(id) && !accounts.is_due(id));
    }
}
