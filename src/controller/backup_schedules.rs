//! Requests the backups of the node's schedules at their times. The record of each server has the time through which each schedule was
//! handled, so a time that was missed is made up for once after a restart.

use std::sync::Arc;
use std::time::Duration;

use crate::model::{Backup, BackupStorage, Record, Requester, Timestamp};
use crate::reconcile::context::Context;
use crate::schedule::BackupSchedule;
use crate::store::Snapshot;

/// The longest sleep: the clock of the host may have been set meanwhile, and new servers are recorded, so that a daemon that dies before
/// their first time makes up for it.
const MAX_SLEEP: Duration = Duration::from_secs(60);
/// The time after which what could not be written is tried again.
const RETRY: Duration = Duration::from_secs(60);

/// Requests backups until the task is dropped.
pub async fn follow(context: Arc<Context>) {
    let mut changes = context.node.config.live.changes();
    loop {
        // Times before a server or its schedule was there were not missed.
        let began = context.clock.now();
        let live = changes.borrow_and_update().clone();
        let schedules = &live.backup_schedules;
        let handled = async {
            while !schedules.is_empty() {
                let failed = handle(&context, schedules, began).await;
                let sleep = if failed { RETRY } else { MAX_SLEEP };
                let next = until_next(schedules, context.clock.now()).unwrap_or(MAX_SLEEP);
                tokio::time::sleep(next.min(sleep)).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            () = handled => {}
            changed = changes.changed() => if changed.is_err() { return },
        }
    }
}

/// The time until the next one of any schedule.
fn until_next(schedules: &[BackupSchedule], now: Timestamp) -> Option<Duration> {
    let next = schedules.iter().filter_map(|schedule| schedule.times.next_after(now)).min()?;
    Some(next.since(now))
}

/// Requests what is due. Whether something could not be written.
async fn handle(context: &Context, schedules: &[BackupSchedule], began: Timestamp) -> bool {
    let mut failed = false;
    for snapshot in context.store.list() {
        let due = due(context, schedules, &snapshot, began);
        if due.is_empty() {
            continue;
        }
        let (id, now) = (snapshot.id, context.clock.now());
        let requests: Vec<(String, Option<Backup>)> = due
            .into_iter()
            .map(|(schedule, due)| (schedule.name.clone(), due.then(|| request(context, schedule))))
            .collect();
        let commit =
            move |record: &mut Record| requests.into_iter().for_each(|(name, new)| begin(record, name, new, now));
        match context.store.run(move |store| store.commit(id, commit)).await {
            Ok(_) => context.store.wake(id),
            Err(error) => {
                failed = true;
                tracing::warn!(server.id = %id, %error, "a scheduled backup could not be requested; it is tried again");
            }
        }
    }
    failed
}

/// The schedules of a server that the record does not have, or that are due.
fn due<'a>(
    context: &Context,
    schedules: &'a [BackupSchedule],
    snapshot: &Snapshot,
    began: Timestamp,
) -> Vec<(&'a BackupSchedule, bool)> {
    let Some(manifest) = snapshot.manifest.as_ref().filter(|_| snapshot.wanted() && snapshot.is_listed()) else {
        return Vec::new();
    };
    let (now, record) = (context.clock.now(), &snapshot.record);
    let (name, labels) = (&manifest.spec.settings.meta.name, &manifest.metadata.labels);
    let selected = schedules.iter().filter(|schedule| schedule.selector.selects(snapshot.id, name, labels));
    let due = selected.map(|schedule| {
        let handled = record.scheduled.get(&schedule.name).copied();
        let since = handled.unwrap_or_else(|| record.created_at.map_or(began, |created| created.max(began)));
        (schedule, handled.is_none(), schedule.times.is_due(since, now))
    });
    due.filter(|(_, new, due)| *new || *due).map(|(schedule, _, due)| (schedule, due)).collect()
}

fn request(context: &Context, schedule: &BackupSchedule) -> Backup {
    let (id, at) = (context.ids.next_uuid(), context.clock.now());
    Backup { schedule: Some(schedule.name.clone()), ..Backup::new(id, at, Requester::Schedule, BackupStorage::Local) }
}

/// Writes that a schedule was handled, and its new backup. One that is still being made counts for this time, too.
fn begin(record: &mut Record, name: String, new: Option<Backup>, now: Timestamp) {
    let is_pending = |backup: &Backup| backup.is_pending() && backup.schedule.as_ref() == Some(&name);
    if let Some(new) = new.filter(|_| !record.backups.iter().any(is_pending)) {
        record.backups.push(new);
    }
    record.scheduled.insert(name, now);
}

#[cfg(test)]
mod tests;
