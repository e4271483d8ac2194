//! Measures the bytes of a server's files, and corrects its account.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::{BackgroundJob, JobError, JobRun, Subject};
use crate::files::{DiskAccounts, Layout, UsageError};
use crate::model::ServerId;
use crate::reconcile::disk_scans::DiskScan;
use crate::reconcile::server_state::Measured;
use crate::retry;

/// Where the kernel counts, all files are visited this often nevertheless: a program may move its files to another project.
const VISIT_INTERVAL: Duration = Duration::from_secs(600);
/// Files of other projects are looked for where all files have so many bytes more than the kernel counts.
const ESCAPED: u64 = 16 * 1024 * 1024;

/// Before a start, or while the server runs.
pub(super) struct MeasureUsage;

#[async_trait]
impl BackgroundJob for MeasureUsage {
    async fn run(&self, run: &JobRun) -> Result<(), JobError> {
        let JobRun { context, server, subject } = run;
        let (id, layout, accounts) = (*server, context.node.layout.clone(), context.accounts.clone());
        let scan = if *subject == Subject::DiskLimit { DiskScan::Watch } else { DiskScan::Awaited };
        let visit = *subject != Subject::DiskLimit || context.servers.visit_is_due(id, VISIT_INTERVAL);
        let work = move |cancelled: &AtomicBool| measure(&layout, &accounts, id, visit, cancelled);
        let Measurement { began, visited, result } = run.scan(scan, work).await;
        let (at, took) = (Instant::now(), began.elapsed());
        let hidden = match &result {
            Ok(()) => false,
            Err(error) if error.is_cancelled() => return Err(JobError::new(retry::FILES, error.to_string())),
            Err(error) => error.hides_something(),
        };
        context.servers.measured(id, Measured { hidden, at, took }, visited);
        result.map_err(|error| JobError::new(retry::FILES, error.to_string()))
    }
}

struct Measurement {
    began: std::time::Instant,
    /// All files were visited.
    visited: bool,
    result: Result<(), UsageError>,
}

/// Measures one server's files and corrects its account. Where the kernel counts them, all are visited only if `visit`.
fn measure(layout: &Layout, accounts: &DiskAccounts, id: ServerId, visit: bool, cancelled: &AtomicBool) -> Measurement {
    let began = std::time::Instant::now();
    let account = accounts.measuring(id);
    let counted = layout.quota_usage(id);
    if let Some(bytes) = counted.filter(|_| !visit) {
        account.measured(account.begin_measurement(), bytes);
        accounts.measured(id, None);
        return Measurement { began, visited: false, result: Ok(()) };
    }
    let free = layout.free_bytes(id);
    let begun = account.begin_measurement();
    let result = layout.usage(id, cancelled);
    let exact = match (&result, counted) {
        // Both were asked for one after the other, while the server may write.
        (Ok(usage), Some(counted)) if usage.allocated <= counted.saturating_add(ESCAPED) => {
            account.measured(account.begin_measurement(), counted).exact
        }
        (Ok(usage), Some(_)) => {
            tracing::warn!(server.id = %id, "the server has files outside of its project quota; they are put back");
            layout.distrust_quota(id);
            account.measured(begun, usage.bytes).exact
        }
        (Ok(usage), None) => account.measured(begun, usage.bytes).exact,
        // A server must not evade its limit by making its files hard to count.
        (Err(error), _) => account.measured_at_least(begun, error.bytes).exact,
    };
    if result.is_ok() || result.as_ref().is_err_and(|error| !error.is_cancelled()) {
        accounts.measured(id, free);
    }
    if !exact && result.is_ok() {
        // Writers were at work. Once they are done, a measurement settles what they and the server have written.
        accounts.measure(id);
    }
    Measurement { began, visited: true, result: result.map(drop) }
}
