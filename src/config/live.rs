//! The part of the configuration that applies without a restart of the daemon.

use std::sync::Arc;

use tokio::sync::watch;

use super::Secret;
use super::file::LogConfigFile;
use crate::schedule::BackupSchedule;

/// The values in effect.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LiveConfig {
    /// The node's token id, for the panel and for the API's `User-Agent` header; empty without one.
    pub token_id: String,
    /// The token for the panel, and of callers of the HTTP API.
    pub token: Secret,
    /// The engine's log of new containers.
    pub log_config: LogConfigFile,
    /// The schedules of backups.
    pub backup_schedules: Vec<BackupSchedule>,
}

/// A handle on the values in effect; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Live(watch::Sender<Arc<LiveConfig>>);

impl Live {
    /// A handle on these values.
    pub fn new(values: LiveConfig) -> Self {
        Self(watch::Sender::new(Arc::new(values)))
    }

    /// The values in effect now.
    pub fn get(&self) -> Arc<LiveConfig> {
        self.0.borrow().clone()
    }

    /// Replaces values. Returns whether any of them differs.
    pub fn update(&self, change: impl FnOnce(&mut LiveConfig)) -> bool {
        self.0.send_if_modified(|current| {
            let mut values = LiveConfig::clone(current);
            change(&mut values);
            let differs = values != **current;
            *current = Arc::new(values);
            differs
        })
    }

    /// Announces each later change.
    pub fn changes(&self) -> watch::Receiver<Arc<LiveConfig>> {
        self.0.subscribe()
    }
}

impl PartialEq for Live {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}
