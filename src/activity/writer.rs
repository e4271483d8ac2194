//! Brings recorded rows to disk: all that were recorded meanwhile with one write and one flush.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Inner;
use crate::model::Timestamp;
use crate::retry;

/// The least time between two writes. A crash loses the rows of this time, and of a write under way.
pub(super) const GROUP_PAUSE: Duration = Duration::from_millis(200);
/// The most bytes that wait for the disk.
const MAX_WAITING: usize = 1 << 20;

/// Rows that are not on disk yet.
#[derive(Default)]
pub(super) struct Waiting {
    rows: Vec<String>,
    bytes: usize,
    /// Rows that were dropped because the disk took none.
    lost: u64,
    /// The latest timestamp, in nanoseconds.
    latest: i128,
}

impl Waiting {
    /// A timestamp that no other row has: the panel shows rows in the order of their timestamps.
    pub(super) fn timestamp(&mut self, now: Timestamp) -> String {
        self.latest = (i128::from(now.as_millis()) * 1_000_000).max(self.latest + 1);
        jiff::Timestamp::from_nanosecond(self.latest).map_or_else(|_| now.to_string(), |time| format!("{time:.9}"))
    }

    pub(super) fn push(&mut self, row: String) {
        if self.bytes + row.len() > MAX_WAITING {
            self.lost += 1;
            return;
        }
        self.bytes += row.len();
        self.rows.push(row);
    }

    fn take(&mut self) -> (Vec<String>, u64) {
        self.bytes = 0;
        (std::mem::take(&mut self.rows), std::mem::take(&mut self.lost))
    }
}

impl Inner {
    /// Writes rows until `end` is cancelled, and then the rest.
    pub(super) async fn write(self: Arc<Self>, end: CancellationToken) {
        loop {
            let last = end.run_until_cancelled(self.added.notified()).await.is_none();
            self.write_waiting(&end).await;
            if last {
                return;
            }
            // The end is noticed above.
            let _ = end.run_until_cancelled(tokio::time::sleep(GROUP_PAUSE)).await;
        }
    }

    /// Writes the rows that wait. A disk that fails is tried again, at the end of the daemon once.
    async fn write_waiting(self: &Arc<Self>, end: &CancellationToken) {
        let (rows, lost) = self.waiting().take();
        if lost > 0 {
            tracing::error!(rows = lost, "activity was lost: the disk did not take it");
        }
        if rows.is_empty() {
            return;
        }
        let rows = Arc::new(rows);
        for failures in 1.. {
            let appended = rows.clone();
            let error = match self.with_queue(move |queue| queue.append(&appended)).await {
                Ok(0) => return,
                Ok(displaced) => {
                    tracing::warn!(
                        rows = displaced,
                        "the oldest activity was dropped: the panel has not taken it, and the queue is full"
                    );
                    return;
                }
                Err(error) => error,
            };
            if end.is_cancelled() {
                tracing::error!(rows = rows.len(), %error, "activity was lost: the disk did not take it");
                return;
            }
            tracing::warn!(rows = rows.len(), %error, "cannot write activity to disk; it is tried again");
            let pause = retry::delay(retry::FILES, failures, &self.jitter);
            let _ = end.run_until_cancelled(tokio::time::sleep(pause)).await;
        }
    }
}
