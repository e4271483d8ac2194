//! Reports to the panel: first the result of an installation, then states in order; those of operations on their own.
//!
//! `record.json` is the durable queue: a result stays in it as unreported until the panel acknowledges or rejects it, so a
//! daemon that ends at any moment reports it later. State reports are level-triggered: the latest state is compared with the one
//! that the panel shows. While the panel answers it gets intermediate states, too. A rejection by the panel is an answer: the report is
//! dropped, because another attempt would not change it.

mod operations;
mod transfers;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};

use super::PanelSync;
use crate::model::{InstallOutcome, PowerState, Reason, Record, ServerId};
use crate::panel::PanelError;
use crate::store::StoreError;
use crate::wait;

/// States kept for a panel that does not answer.
const MAX_TRANSITIONS: usize = 32;

/// The states of one server that the panel has to learn.
#[derive(Default)]
pub(super) struct Pending {
    /// States that the panel has not acknowledged, oldest first.
    transitions: VecDeque<PowerState>,
    /// The state that the panel has acknowledged last, to this process.
    acknowledged: Option<PowerState>,
}

/// Why a report has to be made again.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The panel did not answer.
    #[error(transparent)]
    Panel(#[from] PanelError),
    /// The panel may know it when the transaction has ended in which it was requested.
    #[error("{0}; reported again, since it was requested a moment ago")]
    TooEarly(PanelError),
    /// What was reported cannot be recorded.
    #[error("cannot record what was reported to the panel, so it is reported again: {0}")]
    Record(#[from] StoreError),
}

impl PanelSync {
    pub(super) fn pending(&self) -> MutexGuard<'_, BTreeMap<ServerId, Pending>> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, id: ServerId, edit: impl FnOnce(&mut Pending) -> T) -> T {
        let edited = edit(self.pending().entry(id).or_default());
        self.reports_changed.send_replace(());
        edited
    }

    /// Keeps a published state that the panel does not show yet, for the panel to get the intermediate states, too.
    pub fn state_published(&self, id: ServerId, record: &Record, state: PowerState) {
        self.change(id, |pending| {
            let known = PowerState::known_to_panel(pending.acknowledged, record.last_reported);
            let last = pending.transitions.back().copied().or(known);
            if last == Some(state) {
                return;
            }
            let before = last.or(record.last_reported).unwrap_or_default();
            pending.transitions.extend(state.shown_after(before));
            while pending.transitions.len() > MAX_TRANSITIONS {
                pending.transitions.pop_front();
            }
        });
    }

    /// The state that the panel has acknowledged last to this process, and whether it has yet to acknowledge a later one.
    pub fn acknowledged(&self, id: ServerId) -> (Option<PowerState>, bool) {
        let pending = self.pending();
        pending.get(&id).map_or((None, false), |pending| (pending.acknowledged, !pending.transitions.is_empty()))
    }

    /// Waits until the panel has acknowledged the published states, for [`wait::READ_FOR_PANEL`] at most, and not at all while the
    /// panel does not answer.
    pub async fn wait_for_acknowledgement(&self, id: ServerId) {
        let done = || self.unresponsive.load(Ordering::Relaxed) || !self.acknowledged(id).1;
        wait::until(self.reports_changed.subscribe(), wait::READ_FOR_PANEL, done).await;
    }

    /// Reports to the panel what it does not know about one server.
    ///
    /// # Errors
    /// The first call that failed and is worth another attempt.
    pub async fn report(&self, id: ServerId) -> Result<(), ReportError> {
        self.report_install(id).await?;
        self.report_states(id).await
    }

    async fn report_install(&self, id: ServerId) -> Result<(), ReportError> {
        let Some(snapshot) = self.store.get(id) else { return Ok(()) };
        let Some(done) = snapshot.record.install.unreported().cloned() else { return Ok(()) };
        match self.panel.report_install(id, done.outcome == InstallOutcome::Succeeded, done.reinstall).await {
            Err(error) if error.is_final() => {
                self.store.event(id, self.clock.now(), Reason::InstallReportRejected, &error.to_string());
            }
            answer => answer?,
        }
        let acknowledged = move |record: &mut Record| {
            if let Some(current) = record.install.done.as_mut().filter(|current| current.token == done.token) {
                current.reported = true;
            }
        };
        self.store.run(move |store| store.commit(id, acknowledged)).await?;
        Ok(())
    }

    /// The next state to report; none where the panel shows the latest one.
    fn next_state(&self, id: ServerId, recorded: Option<PowerState>) -> Option<PowerState> {
        let latest = self.store.status(id)?.state;
        let mut pending = self.pending();
        let pending = pending.entry(id).or_default();
        let due = PowerState::known_to_panel(pending.acknowledged, recorded) != Some(latest);
        pending.transitions.front().copied().or(due.then_some(latest))
    }

    async fn report_states(&self, id: ServerId) -> Result<(), ReportError> {
        let Some(snapshot) = self.store.get(id) else { return Ok(()) };
        let mut last_reported = snapshot.record.last_reported;
        let (mut recorded, mut may_have) = (last_reported, false);
        let result = loop {
            let Some(next) = self.next_state(id, recorded) else { break Ok(()) };
            if next != PowerState::Offline && matches!(recorded, None | Some(PowerState::Offline)) {
                // From here on the panel may have the state, whatever happens to the answer and to this process: the next
                // process must not assume that the panel shows a server as offline.
                recorded = Some(next);
                self.record_reported(id, recorded).await?;
            }
            // A state that is reported again after a restart follows "offline", as if the server had been observed for the first time.
            let previous = last_reported.filter(|last| *last != next).unwrap_or(PowerState::Offline);
            match self.panel.report_state(id, previous, next).await {
                Err(error) if !error.is_final() => {
                    if next != PowerState::Offline {
                        // The report may have arrived although its answer did not.
                        (last_reported, may_have) = (Some(next), true);
                    }
                    // The panel may show any state now. The latest one is reported when it answers again.
                    self.change(id, |pending| {
                        pending.acknowledged = None;
                        let earlier = pending.transitions.len().saturating_sub(1);
                        pending.transitions.drain(..earlier);
                    });
                    break Err(error.into());
                }
                answer => {
                    if let Err(error) = answer {
                        tracing::debug!(%error, "the panel rejected a state");
                    }
                    (last_reported, may_have) = (Some(next), true);
                    // A report job that replaces one which is just ending reports the same state. Only one of the two may remove
                    // it, or the state after it would be lost. Equal states never follow each other.
                    self.change(id, |pending| {
                        if pending.transitions.front() == Some(&next) {
                            pending.transitions.pop_front();
                        }
                        pending.acknowledged = Some(next);
                    });
                }
            }
        };
        // Also where the record has it already: a report job that was replaced may have written an older state since.
        if may_have && let Err(error) = self.record_reported(id, last_reported).await {
            // With what is on disk the next process reports more than necessary, and not less.
            tracing::warn!(server.id = %id, "{error}");
        }
        result
    }

    async fn record_reported(&self, id: ServerId, state: Option<PowerState>) -> Result<(), StoreError> {
        self.store.run(move |store| store.commit(id, |record| record.last_reported = state)).await.map(drop)
    }
}

#[cfg(test)]
mod tests;
