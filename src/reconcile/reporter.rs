//! Reports to the panel: first the result of an installation, then container states in order.
//!
//! `record.json` is the durable queue: an install result stays in it as unreported until the panel has acknowledged or
//! refused it, so a daemon that ends at any moment reports it later.
//!
//! While the panel answers it is told every state; while it does not, only the latest one is kept. A refusal (4xx) is an
//! answer: the fact is dropped, since saying it again would change nothing.

use super::context::Context;
use super::plan::known_to_panel;
use crate::model::{InstallOutcome, PowerState, Reason, Record, ServerId};
use crate::panel::{Panel, PanelError};
use crate::store::StoreError;

/// Keeps a state that the panel does not show yet. Only intermediate states need it: see [`known_to_panel`].
pub fn keep_transition(context: &Context, id: ServerId, recorded: Option<PowerState>, now: PowerState) {
    context.with_server(id, |state| {
        let last = state.transitions.back().copied().or(known_to_panel(state.acknowledged, recorded));
        if last == Some(now) {
            return;
        }
        let before = last.or(recorded).unwrap_or_default();
        if now == PowerState::Starting && !matches!(before, PowerState::Offline | PowerState::Starting) {
            state.transitions.push_back(PowerState::Offline);
        }
        state.transitions.push_back(now);
        // A panel that does not answer for a day must not fill the memory.
        while state.transitions.len() > MAX_TRANSITIONS {
            state.transitions.pop_front();
        }
    });
}

/// The next state to report; none where the panel shows the latest one.
fn next_state(context: &Context, id: ServerId, recorded: Option<PowerState>) -> Option<PowerState> {
    let latest = context.store.status(id)?.state;
    context.with_server(id, |state| {
        let due = known_to_panel(state.acknowledged, recorded) != Some(latest);
        state.transitions.front().copied().or(due.then_some(latest))
    })
}

/// States kept for a panel that does not answer.
const MAX_TRANSITIONS: usize = 32;

/// Why a report has to be made again.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The panel did not answer.
    #[error(transparent)]
    Panel(#[from] PanelError),
    /// The panel has it, but that cannot be written down.
    #[error("the panel has the install result, but that cannot be written down ({0}); it is told once more")]
    Record(#[from] StoreError),
    /// What the panel is told cannot be written down.
    #[error("what the panel is told about the server's state cannot be written down: {0}")]
    Reported(#[source] StoreError),
}

/// Tells the panel what it does not know about one server.
///
/// # Errors
/// The first call that failed and is worth another try.
pub async fn report(context: &Context, panel: &dyn Panel, id: ServerId) -> Result<(), ReportError> {
    report_install(context, panel, id).await?;
    report_states(context, panel, id).await
}

async fn report_install(context: &Context, panel: &dyn Panel, id: ServerId) -> Result<(), ReportError> {
    let Some(snapshot) = context.store.get(id) else { return Ok(()) };
    let Some(done) = snapshot.record.install.done.clone().filter(|done| !done.reported) else { return Ok(()) };
    match panel.report_install(id, done.outcome == InstallOutcome::Succeeded, done.reinstall).await {
        Ok(()) => {}
        Err(error) if error.is_final() => {
            context.store.event(id, context.clock.now(), Reason::InstallReportRejected, &error.to_string());
        }
        Err(error) => return Err(error.into()),
    }
    let token = done.token;
    let acknowledged = move |record: &mut Record| {
        if let Some(done) = record.install.done.as_mut().filter(|done| done.token == token) {
            done.reported = true;
        }
    };
    // An error is that of the job, which is started again after a while: the panel does not mind hearing it twice.
    context.store.run(move |store| store.commit(id, acknowledged)).await?;
    Ok(())
}

async fn report_states(context: &Context, panel: &dyn Panel, id: ServerId) -> Result<(), ReportError> {
    let Some(snapshot) = context.store.get(id) else { return Ok(()) };
    let mut last_reported = snapshot.record.last_reported;
    let (mut recorded, mut may_have_heard) = (last_reported, false);
    let result = loop {
        let Some(next) = next_state(context, id, recorded) else { break Ok(()) };
        if next != PowerState::Offline && is_quiet(recorded) {
            // From here on the panel may have heard of it, whatever becomes of the answer and of this daemon: the next one must
            // not take silence about a server that is offline for what the panel believes.
            recorded = Some(next);
            record_last_reported(context, id, recorded).await?;
        }
        // Said again after a restart: then from offline, as a daemon that has just come up sees it.
        let previous = last_reported.filter(|last_reported| *last_reported != next).unwrap_or(PowerState::Offline);
        match panel.report_state(id, previous, next).await {
            Err(error) if !error.is_final() => {
                if next != PowerState::Offline {
                    // It may have heard that all the same, whatever it has acknowledged before.
                    (last_reported, may_have_heard) = (Some(next), true);
                }
                // It may show any state now. The latest one is reported when it answers again.
                context.with_server(id, |state| {
                    state.acknowledged = None;
                    let earlier = state.transitions.len().saturating_sub(1);
                    state.transitions.drain(..earlier);
                });
                break Err(error.into());
            }
            answer => {
                if let Err(error) = answer {
                    tracing::debug!("a state was refused: {error}");
                }
                (last_reported, may_have_heard) = (Some(next), true);
                // A report that replaces one which ends in this moment says the same once more; only one of them may
                // take it out, or the next state would go unsaid with it. Two equal ones never follow each other.
                context.with_server(id, |state| {
                    if state.transitions.front() == Some(&next) {
                        state.transitions.pop_front();
                    }
                    state.acknowledged = Some(next);
                });
                context.acknowledged.notify_waiters();
            }
        }
    };
    // Also where the record says so already: a report that was replaced by this one may have written an older state since.
    if may_have_heard && let Err(error) = record_last_reported(context, id, last_reported).await {
        // What is on disk makes the next life say more than it had to, and not less.
        tracing::warn!("{error}");
    }
    result
}

async fn record_last_reported(
    context: &Context,
    id: ServerId,
    last_reported: Option<PowerState>,
) -> Result<(), ReportError> {
    let written = context.store.run(move |store| store.commit(id, |record| record.last_reported = last_reported)).await;
    written.map(drop).map_err(ReportError::Reported)
}

/// Whether the panel takes the server for offline without being told again.
fn is_quiet(last_reported: Option<PowerState>) -> bool {
    matches!(last_reported, None | Some(PowerState::Offline))
}

#[cfg(test)]
mod tests;
