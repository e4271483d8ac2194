//! Showing what a plan says: status, events, and what the panel will be told.

use super::Reconciler;
use crate::model::{Condition, ManagedBy, Reason, ServerId, Status};
use crate::reconcile::observed::Observed;
use crate::reconcile::plan::Plan;
use crate::reconcile::reporter;
use crate::store::Snapshot;

impl Reconciler {
    /// Returns whether there is something new to tell the panel.
    pub(super) fn publish(&self, snapshot: &Snapshot, observed: &Observed, plan: &Plan) -> bool {
        let context = &self.context;
        let (id, now) = (snapshot.id, context.clock.now());
        let Some(before) = context.store.status(id) else { return false };
        let mut status = Status::clone(&before);
        status.observed_generation = snapshot.record.generation;
        status.phase = plan.phase;
        status.state = plan.state;
        status.suspended = snapshot.manifest.as_ref().is_some_and(|manifest| manifest.spec.suspended);
        status.container = observed.server.as_ref().map(|server| server.id.clone());
        status.last_reported = snapshot.record.last_reported;
        status.disk_bytes = observed.usage.map_or(status.disk_bytes, |usage| usage.bytes);
        status.conditions.retain(|old| plan.conditions.iter().any(|verdict| verdict.kind == old.condition_type));
        for verdict in &plan.conditions {
            status.set_condition(Condition {
                condition_type: verdict.kind,
                status: verdict.status,
                reason: verdict.reason,
                message: verdict.message.clone(),
                last_transition_time: now,
                observed_generation: snapshot.record.generation,
            });
        }
        if before.state != plan.state {
            status.push_event(
                now,
                Reason::StateChanged,
                &format!("{} → {}", before.state.as_str(), plan.state.as_str()),
            );
        }
        // A silent runtime shows nothing new.
        if observed.outage.is_none() && self.is_reported(snapshot) {
            reporter::note(context, id, snapshot.record.last_reported, plan.state);
        }
        if context.store.set_status(id, status) {
            context.with_server(id, |state| state.status_stale = true);
        }
        context.with_server(id, |state| state.pending_reports.len()) > observed.pending_reports
    }

    /// Whether there is a panel that wants to know.
    fn is_reported(&self, snapshot: &Snapshot) -> bool {
        let managed =
            snapshot.manifest.as_ref().is_some_and(|manifest| manifest.metadata.managed_by == ManagedBy::Panel);
        managed && self.context.panel.is_some() && snapshot.is_listed()
    }

    /// Brings `status.yml` up to date. Nothing depends on it, so a disk that refuses is noted and no more.
    pub(super) async fn write_status(&self, id: ServerId) {
        if !self.context.with_server(id, |state| std::mem::take(&mut state.status_stale)) {
            return;
        }
        if let Err(error) = self.context.store.run(move |store| store.write_status(id)).await {
            tracing::debug!("status.yml is stale: {error}");
        }
    }
}
