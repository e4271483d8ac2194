//! Sends the queue to the panel.
//!
//! A batch that the panel rejects for its content is divided until the row is found that the panel does not take, which is dropped.
//! Everything else, such as an outage, a proxy's page or a rejected token, is tried again: it says nothing about the rows. A row that
//! the panel fails on (5xx) is dropped only when the panel takes the row behind it.

use std::sync::Arc;
use std::time::Duration;

use super::queue::Stored;
use super::{Activity, Inner};
use crate::panel::PanelError;
use crate::retry;

/// After this many failures of a single row the row behind it is tried.
const PROBE_AFTER: u32 = 3;

/// How the sending goes, for a condition of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// The panel has taken a batch.
    Sent,
    /// It has not; the text says why. It is tried again.
    Failed(String),
}

/// What an error says about a batch.
enum Fault {
    /// The panel does not take this content.
    Content,
    /// The panel, or a server before it, failed on this content or on any other.
    Server,
    /// The panel takes none at the moment.
    Panel,
}

impl Fault {
    fn of(error: &PanelError) -> Self {
        match error {
            // Of the caller: a rejected token, or a panel without the route.
            PanelError::Rejected { status: 401 | 403 | 404 | 405, .. } => Fault::Panel,
            PanelError::Rejected { .. } | PanelError::Failed { status: 413, .. } => Fault::Content,
            PanelError::Failed { status: 500.., .. } => Fault::Server,
            _ => Fault::Panel,
        }
    }
}

impl Activity {
    /// Sends rows as they come, until the task is dropped. `note` learns how it goes.
    pub async fn send(self, note: impl Fn(Delivery)) {
        let Some(inner) = self.0 else { return };
        let mut queued = inner.queued.subscribe();
        // The sender is kept by `inner`.
        while queued.wait_for(|queued| *queued).await.is_ok() {
            tokio::time::sleep(inner.interval).await;
            inner.send_all(&note).await;
        }
    }
}

/// How much is sent at once.
struct Pace {
    /// Most rows of the next batch.
    size: usize,
    /// Failures since the last batch that the panel took.
    failures: u32,
}

impl Pace {
    /// After a success: larger batches, up to `most` rows.
    fn succeeded(&mut self, most: usize) {
        *self = Self { size: (self.size * 2).min(most), failures: 0 };
    }
}

impl Inner {
    /// Sends batches until the queue is empty.
    async fn send_all(self: &Arc<Self>, note: &impl Fn(Delivery)) {
        let mut pace = Pace { size: self.batch, failures: 0 };
        loop {
            let size = pace.size;
            let (error, pause) = match self.with_queue(move |queue| queue.peek(size)).await {
                Ok(rows) if rows.is_empty() => return,
                Ok(rows) => match self.panel.report_activity(&jsons(&rows)).await {
                    Ok(()) => {
                        self.acknowledge(&rows).await;
                        note(Delivery::Sent);
                        pace.succeeded(self.batch);
                        continue;
                    }
                    Err(error) if self.blames_rows(&rows, &error, &mut pace).await => continue,
                    Err(error) => (error.to_string(), error.pause()),
                },
                Err(error) => (format!("cannot read the queue of activity: {error}"), Duration::ZERO),
            };
            pace.failures += 1;
            note(Delivery::Failed(error));
            self.pause(pace.failures, pause).await;
        }
    }

    /// Divides a batch that failed, and drops the row that is at fault. Returns whether the next batch may follow at once.
    async fn blames_rows(self: &Arc<Self>, rows: &[Stored], error: &PanelError, pace: &mut Pace) -> bool {
        let half = (rows.len() / 2).max(1);
        match Fault::of(error) {
            Fault::Panel => return false,
            Fault::Content if rows.len() > 1 => {
                pace.size = half;
                return true;
            }
            Fault::Content => self.acknowledge(rows).await,
            Fault::Server if rows.len() == 1 && pace.failures >= PROBE_AFTER => {
                let Some(with_next) = self.send_behind_first().await else { return false };
                // The panel may have recovered in between.
                let is_at_fault = self.is_refused(rows, pace).await;
                self.acknowledge(&with_next).await;
                if !is_at_fault {
                    pace.succeeded(self.batch);
                    return true;
                }
            }
            Fault::Server => {
                pace.size = half;
                return false;
            }
        }
        tracing::warn!(%error, "a row of activity was dropped: the panel does not take it");
        pace.succeeded(self.batch);
        // A panel that takes no row at all is not called without a pause.
        tokio::time::sleep(retry::ACTIVITY.initial).await;
        true
    }

    /// Sends the row behind the first one. Returns both if the panel takes it.
    async fn send_behind_first(self: &Arc<Self>) -> Option<Vec<Stored>> {
        let rows = self.with_queue(|queue| queue.peek(2)).await.ok()?;
        let sent = self.panel.report_activity(&jsons(rows.get(1..2)?)).await;
        sent.is_ok().then_some(rows)
    }

    /// Whether the panel, which has just taken another row, does not take these. An outage is waited for.
    async fn is_refused(&self, rows: &[Stored], pace: &Pace) -> bool {
        let mut attempts = pace.failures;
        loop {
            match self.panel.report_activity(&jsons(rows)).await {
                Ok(()) => return false,
                Err(error) if matches!(Fault::of(&error), Fault::Panel) => {
                    attempts = attempts.saturating_add(1);
                    self.pause(attempts, error.pause()).await;
                }
                Err(_) => return true,
            }
        }
    }

    /// The pause after so many failures, at least as long as the panel asks for.
    async fn pause(&self, failures: u32, least: Duration) {
        tokio::time::sleep(retry::delay(retry::ACTIVITY, failures, &self.jitter).max(least)).await;
    }

    async fn acknowledge(self: &Arc<Self>, rows: &[Stored]) {
        if let Some(end) = rows.last().map(|row| row.end) {
            self.with_queue(move |queue| queue.acknowledge(end)).await;
        }
    }
}

fn jsons(rows: &[Stored]) -> Vec<&serde_json::value::RawValue> {
    rows.iter().map(|row| &*row.json).collect()
}
