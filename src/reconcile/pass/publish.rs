//! Publishing what a plan says: status, events, and states for the panel.

use crate::model::{Condition, ConditionType, Manifest, Reason, ServerId};
use crate::reconcile::context::Context;
use crate::reconcile::observed::Observed;
use crate::reconcile::plan::Plan;
use crate::store::Snapshot;

impl Context {
    /// Publishes the status, and keeps the state for a report. Returns whether the status has changed.
    pub(super) fn publish(&self, snapshot: &Snapshot, observed: &Observed, plan: &Plan) -> bool {
        let (id, now) = (snapshot.id, self.clock.now());
        if let Some(sync) = self.sync.as_ref().filter(|_| observed.outage.is_none() && is_reported(snapshot)) {
            sync.state_published(id, &snapshot.record, plan.state);
        }
        self.tell_users(id, plan);
        let running = observed.server.as_ref().filter(|server| server.running());
        let changed = self.store.set_status(id, |status| {
            if status.state != plan.state {
                let change = format!("{} → {}", status.state.as_str(), plan.state.as_str());
                status.push_event(self.store.events().next_number(now), now, Reason::StateChanged, &change);
            }
            status.observed_generation = snapshot.record.generation;
            status.phase = plan.phase;
            status.state = plan.state;
            status.suspended = snapshot.manifest.as_ref().is_some_and(|manifest| manifest.spec.suspended);
            status.container = observed.server.as_ref().map(|server| server.id.clone());
            status.image = running.and_then(|server| server.image.clone());
            status.ports = running.map(|server| server.ports.clone()).unwrap_or_default();
            status.started_at = running.and_then(|server| server.started_at);
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
        });
        // An engine that does not answer says nothing about the container.
        if observed.outage.is_none() {
            self.stats.observed(id, running);
        }
        changed
    }

    /// Says on the server's console why the server does not run, when that has changed and a person can do something about it.
    fn tell_users(&self, id: ServerId, plan: &Plan) {
        let Some(verdict) = plan.conditions.iter().find(|verdict| verdict.kind == ConditionType::Running) else {
            return;
        };
        let published = self.store.status(id);
        let before = published.as_ref().and_then(|status| status.condition(ConditionType::Running));
        if verdict.reason.is_for_users() && before.is_some_and(|before| before.reason != verdict.reason) {
            self.console.announce(id, &verdict.message);
        }
    }

    /// Brings `status.yml` up to date if the status was `published`. Nothing depends on it, so an error of the disk is logged and no
    /// more.
    pub(super) async fn write_status(&self, id: ServerId, published: bool) {
        if published && let Err(error) = self.store.run(move |store| store.write_status(id)).await {
            tracing::debug!(%error, "cannot write status.yml");
        }
    }
}

/// Whether the panel lists the server and gets its state.
fn is_reported(snapshot: &Snapshot) -> bool {
    snapshot.is_listed() && snapshot.manifest.as_deref().is_some_and(Manifest::is_managed_by_panel)
}
